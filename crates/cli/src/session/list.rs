//! The newest sessions, one line each.

use clap::Args;
use serde_json::{Value, json};

use super::SESSIONS;
use crate::address::short;
use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;
use crate::timeline::words;

/// The newest sessions
#[derive(Debug, Args)]
pub(crate) struct List {
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Those before; as `next` of the page before said
    #[arg(long, value_name = "NEXT")]
    before: Option<String>,
    /// Only those in which a turn is under way, at work or waiting
    #[arg(long)]
    running: bool,
}

impl List {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let before = self.before.as_ref().map(|it| format!("&before={it}")).unwrap_or_default();
        let running = if self.running { "&running=true" } else { "" };
        let path = format!("{SESSIONS}?limit={}{before}{running}", self.limit);
        let page = desk.client()?.get(&path).await?;
        if desk.out.is_json {
            desk.out.json(&json!({ "items": page["items"], "next": page["next"] }));
            return Ok(());
        }
        let empty = Vec::new();
        let items = page["items"].as_array().unwrap_or(&empty);
        if items.is_empty() && self.running {
            desk.out.line("nothing is under way");
            return Ok(());
        }
        if items.is_empty() {
            desk.out.line("no sessions yet");
            desk.out.line("next: everstate run \"...\"    everstate demo");
            return Ok(());
        }
        let rows: Vec<Vec<String>> = items.iter().map(|it| row(desk, it)).collect();
        for line in table(&["SESSION", "CREATED", "STATE", "SPENT", "TURNS", "MODEL"], &rows) {
            desk.out.line(&line);
        }
        let first = items[0]["id"].as_str().map_or("@", short);
        let only = if self.running { " --running" } else { "" };
        let more = page["next"].as_str();
        let more = more.map(|it| format!("    everstate session list{only} --before {it}"));
        desk.out.line(&format!("next: everstate session show {first}{}", more.unwrap_or_default()));
        Ok(())
    }
}

/// The summary's fields are the server's; what is not there stays empty.
fn row(desk: &Desk, item: &Value) -> Vec<String> {
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|it| match &item[*it] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        found.unwrap_or_default()
    };
    let spent = item["cost_micros"].as_u64();
    let at = item["created_at"].as_u64().unwrap_or_default();
    vec![
        short(&text(&["id"])).to_owned(),
        desk.out.look.date(at),
        text(&["state"]),
        spent.map(words::money).unwrap_or_default(),
        text(&["turns", "turn"]),
        text(&["model"]),
    ]
}
