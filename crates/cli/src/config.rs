//! What is configured, and who said so.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use everstate_server::config::{Flags, load};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::Done;
use crate::table::table;

/// Configuration: show
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Every value with its origin; secrets are references
    Show(Show),
}

#[derive(Debug, Args)]
struct Show {
    /// This file, instead of the nearest everstate.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Config {
    #[expect(clippy::unused_async, reason = "every command has the same shape")]
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let Verb::Show(show) = self.verb;
        let flags = Flags { config: show.config, ..Flags::default() };
        let settings = load(&flags, &|name| std::env::var(name).ok(), &desk.here)?;
        let shown = settings.shown();
        if desk.out.is_json {
            let items: Vec<Value> = shown
                .iter()
                .map(|it| json!({ "key": it.key, "value": it.value, "origin": it.origin.to_string() }))
                .collect();
            desk.out.json(&json!({ "items": items, "next": null }));
            return Ok(());
        }
        let rows: Vec<Vec<String>> = shown
            .iter()
            .map(|it| vec![it.key.clone(), it.value.to_string(), it.origin.to_string()])
            .collect();
        for line in table(&["KEY", "VALUE", "ORIGIN"], &rows) {
            desk.out.line(&line);
        }
        Ok(())
    }
}
