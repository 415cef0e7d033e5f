//! What a session tells while it works: in which order, to whom, and again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{STAGE, Stream, answer, message, result, session, short, with_tools};
use crate::server::Server;

/// Without what differs from run to run.
fn told(events: &[Value]) -> String {
    let line = |event: &Value| {
        let item = &event["item"];
        let mut line = short(event);
        for (name, value) in
            [("item", &item["type"]), ("role", &item["role"]), ("phase", &item["phase"])]
        {
            if let Some(value) = value.as_str() {
                line.push_str(&format!(" {name}={value}"));
            }
        }
        if let Some(delta) = event["delta"].as_str() {
            line.push_str(&format!(" {delta:?}"));
        }
        line
    };
    let mut lines: Vec<String> = Vec::new();
    for line in events.iter().map(line) {
        let is_delta = |it: &str| it.contains("delta");
        // How an answer was cut into pieces is its provider's business.
        if is_delta(&line) && lines.last().is_some_and(|it| is_delta(it)) {
            continue;
        }
        lines.push(line);
    }
    lines.join("\n")
}

#[tokio::test]
async fn a_new_sessions_stream_tells_its_first_turn_and_ends() {
    let server = Server::start("").await;
    let mut body = session("hello");
    body["stream"] = json!(true);
    let events = server.open(body).await.rest().await;
    expect_test::expect![[r#"
        created
        turn.created
        turn.item.added item=message role=user
        turn.in_progress
        in_progress
        turn.item.added item=message role=assistant
        turn.content_part.added
        turn.output_text.delta "rehearsal "
        turn.output_text.done
        turn.content_part.done
        turn.item.done item=message role=assistant phase=final_answer
        turn.completed
        idle"#]]
    .assert_eq(&told(&events));
    let ids: BTreeSet<&str> = events.iter().map(|it| it["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    assert!(answer(&events).contains("hello"));
    let last = &events.last().unwrap()["session"];
    assert_eq!((&last["status"], &last["required_actions"]), (&json!("idle"), &json!([])));
    // What was told last is what stands.
    let kept = server.until(last, "idle").await;
    assert_eq!(kept, *last);
    for event in events.iter().filter(|it| it["turn"].is_object()) {
        assert_eq!(event["turn"].get("subagent_id"), Some(&Value::Null), "{event}");
        assert_eq!(event["turn"]["id"], event["turn_id"]);
    }
    assert!(events.iter().all(|it| it["obfuscation"].is_string()), "padded unless asked not to be");
}

#[tokio::test]
async fn a_live_stream_is_silent_about_what_was() {
    let server = Server::start("").await;
    let made = server.idle(session("one")).await;
    // Answered before anything is said: clients wait for that.
    let mut stream = server.listen(&made, "?include_obfuscation=false").await;
    assert_eq!(server.tell(&made, json!([message("two")])).await.status, 202);
    stream.find("idle").await;
    expect_test::expect![[r#"
        turn.created
        turn.item.added item=message role=user
        turn.in_progress
        in_progress
        turn.item.added item=message role=assistant
        turn.content_part.added
        turn.output_text.delta "rehearsal "
        turn.output_text.done
        turn.content_part.done
        turn.item.done item=message role=assistant phase=final_answer
        turn.completed
        idle"#]]
    .assert_eq(&told(&stream.told));
    assert!(answer(&stream.told).contains("two"));
    assert!(stream.told.iter().all(|it| it["obfuscation"].is_null()));
}

#[tokio::test]
async fn functions_are_answered_one_by_one() {
    let server = Server::start(STAGE).await;
    let mut body = with_tools("call pay {\"sum\": 1}\ncall look {}", &["pay", "look"]);
    body["stream"] = json!(true);
    let mut stream = server.open(body).await;
    let (first, second) = (stream.call().await, stream.call().await);
    assert_eq!((&first["name"], &first["arguments"]), (&json!("pay"), &json!({ "sum": 1 })));
    let waits = stream.find("requires_action").await["session"].clone();
    assert_eq!(waits["required_actions"].as_array().unwrap().len(), 2);
    assert_eq!(waits["required_actions"][0]["call_id"], first["call_id"]);
    assert_eq!(server.until(&waits, "requires_action").await["id"], waits["id"]);
    assert_eq!(server.tell(&waits, json!([result(&first, "paid")])).await.status, 202);
    let left = server.until(&waits, "requires_action").await;
    assert_eq!(left["required_actions"].as_array().unwrap().len(), 1);
    assert_eq!(server.tell(&waits, json!([result(&second, "seen")])).await.status, 202);
    let events = stream.rest().await;
    expect_test::expect![[r#"
        created
        turn.created
        turn.item.added item=message role=user
        turn.in_progress
        in_progress
        turn.item.added item=function_call
        turn.item.added item=function_call
        requires_action
        turn.item.done item=function_call
        turn.item.added item=function_call_output
        turn.item.done item=function_call
        turn.item.added item=function_call_output
        in_progress
        turn.item.added item=message role=assistant
        turn.content_part.added
        turn.output_text.delta "rehearsal "
        turn.output_text.done
        turn.content_part.done
        turn.item.done item=message role=assistant phase=final_answer
        turn.completed
        idle"#]]
    .assert_eq(&told(&events));
    assert!(answer(&events).contains("paid") && answer(&events).contains("seen"));
}

#[tokio::test]
async fn what_is_said_before_a_call_is_no_answer() {
    let server = Server::start(STAGE).await;
    let mut body = with_tools("look first", &["look"]);
    body["stream"] = json!(true);
    let mut stream = server.open(body).await;
    let call = stream.call().await;
    let made = stream.told[0]["session"].clone();
    server.tell(&made, json!([result(&call, "blue")])).await;
    let events = stream.rest().await;
    expect_test::expect![[r#"
        created
        turn.created
        turn.item.added item=message role=user
        turn.in_progress
        in_progress
        turn.item.added item=message role=assistant
        turn.content_part.added
        turn.output_text.delta "I "
        turn.output_text.done
        turn.content_part.done
        turn.item.done item=message role=assistant phase=commentary
        turn.item.added item=function_call
        requires_action
        turn.item.done item=function_call
        turn.item.added item=function_call_output
        in_progress
        turn.item.added item=message role=assistant
        turn.content_part.added
        turn.output_text.delta "rehearsal "
        turn.output_text.done
        turn.content_part.done
        turn.item.done item=message role=assistant phase=final_answer
        turn.completed
        idle"#]]
    .assert_eq(&told(&events));
    assert!(!answer(&events).contains("I will look"));
}

#[tokio::test]
async fn a_turn_is_cancelled() {
    let server = Server::start(STAGE).await;
    let mut body = session("hang");
    body["stream"] = json!(true);
    let mut stream = server.open(body).await;
    stream.find("turn.output_text.delta").await;
    let made = stream.told[0]["session"].clone();
    let cancel = json!([{ "type": "agent.session.input.cancel" }]);
    assert_eq!(server.tell(&made, cancel.clone()).await.status, 202);
    let events = stream.rest().await;
    expect_test::expect![[r#"
        created
        turn.created
        turn.item.added item=message role=user
        turn.in_progress
        in_progress
        turn.item.added item=message role=assistant
        turn.content_part.added
        turn.output_text.delta "one "
        turn.output_text.done
        turn.content_part.done
        turn.item.done item=message role=assistant
        turn.cancelled
        idle"#]]
    .assert_eq(&told(&events));
    let ended = events.iter().find(|it| short(it) == "turn.cancelled").unwrap();
    assert_eq!(ended["turn"]["status"], "cancelled");
    // Nothing runs: there is nothing to do.
    assert_eq!(server.tell(&made, cancel).await.status, 202);
    assert_eq!(server.until(&made, "idle").await["required_actions"], json!([]));
}

#[tokio::test]
async fn what_is_said_to_a_running_turn_steers_it() {
    let server = Server::start(STAGE).await;
    let mut body = with_tools("call pay", &["pay"]);
    body["stream"] = json!(true);
    let mut stream = server.open(body).await;
    let call = stream.call().await;
    let made = stream.told[0]["session"].clone();
    server.tell(&made, json!([message("be quick")])).await;
    server.tell(&made, json!([result(&call, "paid")])).await;
    let events = stream.rest().await;
    let turns: Vec<&Value> = events.iter().filter(|it| short(it) == "turn.created").collect();
    assert_eq!(turns.len(), 1);
    let said: Vec<&Value> = events.iter().filter(|it| it["item"]["role"] == "user").collect();
    assert_eq!(said.len(), 2, "{}", told(&events));
    assert_eq!(said[1]["item"]["content"][0]["text"], "be quick");
}

/// The same events, byte for byte, to whoever comes back and says what they heard last.
#[tokio::test]
async fn a_stream_is_taken_up_after_any_event() {
    let server = Server::start(STAGE).await;
    let mut body = with_tools("look first", &["look"]);
    body["stream"] = json!(true);
    let mut stream = server.open(body).await;
    let call = stream.call().await;
    let made = stream.told[0]["session"].clone();
    server.tell(&made, json!([result(&call, "blue")])).await;
    let mut events = stream.rest().await;
    let mut live = server.listen(&made, "").await;
    server.tell(&made, json!([message("slow")])).await;
    live.find("idle").await;
    events.extend(live.told);
    let server = Server::start_in(server.stop().await, STAGE, &[]).await;
    for n in 0..events.len() - 1 {
        let after = events[n]["event_id"].as_str().unwrap();
        let mut again = server.listen(&made, &format!("?after={after}")).await;
        for event in &events[n + 1..] {
            assert_eq!(again.next().await.as_ref(), Some(event), "after {n}");
        }
    }
    // And goes on from there.
    let after = events.last().unwrap()["event_id"].as_str().unwrap();
    let mut again = server.listen(&made, &format!("?after={after}")).await;
    server.tell(&made, json!([message("more")])).await;
    assert_eq!(short(&again.next().await.unwrap()), "turn.created");
    for bad in ["evt_", "evt_0", "x", made["id"].as_str().unwrap()] {
        let path = format!("{}/{}/events?after={bad}", super::PATH, made["id"].as_str().unwrap());
        assert_eq!(server.get(&path).await.status, 400, "{bad}");
    }
}

/// A listener that comes in the middle of an answer hears its end, and the same names for it.
#[tokio::test]
async fn a_late_listener_hears_the_rest() {
    let server = Server::start(STAGE).await;
    let mut body = session("slow");
    body["stream"] = json!(true);
    let mut stream = server.open(body).await;
    stream.find("turn.output_text.delta").await;
    let made = stream.told[0]["session"].clone();
    let mut late: Stream = server.listen(&made, "").await;
    let all = stream.rest().await;
    late.find("idle").await;
    let place = all.iter().position(|it| it["event_id"] == late.told[0]["event_id"]).unwrap();
    assert_eq!(late.told[..], all[place..]);
    assert!(place > 0, "it was told nothing old");
}
