//! Stopping everything that runs, with real processes and a provider that never comes to an end: what the logs say of
//! when it ended, and when the provider was let go.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::house::{House, KEY};
use crate::many::{Many, until};

/// The promise.
const SOON_MS: u64 = 1_000;
const N_TURNS: usize = 50;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// Begins an answer, and says no more. Notes when each caller hung up.
struct Talker {
    url: String,
    asked: Arc<Mutex<usize>>,
    dropped: Arc<Mutex<Vec<u64>>>,
}

impl Talker {
    fn open() -> Talker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, dropped): (Arc<Mutex<usize>>, Arc<Mutex<Vec<u64>>>) = Default::default();
        let talker = Talker { url, asked: asked.clone(), dropped: dropped.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, asked, dropped) = (stream.unwrap(), asked.clone(), dropped.clone());
                std::thread::spawn(move || {
                    if talk(stream, &asked).is_some() {
                        dropped.lock().unwrap().push(now());
                    }
                });
            }
        });
        talker
    }

    fn config(&self) -> String {
        format!(
            "[providers.talker]\nkind = \"compatible\"\nbase_url = \"{}/v1\"\n\
             [[offers]]\nmodel = \"endless\"\nprovider = \"talker\"\n",
            self.url
        )
    }
}

/// Until the caller hangs up; `None` if nothing was asked.
fn talk(mut stream: TcpStream, asked: &Mutex<usize>) -> Option<()> {
    let mut bytes = [0; 16_384];
    let mut head = Vec::new();
    while !String::from_utf8_lossy(&head).contains("\"endless\"") {
        match stream.read(&mut bytes).unwrap_or(0) {
            0 => return None,
            n => head.extend_from_slice(&bytes[..n]),
        }
    }
    let first = json!({ "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "endless",
        "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "Well, " } }] });
    let chunk = format!("data: {first}\n\n");
    let text = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n",
        chunk.len()
    );
    stream.write_all(text.as_bytes()).ok()?;
    *asked.lock().unwrap() += 1;
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
    Some(())
}

async fn ask(http: &Client, method: Method, url: String, body: Option<Value>) -> (u16, Value) {
    let mut request = http.request(method, url).bearer_auth(KEY);
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap_or_default();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

/// Stops what was begun at these nodes, at the first of them, and holds them to the promise. On a machine that has too
/// much else to do, once more.
async fn check(talker: &Talker, urls: &[String]) {
    let http = Client::builder().no_proxy().build().unwrap();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        took.push(round(&http, talker, urls).await);
        if took.last().is_some_and(|it| *it <= SOON_MS) {
            break;
        }
    }
    assert!(took.iter().any(|it| *it <= SOON_MS), "the last ended after {took:?} ms");
    hold(&http, urls).await;
}

const ROUNDS: usize = 3;

/// Begins turns in every way there is, stops them, and reads from the logs and from the provider when the last of them
/// ended.
async fn round(http: &Client, talker: &Talker, urls: &[String]) -> u64 {
    (*talker.asked.lock().unwrap(), *talker.dropped.lock().unwrap()) = (0, Vec::new());
    let mut callers = Vec::new();
    for n in 0..N_TURNS {
        let url = format!("{}/v1/responses", urls[n % urls.len()]);
        let mut body = json!({ "model": "endless", "input": "go on" });
        match n % 5 {
            0 => body["background"] = true.into(),
            1 => (body["background"], body["stream"]) = (true.into(), true.into()),
            2 => body["stream"] = true.into(),
            3 => {}
            // Known to its own node alone.
            _ => (body["store"], body["stream"]) = (false.into(), true.into()),
        }
        let (http, body) = (http.clone(), body);
        callers.push(tokio::spawn(async move {
            let answer = http.post(url).bearer_auth(KEY).body(body.to_string()).send().await;
            answer.unwrap().text().await.unwrap_or_default()
        }));
    }
    until(async || (*talker.asked.lock().unwrap() == N_TURNS).then_some(())).await;
    let last = urls.last().unwrap();
    let running = format!("{last}/everstate/v1/sessions?running=true&limit=500");
    let n_stored = N_TURNS - N_TURNS / 5;
    let list = async || ask(http, Method::GET, running.clone(), None).await.1["items"].clone();
    let sessions = until(async || {
        let items = list().await;
        (items.as_array().unwrap().len() == n_stored).then_some(items)
    })
    .await;

    let began = now();
    let stop = format!("{}/everstate/v1/stop", urls[0]);
    let (status, told) = ask(http, Method::POST, stop, Some(json!({ "all": true }))).await;
    assert_eq!((status, &told["stopped"]), (200, &json!(N_TURNS)), "{told}");
    assert_eq!(list().await, json!([]), "nothing is under way when the answer comes");
    until(async || (talker.dropped.lock().unwrap().len() == N_TURNS).then_some(())).await;
    let dropped = talker.dropped.lock().unwrap().iter().max().unwrap().saturating_sub(began);
    let mut ended = 0;
    for it in sessions.as_array().unwrap() {
        let path = format!("{last}/everstate/v1/sessions/{}/events", it["id"].as_str().unwrap());
        let (_, events) = ask(http, Method::GET, path, None).await;
        let items = events["items"].as_array().unwrap();
        let end = items.iter().find(|it| it["kind"] == "turn_ended").expect("it was stopped");
        assert_eq!(end["end"]["cancelled"], "asked", "{end}");
        ended = ended.max(end["at"].as_u64().unwrap().saturating_sub(began));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    ended.max(dropped)
}

/// Held, nothing begins at any node; lifted, it does again.
async fn hold(http: &Client, urls: &[String]) {
    let (first, last) = (&urls[0], urls.last().unwrap());
    let hold = json!({ "project": "default", "hold": true });
    let stop = format!("{first}/everstate/v1/stop");
    let (status, told) = ask(http, Method::POST, stop, Some(hold)).await;
    assert_eq!((status, &told["held"]), (200, &json!(["default"])), "{told}");
    let say = json!({ "model": "rehearsal", "input": "hello" });
    for url in urls {
        let begun = ask(http, Method::POST, format!("{url}/v1/responses"), Some(say.clone())).await;
        assert_eq!(
            (begun.0, &begun.1["error"]["code"]),
            (409, &json!("project_stopped")),
            "{}",
            begun.1
        );
        let unstored = json!({ "model": "rehearsal", "input": "hello", "store": false });
        let begun = ask(http, Method::POST, format!("{url}/v1/responses"), Some(unstored)).await;
        assert_eq!(begun.0, 409, "{}", begun.1);
        let held = ask(http, Method::GET, format!("{url}/everstate/v1/stop"), None).await.1;
        assert_eq!(held["items"], json!([{ "project": "default" }]));
    }
    let start = format!("{last}/everstate/v1/start");
    let (_, told) = ask(http, Method::POST, start, Some(json!({ "project": "default" }))).await;
    assert_eq!(told["lifted"], true, "{told}");
    for url in urls {
        until(async || {
            let path = format!("{url}/v1/responses");
            (ask(http, Method::POST, path, Some(say.clone())).await.0 == 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn fifty_turns_of_two_nodes_end_within_a_second() {
    let talker = Talker::open();
    let Some(many) = Many::new(&talker.config()) else { return };
    let (a, b) = many.two().await;
    check(&talker, &[a.url.clone(), b.url.clone()]).await;
}

#[tokio::test]
async fn fifty_turns_of_one_node_end_within_a_second() {
    let talker = Talker::open();
    let house = House::new(&talker.config());
    check(&talker, std::slice::from_ref(&house.url)).await;
}

#[test]
fn a_project_is_stopped_and_started_by_hand() {
    let talker = Talker::open();
    let house = House::new(&talker.config());
    let begun = house.run(&["run", "go on", "--model", "endless", "--detach"]);
    assert_eq!(begun.code, 0, "{}", begun.err);
    let list = house.run(&["session", "list", "--running"]);
    let short = list.out.lines().nth(1).and_then(|it| it.split_whitespace().next()).unwrap();
    let unasked = house.run(&["stop", "--project", "default"]);
    assert!(unasked.code == 2 && unasked.err.contains("--yes"), "{}", unasked.err);
    let stopped = house.run(&["stop", "--project", "default", "--hold", "--yes"]);
    assert_eq!(stopped.code, 0, "{}", stopped.err);
    for part in
        ["1 turn stopped in ", &format!("  {short}/1\n"), "everstate start --project default"]
    {
        assert!(stopped.out.contains(part), "`{part}` is not in\n{}", stopped.out);
    }
    assert_eq!(house.run(&["session", "list", "--running"]).out, "nothing is under way\n");
    let held = house.run(&["run", "hello"]);
    assert!(held.code == 6 && held.err.contains("error[project_stopped]"), "{}", held.err);
    assert_eq!(house.run(&["start", "--project", "default"]).out, "turns may begin again\n");
    assert_eq!(house.run(&["start", "--project", "default"]).out, "it was not held\n");
    assert_eq!(house.run(&["run", "hello"]).code, 0);
    // One alone.
    house.run(&["run", "go on", "--model", "endless", "--detach"]);
    assert!(house.run(&["session", "stop", "@"]).out.starts_with("1 turn stopped"));
    assert!(house.run(&["session", "stop", "@"]).out.starts_with("0 turns stopped"));
    assert_eq!(house.run(&["stop", "--agent", "agent_nobody", "--yes"]).out.lines().count(), 1);
}

#[test]
fn a_crash_leaks_no_turn_of_a_key() {
    let talker = Talker::open();
    let mut house = House::new(&talker.config());
    let made = house.run(&["--json", "key", "create", "busy", "--turns-max", "1"]);
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let begin = |house: &House| {
        let mut command = house.command(&["run", "go on", "--model", "endless", "--detach"]);
        let out = command.env("EVERSTATE_KEY", made["key"].as_str().unwrap()).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    assert_eq!(begin(&house).0, 0);
    for _ in 0..2 {
        let (code, err) = begin(&house);
        assert!(code == 8 && err.contains("error[key_limit_reached]"), "{code} {err}");
        // What it leaves behind goes on, and is counted as what it is.
        house.kill();
        house.start();
    }
    assert_eq!(house.run(&["stop", "--all", "--yes"]).code, 0);
    let (code, err) = begin(&house);
    assert_eq!(code, 0, "{err}");
}
