//! What `/everstate/v1` says and does about sessions of the Agents API.

use serde_json::{Value, json};

use super::{PATH, STAGE, message, result, session, with_tools};
use crate::server::Server;

fn twin(session: &Value) -> String {
    format!("/everstate/v1/sessions/{}", session["id"].as_str().unwrap())
}

#[tokio::test]
async fn the_twin_says_more() {
    let server = Server::start("").await;
    let made = server.idle(session("hello")).await;
    let shown = server.get(&twin(&made)).await.json;
    assert_eq!((&shown["door"], &shown["state"]), (&json!("agents"), &json!("idle")));
    assert_eq!(shown["agent"]["id"], made["agent"]["id"]);
    assert_eq!(
        (&shown["agent"]["version"], &shown["agent"]["model"]),
        (&Value::Null, &json!("rehearsal"))
    );
    let turns = server.rows(&format!("{PATH}/{}/turns", made["id"].as_str().unwrap())).await;
    assert_eq!(
        (&shown["turns"][0]["turn_id"], &shown["turns"][0]["response"]),
        (&turns[0]["id"], &Value::Null)
    );
    let placed = server.get(&format!("{}/explain", twin(&made))).await.json;
    assert_eq!(placed["items"][0]["offer"], "rehearsal/global/rehearsal");
    assert_eq!(placed["items"][0]["outcome"]["cost_micros"], 0);
    // What is said there begins a turn like any other.
    let said = server.post(&format!("{}/say", twin(&made)), json!({ "text": "more" })).await;
    assert_eq!(said.status, 200, "{}", said.json);
    server.until(&made, "idle").await;
    let turns = server.rows(&format!("{PATH}/{}/turns", made["id"].as_str().unwrap())).await;
    assert_eq!((turns.len(), &turns[1]["id"]), (2, &said.json["turn_id"]));
    // And is heard by whoever follows.
    assert_eq!(server.delete(&twin(&made)).await.status, 200);
    assert!(server.rows(PATH).await.is_empty());
}

#[tokio::test]
async fn a_fork_goes_on_like_its_parent() {
    let server = Server::start(STAGE).await;
    let mut body = with_tools("hello", &["pay"]);
    body["metadata"] = json!({ "a": "b" });
    let parent = server.idle(body).await;
    server.tell(&parent, json!([message("second")])).await;
    server.until(&parent, "idle").await;
    let forked = server.post(&format!("{}/fork", twin(&parent)), json!({ "turn": 1 })).await;
    assert_eq!((forked.status, &forked.json["door"]), (200, &json!("agents")), "{}", forked.json);
    let fork = server.until(&forked.json, "idle").await;
    assert_eq!(
        (&fork["metadata"], &fork["agent"]["tools"]),
        (&parent["metadata"], &parent["agent"]["tools"])
    );
    assert_ne!(fork["agent"]["id"], parent["agent"]["id"]);
    let path = |it: &Value, list: &str| format!("{PATH}/{}/{list}", it["id"].as_str().unwrap());
    let inherited = server.rows(&path(&fork, "items")).await;
    assert_eq!(inherited[..], server.rows(&path(&parent, "items")).await[..2]);
    let mut stream = server.listen(&fork, "").await;
    assert_eq!(server.tell(&fork, json!([message("call pay")])).await.status, 202);
    let call = stream.call().await;
    assert_eq!(server.tell(&fork, json!([result(&call, "paid")])).await.status, 202);
    stream.find("idle").await;
    assert!(super::answer(&stream.told).contains("paid"));
    assert_eq!(server.rows(&path(&parent, "items")).await.len(), 4);
    // It stands in the lists.
    let listed = server.rows(&format!("{PATH}?metadata[a]=b")).await;
    assert_eq!(listed.len(), 2);
    let own =
        server.rows(&format!("{PATH}?agent_id={}", fork["agent"]["id"].as_str().unwrap())).await;
    assert_eq!((own.len(), &own[0]["id"]), (1, &fork["id"]));
}

/// A call that was open at the cut can be answered in the fork, and has to be before anything is said.
#[tokio::test]
async fn a_fork_inherits_open_calls() {
    let server = Server::start(STAGE).await;
    let parent = server.new_session(with_tools("call pay", &["pay"])).await;
    let waits = server.until(&parent, "requires_action").await;
    let forked = server.post(&format!("{}/fork", twin(&parent)), json!({})).await;
    assert_eq!(forked.status, 200, "{}", forked.json);
    let fork = server.until(&forked.json, "requires_action").await;
    let action = &fork["required_actions"][0];
    assert_eq!(action["call_id"], waits["required_actions"][0]["call_id"]);
    let refused = server.tell(&fork, json!([message("well?")])).await;
    assert_eq!((refused.status, &refused.json["error"]["code"]), (400, &json!("call_unanswered")));
    let both = json!([result(action, "paid in the fork"), message("well?")]);
    assert_eq!(server.tell(&fork, both).await.status, 202);
    server.until(&fork, "idle").await;
    assert_eq!(server.until(&parent, "requires_action").await, waits);
}
