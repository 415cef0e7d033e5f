//! How long what projects leave is kept, and what is due.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;
use crate::timeline::words;

/// How long things are kept: show
#[derive(Debug, Args)]
pub(crate) struct Retention {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The times of each project, and the sessions that are due
    Show(Show),
}

#[derive(Debug, Args)]
struct Show {
    /// Sessions that are due within so many days
    #[arg(long, default_value_t = 1.0)]
    days: f64,
}

impl Retention {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::Show(it) => show(desk, it.days).await,
        }
    }
}

async fn show(desk: &Desk, days: f64) -> Done {
    let told = desk.client()?.get(&format!("/everstate/v1/retention?days={days}")).await?;
    if desk.out.is_json {
        desk.out.json(&told);
        return Ok(());
    }
    let items = told["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        desk.out.line("everything is kept until somebody deletes it");
        desk.out.line(
            "next: write [projects.default] retention = { sessions = 30 } into everstate.toml",
        );
        return Ok(());
    }
    let kept = |it: &Value| it.as_u64().map_or("for ever".to_owned(), words::span);
    let row = |it: &Value| {
        vec![
            it["project"].as_str().unwrap_or_default().to_owned(),
            kept(&it["sessions_ms"]),
            kept(&it["responses_ms"]),
            kept(&it["items_ms"]),
            it["frames_ms"].as_u64().map_or_else(String::new, words::span),
            it["sessions_due"].to_string(),
            it["sessions_overdue"].to_string(),
        ]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    let head = ["PROJECT", "SESSIONS", "RESPONSES", "ITEMS", "FRAMES", "DUE", "OVERDUE"];
    for line in table(&head, &rows) {
        desk.out.line(&line);
    }
    for item in items {
        for due in item["due"].as_array().into_iter().flatten() {
            let at = due["due_at"].as_u64().unwrap_or_default();
            let session = due["session"].as_str().unwrap_or_default();
            desk.out.line(&format!("{}  {session}", desk.out.look.date(at)));
        }
    }
    if let Some(at) = told["last_sweep"]["at"].as_u64() {
        let n = |name: &str| told["last_sweep"][name].as_u64().unwrap_or_default();
        desk.out.line(&format!(
            "last sweep {}: {} sessions, {} responses, {} items, {} streams; {} to be tried again",
            desk.out.look.date(at),
            n("sessions"),
            n("responses"),
            n("items"),
            n("streams"),
            n("failed"),
        ));
    }
    Ok(())
}
