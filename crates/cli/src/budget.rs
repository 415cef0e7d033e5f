//! What projects may spend, and what became of it.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;
use crate::timeline::words;

/// Money of projects: list, show
#[derive(Debug, Args)]
#[command(alias = "budgets")]
pub(crate) struct Budget {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Limits of projects, and how they stand
    #[command(alias = "ls")]
    List,
    /// One project's, with what each node has leased of it
    Show {
        /// The project's name
        #[arg(default_value = "default")]
        project: String,
    },
}

const BUDGETS: &str = "/everstate/v1/budgets";

impl Budget {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::List => list(desk).await,
            Verb::Show { project } => show(desk, &project).await,
        }
    }
}

async fn list(desk: &Desk) -> Done {
    let items = desk.client()?.items(BUDGETS).await?;
    if desk.out.is_json {
        desk.out.json(&json!({ "items": items, "next": null }));
        return Ok(());
    }
    if items.is_empty() {
        desk.out.line("no project's money is limited");
        desk.out.line("next: write [projects.default] money = { usd = \"50.00\", per = \"month\" } into everstate.toml");
        return Ok(());
    }
    let money = |it: &Value, name: &str| words::money(it[name].as_u64().unwrap_or_default());
    let row = |it: &Value| {
        vec![
            it["project"].as_str().unwrap_or_default().to_owned(),
            money(it, "limit_micros"),
            it["per"].as_str().unwrap_or_default().to_owned(),
            money(it, "spent_micros"),
            money(it, "leased_micros"),
            money(it, "free_micros"),
        ]
    };
    let rows: Vec<Vec<String>> = items.iter().map(row).collect();
    for line in table(&["PROJECT", "LIMIT", "PER", "SPENT", "LEASED", "FREE"], &rows) {
        desk.out.line(&line);
    }
    Ok(())
}

async fn show(desk: &Desk, project: &str) -> Done {
    let told = desk.client()?.get(&format!("{BUDGETS}/{project}")).await?;
    if desk.out.is_json {
        desk.out.json(&told);
        return Ok(());
    }
    let money = |it: &Value| words::money(it.as_u64().unwrap_or_default());
    let per = match told["per"].as_str() {
        Some("total") | None => "in total".to_owned(),
        Some(per) => format!("a {per}"),
    };
    desk.out.line(&format!("{project}   {} {per}", money(&told["limit_micros"])));
    desk.out.line(&format!("spent     {}", money(&told["spent_micros"])));
    let here = &told["here"];
    desk.out.line(&format!(
        "leased    {}   here {}, of which reserved for running steps {}",
        money(&told["leased_micros"]),
        money(&here["leased_micros"]),
        money(&here["reserved_micros"]),
    ));
    desk.out.line(&format!("free      {}", money(&told["free_micros"])));
    if let Some(until) = told["until"].as_u64() {
        desk.out.line(&format!("begins anew at {} (midnight UTC)", desk.out.look.time(until)));
    }
    let rows: Vec<Vec<String>> = told["slices"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| {
            vec![it["holder"].as_str().unwrap_or_default().to_owned(), money(&it["left_micros"])]
        })
        .collect();
    if !rows.is_empty() {
        for line in table(&["HOLDER", "LEFT"], &rows) {
            desk.out.line(&line);
        }
    }
    Ok(())
}
