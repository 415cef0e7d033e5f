//! Turns that take a while: in the background, resumed, cancelled, with tools and people.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::server::{Server, events, item, read, read_events, text_of};

/// A model that hangs after two words until it is cancelled, and one that is done soon.
const STAGE: &str = r#"
[[providers.rehearsal.script.rules]]
when = { says_exactly = "hang" }
text = "one two three four"
broken = "hang"
after_pieces = 2
[[providers.rehearsal.script.rules]]
when = { says_exactly = "slow" }
text = "a b c d e f"
delay_ms = 20
[providers.rehearsal]
kind = "rehearsal"
"#;

#[tokio::test]
async fn in_the_background_nobody_has_to_wait() {
    let server = Server::start(STAGE).await;
    let begun =
        server.create(json!({ "model": "rehearsal", "input": "slow", "background": true })).await;
    assert!(["queued", "in_progress"].contains(&begun["status"].as_str().unwrap()), "{begun}");
    let ended = server.ended(begun["id"].as_str().unwrap()).await;
    assert_eq!(ended["status"], "completed");
    assert_eq!(text_of(&ended), "a b c d e f");
    assert_eq!(ended["background"], true);
}

#[tokio::test]
async fn a_stream_in_the_background_is_told_again_byte_for_byte() {
    let server = Server::start(STAGE).await;
    let body = json!({ "model": "rehearsal", "input": "slow", "background": true, "stream": true });
    let first = server.send("/v1/responses", body, &[]).await;
    let first = first.text().await.unwrap();
    let told = read_events(&first);
    let id = told[0]["response"]["id"].as_str().unwrap().to_owned();
    let again = server.ask(reqwest::Method::GET, &format!("/v1/responses/{id}?stream=true"));
    let again = again.send().await.unwrap();
    let session = again.headers()["x-everstate-session"].to_str().unwrap().to_owned();
    assert_eq!(again.text().await.unwrap(), first);
    let shown = server.get(&format!("/everstate/v1/sessions/{session}")).await.json;
    assert_eq!(shown["turns"][0]["response"], *id, "the answer says in which session it is");
    let path = format!("/v1/responses/{id}?stream=true&starting_after=4");
    let rest = server.ask(reqwest::Method::GET, &path).send().await.unwrap();
    let rest = events(rest).await;
    assert_eq!(rest[..], told[5..told.len() - 1]);
    assert_eq!(rest[0]["sequence_number"], 5);
}

#[tokio::test]
async fn what_was_shown_before_a_restart_is_shown_after_it() {
    let server = Server::start(STAGE).await;
    let body = json!({ "model": "rehearsal", "input": "slow", "background": true, "stream": true });
    let first = server.send("/v1/responses", body, &[]).await.text().await.unwrap();
    let id = read_events(&first)[0]["response"]["id"].as_str().unwrap().to_owned();
    let server = Server::start_in(server.stop().await, STAGE, &[]).await;
    let again = server.ask(reqwest::Method::GET, &format!("/v1/responses/{id}?stream=true"));
    assert_eq!(again.send().await.unwrap().text().await.unwrap(), first);
}

#[tokio::test]
async fn only_what_runs_in_the_background_is_cancelled() {
    let server = Server::start(STAGE).await;
    let begun =
        server.create(json!({ "model": "rehearsal", "input": "hang", "background": true })).await;
    let path = format!("/v1/responses/{}/cancel", begun["id"].as_str().unwrap());
    let cancelled = server.post(&path, json!({})).await;
    assert_eq!((cancelled.status, &cancelled.json["status"]), (200, &json!("cancelled")));
    let again = server.post(&path, json!({})).await;
    assert_eq!(again.json, cancelled.json);

    let made = server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    let path = format!("/v1/responses/{}/cancel", made["id"].as_str().unwrap());
    let refused = server.post(&path, json!({})).await;
    assert_eq!(
        (refused.status, &refused.json["error"]["code"]),
        (400, &json!("not_in_background"))
    );
}

