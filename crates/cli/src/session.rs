//! Sessions: durable tasks, as they stand and as they went.

mod cancel;
mod export;
mod fork;
mod import;
mod keygen;
mod list;
mod recipient;
mod send;
mod stop;
pub(crate) mod show;
pub(crate) mod watch;

use clap::{Args, Subcommand};

use crate::desk::Desk;
use crate::fault::Done;

/// Sessions: list, show, watch, send, fork, cancel, stop, export, import
#[derive(Debug, Args)]
#[command(alias = "sessions")]
pub(crate) struct Session {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(alias = "ls")]
    List(list::List),
    Show(show::Show),
    Watch(watch::Watch),
    Send(send::Send),
    Fork(fork::Fork),
    Cancel(cancel::Cancel),
    Stop(stop::Stop),
    Export(export::Export),
    Import(import::Import),
    Keygen(keygen::Keygen),
    Recipient(recipient::Recipient),
}

impl Session {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::List(it) => it.run(desk).await,
            Verb::Show(it) => it.run(desk).await,
            Verb::Watch(it) => it.run(desk).await,
            Verb::Send(it) => it.run(desk).await,
            Verb::Fork(it) => it.run(desk).await,
            Verb::Cancel(it) => it.run(desk).await,
            Verb::Stop(it) => it.run(desk).await,
            Verb::Export(it) => it.run(desk).await,
            Verb::Import(it) => it.run(desk).await,
            Verb::Keygen(it) => it.run(desk).await,
            Verb::Recipient(it) => it.run(desk).await,
        }
    }
}

pub(crate) const SESSIONS: &str = "/everstate/v1/sessions";

/// Which session is meant.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// A session's id or its beginning; `@` is the newest
    #[arg(default_value = "@", value_parser = id, value_name = "SESSION")]
    pub(crate) session: String,
}

fn id(text: &str) -> Result<String, String> {
    // The address of a step names its session too.
    let address = crate::address::Address::read(text);
    address
        .map(|it| it.session)
        .ok_or_else(|| "a session is `ses_...`, or `@` for the newest".to_owned())
}
