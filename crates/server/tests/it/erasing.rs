//! What is left on disk of what a client deleted, or of what was due, read by somebody who holds the master key.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use everstate_test_postgres::Cluster;
use everstate_test_remains::Remains;
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, text_of};

/// A server, and everything of it that lies on a disk.
struct Installation {
    server: Server,
    database: Option<(Cluster, String)>,
}

const STAGE: &str = r#"
[server]
master_key = "file:master.key"
"#;

impl Installation {
    /// On each store, one after the other.
    async fn each(config: &str, check: impl AsyncFn(&Installation)) {
        let config = format!("{config}\n{STAGE}");
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start_in(dir, &config, &[]).await;
        let it = Installation { server, database: None };
        check(&it).await;
        it.server.stop().await;
        if everstate_test_postgres::cluster().is_none() {
            return;
        }
        // Its log is not kept for later.
        let cluster = Cluster::with(&["wal_recycle=off"]);
        let name = cluster.fresh_name();
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start_on(&cluster.url(&name), dir, &config, &[]).await;
        let it = Installation { server, database: Some((cluster, name)) };
        check(&it).await;
        it.server.stop().await;
    }

    /// All that a thief of the disk would have, and the master key.
    fn remains(&self) -> Remains {
        let data: Vec<PathBuf> = self.database.iter().map(|(it, _)| it.data()).collect();
        let dir = self.server.dir();
        let mut folders: Vec<&Path> = data.iter().map(PathBuf::as_path).collect();
        folders.push(&dir);
        let text = std::fs::read_to_string(dir.join("master.key")).unwrap();
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        if let Some((cluster, name)) = &self.database {
            cluster.sql(name, "CHECKPOINT");
        }
        Remains::below(&folders, &std::array::from_fn(byte))
    }

    /// Until nothing of `marker` is left. What the server does within the hour with its key store, and the database
    /// with its log, is done at once.
    async fn is_gone(&self, marker: &str, before: &Remains) -> Remains {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some((cluster, name)) = &self.database {
                cluster.sql(name, "VACUUM (FULL) everstate_keys.data_key");
                cluster.sql(name, "SELECT pg_switch_wal()");
            }
            let after = self.remains();
            let left = after.traces(marker, before);
            if left.is_empty() {
                return after;
            }
            assert!(Instant::now() < until, "{left:#?}");
            tokio::task::yield_now().await;
        }
    }

    async fn create(&self, body: Value) -> Value {
        self.server.create(body).await
    }

    async fn delete(&self, path: &str) {
        let answer = self.server.delete(path).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
    }
}

fn id(response: &Value) -> &str {
    response["id"].as_str().unwrap()
}

/// Everything in a request that may be somebody's words.
fn asked(word: &str) -> Value {
    json!({
        "model": "rehearsal",
        "input": format!("say {word}"),
        "instructions": format!("never say {word}"),
        "metadata": { "note": format!("about {word}") },
        "tools": [{ "type": "function", "name": "look", "description": format!("looks for {word}"),
            "parameters": { "type": "object", "properties": { "word": { "type": "string" } } } }],
    })
}