#[tokio::test]
async fn a_caller_that_goes_ends_its_turn() {
    let server = Server::start(STAGE).await;
    let body = json!({ "model": "rehearsal", "input": "hang", "stream": true });
    let mut stream = server.send("/v1/responses", body, &[]).await.bytes_stream();
    let mut text = String::new();
    while !text.contains("output_text.delta") {
        text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    let id = read_events(&text)[0]["response"]["id"].as_str().unwrap().to_owned();
    drop(stream);
    let ended = server.ended(&id).await;
    assert_eq!(ended["status"], "cancelled");
    // What was shown stays in the output, as unfinished.
    assert_eq!(item(&ended, "message")["status"], "incomplete");
}

#[tokio::test]
async fn a_turn_at_work_is_not_continued() {
    let server = Server::start(STAGE).await;
    let begun =
        server.create(json!({ "model": "rehearsal", "input": "hang", "background": true })).await;
    let body = json!({ "model": "rehearsal", "input": "x", "previous_response_id": begun["id"] });
    let refused = server.post("/v1/responses", body).await;
    assert_eq!(refused.json["error"]["code"], "previous_response_unfinished");
    let id = begun["id"].as_str().unwrap();
    assert_eq!(server.delete(&format!("/v1/responses/{id}")).await.status, 200);
    assert_eq!(server.get(&format!("/v1/responses/{id}")).await.status, 404);
}

/// A bank that pays: counts, remembers keys, and can be told to wait.
pub(crate) struct Bank {
    pub(crate) url: String,
    pub(crate) n: Arc<AtomicUsize>,
    pub(crate) asked: Arc<Notify>,
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
}

impl Bank {
    pub(crate) async fn open(answers: bool) -> Bank {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bank = Bank { url, n: Arc::default(), asked: Arc::default(), heads: Arc::default() };
        let (n, asked, heads) = (bank.n.clone(), bank.asked.clone(), bank.heads.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (n, asked, heads) = (n.clone(), asked.clone(), heads.clone());
                tokio::spawn(async move {
                    let mut head = vec![0; 4096];
                    let n_read = stream.read(&mut head).await.unwrap_or(0);
                    heads
                        .lock()
                        .unwrap()
                        .push(String::from_utf8_lossy(&head[..n_read]).into_owned());
                    n.fetch_add(1, Ordering::SeqCst);
                    asked.notify_one();
                    if !answers {
                        std::future::pending::<()>().await;
                    }
                    let body = r#"{"receipt":"re_77"}"#;
                    let text = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(text.as_bytes()).await.ok();
                });
            }
        });
        bank
    }

    pub(crate) fn tool(&self, name: &str, safety: &str, approval: bool) -> String {
        format!(
            "[[tools]]\nname = \"{name}\"\ndescription = \"Pays.\"\nmethod = \"POST\"\nurl = \"{}/pay/{{order}}\"\n\
             safety = \"{safety}\"\napproval = {approval}\nallow_private = true\n",
            self.url
        )
    }

    pub(crate) fn paid(&self) -> usize {
        self.n.load(Ordering::SeqCst)
    }
}

pub(crate) fn ours(more: Value) -> Value {
    let mut tool = json!({ "type": "mcp", "server_label": "everstate" });
    for (name, value) in more.as_object().unwrap() {
        tool[name] = value.clone();
    }
    json!([tool])
}

#[tokio::test]
async fn a_tool_of_ours_is_run_here() {
    let bank = Bank::open(true).await;
    let server = Server::start(&bank.tool("pay", "idempotent", false)).await;
    let body = json!({ "model": "rehearsal", "input": "call pay {\"order\": \"1182\"}", "tools": ours(json!({})) });
    let done = server.create(body.clone()).await;
    let call = item(&done, "mcp_call");
    assert_eq!((&call["name"], &call["server_label"]), (&json!("pay"), &json!("everstate")));
    assert_eq!(call["status"], "completed");
    assert!(call["output"].as_str().unwrap().contains("re_77"));
    assert!(text_of(&done).contains("re_77"), "{done}");
    assert_eq!(bank.paid(), 1);
    let head = bank.heads.lock().unwrap()[0].to_lowercase();
    assert!(
        head.starts_with("post /pay/1182 ") && head.contains("\r\nidempotency-key: "),
        "{head}"
    );

    let mut streamed = body;
    streamed["stream"] = true.into();
    let told = events(server.send("/v1/responses", streamed, &[]).await).await;
    assert!(told.iter().any(|it| it["type"] == "response.mcp_call.completed"));
    assert_eq!(told.last().unwrap()["type"], "response.completed");
    for (n, event) in told.iter().enumerate() {
        assert_eq!(event["sequence_number"], n);
    }

    // A client's function of the same name stays the client's.
    let mut tools = ours(json!({}));
    tools.as_array_mut().unwrap().push(json!({ "type": "function", "name": "pay" }));
    let body = json!({ "model": "rehearsal", "input": "call pay {}", "tools": tools });
    let done = server.create(body).await;
    assert_eq!(item(&done, "function_call")["name"], "pay");
    assert_eq!(bank.paid(), 2);
}

