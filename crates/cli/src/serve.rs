//! The server, in this process.

use std::path::PathBuf;

use clap::Args;
use everstate_server::config::{Flags, load};
use everstate_server::serve::Ready;
use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::desk::Desk;
use crate::fault::Done;

/// Serve; flags also as EVERSTATE_LISTEN, _STORE, _BLOBS, _KEYS, _NODE_NAME, _ADVERTISE, _CONFIG
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address and port; port 0 is any that is free [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where state lives: `sqlite:PATH`, `memory:`, or `postgres://...` for many nodes
    /// [default: sqlite:./.everstate/state.db]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// Where big bodies live: a folder or `s3://BUCKET/PREFIX` [default: with the store]
    #[arg(long, value_name = "PLACE")]
    blobs: Option<String>,
    /// Where the data keys are, if not with the state: `postgres://...`
    #[arg(long, value_name = "STORE")]
    keys: Option<String>,
    /// Of many nodes: this one's name, the same after a restart [default: the host's name and the port]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Of many nodes: where the others reach this one [default: where it listens]
    #[arg(long, value_name = "ADDRESS")]
    advertise: Option<String>,
    /// The configuration [default: the nearest everstate.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        log_to_stderr("info");
        let Serve { listen, store, blobs, keys, node_name: node, advertise, config } = self;
        let flags = Flags { config, listen, store, blobs, keys, node, advertise };
        let settings = load(&flags, &|name| std::env::var(name).ok(), &desk.here)?;
        let ready = |ready: Ready| {
            if desk.out.is_json {
                desk.out.json(&json!({
                    "url": ready.url,
                    "store": ready.store,
                    "new_key": ready.new_key,
                    "node": ready.node,
                }));
            } else {
                desk.out.line(&ready.url);
                if let Some(key) = &ready.new_key {
                    desk.out.note(&format!("admin key, shown only this once: {key}"));
                }
            }
        };
        everstate_server::serve::serve(settings, ready).await?;
        Ok(())
    }
}

/// What the server has to say about itself. `RUST_LOG` says how much.
pub(crate) fn log_to_stderr(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second one in this process is not wanted, and changes nothing.
    log.with_ansi(false).try_init().ok();
}