const MARKER: &str = "swordfish";

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_response_nothing_is_left() {
    Installation::each("", async |it| {
        let made = it.create(asked(MARKER)).await;
        assert!(text_of(&made).contains(MARKER), "{made}");
        let before = it.remains();
        assert!(!before.find(MARKER).is_empty(), "{before:?}");
        it.delete(&format!("/v1/responses/{}", id(&made))).await;
        it.is_gone(MARKER, &before).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_response_in_a_session_that_stays_nothing_is_left() {
    Installation::each("", async |it| {
        let first = it.create(json!({ "model": "rehearsal", "input": "say halibut" })).await;
        let mut body = asked(MARKER);
        body["previous_response_id"] = first["id"].clone();
        body["background"] = true.into();
        body["stream"] = true.into();
        let stream = it.server.send("/v1/responses", body, &[]).await.text().await.unwrap();
        let told = crate::server::read_events(&stream);
        let second = told[0]["response"]["id"].as_str().unwrap().to_owned();
        let before = it.remains();
        assert!(!before.find(MARKER).is_empty(), "{before:?}");
        it.delete(&format!("/v1/responses/{second}")).await;
        let after = it.is_gone(MARKER, &before).await;
        assert!(!after.find("halibut").is_empty(), "{after:?}");
        let kept = it.server.get(&format!("/v1/responses/{}", id(&first))).await;
        assert!(text_of(&kept.json).contains("halibut"), "{}", kept.json);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_session_nothing_is_left() {
    Installation::each("", async |it| {
        let big = "and so on ".repeat(20_000);
        let mut body = asked(MARKER);
        body["input"] = format!("say {MARKER} {big}").into();
        let made = it.create(body).await;
        let sessions = it.server.get("/everstate/v1/sessions").await.json;
        let session = sessions["items"][0]["id"].as_str().unwrap().to_owned();
        let before = it.remains();
        assert!(!before.find(MARKER).is_empty(), "{before:?}");
        it.delete(&format!("/everstate/v1/sessions/{session}")).await;
        it.is_gone(MARKER, &before).await;
        assert_eq!(it.server.get(&format!("/v1/responses/{}", id(&made))).await.status, 404);
    })
    .await;
}

/// The times are a tenth of a second and three hours.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_goes_and_what_is_not_stays() {
    let config = "[projects.default.retention]\nsessions = 0.000001";
    Installation::each(config, async |it| {
        it.create(asked(MARKER)).await;
        let before = it.remains();
        it.is_gone(MARKER, &before).await;
        let sessions = it.server.get("/everstate/v1/sessions").await.json;
        assert_eq!(sessions["items"], json!([]));
    })
    .await;
    let config = "[projects.default.retention]\nitems = 0.000001\nsessions = 0.125";
    Installation::each(config, async |it| {
        it.create(asked(MARKER)).await;
        let before = it.remains();
        it.is_gone(MARKER, &before).await;
        let shown = it.server.get("/everstate/v1/retention").await.json;
        assert_eq!(shown["items"][0]["sessions_ms"], 10_800_000);
        assert_eq!(shown["items"][0]["sessions_due"], 1, "{shown}");
        assert_eq!(shown["items"][0]["sessions_overdue"], 0, "{shown}");
        let sessions = it.server.get("/everstate/v1/sessions").await.json;
        assert_eq!(sessions["items"].as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_due_is_not_found_any_more() {
    let config = "[projects.default.retention]\nresponses = 0.00001\nframes = 0.000001";
    Installation::each(config, async |it| {
        let made = it.create(asked(MARKER)).await;
        let before = it.remains();
        it.is_gone(MARKER, &before).await;
        assert_eq!(it.server.get(&format!("/v1/responses/{}", id(&made))).await.status, 404);
    })
    .await;
}

const ZERO: &str = r#"
[projects.default.retention]
items = "zero"
[[providers.rehearsal.script.rules]]
when = { says = "hang" }
text = "one two three four"
broken = "hang"
after_pieces = 2
[providers.rehearsal]
kind = "rehearsal"
"#;

/// Neither while it runs nor afterwards; and the answer reaches its client.
#[tokio::test(flavor = "multi_thread")]
async fn of_what_is_kept_in_memory_only_nothing_is_ever_written() {
    Installation::each(ZERO, async |it| {
        let made = it.create(asked(MARKER)).await;
        assert!(text_of(&made).contains(MARKER), "{made}");
        assert_eq!(it.remains().find(MARKER), Vec::<String>::new());

        let mut body = asked("hang swordfish");
        body["stream"] = true.into();
        let mut stream = it.server.send("/v1/responses", body, &[]).await;
        let mut heard = String::new();
        while !heard.contains("output_text.delta") {
            heard.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
        }
        assert!(heard.contains(MARKER), "{heard}");
        assert_eq!(it.remains().find(MARKER), Vec::<String>::new());
        drop(stream);

        // What it was, is known: when, where, and how it ended.
        let found = it.remains();
        assert!(found.n_texts() > 0, "{found:?}");
        let sessions = it.server.get("/everstate/v1/sessions").await.json;
        assert_eq!(sessions["items"].as_array().unwrap().len(), 2, "{sessions}");
        for (name, value) in
            [("background", json!(true)), ("previous_response_id", made["id"].clone())]
        {
            let mut body = json!({ "model": "rehearsal", "input": "go on" });
            body[name] = value;
            let refused = it.server.post("/v1/responses", body).await;
            assert_eq!(
                (refused.status, &refused.json["error"]["code"]),
                (400, &json!("unsupported"))
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_say_for_itself_how_long_it_is_kept() {
    // The project's own time only makes sweeps come soon.
    let config = "[projects.default.retention]\nsessions = 30\nframes = 0.00001";
    Installation::each(config, async |it| {
        let body = |days: &str| {
            json!({
                "agent": { "model": "rehearsal" },
                "environment": { "type": "none" },
                "input": format!("say {MARKER}"),
                "metadata": { "everstate.retention_days": days },
            })
        };
        let headers = [("openai-beta", "agents=v1")];
        let made = it.server.post_with("/v1/agents/sessions", body("0.000001"), &headers).await;
        assert!(made.status < 300, "{}", made.json);
        let path = format!("/v1/agents/sessions/{}", id(&made.json));
        let before = it.remains();
        it.is_gone(MARKER, &before).await;
        let gone = read(it.server.ask(Method::GET, &path).header("openai-beta", "agents=v1")).await;
        assert_eq!(gone, 404);
        let refused = it.server.post_with("/v1/agents/sessions", body("soon"), &headers).await;
        assert_eq!(refused.status, 400, "{}", refused.json);
    })
    .await;
}

async fn read(request: reqwest::RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}