#[tokio::test]
async fn a_person_says_yes_or_no_once() {
    let bank = Bank::open(true).await;
    let server = Server::start(&bank.tool("pay", "neither", false)).await;
    // The request asks for more care than the configuration; it could not ask for less.
    let tools = ours(json!({ "allowed_tools": ["pay"], "require_approval": "always" }));
    let ask =
        json!({ "model": "rehearsal", "input": "call pay {\"order\": \"7\"}", "tools": tools });
    let asked = server.create(ask.clone()).await;
    let request = item(&asked, "mcp_approval_request").clone();
    assert_eq!((&request["name"], asked["status"].as_str()), (&json!("pay"), Some("completed")));
    assert_eq!(bank.paid(), 0);
    let waiting = server.get("/everstate/v1/approvals").await.json;
    assert_eq!(waiting["items"][0]["id"], request["id"]);

    let say = |id: &Value, approve: bool| {
        json!({
            "model": "rehearsal",
            "previous_response_id": asked["id"],
            "tools": tools,
            "input": [{ "type": "mcp_approval_response", "approval_request_id": id, "approve": approve }],
        })
    };
    let unasked = server.post("/v1/responses", say(&json!("mcpr_nobody"), true)).await;
    assert_eq!(
        (unasked.status, &unasked.json["error"]["code"]),
        (400, &json!("approval_not_found"))
    );
    let mut ignored = say(&request["id"], true);
    ignored["input"] = "never mind".into();
    let ignored = server.post("/v1/responses", ignored).await;
    assert_eq!((ignored.status, &ignored.json["error"]["code"]), (400, &json!("approval_missing")));

    let done = server.create(say(&request["id"], true)).await;
    let call = item(&done, "mcp_call");
    assert_eq!(call["approval_request_id"], request["id"]);
    assert_eq!(bank.paid(), 1);
    assert!(text_of(&done).contains("re_77"), "{done}");

    let twice = server.post("/v1/responses", say(&request["id"], true)).await;
    assert_eq!((twice.status, &twice.json["error"]["code"]), (400, &json!("approval_answered")));
    assert_eq!(bank.paid(), 1);

    let asked = server.create(ask).await;
    let request = item(&asked, "mcp_approval_request");
    let body = json!({ "id": request["id"], "approve": false, "reason": "too much" });
    let denied = server.post("/everstate/v1/approvals", body.clone()).await;
    assert_eq!(denied.status, 200, "{}", denied.json);
    let again = server.post("/everstate/v1/approvals", body).await;
    assert_eq!((again.status, &again.json["error"]["code"]), (400, &json!("approval_answered")));
    let next =
        json!({ "model": "rehearsal", "input": "and?", "previous_response_id": asked["id"] });
    assert_eq!(server.post("/v1/responses", next).await.status, 200);
    assert_eq!(bank.paid(), 1);
}

#[tokio::test]
async fn a_lost_tool_becomes_unknown_and_is_settled_by_a_person() {
    let bank = Bank::open(false).await;
    let config = bank.tool("pay", "neither", false);
    let server = Server::start(&config).await;
    let ask = json!({
        "model": "rehearsal", "input": "call pay {\"order\": \"7\"}", "tools": ours(json!({})), "background": true,
    });
    let begun = server.create(ask).await;
    bank.asked.notified().await;
    let id = begun["id"].as_str().unwrap();
    let path = format!("/v1/responses/{id}/cancel");
    assert_eq!(server.post(&path, json!({})).await.json["status"], "cancelled");
    let unknown = server.get("/everstate/v1/effects").await.json;
    let effect = unknown["items"][0]["effect"].as_str().unwrap().to_owned();
    assert_eq!(unknown["items"][0]["tool"], "pay");
    let body = json!({ "effect": effect, "outcome": "ok", "output": "it was paid" });
    let settled = server.post("/everstate/v1/effects/resolve", body.clone()).await;
    assert_eq!(settled.status, 200, "{}", settled.json);
    assert_eq!(server.post("/everstate/v1/effects/resolve", body).await.status, 404);
    assert_eq!(server.get("/everstate/v1/effects").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_server_that_closes_says_so() {
    let server = Server::start(STAGE).await;
    let body = json!({ "model": "rehearsal", "input": "slow", "stream": true });
    let stream = server.send("/v1/responses", body, &[]).await;
    let (dir, text) = tokio::join!(server.stop(), stream.text());
    // What was under way ended in good order.
    assert!(text.unwrap().ends_with("data: [DONE]\n\n"));
    drop(dir);
}

#[tokio::test]
async fn pings_and_health_are_open_and_the_rest_is_not() {
    let server = Server::start(STAGE).await;
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = server.client.get(format!("{}{path}", server.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    for path in ["/v1/models", "/everstate/v1/sessions", "/v1/responses/x", "/v1/files"] {
        let answer =
            read(server.client.get(format!("{}{path}", server.url)).send().await.unwrap()).await;
        assert_eq!((answer.status, answer.retry.as_deref()), (401, Some("false")), "{path}");
        assert_eq!(answer.json["error"]["code"], "invalid_api_key");
    }
}
