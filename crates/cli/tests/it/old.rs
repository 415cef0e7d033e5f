//! Installations that earlier releases left behind, killed in the middle of their work. Each is started on every build:
//! what was said is read as it was told, what ran ends, what waited goes on.
//!
//! A release adds its own: `EVERSTATE_RECORD=0.2.0 cargo nextest run -p everstate-cli -E 'test(old)'`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use everstate_test_postgres::cluster;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{KEY, everstate};
use crate::many::{Answer, Bank, read, until};

/// The master key of all of them. It guards nothing.
const MASTER: &str = "0000000000000000000000000000000000000000000000000000000000000001";
/// After a release's name: what was told of it, on a file and in a database; and the database.
const TOLD_FILE: &str = ".file.json";
const TOLD_DATABASE: &str = ".database.json";
const SCRIPT: &str = ".sql.zst";

const STAGE: &str = r#"
[providers.slow]
kind = "rehearsal"
[providers.slow.script]
delay_ms = 50
[[offers]]
model = "slow"
provider = "slow"
"#;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/old")
}

fn releases(suffix: &str) -> Vec<String> {
    let names = fs::read_dir(folder()).unwrap().map(|it| it.unwrap().file_name());
    let of = |name: String| name.strip_suffix(suffix).map(str::to_owned);
    names.filter_map(|it| of(it.to_string_lossy().into_owned())).collect()
}

fn recorded() -> Option<String> {
    std::env::var("EVERSTATE_RECORD").ok()
}

#[tokio::test]
async fn an_old_file_goes_on() {
    if let Some(release) = recorded() {
        let place = tempfile::tempdir().unwrap();
        let told = fill(place.path(), "sqlite:state.db").await;
        fs::write(folder().join(format!("{release}{TOLD_FILE}")), told).unwrap();
        let to = folder().join(&release);
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        copy(place.path(), &to, &|it| zstd::encode_all(it, 19).unwrap());
    }
    let all = releases(TOLD_FILE);
    assert!(!all.is_empty(), "there is one of each release");
    for release in all {
        let place = tempfile::tempdir().unwrap();
        copy(&folder().join(&release), place.path(), &|it| zstd::decode_all(it).unwrap());
        let told = fs::read_to_string(folder().join(format!("{release}{TOLD_FILE}"))).unwrap();
        goes_on(place.path(), "sqlite:state.db", &told).await;
    }
}

#[tokio::test]
async fn an_old_database_goes_on() {
    let Some(cluster) = cluster() else { return };
    if let Some(release) = recorded() {
        let place = tempfile::tempdir().unwrap();
        let database = cluster.fresh_name();
        let told = fill(place.path(), &cluster.url(&database)).await;
        fs::write(folder().join(format!("{release}{TOLD_DATABASE}")), told).unwrap();
        let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("../store/src/postgres/schema");
        let script = cluster.dump(&database, &steps);
        let packed = zstd::encode_all(script.as_bytes(), 19).unwrap();
        fs::write(folder().join(format!("{release}{SCRIPT}")), packed).unwrap();
    }
    let all = releases(TOLD_DATABASE);
    assert!(!all.is_empty(), "there is one of each release");
    for release in all {
        let packed = fs::read(folder().join(format!("{release}{SCRIPT}"))).unwrap();
        let script = String::from_utf8(zstd::decode_all(&*packed).unwrap()).unwrap();
        let database = cluster.fresh_name();
        cluster.load(&database, &script);
        let told = fs::read_to_string(folder().join(format!("{release}{TOLD_DATABASE}"))).unwrap();
        let place = tempfile::tempdir().unwrap();
        goes_on(place.path(), &cluster.url(&database), &told).await;
    }
}

/// A server that is killed when it goes.
struct Server {
    process: Child,
    url: String,
    http: reqwest::Client,
}

