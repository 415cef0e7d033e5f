//! Requests that are sent again: nothing happens twice.

use serde_json::{Value, json};

use super::{PATH, STAGE, message, result, session, with_tools};
use crate::server::Server;

const FIRST: (&str, &str) = ("x-stainless-retry-count", "0");
const REPEAT: (&str, &str) = ("x-stainless-retry-count", "1");

async fn n_turns(server: &Server, session: &Value) -> usize {
    server.rows(&format!("{PATH}/{}/turns", session["id"].as_str().unwrap())).await.len()
}

#[tokio::test]
async fn a_repeated_create_makes_one_session() {
    let server = Server::start("").await;
    let first = server.post_with(PATH, session("hello"), &[FIRST]).await;
    let repeat = server.post_with(PATH, session("hello"), &[REPEAT]).await;
    assert_eq!((first.status, repeat.status), (200, 200));
    assert_eq!(repeat.json["id"], first.json["id"]);
    assert_eq!(n_turns(&server, &first.json).await, 1);
    // The same asked anew is another.
    let other = server.post_with(PATH, session("hello"), &[FIRST]).await;
    assert_ne!(other.json["id"], first.json["id"]);
    // A repeated stream is told from its beginning.
    let mut body = session("hello");
    body["stream"] = json!(true);
    let first = super::Stream::of(server.send(PATH, body.clone(), &[FIRST]).await).rest().await;
    let repeat = super::Stream::of(server.send(PATH, body, &[REPEAT]).await).rest().await;
    assert_eq!(repeat, first);
}

#[tokio::test]
async fn a_key_counts_once() {
    let server = Server::start(STAGE).await;
    let made = server.idle(session("hello")).await;
    let path = format!("{PATH}/{}/events", made["id"].as_str().unwrap());
    let key = [("idempotency-key", "one")];
    let body = json!({ "events": [message("again")] });
    let (one, two) = tokio::join!(
        server.post_with(&path, body.clone(), &key),
        server.post_with(&path, body.clone(), &key),
    );
    assert_eq!((one.status, two.status), (202, 202));
    server.until(&made, "idle").await;
    let server = Server::start_in(server.stop().await, STAGE, &[]).await;
    assert_eq!(server.post_with(&path, body.clone(), &key).await.status, 202);
    assert_eq!(n_turns(&server, &made).await, 2);
    let other = json!({ "events": [message("other")] });
    let reused = server.post_with(&path, other, &key).await;
    assert_eq!((reused.status, reused.retry.as_deref()), (409, Some("false")));
    assert_eq!(reused.json["error"]["code"], "idempotency_conflict");
    // Without a key, only what says that it is a repeat is one.
    for (header, n) in [(FIRST, 3), (REPEAT, 3), (FIRST, 4)] {
        assert_eq!(server.post_with(&path, body.clone(), &[header]).await.status, 202);
        server.until(&made, "idle").await;
        assert_eq!(n_turns(&server, &made).await, n);
    }
}

#[tokio::test]
async fn a_result_counts_once_and_late_is_fine() {
    let server = Server::start(STAGE).await;
    let made = server.new_session(with_tools("call pay", &["pay"])).await;
    let waits = server.until(&made, "requires_action").await;
    let action = &waits["required_actions"][0];
    let path = format!("{PATH}/{}/events", made["id"].as_str().unwrap());
    let body = |output: &str| json!({ "events": [result(action, output)] });
    let key = [("idempotency-key", "r1")];
    for _ in 0..3 {
        assert_eq!(server.post_with(&path, body("paid"), &key).await.status, 202);
    }
    assert_eq!(server.post_with(&path, body("stolen"), &key).await.status, 409);
    server.until(&made, "idle").await;
    // With another key, or none, it is late, and changes nothing.
    assert_eq!(server.post(&path, body("stolen")).await.status, 202);
    let items = server.rows(&format!("{PATH}/{}/items", made["id"].as_str().unwrap())).await;
    let outputs: Vec<&Value> =
        items.iter().filter(|it| it["type"] == "function_call_output").collect();
    assert_eq!((outputs.len(), &outputs[0]["output"]), (1, &json!("paid")));
    assert_eq!(n_turns(&server, &made).await, 1);
}

#[tokio::test]
async fn what_was_refused_is_not_remembered() {
    let server = Server::start(STAGE).await;
    let made = server.idle(with_tools("hello", &["pay"])).await;
    let path = format!("{PATH}/{}/events", made["id"].as_str().unwrap());
    let unknown = json!({ "turn_id": "turn_x", "call_id": "call_x" });
    let body = json!({ "events": [result(&unknown, "paid")] });
    let key = [("idempotency-key", "k")];
    for _ in 0..2 {
        let refused = server.post_with(&path, body.clone(), &key).await;
        assert_eq!((refused.status, refused.retry.as_deref()), (400, Some("false")));
        assert_eq!(refused.json["error"]["code"], "invalid_request_error");
        assert_eq!(refused.json["error"]["message"], "Unknown pending tool call: call_x");
    }
    // The key is free for what it was meant for.
    let said = server.post_with(&path, json!({ "events": [message("hi")] }), &key).await;
    assert_eq!(said.status, 202, "{}", said.json);
}

/// All of a list happens, or nothing of it.
#[tokio::test]
async fn a_list_lands_whole() {
    let server = Server::start(STAGE).await;
    let made = server.new_session(with_tools("call pay", &["pay"])).await;
    let waits = server.until(&made, "requires_action").await;
    let paid = result(&waits["required_actions"][0], "paid");
    let unknown = result(&json!({ "turn_id": "turn_x", "call_id": "call_x" }), "x");
    assert_eq!(server.tell(&made, json!([paid, unknown])).await.status, 400);
    assert_eq!(
        server.until(&made, "requires_action").await["required_actions"],
        waits["required_actions"]
    );
    // The turn ends, and another begins, in one step.
    let mut stream = server.listen(&made, "").await;
    let cancel = json!({ "type": "agent.session.input.cancel" });
    assert_eq!(server.tell(&made, json!([cancel, message("hello"), paid])).await.status, 202);
    stream.find("turn.cancelled").await;
    stream.find("turn.completed").await;
    server.until(&made, "idle").await;
    assert_eq!(n_turns(&server, &made).await, 2);
    let both = json!([message("hang"), cancel]);
    assert_eq!(server.tell(&made, both).await.status, 202);
    server.until(&made, "idle").await;
    assert_eq!(n_turns(&server, &made).await, 3);
}
