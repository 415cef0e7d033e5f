//! Carries a whole store to another, as an operator does it once in its life.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use everstate_server::config::{Flags, Settings, load};
use everstate_server::offline::{self, Copied, Counts};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::{Done, Fault};
use crate::timeline::words;

/// Stores: copy
#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Copy a whole store to a new one, also while its server runs; the last round wants it stopped
    Copy(Copy),
}

#[derive(Debug, Args)]
struct Copy {
    /// The store that is copied: `sqlite:PATH` or `postgres://...`. It is only read
    #[arg(value_name = "FROM")]
    from: String,
    /// The new one
    #[arg(value_name = "TO")]
    to: String,
    /// The configuration that belongs to FROM: its master key, its place for blobs
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// The configuration that belongs to TO
    #[arg(long, value_name = "FILE")]
    to_config: Option<PathBuf>,
    /// Stay, and go on copying what changes, until FROM's server was stopped
    #[arg(long)]
    wait: bool,
}

impl Store {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let Verb::Copy(copy) = self.verb;
        copy.run(desk).await
    }
}

impl Copy {
    async fn run(self, desk: &Desk) -> Done {
        let env = |name: &str| std::env::var(name).ok();
        let settings = |store: &str, config: Option<PathBuf>| -> Result<Settings, Fault> {
            let flags = Flags { config, store: Some(store.to_owned()), ..Flags::default() };
            Ok(load(&flags, &env, &desk.here)?)
        };
        let from = settings(&self.from, self.from_config)?;
        let to = settings(&self.to, self.to_config)?;
        let mut said = 0;
        let mut say = |counts: &Counts| {
            // While nothing changes there is nothing to say.
            if !desk.out.is_json && (counts.changed > 0 || said == 0) {
                desk.out.line(&format!(
                    "round {}: {} of {} carried",
                    counts.rounds,
                    counts.changed,
                    words::count(counts.sessions, "session"),
                ));
                said += 1;
            }
        };
        let copied = offline::copy(&from, &to, &env, self.wait, &mut say).await?;
        tell(desk, &copied, &self.to);
        Ok(())
    }
}

fn tell(desk: &Desk, Copied { counts, verified, erased }: &Copied, to: &str) {
    if desk.out.is_json {
        desk.out.json(&json!({ "copied": told(counts), "verified": verified, "erased": erased }));
        return;
    }
    let Counts { sessions, rows, segments, documents, keys, blobs, .. } = counts;
    desk.out.line(&format!(
        "copied: {}, {} and {}, {}, {}, {}",
        words::count(*sessions, "session"),
        words::count(*rows, "row"),
        words::count(*segments, "packed piece"),
        words::count(*documents, "document"),
        words::count(*keys, "data key"),
        words::count(*blobs, "blob"),
    ));
    let rows = words::count(*verified, "row");
    desk.out.line(&format!("verified: both sides are the same; {rows} of the target follow their chains, {erased} erased"));
    desk.out.line("do not start the old one again: it does not know that it has moved");
    // A URL may hold a password.
    if !to.contains("://") {
        desk.out.line(&format!("next: everstate serve --store {to}"));
    }
}

fn told(counts: &Counts) -> Value {
    let Counts { rounds, sessions, rows, segments, documents, keys, blobs, .. } = counts;
    json!({
        "rounds": rounds,
        "sessions": sessions,
        "rows": rows,
        "segments": segments,
        "documents": documents,
        "keys": keys,
        "blobs": blobs,
    })
}
