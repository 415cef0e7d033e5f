//! Two releases on one store: side by side on PostgreSQL, as in a rolling upgrade, and one after the other on a file.
//! Conversations go on under either, also back under the old one, unless it says that the store is too new for it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use everstate_test_postgres::Cluster;
use serde_json::Value;

use crate::Wishes;
use crate::http::Ask;
use crate::nodes::{Node, STEPS, Tool, request};
use crate::processes::pause;

/// How long a node may say that it cannot do something now.
const PATIENCE: Duration = Duration::from_secs(30);
const CONVERSATIONS: usize = 12;

pub(crate) fn run(wishes: &Wishes) -> Result<String, String> {
    let (Some(old), Some(new)) = (&wishes.old, &wishes.everstate) else {
        return Err("two binaries are needed: --old PATH --everstate PATH".to_owned());
    };
    let mut report = String::new();
    writeln!(report, "one after the other on a file: {}", in_turn(wishes, old, new)?).unwrap();
    writeln!(report, "side by side on PostgreSQL: {}", together(wishes, old, new)?).unwrap();
    Ok(report)
}

/// The last response of each conversation.
struct Talks {
    last: Vec<Option<String>>,
    tool: Tool,
    turns: usize,
}

impl Talks {
    fn new() -> Talks {
        Talks { last: vec![None; CONVERSATIONS], tool: Tool::start(), turns: 0 }
    }

