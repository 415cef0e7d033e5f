//! The nodes of a cluster, as the server that is asked sees them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::client::segment;
use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;

/// Nodes of a cluster: list, show
#[derive(Debug, Args)]
#[command(alias = "nodes")]
pub(crate) struct Node {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// All nodes, with what each has
    #[command(alias = "ls")]
    List,
    /// One of them
    Show(Show),
}

#[derive(Debug, Args)]
struct Show {
    /// As `node list` shows it
    name: String,
}

const NODES: &str = "/everstate/v1/nodes";

impl Node {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::List => list(desk).await,
            Verb::Show(it) => show(desk, &it.name).await,
        }
    }
}

async fn list(desk: &Desk) -> Done {
    let items = desk.client()?.items(NODES).await?;
    if desk.out.is_json {
        desk.out.json(&json!({ "items": items, "next": null }));
        return Ok(());
    }
    if items.is_empty() {
        desk.out.line("this server is alone on its store");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|it| {
            vec![
                format!("{}{}", text(&it["name"]), if it["is_self"] == true { " *" } else { "" }),
                text(&it["state"]),
                it["buckets"].to_string(),
                it["sessions_live"].to_string(),
                it["sessions_ready"].to_string(),
                age(it),
                it["lag"].to_string(),
                text(&it["version"]),
                text(&it["address"]),
            ]
        })
        .collect();
    let head = ["NODE", "STATE", "BUCKETS", "LIVE", "QUEUE", "BEAT", "LAG", "VERSION", "ADDRESS"];
    for line in table(&head, &rows) {
        desk.out.line(&line);
    }
    desk.out.line("* answered this");
    Ok(())
}

async fn show(desk: &Desk, name: &str) -> Done {
    let node = desk.client()?.get(&format!("{NODES}/{}", segment(name))).await?;
    if desk.out.is_json {
        desk.out.json(&node);
        return Ok(());
    }
    let who = if node["is_self"] == true { ", which answered this" } else { "" };
    desk.out.line(&format!("{}  {}{who}", text(&node["name"]), text(&node["state"])));
    let moving = match node["buckets_moving"].as_u64() {
        Some(n) if n > 0 => format!(", {n} on the move"),
        _ => String::new(),
    };
    let rows = [
        ("address", text(&node["address"])),
        ("version", text(&node["version"])),
        ("buckets", format!("{} of 1024{moving}", node["buckets"])),
        (
            "sessions",
            format!("{} live, {} in the queue", node["sessions_live"], node["sessions_ready"]),
        ),
        ("beat", format!("{} ago", age(&node))),
        ("follows", format!("assignment {}, {} behind", node["revision"], node["lag"])),
        ("epoch", node["epoch"].to_string()),
    ];
    for (name, value) in rows {
        desk.out.line(&format!("{name:<9} {value}"));
    }
    Ok(())
}

fn age(node: &Value) -> String {
    let ms = node["beat_age_ms"].as_u64().unwrap_or_default();
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
