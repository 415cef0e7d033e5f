//! What waits for a person, and the person's answer.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;
use crate::timeline::words;

/// Approvals: list, approve, deny
#[derive(Debug, Args)]
#[command(alias = "approvals")]
pub(crate) struct Approval {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What waits for a person
    #[command(alias = "ls")]
    List,
    /// Say yes
    Approve(Answer),
    /// Say no
    Deny(Answer),
}

#[derive(Debug, Args)]
struct Answer {
    /// As `approval list` shows it: `ses_.../1/c2` or `mcpr_...`
    id: String,
    /// Kept in the log; of a denial, told to the model
    #[arg(long)]
    reason: Option<String>,
}

const APPROVALS: &str = "/everstate/v1/approvals";

impl Approval {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::List => list(desk).await,
            Verb::Approve(it) => answer(desk, it, true).await,
            Verb::Deny(it) => answer(desk, it, false).await,
        }
    }
}

async fn list(desk: &Desk) -> Done {
    let items = desk.client()?.items(APPROVALS).await?;
    if desk.out.is_json {
        desk.out.json(&json!({ "items": items, "next": null }));
        return Ok(());
    }
    if items.is_empty() {
        desk.out.line("nothing waits for a person");
        return Ok(());
    }
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|it| {
            let until = it["expires_at"].as_u64().unwrap_or_default();
            let call = words::call(&text(it, "tool"), &text(it, "arguments"));
            vec![text(it, "effect"), desk.out.look.date(until), call]
        })
        .collect();
    for line in table(&["APPROVAL", "UNTIL", "CALL"], &rows) {
        desk.out.line(&line);
    }
    desk.out.line(&format!("next: everstate approval approve {}", text(&items[0], "effect")));
    Ok(())
}

async fn answer(desk: &Desk, answer: Answer, approve: bool) -> Done {
    let mut body = json!({ "id": answer.id, "approve": approve });
    if let Some(reason) = answer.reason {
        body["reason"] = reason.into();
    }
    let told = desk.client()?.post(APPROVALS, &body).await?;
    if desk.out.is_json {
        desk.out.json(&told);
        return Ok(());
    }
    let word = if approve { "approved" } else { "denied" };
    let effect = told["effect"].as_str().unwrap_or(&answer.id);
    desk.out.line(&format!("{word}   {effect}"));
    let session = effect.split('/').next().map_or("@", crate::address::short);
    if told["starts"] != "next_turn" {
        desk.out.line(&format!("next: everstate session watch {session}"));
        return Ok(());
    }
    desk.out.line("the turn that asked has ended: the call starts with the session's next turn");
    desk.out.line(&format!("next: everstate session send {session} \"Go on.\""));
    let response = told["response"].as_str().unwrap_or("resp_...");
    desk.out.line(&format!("      or from your program, with   previous_response_id={response}"));
    Ok(())
}
