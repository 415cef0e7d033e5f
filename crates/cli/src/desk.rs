//! What every command works with: the flags all of them have, the output, and the way to the server.

use std::path::PathBuf;

use clap::Args;

use crate::client::Client;
use crate::fault::Fault;
use crate::key;
use crate::out::{Color, Out};

/// Flags of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Globals {
    /// Everything on stdout in JSON, errors too
    #[arg(long, global = true)]
    json: bool,
    /// Colours; NO_COLOR is respected
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    /// Address of the server
    #[arg(long, global = true, env = "EVERSTATE_URL", value_name = "URL", hide_env_values = true)]
    server: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) out: Out,
    server: Option<String>,
    pub(crate) here: PathBuf,
}

pub(crate) const SERVER: &str = "http://127.0.0.1:7070";

impl Desk {
    pub(crate) fn new(globals: Globals) -> Desk {
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        Desk { out: Out::new(globals.json, globals.color), server: globals.server, here }
    }

    /// The server that is meant: named, or the one `dev` wrote down, or the usual address.
    pub(crate) fn url(&self) -> String {
        let written = || key::find(&self.here, key::URL_FILE).map(|it| it.text);
        self.server.clone().or_else(written).unwrap_or_else(|| SERVER.to_owned())
    }

    /// Was a server named, by flag or by environment?
    pub(crate) fn names_server(&self) -> bool {
        self.server.is_some()
    }

    pub(crate) fn client(&self) -> Result<Client, Fault> {
        Client::new(&self.url(), key::of_environment(&self.here))
    }
}
