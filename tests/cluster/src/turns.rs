//! Clients of three nodes while the database fails over: they may be told 503 and have to come again, and their streams
//! may break and have to be resumed. Nothing else: every turn comes to its end, every event of its stream once and in
//! order, and no tool has done more than it was asked to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Wishes;
use crate::ensemble::Ensemble;
use crate::http::{self, Answer, Ask, Place};
use crate::nodes::{Node, STEPS, Tool, request};
use crate::processes::pause;

const NODES: usize = 3;
pub(crate) const CLIENTS: u64 = 6;
/// A turn that takes longer than this, with everything that goes wrong, has been lost.
const PATIENCE: Duration = Duration::from_secs(120);
/// Until the ensemble is well again, which is other people's business.
const REST: Duration = Duration::from_secs(300);

/// What the clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) turns: AtomicU64,
    come_again: AtomicU64,
    resumed: AtomicU64,
    broken: AtomicU64,
    ends: Mutex<BTreeMap<String, u64>>,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
}

pub(crate) fn run(wishes: &Wishes) -> Result<String, String> {
    let binary = wishes.everstate.clone().ok_or("no binary was given: --everstate PATH")?;
    eprintln!("three etcd, three Patroni, three PostgreSQL, three nodes");
    let mut ensemble = Ensemble::start(&wishes.folder, wishes.careless);
    let tool = Tool::start();
    let mut nodes = Vec::new();
    for n in 0..NODES {
        let name = format!("node-{n}");
        let node = Node::start(&binary, &wishes.folder, &name, &ensemble.url(), tool.port);
        nodes.push(node.map_err(|it| format!("{name} does not start: {it}"))?);
    }
    let seen = Arc::new(Seen::default());
    let clients = clients(&nodes, &seen);
    let mut report =
        String::from("| fault | until all was well, s | turns since |\n| --- | ---: | ---: |\n");
    for fault in wishes.faults() {
        let before = more_turns(&seen, CLIENTS)?;
        let began = Instant::now();
        let leader = ensemble.leader().ok_or("nobody leads, though all was well")?;
        (fault.happens)(&mut ensemble, leader);
        ensemble.wait_until_well_again(REST)?;
        let took = began.elapsed().as_secs_f64();
        let after = more_turns(&seen, CLIENTS)?;
        writeln!(report, "| {} | {took:.1} | {} |", fault.name, after - before).unwrap();
        eprintln!("{}: {after} turns", fault.name);
    }
    judge(report, clients, &seen, &tool)
}

/// They talk until they are told to stop, each turn at another node.
pub(crate) fn clients(nodes: &[Node], seen: &Arc<Seen>) -> Vec<JoinHandle<()>> {
    let places: Vec<Place> = nodes.iter().map(|it| it.at).collect();
    let client = |n| {
        let (seen, places) = (Arc::clone(seen), places.clone());
        std::thread::spawn(move || client(n, &places, &seen))
    };
    (0..CLIENTS).map(client).collect()
}

/// Sends the clients home, and says whether all was as it should be.
pub(crate) fn judge(
    mut report: String,
    clients: Vec<JoinHandle<()>>,
    seen: &Seen,
    tool: &Tool,
) -> Result<String, String> {
    seen.stop.store(true, Ordering::Relaxed);
    for it in clients {
        it.join().map_err(|_| "a client panicked".to_owned())?;
    }
    let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
    let done = tool.done();
    for (turn, n) in done.iter().filter(|(_, n)| **n > STEPS) {
        seen.wrong
            .lock()
            .unwrap()
            .push(format!("{turn} did {n} things, and was asked for {STEPS}"));
    }
    let wrong = seen.wrong.lock().unwrap();
    writeln!(
        report,
        "\n{} turns came to their end: {:?}. Clients were told to come again {} times, {} streams broke, {} were resumed. \
         {} turns called the tool, {} calls came again under their key.",
        count(&seen.turns),
        seen.ends.lock().unwrap(),
        count(&seen.come_again),
        count(&seen.broken),
        count(&seen.resumed),
        done.len(),
        tool.n_repeated(),
    )
    .unwrap();
    match wrong.as_slice() {
        [] => Ok(report),
        wrong => Err(format!("{report}\nwhat must not be:\n{}", wrong.join("\n"))),
    }
}

