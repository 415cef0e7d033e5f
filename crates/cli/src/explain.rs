//! Why a step went where it went, or what an error's word means.

use std::path::PathBuf;

use clap::Args;
use everstate_server::config::{Flags, load};
use everstate_server::error::codes as doors;
use everstate_server::offline;
use serde_json::{Value, json};

use crate::address::Address;
use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};
use crate::session::SESSIONS;
use crate::table::table;
use crate::timeline::words;

/// Why a step went where it went (`ses_.../1.3`, `@/1.3`), or what an error code means
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// An address or a code
    what: String,
    /// Read this store instead of asking a server; none may be running on it
    #[arg(long, value_name = "sqlite:PATH")]
    store: Option<String>,
    /// The configuration that belongs to the store
    #[arg(long, value_name = "FILE", requires = "store")]
    config: Option<PathBuf>,
}

impl Explain {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let Some(address) = Address::read(&self.what) else { return code(desk, &self.what) };
        let told = match self.store {
            Some(store) => {
                let flags = Flags { config: self.config, store: Some(store), ..Flags::default() };
                let env = |name: &str| std::env::var(name).ok();
                let settings = load(&flags, &env, &desk.here)?;
                offline::explain(&settings, &env, &address.session, address.step.as_deref()).await?
            }
            None => {
                let step = address.step.as_ref().map(|it| format!("?step={it}"));
                let step = step.unwrap_or_default();
                let path = format!("{SESSIONS}/{}/explain{step}", address.session);
                desk.client()?.get(&path).await?
            }
        };
        if desk.out.is_json {
            desk.out.json(&told);
            return Ok(());
        }
        let attempts = told["items"].as_array().map_or(&[][..], Vec::as_slice);
        if attempts.is_empty() {
            desk.out.line("nothing was placed yet");
        }
        for (n, attempt) in attempts.iter().enumerate() {
            if n > 0 {
                desk.out.line("");
            }
            for line in lines(desk, attempt) {
                desk.out.line(&line);
            }
        }
        Ok(())
    }
}

/// One attempt: where it went and why, every offer, what became of it.
fn lines(desk: &Desk, attempt: &Value) -> Vec<String> {
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let money = |it: &Value| it.as_u64().map_or_else(|| "-".to_owned(), words::money);
    let at = desk.out.look.time(attempt["at"].as_u64().unwrap_or_default());
    let seq = &attempt["seq"];
    let mut lines = Vec::new();
    lines.push(match attempt["placed"] == true {
        true => format!(
            "{}: placed on {} at {at} (event {seq}, on disk before the prompt left)",
            text(&attempt["address"]),
            text(&attempt["offer"]),
        ),
        false => format!(
            "{}: not placed at {at} (event {seq}); nothing was sent",
            text(&attempt["address"])
        ),
    });
    let mut because = format!("because {}", text(&attempt["because"]));
    if let Some(from) = attempt["moved_from"].as_str() {
        because.push_str(&format!("; it was on {from} before"));
    }
    lines.push(because);
    if let Some(left) = attempt["project_budget_micros"].as_u64() {
        let left = words::money(left);
        lines.push(match attempt["max_output_tokens"].as_u64() {
            Some(tokens) if attempt["placed"] == true => {
                format!("the project's budget had {left} for it: capped at {tokens} output tokens")
            }
            _ => format!("the project's budget had {left} for it"),
        });
    }
    let offers = attempt["offers"].as_array().into_iter().flatten();
    let rows: Vec<Vec<String>> = offers
        .map(|it| {
            let cache = it["cache"].as_str().unwrap_or("-").to_owned();
            let expected = money(&it["expected_micros"]);
            vec![text(&it["offer"]), text(&it["verdict"]), expected, cache, text(&it["why"])]
        })
        .collect();
    lines.extend(table(&["OFFER", "VERDICT", "EXPECTED", "CACHE", "WHY"], &rows));
    let left = attempt["left_behind"].as_array().into_iter().flatten();
    let left: Vec<String> = left.map(text).collect();
    if !left.is_empty() {
        lines.push(format!("left behind: {}", left.join(", ")));
    }
    let outcome = &attempt["outcome"];
    let cost = money(&outcome["cost_micros"]);
    match outcome["kind"].as_str() {
        Some("replied") => lines.push(format!("it answered, for {cost}")),
        Some("failed") => {
            let said = text(&outcome["failure"]["message"]);
            lines.push(format!("it failed: {}", words::short(&said, 200)));
        }
        Some(other) => lines.push(format!("it was {other}, {cost}")),
        None => {}
    }
    lines
}

fn code(desk: &Desk, word: &str) -> Done {
    let ours = codes::WORDS.iter().find(|it| it.word == word);
    let known = match (ours, doors::find(word)) {
        (Some(it), _) => json!({ "code": it.word, "exit": it.exit, "explain": it.explain }),
        (None, Some(it)) => json!({
            "code": it.word,
            "exit": it.exit,
            "status": it.status,
            "retry": it.retry,
            "explain": it.explain,
        }),
        (None, None) => {
            return Err(Fault::new(&codes::NOT_A_CODE, format!("`{}` is nothing to explain", words::short(word, 60)))
                .why("it is no address of a session (`ses_.../1.3`, `@/1.3`), and no error has this word")
                .attempt("everstate explain @"));
        }
    };
    if desk.out.is_json {
        desk.out.json(&known);
        return Ok(());
    }
    desk.out.line(&format!("{word}: {}", known["explain"].as_str().unwrap_or_default()));
    let status = known["status"].as_u64();
    let again = if known["retry"] == true { "repeating helps" } else { "repeating does not help" };
    let http = status.map(|it| format!("HTTP {it}, {again}; ")).unwrap_or_default();
    desk.out.line(&format!("{http}the command line exits {}", known["exit"]));
    Ok(())
}
