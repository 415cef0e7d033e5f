//! The same turn by others: Restate, DBOS, LangGraph's PostgreSQL checkpointer, Absurd. What they run is in `bench/peers`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Around;
use crate::database::Database;
use crate::process::output;

/// What one of them did.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A peer, what it is called with its version, and how it plays turns.
pub(crate) struct Peer {
    pub(crate) title: &'static str,
    play: fn(&Stage<'_>, clients: usize) -> Command,
}

/// Where they play.
pub(crate) struct Stage<'a> {
    pub(crate) around: &'a Around,
    pub(crate) database: &'a Database,
    pub(crate) seconds: f64,
}

pub(crate) const PEERS: &[Peer] = &[
    Peer { title: "Restate 1.7.12, TypeScript", play: restate },
    Peer { title: "Absurd 0.5.1, Python", play: |stage, clients| python(stage, "absurd", clients) },
    Peer {
        title: "LangGraph 1.2.22, checkpoints in PostgreSQL, durability sync",
        play: |stage, clients| python(stage, "langgraph", clients),
    },
    Peer { title: "DBOS 3.4.0, Python", play: |stage, clients| python(stage, "dbos", clients) },
];

impl Peer {
    pub(crate) fn play(&self, stage: &Stage<'_>, clients: usize) -> Told {
        let said = output(&mut (self.play)(stage, clients));
        let told: Value = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap();
        let number = |name: &str| told[name].as_f64().unwrap();
        Told {
            per_second: number("per_second"),
            p50_ms: number("p50_ms"),
            p99_ms: number("p99_ms"),
        }
    }
}

fn installed(stage: &Stage<'_>) -> PathBuf {
    stage.around.peers.clone().expect("the peers are installed")
}

/// Each in a database of its own, made anew for each number of clients.
fn python(stage: &Stage<'_>, name: &str, clients: usize) -> Command {
    let url = stage.database.create(&format!("{name}_{clients}"));
    let mut play = Command::new(installed(stage).join("python/bin/python"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    play.arg(scripts.join("turns.py")).arg(format!("{name}_turns")).arg(url);
    play.args([clients.to_string(), stage.seconds.to_string()]);
    play.env("PYTHONDONTWRITEBYTECODE", "1");
    play
}

/// It keeps its log itself, on the same disk.
fn restate(stage: &Stage<'_>, clients: usize) -> Command {
    let home = installed(stage).join("node");
    let platform = match std::env::consts::ARCH {
        "aarch64" => "linux-arm64",
        _ => "linux-x64",
    };
    let server =
        home.join(format!("node_modules/@restatedev/restate-server-{platform}/bin/restate-server"));
    let mut play = Command::new("node");
    play.arg(home.join("restate_turns.mjs")).arg(server);
    play.arg(stage.around.folder.join(format!("restate-{clients}")));
    play.args([clients.to_string(), stage.seconds.to_string()]);
    play
}
