//! Repeats: the first one's object, and no effect twice.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::running::{Bank, ours};
use crate::server::{KEY, Server, events, read_events};

const FIRST: (&str, &str) = ("x-stainless-retry-count", "0");
const REPEAT: (&str, &str) = ("x-stainless-retry-count", "1");

async fn n_sessions(server: &Server) -> usize {
    server.get("/everstate/v1/sessions").await.json["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_repeat_gets_the_first_ones_object() {
    let server = Server::start("").await;
    let body = json!({ "model": "rehearsal", "input": "hello" });
    let first = server.post_with("/v1/responses", body.clone(), &[FIRST]).await.json;
    let repeat = server.post_with("/v1/responses", body.clone(), &[REPEAT]).await.json;
    assert_eq!(repeat, first);
    assert_eq!(n_sessions(&server).await, 1);
    // The same asked anew is no repeat.
    let anew = server.post_with("/v1/responses", body.clone(), &[FIRST]).await.json;
    assert_ne!(anew["id"], first["id"]);
    // Nor is another body.
    let other = json!({ "model": "rehearsal", "input": "hello!" });
    let other = server.post_with("/v1/responses", other, &[REPEAT]).await.json;
    assert_ne!(other["id"], first["id"]);
    assert_eq!(n_sessions(&server).await, 3);
}

#[tokio::test]
async fn a_repeated_stream_is_told_again() {
    let server = Server::start("").await;
    let body = json!({ "model": "rehearsal", "input": "hello", "stream": true });
    let first = events(server.send("/v1/responses", body.clone(), &[FIRST]).await).await;
    let repeat = events(server.send("/v1/responses", body, &[REPEAT]).await).await;
    assert_eq!(repeat.last().unwrap()["response"], first.last().unwrap()["response"]);
    assert_eq!(n_sessions(&server).await, 1);
}

#[tokio::test]
async fn an_idempotency_key_is_for_one_request() {
    let server = Server::start("").await;
    let key = [("idempotency-key", "order 1182")];
    let body = json!({ "model": "rehearsal", "input": "hello" });
    let (one, two) = tokio::join!(
        server.post_with("/v1/responses", body.clone(), &key),
        server.post_with("/v1/responses", body.clone(), &key),
    );
    assert_eq!((one.status, two.status), (200, 200));
    assert_eq!(one.json, two.json);
    let other = json!({ "model": "rehearsal", "input": "good bye" });
    let reused = server.post_with("/v1/responses", other, &key).await;
    assert_eq!(
        (reused.status, &reused.json["error"]["code"]),
        (422, &json!("idempotency_key_reused"))
    );
    assert_eq!(reused.retry.as_deref(), Some("false"));
    let too_long = "x".repeat(300);
    let bad =
        server.post_with("/v1/responses", body.clone(), &[("idempotency-key", &too_long)]).await;
    assert_eq!(bad.status, 400);
    // After a restart too.
    let server = Server::start_in(server.stop().await, "", &[]).await;
    let again = server.post_with("/v1/responses", body, &key).await;
    assert_eq!(again.json["id"], one.json["id"]);
    assert_eq!(n_sessions(&server).await, 1);
}

#[tokio::test]
async fn what_is_not_stored_can_be_repeated_too() {
    let server = Server::start("").await;
    let body = json!({ "model": "rehearsal", "input": "hello", "store": false });
    let first = server.post_with("/v1/responses", body.clone(), &[FIRST]).await.json;
    let repeat = server.post_with("/v1/responses", body.clone(), &[REPEAT]).await.json;
    assert_eq!(repeat, first);
    let key = [("idempotency-key", "once")];
    let first = server.post_with("/v1/responses", body.clone(), &key).await;
    assert_eq!(first.status, 200);
    // After a restart nobody knows the answer any more, and it is not asked for twice.
    let server = Server::start_in(server.stop().await, "", &[]).await;
    let gone = server.post_with("/v1/responses", body.clone(), &key).await;
    assert_eq!((gone.status, &gone.json["error"]["code"]), (409, &json!("repeat_expired")));
    assert_eq!(gone.retry.as_deref(), Some("false"));
    // Without a key, and with nothing that could have had an effect, it is simply begun anew.
    assert_eq!(server.post_with("/v1/responses", body, &[REPEAT]).await.status, 200);
}

#[tokio::test]
async fn what_was_refused_is_no_claim() {
    let server = Server::start("").await;
    let tools = json!([{ "type": "function", "name": "pay" }]);
    let ask =
        json!({ "model": "rehearsal", "input": "call pay {}", "tools": tools, "store": true });
    let asked = server.create(ask).await;
    let body =
        json!({ "model": "rehearsal", "input": "well?", "previous_response_id": asked["id"] });
    let key = [("idempotency-key", "again")];
    for _ in 0..2 {
        let refused = server.post_with("/v1/responses", body.clone(), &key).await;
        assert_eq!(
            (refused.status, &refused.json["error"]["code"]),
            (400, &json!("call_unanswered"))
        );
    }
}

/// Sends a request and hangs up when the bank was asked.
async fn lose(server: &Server, bank: &Bank, body: &Value) {
    let send = server.send("/v1/responses", body.clone(), &[FIRST]);
    tokio::select! {
        answer = send => panic!("answered with {}", answer.status()),
        () = bank.asked.notified() => {}
    }
}

/// Waits for the only session to have noticed.
async fn idle(server: &Server) -> Value {
    loop {
        let sessions = server.get("/everstate/v1/sessions").await.json;
        if let Some(session) = sessions["items"].as_array().unwrap().first() {
            let id = session["id"].as_str().unwrap();
            let state = server.get(&format!("/everstate/v1/sessions/{id}")).await.json;
            if state["state"] == "idle" {
                return state;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_may_have_happened_is_not_done_again_by_itself() {
    let bank = Bank::open(false).await;
    let server = Server::start(&bank.tool("pay", "neither", false)).await;
    let body = json!({ "model": "rehearsal", "input": "call pay {\"order\": \"7\"}", "tools": ours(json!({})) });
    lose(&server, &bank, &body).await;
    let state = idle(&server).await;
    assert_eq!(state["last_end"], "cancelled");
    let repeat = server.post_with("/v1/responses", body, &[REPEAT]).await;
    assert_eq!((repeat.status, repeat.retry.as_deref()), (409, Some("false")), "{}", repeat.json);
    assert_eq!(repeat.json["error"]["code"], "effect_may_have_happened");
    let address = format!("{}/1", state["id"].as_str().unwrap());
    assert_eq!(repeat.json["error"]["address"], address);
    assert_eq!(bank.paid(), 1);
}

#[tokio::test]
async fn what_only_read_is_begun_anew() {
    let bank = Bank::open(false).await;
    let server = Server::start(&bank.tool("look", "read_only", false)).await;
    let mut body = json!({ "model": "rehearsal", "input": "call look {\"order\": \"7\"}", "tools": ours(json!({})) });
    body["stream"] = true.into();
    let mut stream = Box::pin(server.send("/v1/responses", body.clone(), &[FIRST])).await;
    bank.asked.notified().await;
    let first = stream.chunk().await.unwrap().unwrap();
    let id = read_events(std::str::from_utf8(&first).unwrap())[0]["response"]["id"].clone();
    drop(stream);
    idle(&server).await;
    let mut repeat = server.send("/v1/responses", body, &[REPEAT]).await;
    assert_eq!(repeat.status(), 200);
    let second = repeat.chunk().await.unwrap().unwrap();
    let again = read_events(std::str::from_utf8(&second).unwrap())[0]["response"]["id"].clone();
    assert_ne!(id, again);
    bank.asked.notified().await;
    assert_eq!(bank.paid(), 2);
}

/// Sends a request, goes on for `n_yields` steps of whatever runs here, and hangs up.
async fn hang_up(server: &Server, body: &Value, n_yields: usize) {
    let body = body.to_string();
    let text = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let address = server.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    for _ in 0..n_yields {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whenever_the_first_try_is_dropped_nothing_is_done_twice() {
    let bank = Bank::open(true).await;
    let server = Server::start(&bank.tool("pay", "neither", false)).await;
    for n in 0..60_usize {
        let order = format!("call pay {{\"order\": \"{n}\"}}");
        let body = json!({ "model": "rehearsal", "input": order, "tools": ours(json!({})) });
        hang_up(&server, &body, n * 8).await;
        let repeat = server.post_with("/v1/responses", body, &[REPEAT]).await;
        let code = repeat.json["error"]["code"].as_str();
        assert!(
            matches!((repeat.status, code), (200, None) | (409, Some("effect_may_have_happened"))),
            "{n}: {}",
            repeat.json
        );
    }
    let heads = bank.heads.lock().unwrap();
    let mut paid: Vec<&str> = heads.iter().filter_map(|it| it.lines().next()).collect();
    let n_paid = paid.len();
    paid.sort_unstable();
    paid.dedup();
    assert_eq!(paid.len(), n_paid, "something was paid twice");
}
