//! A directory with a server in it, and the commands that are run there. Nothing of the surrounding environment is
//! seen, least of all somebody's keys.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const KEY: &str = "es_a_key_for_the_tests";

pub(crate) struct House {
    pub(crate) dir: TempDir,
    server: Option<Child>,
    pub(crate) url: String,
}

/// What a command said, and how it ended.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl House {
    /// With this configuration, and its server started.
    pub(crate) fn new(config: &str) -> House {
        let mut house = House::empty();
        std::fs::write(house.dir.path().join("everstate.toml"), config).unwrap();
        house.start();
        house
    }

    pub(crate) fn empty() -> House {
        let dir = tempfile::tempdir().unwrap();
        House { dir, server: None, url: "http://127.0.0.1:1".to_owned() }
    }

    /// At any port the first time, later where it was.
    pub(crate) fn start(&mut self) {
        self.start_on("sqlite:state.db");
    }

    pub(crate) fn start_on(&mut self, store: &str) {
        let listen = match self.url.as_str() {
            "http://127.0.0.1:1" => "127.0.0.1:0".to_owned(),
            url => url.trim_start_matches("http://").to_owned(),
        };
        let (server, line) =
            self.spawn(&["--json", "serve", "--listen", &listen, "--store", store]);
        let ready: Value = serde_json::from_str(&line).expect("the server says where it is");
        self.url = ready["url"].as_str().expect("a server that is ready has an address").to_owned();
        self.server = Some(server);
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().expect("it was started");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    pub(crate) fn run(&self, words: &[&str]) -> Said {
        let out = self.command(words).output().unwrap();
        Said {
            code: out.status.code().expect("it was not killed"),
            out: String::from_utf8(out.stdout).unwrap(),
            err: String::from_utf8(out.stderr).unwrap(),
        }
    }

    /// Starts a command that stays, and reads its first line.
    pub(crate) fn spawn(&self, words: &[&str]) -> (Child, String) {
        let mut child =
            self.command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        let out = child.stdout.take().expect("it was asked to be piped");
        BufReader::new(out).read_line(&mut line).unwrap();
        (child, line)
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = everstate(self.dir.path());
        command.env("EVERSTATE_URL", &self.url).args(words);
        command
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().ok();
            server.wait().ok();
        }
    }
}

/// The binary, in this directory, with nothing of our environment.
pub(crate) fn everstate(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everstate"));
    command
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env("TZ", "UTC")
        .env("EVERSTATE_ADMIN_KEY", KEY)
        .stdin(Stdio::null());
    command
}

/// A slow rehearsal, and two tools of which one asks a person.
pub(crate) const CONFIG: &str = r#"
[providers.slow]
kind = "rehearsal"

[providers.slow.script]
strict = true
delay_ms = 25

[[providers.slow.script.rules]]
when = { says = "refund" }
calls = [{ name = "refund", arguments = { charge = "ch_1" } }]

[[providers.slow.script.rules]]
text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"

[[offers]]
model = "slow"
provider = "slow"
price = { input = "2.50", output = "10.00" }

[[tools]]
name = "refund"
method = "POST"
url = "https://bank.example/refunds"
safety = "idempotent"
approval = true
parameters = { type = "object", properties = { charge = { type = "string" } }, required = ["charge"] }
"#;
