//! API keys: made, listed, rotated, revoked. A key's text is shown once.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::client::segment;
use crate::desk::Desk;
use crate::fault::Done;
use crate::person;
use crate::table::table;

/// API keys: create, list, rotate, revoke
#[derive(Debug, Args)]
#[command(alias = "keys")]
pub(crate) struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Create),
    /// Keys of the project, or of all for the admin; never their texts
    #[command(alias = "ls")]
    List,
    Rotate(Rotate),
    Revoke(Revoke),
}

/// A new key; its text is shown once
#[derive(Debug, Args)]
struct Create {
    /// What it is for
    name: String,
    /// Whose it is; by default the project of the key that asks
    #[arg(long)]
    project: Option<String>,
    /// A named set of scopes: owner, member, approver, reader, admin; member unless something is said
    #[arg(long, conflicts_with = "scopes")]
    role: Option<String>,
    /// What it may do, with commas between: `sessions:read,agents:*`
    #[arg(long, value_delimiter = ',', value_name = "SCOPES")]
    scopes: Option<Vec<String>>,
    /// How long it is good, as `30d`, `12h`; for ever unless said
    #[arg(long, value_name = "SPAN")]
    expires: Option<String>,
    /// Requests a minute; its project's limit unless said
    #[arg(long, value_name = "N")]
    requests_per_min: Option<u64>,
    /// Tokens a minute; its project's limit unless said
    #[arg(long, value_name = "N")]
    tokens_per_min: Option<u64>,
    /// Turns at work at the same time; its project's limit unless said
    #[arg(long, value_name = "N")]
    turns_max: Option<u64>,
}

/// A new text for the same key; the old one is good for a while
#[derive(Debug, Args)]
struct Rotate {
    /// As `key list` shows it
    id: String,
    /// How long the old text is good beside the new one, as `24h`; `0s` for not at all
    #[arg(long, default_value = "24h", value_name = "SPAN")]
    grace: String,
}

/// End a key, with all its texts
#[derive(Debug, Args)]
struct Revoke {
    /// As `key list` shows it
    id: String,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
}

const KEYS: &str = "/everstate/v1/keys";

impl Key {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::Create(it) => it.run(desk).await,
            Verb::List => list(desk).await,
            Verb::Rotate(it) => it.run(desk).await,
            Verb::Revoke(it) => it.run(desk).await,
        }
    }
}

impl Create {
    async fn run(self, desk: &Desk) -> Done {
        let mut body = Map::from_iter([("name".to_owned(), json!(self.name))]);
        let mut say = |name: &str, value: Value| {
            if !value.is_null() {
                body.insert(name.to_owned(), value);
            }
        };
        say("project", json!(self.project));
        say("role", json!(self.role));
        say("scopes", json!(self.scopes));
        say("expires", json!(self.expires));
        let rates = [
            ("requests_per_min", self.requests_per_min),
            ("tokens_per_min", self.tokens_per_min),
            ("turns_max", self.turns_max),
        ];
        let limits: Map<String, Value> =
            rates.iter().filter_map(|(name, n)| Some(((*name).to_owned(), json!((*n)?)))).collect();
        if !limits.is_empty() {
            say("limits", Value::Object(limits));
        }
        let made = desk.client()?.post(KEYS, &Value::Object(body)).await?;
        shown_once(desk, &made);
        Ok(())
    }
}

impl Rotate {
    async fn run(self, desk: &Desk) -> Done {
        let path = format!("{KEYS}/{}/rotate", segment(&self.id));
        let made = desk.client()?.post(&path, &json!({ "grace": self.grace })).await?;
        shown_once(desk, &made);
        if let Some(until) = made["old_text_until"].as_u64() {
            desk.out.say(&format!("the old text is good until {}", desk.out.look.date(until)));
        }
        Ok(())
    }
}

impl Revoke {
    async fn run(self, desk: &Desk) -> Done {
        let what = format!("whoever uses the key {} is turned away from then on", self.id);
        person::consents(
            desk,
            self.yes,
            &what,
            &format!("everstate key revoke {} --yes", self.id),
        )?;
        let told = desk.client()?.delete(&format!("{KEYS}/{}", segment(&self.id))).await?;
        if desk.out.is_json {
            desk.out.json(&told);
            return Ok(());
        }
        desk.out.line(&format!("{}   revoked; every node knows within a second", self.id));
        Ok(())
    }
}

fn shown_once(desk: &Desk, made: &Value) {
    if desk.out.is_json {
        desk.out.json(made);
        return;
    }
    let text = |name: &str| made[name].as_str().unwrap_or_default();
    desk.out.line(&format!("{}   {} of {}", text("id"), text("name"), text("project")));
    desk.out.line(&format!("key: {}   (shown this once)", text("key")));
}

async fn list(desk: &Desk) -> Done {
    let items = desk.client()?.items(KEYS).await?;
    if desk.out.is_json {
        desk.out.json(&json!({ "items": items, "next": null }));
        return Ok(());
    }
    if items.is_empty() {
        desk.out.line("no keys but the one of the environment");
        desk.out.line("next: everstate key create NAME --role member");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = items.iter().map(|it| row(desk, it)).collect();
    let head = ["KEY", "PROJECT", "NAME", "MAY", "STATE", "EXPIRES", "LAST USED"];
    for line in table(&head, &rows) {
        desk.out.line(&line);
    }
    Ok(())
}

fn row(desk: &Desk, key: &Value) -> Vec<String> {
    let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
    let date = |name: &str| match key[name].as_u64() {
        Some(at) => desk.out.look.date(at),
        None => "-".to_owned(),
    };
    let scopes = || {
        let words = key["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join(",")
    };
    // Old ones go by their hash, which is longer than anybody reads.
    let id: String = text("id").chars().take(20).collect();
    vec![
        id,
        text("project"),
        text("name"),
        key["role"].as_str().map_or_else(scopes, str::to_owned),
        text("state"),
        date("expires_at"),
        date("last_used_at"),
    ]
}