impl Server {
    fn start(place: &Path, store: &str, bank: &Bank) -> Server {
        let config = format!("{STAGE}{}", bank.tool("neither"));
        fs::write(place.join("everstate.toml"), config).unwrap();
        let mut process = everstate(place)
            .env("EVERSTATE_MASTER_KEY", MASTER)
            .env("EVERSTATE_STORE", store)
            .args(["--json", "serve", "--listen", "127.0.0.1:0", "--node-name", "a"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        // It has been read, and is no part of what is kept.
        fs::remove_file(place.join("everstate.toml")).ok();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let url = ready["url"].as_str().unwrap_or_else(|| panic!("it does not start: {line}"));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Server { url: url.to_owned(), process, http }
    }

    async fn send(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> reqwest::Response {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(key);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        read(self.send(KEY, Method::GET, path, None).await).await
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = read(self.send(KEY, Method::POST, path, Some(body)).await).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json);
        answer.json
    }

    async fn create(&self, body: Value) -> Value {
        self.post("/v1/responses", body).await
    }

    async fn ended(&self, response: &Value) -> Value {
        let path = path_of(response);
        until(async || {
            let told = self.get(&path).await.json;
            let is_over = !["queued", "in_progress"].contains(&told["status"].as_str()?);
            is_over.then_some(told)
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn path_of(response: &Value) -> String {
    format!("/v1/responses/{}", response["id"].as_str().unwrap())
}

fn tools(require_approval: &str) -> Value {
    json!([{ "type": "mcp", "server_label": "everstate", "require_approval": require_approval }])
}

fn client_tool() -> Value {
    json!([{ "type": "function", "name": "look", "parameters": { "type": "object" } }])
}

/// What clients were told, by what it is.
async fn fill(place: &Path, store: &str) -> String {
    let bank = Bank::open();
    let server = Server::start(place, store, &bank);
    bank.answer();
    let said = |text: &str| json!({ "model": "rehearsal", "input": text });
    let first = server.create(said("my name is Ada")).await;
    let next = json!({ "model": "rehearsal", "input": "call pay {}",
        "previous_response_id": first["id"], "tools": tools("never") });
    let second = server.create(next).await;
    let fork =
        json!({ "model": "rehearsal", "input": "elsewhere", "previous_response_id": first["id"] });
    let fork = server.create(fork).await;
    let asks = json!({ "model": "rehearsal", "input": "call look {}", "tools": client_tool() });
    let asks = server.create(asks).await;
    let awaits = json!({ "model": "rehearsal", "input": "call pay {}", "tools": tools("always") });
    let awaits = server.create(awaits).await;
    let gone = server.create(said("nobody may know")).await;
    read(server.send(KEY, Method::DELETE, &path_of(&gone), None).await).await;
    let kept = server.create(said("this stays")).await;
    let erased = json!({ "model": "rehearsal", "input": "this does not", "previous_response_id": kept["id"] });
    let erased = server.create(erased).await;
    read(server.send(KEY, Method::DELETE, &path_of(&erased), None).await).await;
    server.post("/everstate/v1/projects", json!({ "name": "other" })).await;
    let key = server.post("/everstate/v1/keys", json!({ "project": "other", "name": "k" })).await;
    let theirs = said("of another project");
    let theirs =
        server.send(key["key"].as_str().unwrap(), Method::POST, "/v1/responses", Some(theirs));
    let theirs = read(theirs.await).await.json;
    // Killed in the middle of this.
    let words: Vec<String> = (0..60).map(|it| format!("w{it}")).collect();
    let runs =
        json!({ "model": "slow", "background": true, "stream": true, "input": words.join(" ") });
    let mut answer = server.send(KEY, Method::POST, "/v1/responses", Some(runs)).await;
    let mut shown = String::new();
    while shown.matches("output_text.delta").count() < 5 {
        shown.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().unwrap()));
    }
    drop(server);
    let start = shown.lines().find_map(|it| it.strip_prefix("data: ")).unwrap();
    let runs = serde_json::from_str::<Value>(start).unwrap()["response"].clone();
    let told = json!({ "first": first, "second": second, "fork": fork, "asks": asks, "awaits": awaits,
        "gone": gone, "kept": kept, "erased": erased, "key": key["key"], "theirs": theirs, "runs": runs });
    format!("{}\n", serde_json::to_string_pretty(&told).unwrap())
}

async fn goes_on(place: &Path, store: &str, told: &str) {
    let told: Value = serde_json::from_str(told).unwrap();
    let bank = Bank::open();
    bank.answer();
    let server = Server::start(place, store, &bank);
    // What was said is read as it was told.
    for name in ["first", "second", "fork", "asks", "awaits", "kept"] {
        let answer = server.get(&path_of(&told[name])).await;
        assert_eq!((answer.status, &answer.json), (200, &told[name]), "{name}");
    }
    for name in ["gone", "erased", "theirs"] {
        assert_eq!(server.get(&path_of(&told[name])).await.status, 404, "{name}");
    }
    let key = told["key"].as_str().unwrap();
    let theirs = read(server.send(key, Method::GET, &path_of(&told["theirs"]), None).await).await;
    assert_eq!((theirs.status, &theirs.json), (200, &told["theirs"]));
    // What ran was taken over.
    let runs = server.ended(&told["runs"]).await;
    assert_eq!(runs["status"], "completed", "{runs}");
    assert!(runs["output"].to_string().contains("w59"), "{runs}");
    // What waited goes on, in place.
    let answer = json!({ "model": "rehearsal", "previous_response_id": told["asks"]["id"],
        "input": [{ "type": "function_call_output", "output": "a cat",
            "call_id": told["asks"]["output"][0]["call_id"] }] });
    let answered = server.create(answer).await;
    assert!(answered["output"].to_string().contains("a cat"), "{answered}");
    let mut requests = told["awaits"]["output"].as_array().unwrap().iter();
    let request = requests.rfind(|it| it["type"] == "mcp_approval_request").unwrap();
    let approved = json!({ "model": "rehearsal", "previous_response_id": told["awaits"]["id"],
        "tools": tools("always"),
        "input": [{ "type": "mcp_approval_response", "approve": true,
            "approval_request_id": request["id"] }] });
    let approved = server.create(approved).await;
    assert_eq!((approved["status"].as_str(), bank.paid()), (Some("completed"), 1), "{approved}");
    let more = json!({ "model": "rehearsal", "input": "who am I?", "previous_response_id": told["second"]["id"] });
    server.create(more).await;
    let sessions = server.get("/everstate/v1/sessions?limit=100").await.json;
    let sessions = sessions["items"].as_array().unwrap();
    assert!(sessions.len() >= 6, "{sessions:?}");
    for session in sessions {
        let id = session["id"].as_str().unwrap();
        let verdict = server.get(&format!("/everstate/v1/sessions/{id}/verify")).await;
        assert_eq!((verdict.status, &verdict.json["ok"]), (200, &json!(true)), "{}", verdict.json);
    }
}

/// Copies a folder's files, each changed on the way.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&[u8]) -> Vec<u8>) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target, change);
        } else if !entry.file_name().to_string_lossy().ends_with(".lock") {
            fs::write(target, change(&fs::read(path).unwrap())).unwrap();
        }
    }
}