    /// Each conversation goes on by a turn, and all that was said before is there.
    fn go_on(&mut self, nodes: &[&Node]) -> Result<(), String> {
        for n in 0..CONVERSATIONS {
            let node = nodes[(n + self.turns) % nodes.len()];
            let before = match &self.last[n] {
                Some(id) => format!(r#", "previous_response_id": "{id}""#),
                None => String::new(),
            };
            // In the background: a caller in the foreground may be cut off where its session changes hands.
            let mode = format!("{before}, \"background\": true");
            let body = request(&format!("work {n} {}", self.turns), &mode);
            let told = ask(node, "POST", "/v1/responses", &body)?;
            let id = told["id"].as_str().unwrap_or_default().to_owned();
            let path = format!("/v1/responses/{id}");
            let told = loop {
                let told = ask(node, "GET", &path, "")?;
                match told["status"].as_str() {
                    Some("completed") => break told,
                    Some("queued" | "in_progress") => pause(Duration::from_millis(20)),
                    _ => return Err(format!("turn {} of conversation {n} is {told}", self.turns)),
                }
            };
            self.last[n] = Some(id);
            // What the one release wrote the other reads.
            let other = nodes[(n + self.turns + 1) % nodes.len()];
            let read = ask(other, "GET", &path, "")?;
            if read["output"] != told["output"] {
                return Err(format!("conversation {n} reads otherwise than it was told: {read}"));
            }
        }
        self.turns += 1;
        Ok(())
    }

    /// Every chain verifies, and each turn's tool did what it was asked to, once.
    fn check(&self, node: &Node) -> Result<(), String> {
        let listed = ask(node, "GET", "/everstate/v1/sessions?limit=100", "")?;
        let sessions = listed["items"].as_array().cloned().unwrap_or_default();
        if sessions.len() < CONVERSATIONS {
            return Err(format!("of {CONVERSATIONS} sessions {} are listed", sessions.len()));
        }
        for session in sessions {
            let id = session["id"].as_str().unwrap_or_default().to_owned();
            let told = ask(node, "GET", &format!("/everstate/v1/sessions/{id}/verify"), "")?;
            if told["ok"] != true {
                return Err(format!("{id} does not verify: {told}"));
            }
        }
        let done = self.tool.done();
        match done.iter().find(|(_, n)| **n != STEPS) {
            Some((turn, n)) => Err(format!("{turn} did {n} things, and was asked for {STEPS}")),
            None if done.len() != self.turns * CONVERSATIONS => {
                Err(format!("{} turns called the tool", done.len()))
            }
            None => Ok(()),
        }
    }
}

/// As the official clients do: while buckets change hands it may be told to come again.
fn ask(node: &Node, method: &str, path: &str, body: &str) -> Result<Value, String> {
    let said = |it: std::io::Error| format!("{method} {path}: {it}");
    let end = Instant::now() + PATIENCE;
    // One request has one key, however often it is sent.
    let key = format!("{method}-{path}-{:?}", Instant::now()).replace([' ', '"'], "");
    let key = (method == "POST").then_some(key.as_str());
    loop {
        let answer = Ask { at: node.at, method, path, key, body }.send().map_err(said)?;
        let status = answer.status;
        let text = answer.text().map_err(said)?;
        match status {
            200 => {
                return serde_json::from_str(&text)
                    .map_err(|it| format!("{method} {path}: {it}: {text}"));
            }
            503 if Instant::now() < end => pause(Duration::from_millis(250)),
            _ => return Err(format!("{method} {path}: {status} {text}")),
        }
    }
}

/// Old, new, and old again if it can.
fn in_turn(wishes: &Wishes, old: &Path, new: &Path) -> Result<String, String> {
    let store = format!("sqlite:{}", wishes.folder.join("state.db").display());
    let mut talks = Talks::new();
    let tool = talks.tool.port;
    let start = |binary: &Path, name: &str| Node::start(binary, &wishes.folder, name, &store, tool);
    let node = start(old, "file-old")?;
    talks.go_on(&[&node])?;
    node.stop();
    let node = start(new, "file-new")?;
    talks.check(&node)?;
    talks.go_on(&[&node])?;
    talks.check(&node)?;
    node.stop();
    let back = match start(old, "file-back") {
        Ok(node) => {
            talks.go_on(&[&node])?;
            node.stop();
            "and back"
        }
        Err(why) if why.contains("later release") => "the old one then refuses, and says why",
        Err(why) => {
            return Err(format!("the old release breaks over what the new one wrote: {why}"));
        }
    };
    let node = start(new, "file-again")?;
    talks.check(&node)?;
    node.stop();
    Ok(format!("{CONVERSATIONS} conversations pass from old to new, {back}; all chains verify"))
}

/// A node of the old release, one of the new beside it, and the old one goes.
fn together(wishes: &Wishes, old: &Path, new: &Path) -> Result<String, String> {
    let cluster = Cluster::start();
    let url = cluster.fresh_database();
    let mut talks = Talks::new();
    let tool = talks.tool.port;
    let start = |binary: &Path, name: &str| Node::start(binary, &wishes.folder, name, &url, tool);
    let first = match start(old, "node-a") {
        Ok(node) => node,
        // Before there was a store on PostgreSQL.
        Err(why) if why.contains("names no store") || why.contains("unexpected argument") => {
            return Ok("the old release knows no PostgreSQL: nothing to try".to_owned());
        }
        Err(why) => return Err(why),
    };
    talks.go_on(&[&first])?;
    let second = match start(new, "node-b") {
        Ok(node) => node,
        Err(why) => {
            return Err(format!("the new release does not start beside the old one: {why}"));
        }
    };
    // Each node in turn, so that every conversation is at both.
    for _ in 0..3 {
        talks.go_on(&[&first, &second])?;
    }
    first.stop();
    talks.go_on(&[&second])?;
    let back = match start(old, "node-a") {
        Ok(first) => {
            talks.go_on(&[&first, &second])?;
            first.stop();
            "also back"
        }
        Err(why) if why.contains("later release") || why.contains("newer") => {
            "the old one, once gone, is refused and says why"
        }
        Err(why) => {
            return Err(format!("the old release breaks over what the new one wrote: {why}"));
        }
    };
    talks.go_on(&[&second])?;
    talks.check(&second)?;
    second.stop();
    Ok(format!("{CONVERSATIONS} conversations pass between old and new, {back}; all chains verify"))
}
