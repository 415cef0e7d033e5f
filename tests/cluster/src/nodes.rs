//! Servers of Everstate, a model that needs nobody, and a tool that counts what is done.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::http::{ADMIN, Ask, LOOPBACK, Place};
use crate::processes::{self, Signal, pause, signal};

/// Steps of a turn that call the tool.
pub(crate) const STEPS: usize = 3;

/// The same for all nodes. It guards nothing.
const MASTER_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000002";

#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    pub(crate) at: Place,
}

impl Node {
    /// Returns when it takes requests; or what it said when it ended.
    pub(crate) fn start(
        binary: &Path,
        folder: &Path,
        name: &str,
        store: &str,
        tool: u16,
    ) -> Result<Node, String> {
        let port = processes::free_ports(1)[0];
        let command = Command::new(binary);
        Node::start_by(command, folder, name, store, ((LOOPBACK, port), (LOOPBACK, tool)))
    }

    /// By a command that runs the binary, listening at a place, with the tool at another.
    pub(crate) fn start_by(
        mut command: Command,
        folder: &Path,
        name: &str,
        store: &str,
        (at, tool): (Place, Place),
    ) -> Result<Node, String> {
        let config = folder.join(format!("{name}.toml"));
        fs::write(&config, config_of(tool)).unwrap();
        let port = at.1;
        command.arg("serve").args(["--listen", &format!("{}:{port}", at.0), "--store", store]);
        if store.starts_with("postgres") {
            command.args(["--node-name", name]);
        }
        command.arg("--config").arg(&config).current_dir(folder);
        command.env("EVERSTATE_ADMIN_KEY", ADMIN).env("EVERSTATE_MASTER_KEY", MASTER_KEY);
        let log = folder.join(format!("{name}-{port}.log"));
        let mut child = processes::start(&mut command, &log);
        let end = Instant::now() + Duration::from_secs(120);
        while !is_ready(at) {
            if child.try_wait().unwrap().is_some() {
                return Err(fs::read_to_string(&log).unwrap_or_default());
            }
            assert!(Instant::now() < end, "{name} is never ready");
            pause(Duration::from_millis(50));
        }
        Ok(Node { child, at })
    }

    /// In good order, as an upgrade does.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(&[self.child.id()], Signal::Kill);
            let _ = self.child.wait();
        }
    }
}

fn is_ready(at: Place) -> bool {
    let ask = Ask { at, method: "GET", path: "/readyz", key: None, body: "" };
    ask.send().is_ok_and(|it| it.status == 200)
}

/// A model that calls the tool in each of the first steps, and then answers; another that only answers.
fn config_of((host, port): Place) -> String {
    format!(
        r#"
[providers.stage]
kind = "rehearsal"

[[providers.stage.script.rules]]
when = {{ step = {{ from = 1, times = {STEPS} }}, says = "work" }}
calls = [{{ name = "work", arguments = {{ step = "{{step}}" }} }}]

[[providers.stage.script.rules]]
text = "done"

[[offers]]
model = "bench"
provider = "stage"
context_tokens = 10000000

[[tools]]
name = "work"
description = "Does some work."
method = "POST"
url = "http://{host}:{port}/work"
safety = "idempotent"
allow_private = true
parameters = {{ type = "object", properties = {{ step = {{ type = "string" }} }} }}
"#
    )
}

/// What a request looks like that works: `mode` is more of its fields.
pub(crate) fn request(says: &str, mode: &str) -> String {
    format!(
        r#"{{"model": "bench", "input": "{says}"{mode}, "tools": [{{"type": "mcp", "server_label": "everstate", "allowed_tools": ["work"], "require_approval": "never"}}]}}"#
    )
}

/// What was done by the tool: how often under which key.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) port: u16,
    done: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Tool {
    pub(crate) fn start() -> Tool {
        Tool::start_at(LOOPBACK)
    }

    pub(crate) fn start_at(host: Ipv4Addr) -> Tool {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let tool = Tool { port: listener.local_addr().unwrap().port(), done: Arc::default() };
        let done = Arc::clone(&tool.done);
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                let done = Arc::clone(&done);
                std::thread::spawn(move || drop(serve(&stream, &done)));
            }
        });
        tool
    }

    /// How many different things were done for each turn. A repeat under the same key is the same thing.
    pub(crate) fn done(&self) -> BTreeMap<String, usize> {
        let mut turns = BTreeMap::new();
        for key in self.done.lock().unwrap().keys() {
            // `session/turn/call`
            let turn = key.rsplit_once('/').map_or("", |it| it.0);
            *turns.entry(turn.to_owned()).or_default() += 1;
        }
        turns
    }

    /// How many calls came again under a key that was there.
    pub(crate) fn n_repeated(&self) -> u64 {
        self.done.lock().unwrap().values().map(|it| it - 1).sum()
    }
}

fn serve(stream: &TcpStream, done: &Mutex<BTreeMap<String, u64>>) -> std::io::Result<()> {
    let mut from = BufReader::new(stream);
    loop {
        let (mut length, mut key) = (0, String::new());
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.split_once(':') else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "idempotency-key" => value.trim().clone_into(&mut key),
                _ => {}
            }
        }
        from.read_exact(&mut vec![0; length])?;
        *done.lock().unwrap().entry(key).or_default() += 1;
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{\"said\":\"ok\"}";
        (&*stream).write_all(answer.as_bytes())?;
    }
}
