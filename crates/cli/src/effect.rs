//! Calls of which nobody knows whether they happened, and a person's word on one of them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;
use crate::timeline::words;

/// Effects in doubt: list, resolve
#[derive(Debug, Args)]
#[command(alias = "effects")]
pub(crate) struct Effect {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Calls that may have happened
    #[command(alias = "ls")]
    List,
    /// Say what became of one; the model hears of it in its next step
    Resolve(Resolve),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("outcome").required(true))]
struct Resolve {
    /// As `effect list` shows it: `ses_.../1/c2`
    id: String,
    /// It happened
    #[arg(long, group = "outcome")]
    ok: bool,
    /// It did not happen
    #[arg(long, group = "outcome")]
    failed: bool,
    /// What the model is told, and the log keeps
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

const EFFECTS: &str = "/everstate/v1/effects";

impl Effect {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::List => list(desk).await,
            Verb::Resolve(it) => resolve(desk, it).await,
        }
    }
}

async fn list(desk: &Desk) -> Done {
    let items = desk.client()?.items(EFFECTS).await?;
    if desk.out.is_json {
        desk.out.json(&json!({ "items": items, "next": null }));
        return Ok(());
    }
    let Some(first) = items.first() else {
        desk.out.line("nothing is in doubt");
        return Ok(());
    };
    let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
    let row = |it: &Value| {
        let call = words::call(&text(it, "tool"), &text(it, "arguments"));
        vec![text(it, "effect"), text(it, "closed"), call]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    for line in table(&["EFFECT", "CLOSED AS", "CALL"], &rows) {
        desk.out.line(&line);
    }
    let id = text(first, "effect");
    desk.out.line("next: find out at the other side whether it happened, then say so:");
    desk.out.line(&format!("      everstate effect resolve {id} --ok    or --failed"));
    Ok(())
}

async fn resolve(desk: &Desk, resolve: Resolve) -> Done {
    let outcome = if resolve.ok { "ok" } else { "failed" };
    let mut body = json!({ "effect": resolve.id, "outcome": outcome });
    if let Some(note) = resolve.note {
        body["output"] = note.into();
    }
    let told = desk.client()?.post(&format!("{EFFECTS}/resolve"), &body).await?;
    if desk.out.is_json {
        desk.out.json(&told);
        return Ok(());
    }
    let effect = told["effect"].as_str().unwrap_or(&resolve.id);
    let what = if resolve.ok { "it happened" } else { "it did not happen" };
    desk.out.line(&format!("settled   {effect}   {what}"));
    let session = effect.split('/').next().map_or("@", crate::address::short);
    desk.out.line(&format!("next: everstate session show {session}"));
    Ok(())
}
