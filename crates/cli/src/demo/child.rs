//! The demo's server: this same executable, as a process of its own, so that it can really be killed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::client::Client;
use crate::fault::{Fault, codes};
use crate::key::Found;

#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    pub(crate) pid: u32,
    pub(crate) client: Client,
    /// Where it listens, for its successor.
    listen: String,
}

/// How a server is started.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) dir: PathBuf,
    pub(crate) key: String,
    /// Variables of our own environment that it may have.
    pub(crate) keep: Vec<&'static str>,
}

/// What any process needs; nothing here is a credential.
const PLAIN: [&str; 7] = ["PATH", "HOME", "TMPDIR", "TZ", "LANG", "RUST_LOG", "RUST_BACKTRACE"];
const READY_MAX: Duration = Duration::from_secs(20);

impl Start {
    /// At this address, or at any that is free.
    pub(crate) async fn server(&self, listen: Option<&str>) -> Result<Server, Fault> {
        let failed = |what: String| Fault::new(&codes::DEMO_FAILED, what);
        let ours = std::env::current_exe()
            .map_err(|err| failed(format!("cannot find this executable: {err}")))?;
        let log = self.dir.join("server.log");
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|err| failed(format!("cannot write {}: {err}", log.display())))?;
        let mut command = Command::new(ours);
        // Nothing of our environment goes along unless it is named: no provider's key is ever used by accident.
        command.env_clear();
        for name in PLAIN.iter().chain(&self.keep) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("EVERSTATE_ADMIN_KEY", &self.key)
            .args(["--json", "serve", "--listen", listen.unwrap_or("127.0.0.1:0"), "--store"])
            .arg(format!("sqlite:{}", self.dir.join("state.db").display()))
            .arg("--config")
            .arg(self.dir.join("everstate.toml"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log_file)
            .kill_on_drop(true);
        let mut process =
            command.spawn().map_err(|err| failed(format!("cannot start the server: {err}")))?;
        let stdout = process.stdout.take().expect("it was asked to be piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(READY_MAX, lines.next_line()).await;
        let ready: Option<Value> =
            line.ok().and_then(Result::ok).flatten().and_then(|it| serde_json::from_str(&it).ok());
        let Some(url) = ready.as_ref().and_then(|it| it["url"].as_str()) else {
            let mut fault = failed("the demo's server did not start".to_owned());
            if let Some(said) = ready.as_ref().and_then(|it| it["error"]["message"].as_str()) {
                fault = fault.why(said);
            }
            return Err(fault.why(tail(&log)).attempt("everstate demo --keep"));
        };
        let key = Found { text: self.key.clone(), origin: "the demo".to_owned() };
        let client = Client::new(url, Some(key))?;
        let listen = url.trim_start_matches("http://").to_owned();
        let pid = process.id().unwrap_or_default();
        Ok(Server { process, pid, client, listen })
    }
}

impl Server {
    /// As `kill -9`: it hears nothing of it and can do nothing about it.
    pub(crate) async fn kill(mut self) -> Result<String, Fault> {
        self.process.kill().await.map_err(|err| {
            Fault::new(&codes::DEMO_FAILED, format!("cannot kill the server: {err}"))
        })?;
        Ok(self.listen)
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