/// Waits until so many more turns came to their end.
pub(crate) fn more_turns(seen: &Seen, n: u64) -> Result<u64, String> {
    let end = Instant::now() + PATIENCE;
    let wanted = seen.turns.load(Ordering::Relaxed) + n;
    while seen.turns.load(Ordering::Relaxed) < wanted {
        if Instant::now() > end {
            return Err("no turn comes to its end any more, though all is well".to_owned());
        }
        pause(Duration::from_millis(50));
    }
    Ok(seen.turns.load(Ordering::Relaxed))
}

fn client(n: u64, places: &[Place], seen: &Seen) {
    let mut turn = 0;
    while !seen.stop.load(Ordering::Relaxed) {
        turn += 1;
        let mut one = Turn {
            places,
            seen,
            at: (n + turn) as usize,
            key: format!("client-{n}-{turn}"),
            id: None,
            last: None,
        };
        match one.play() {
            Ok(end) => {
                seen.turns.fetch_add(1, Ordering::Relaxed);
                *seen.ends.lock().unwrap().entry(end).or_default() += 1;
            }
            Err(why) => seen.wrong.lock().unwrap().push(format!("{}: {why}", one.key)),
        }
    }
}

struct Turn<'a> {
    places: &'a [Place],
    seen: &'a Seen,
    at: usize,
    key: String,
    /// Once it was heard.
    id: Option<String>,
    /// The number of the last event.
    last: Option<u64>,
}

impl Turn<'_> {
    /// How it ended, or what is wrong.
    fn play(&mut self) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Ok(answer) = self.ask() else {
                self.seen.broken.fetch_add(1, Ordering::Relaxed);
                pause(Duration::from_millis(100));
                continue;
            };
            match answer.status {
                200 => {
                    if let Some(end) = self.listen(answer, deadline)? {
                        return Ok(end);
                    }
                    self.seen.broken.fetch_add(1, Ordering::Relaxed);
                }
                503 => {
                    self.seen.come_again.fetch_add(1, Ordering::Relaxed);
                    pause(Duration::from_millis(250));
                }
                status => {
                    let said = answer.text().unwrap_or_default();
                    return Err(format!("{status}: {said}"));
                }
            }
        }
        let path = format!("/v1/responses/{}", self.id.as_deref().unwrap_or_default());
        let stands: Vec<String> =
            self.places.iter().filter_map(|it| http::get(*it, &path)).collect();
        Err(format!(
            "it never ended; the response is {:?}, the last event {:?}; it stands: {}",
            self.id,
            self.last,
            stands.join(" | ")
        ))
    }

    /// Begins, again under the same key, or goes on after the last event. Each time at another node.
    fn ask(&mut self) -> std::io::Result<Answer> {
        self.at += 1;
        let at = self.places[self.at % self.places.len()];
        match &self.id {
            None => {
                let says = format!("work {}", self.key);
                let body = request(&says, r#", "background": true, "stream": true"#);
                let key = Some(self.key.as_str());
                Ask { at, method: "POST", path: "/v1/responses", key, body: &body }.send()
            }
            Some(id) => {
                self.seen.resumed.fetch_add(1, Ordering::Relaxed);
                let after =
                    self.last.map_or_else(String::new, |it| format!("&starting_after={it}"));
                let path = format!("/v1/responses/{id}?stream=true{after}");
                Ask { at, method: "GET", path: &path, key: None, body: "" }.send()
            }
        }
    }

    /// How it ended; `None` if the stream broke off before. What comes again under a key begins at the beginning.
    fn listen(&mut self, mut answer: Answer, deadline: Instant) -> Result<Option<String>, String> {
        while let Ok(Some(line)) = answer.line() {
            // Also a stream that only says that it is there comes to nothing.
            if Instant::now() > deadline {
                return Ok(None);
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let Ok(event) = serde_json::from_str::<Value>(data) else {
                // Cut off in the middle.
                return Ok(None);
            };
            let kind = event["type"].as_str().unwrap_or_default();
            if let Some(id) = event["response"]["id"].as_str() {
                self.id = Some(id.to_owned());
            }
            if kind == "error" {
                return Ok(None);
            }
            let Some(number) = event["sequence_number"].as_u64() else {
                return Err(format!("an event without a number: {data}"));
            };
            let wanted = self.last.map_or(0, |it| it + 1);
            if number != wanted {
                return Err(format!("event {number} came, and {wanted} was to come: {data}"));
            }
            self.last = Some(number);
            let ends = [
                "response.completed",
                "response.failed",
                "response.incomplete",
                "response.cancelled",
            ];
            if ends.contains(&kind) {
                return Ok(Some(kind.to_owned()));
            }
        }
        Ok(None)
    }
}
