//! What a client of the Agents API hears of a session, and what its lists hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use everstate_dialects::agents::config::{AgentConfig, Environment, Review, SessionDoc};
use everstate_dialects::agents::voice::{AgentEvent, EventKey, REVISION, SessionVoice};
use everstate_dialects::agents::{listing, object};
use everstate_kernel::agent::{Agent, Limits};
use everstate_kernel::delta::{Delta, Finish, Opening};
use everstate_kernel::ids::SessionId;
use everstate_kernel::input::*;
use everstate_kernel::item::{Body, Outcome, Part, Role};
use everstate_kernel::json::Json;
use everstate_kernel::policy::Constraints;
use everstate_kernel::state::Session;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::encode::{server, tool};
use crate::names::Plain;
use crate::play::{Play, Row, call, close, message, open};

// ---- telling -----------------------------------------------------------------------------------

fn seq_of(place: usize) -> u64 {
    place as u64 + 1
}

fn hear(voice: &mut SessionVoice, place: usize, row: &Row) -> Vec<AgentEvent> {
    match row {
        Row::Append(append) => voice.hear_append(&Plain, append),
        Row::Frame(frame) => voice.hear_frame(&Plain, seq_of(place), frame),
    }
}

fn tell(rows: &[Row], with_frames: bool) -> Vec<AgentEvent> {
    let mut voice = SessionVoice::new();
    let mut events = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        if with_frames || matches!(row, Row::Append(_)) {
            events.extend(hear(&mut voice, place, row));
        }
    }
    events
}

/// The session after so many rows.
fn session_at(rows: &[Row], n: usize) -> Session {
    Session::replay(rows[..n].iter().filter_map(|it| match it {
        Row::Append(append) => Some(append),
        Row::Frame(_) => None,
    }))
}

/// What somebody hears who comes after `n` rows.
fn tell_from(rows: &[Row], n: usize) -> Vec<AgentEvent> {
    let mut voice = SessionVoice::of(&session_at(rows, n));
    let first = voice.hears_after() as usize;
    let mut events = Vec::new();
    for (place, row) in rows.iter().enumerate().skip(first) {
        events.extend(hear(&mut voice, place, row));
    }
    // Frames have no part in a session's state: those that were shown before may be told once more.
    events.retain(|it| it.key.seq > n as u64);
    events
}

/// Every promise about a session's events that does not depend on its story.
fn promises(rows: &[Row]) -> Vec<(EventKey, Value)> {
    let told = tell(rows, true);
    assert_eq!(told, tell(rows, true), "told again, the bytes are the same");
    let mut events = Vec::new();
    for event in &told {
        assert!(!event.data.contains(['\n', '\r']), "one line");
        let value: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(value["type"], event.event);
        assert_eq!(value["event_id"], format!("evt_{}_{}", event.key.seq, event.key.n));
        let padded = event.padded();
        assert_eq!(padded.len() % 64, 0, "padded in steps");
        let mut unpadded: Value = serde_json::from_str(&padded).expect("JSON");
        assert!(unpadded.as_object_mut().and_then(|it| it.remove("obfuscation")).is_some());
        assert_eq!(unpadded, value);
        events.push((event.key, value));
    }
    assert!(told.is_sorted_by(|a, b| a.key < b.key), "names grow");
    frames_may_go(rows, &told);
    anybody_may_come(rows, &told);
    snapshots_are_true(rows, &events);
    turns_are_whole(&events);
    items_are_whole(rows, &events);
    events
}

/// Without its frames a session is told under the same names, and nothing is missing.
fn frames_may_go(rows: &[Row], told: &[AgentEvent]) {
    let bare: BTreeMap<EventKey, AgentEvent> =
        tell(rows, false).into_iter().map(|it| (it.key, it)).collect();
    let is_frame = |key: &EventKey| matches!(rows[key.seq as usize - 1], Row::Frame(_));
    for event in told.iter().filter(|it| !is_frame(&it.key)) {
        // Of a text that was shown in part, the whole takes the place of the rest.
        let is_rest = event.event.ends_with(".delta");
        assert!(is_rest || bare.get(&event.key) == Some(event), "{event:?}");
    }
    let shown = |events: &mut dyn Iterator<Item = &AgentEvent>| {
        let mut texts: BTreeMap<(String, String), String> = BTreeMap::new();
        for event in events {
            let value: Value = serde_json::from_str(&event.data).expect("JSON");
            if let Some(delta) = value["delta"].as_str() {
                let index = format!("{}{}", value["content_index"], value["summary_index"]);
                let part = (value["item_id"].to_string(), index);
                texts.entry(part).or_default().push_str(delta);
            }
            if let Some(text) = value["text"].as_str() {
                texts.insert((value["item_id"].to_string(), "whole".to_owned()), text.to_owned());
            }
            if event.event.ends_with("item.added") {
                texts.insert(
                    (value["item"]["id"].to_string(), "added".to_owned()),
                    value["output_index"].to_string(),
                );
            }
        }
        texts
    };
    let settled = session_at(rows, rows.len()).live.turn.is_none_or(|it| it.attempts.is_empty());
    if settled {
        assert_eq!(shown(&mut told.iter()), shown(&mut bare.values()));
    }
}

/// Whoever comes later hears the rest of what others hear.
fn anybody_may_come(rows: &[Row], told: &[AgentEvent]) {
    for n in 0..=rows.len() {
        let rest: Vec<AgentEvent> =
            told.iter().filter(|it| it.key.seq > n as u64).cloned().collect();
        assert_eq!(tell_from(rows, n), rest, "after {n} rows");
    }
}

fn snapshots_are_true(rows: &[Row], events: &[(EventKey, Value)]) {
    for (i, (key, event)) in events.iter().enumerate() {
        let Some(word) = event["type"].as_str().and_then(|it| it.strip_prefix("agent.session."))
        else {
            continue;
        };
        let Some(session) = event.get("session") else { continue };
        if word != "created" {
            assert_eq!(session["status"], word);
        }
        let waits = session["required_actions"].as_array().expect("always a list");
        match session["status"].as_str().expect("text") {
            "requires_action" => assert!(!waits.is_empty()),
            "idle" | "in_progress" | "budget_reached" => assert!(waits.is_empty()),
            // What was asked for stays asked for, though nobody can answer now.
            "failed" => {}
            other => panic!("no status: {other}"),
        }
        // The last word of a row is what is true after it.
        let is_last = events.get(i + 1).is_none_or(|(next, _)| next.seq > key.seq);
        let truth = session_at(rows, key.seq as usize);
        if is_last && word != "created" {
            let truth = object::session(&Plain, &truth).expect("it was created");
            assert_eq!(*session, truth.value());
        }
    }
}

/// A turn is created, begins, ends and is followed by how its session stands.
fn turns_are_whole(events: &[(EventKey, Value)]) {
    let mut stage = BTreeMap::new();
    for (i, (_, event)) in events.iter().enumerate() {
        let kind = event["type"].as_str().expect("a type");
        let Some(word) = kind.strip_prefix("agent.session.turn.") else { continue };
        let turn = event["turn_id"].as_str().expect("a turn").to_owned();
        assert_eq!(event["session_id"], "ses_1");
        let before = stage.get(&turn).copied();
        if let Some(object) = event.get("turn") {
            assert_eq!(object["id"], turn);
            assert_eq!(object["subagent_id"], Value::Null);
            assert!(object.as_object().expect("an object").contains_key("subagent_id"));
            let status = if word == "created" { "queued" } else { word };
            assert_eq!(object["status"], status);
        }
        match word {
            "created" => assert_eq!(before, None),
            "in_progress" => assert_eq!(before, Some("created")),
            "completed" | "failed" | "cancelled" => {
                assert!(matches!(before, Some("created" | "in_progress")));
                let next = events.get(i + 1).expect("something follows").1["type"].clone();
                assert!(next == "agent.session.idle" || next == "agent.session.requires_action");
            }
            _ => assert!(matches!(before, Some("created" | "in_progress")), "{event}"),
        }
        if matches!(word, "created" | "in_progress" | "completed" | "failed" | "cancelled") {
            stage.insert(
                turn,
                ["created", "in_progress", "completed", "failed", "cancelled"]
                    .into_iter()
                    .find(|it| *it == word)
                    .expect("listed"),
            );
        }
    }
}

/// Items are added, grow and are done in their places, and lists hold what was told.
fn items_are_whole(rows: &[Row], events: &[(EventKey, Value)]) {
    let mut added: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    let mut places: BTreeMap<(String, u64), String> = BTreeMap::new();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    for (_, event) in events {
        let place = event["output_index"].clone();
        if let Some(item) = event.get("item") {
            let id = text(&item["id"]);
            assert_eq!(item["turn_id"], event["turn_id"]);
            if let Some(place) = place.as_u64() {
                let holder = places.entry((text(&item["turn_id"]), place)).or_insert(id.clone());
                assert_eq!(*holder, id, "a place belongs to one item");
            }
            if event["type"] == "agent.session.turn.item.added" {
                let is_output = item["role"] != "user" && item["type"] != "function_call_output";
                assert_eq!(place.is_u64(), is_output);
                assert!(added.insert(id.clone(), (place, Value::Null)).is_none(), "added once");
            } else {
                assert!(place.is_u64());
                match added.get_mut(&id) {
                    Some((at, done)) => {
                        assert_eq!(*at, place);
                        assert!(done.is_null(), "done once");
                        *done = true.into();
                    }
                    None => assert_eq!(item["type"], "function_call", "answered at once"),
                }
            }
            last.insert(id, item.clone());
        } else if let Some(id) = event["item_id"].as_str() {
            let (at, done) = added.get(id).expect("about an item that was added");
            assert_eq!((at, done), (&place, &Value::Null), "before it is done");
        }
    }
    let session = session_at(rows, rows.len());
    let listed: BTreeMap<String, Value> = listing::items(&session, None)
        .iter()
        .map(|it| (it.name(&Plain), it.json(&Plain).value()))
        .collect();
    for (id, item) in &listed {
        assert_eq!(last.get(id), Some(item), "what is listed was told");
    }
    for (id, item) in &last {
        let shown_now = item["status"] == "in_progress";
        assert!(shown_now || listed.contains_key(id), "what was told is listed: {item}");
    }
    for turn in listing::turns(&session) {
        for item in listing::items(&session, Some(turn)) {
            assert_eq!(item.json(&Plain).value()["turn_id"], format!("turn_{turn}"));
            assert!(listed.contains_key(&item.name(&Plain)));
        }
    }
}

/// Events short enough to be read.
fn short(events: &[(EventKey, Value)]) -> String {
    let mut out = String::new();
    for (key, event) in events {
        let mut event = event.clone();
        let fields = event.as_object_mut().expect("an object");
        for name in ["event_id", "session_id", "turn_id"] {
            fields.remove(name);
        }
        let kind = fields.remove("type").expect("a type");
        let kind = kind.as_str().expect("text").trim_start_matches("agent.session.").to_owned();
        fields.remove("usage");
        if let Some(session) = fields.remove("session") {
            fields.insert("status".to_owned(), session["status"].clone());
            let waits = session["required_actions"].as_array().expect("a list").clone();
            let of = |it: &Value| {
                let id = if it["call_id"].is_null() { "request_id" } else { "call_id" };
                it[id].clone()
            };
            if !waits.is_empty() {
                fields.insert("waits".to_owned(), waits.iter().map(of).collect());
            }
        }
        if let Some(turn) = fields.remove("turn") {
            fields.insert("status".to_owned(), turn["status"].clone());
            if !turn["error"].is_null() {
                fields.insert("error".to_owned(), turn["error"]["code"].clone());
            }
        }
        if let Some(item) = fields.get_mut("item").and_then(Value::as_object_mut) {
            item.remove("turn_id");
        }
        out.push_str(&format!("{}.{} {kind} {event}\n", key.seq, key.n));
    }
    out
}

/// For other clients to be tried on: set `EVERSTATE_WIRE_DIR`.
fn keep(events: &[(EventKey, Value)]) {
    if let Some(dir) = std::env::var_os("EVERSTATE_WIRE_DIR") {
        let story = std::thread::current().name().unwrap_or("story").replace("::", "-");
        let lines: Vec<String> = events.iter().map(|(_, it)| it.to_string()).collect();
        let path = std::path::Path::new(&dir).join(format!("{story}.events.jsonl"));
        std::fs::write(path, lines.join("\n")).expect("written");
    }
}

fn check(play: &Play, expect: Expect) {
    let events = promises(&play.rows);
    keep(&events);
    expect.assert_eq(&short(&events));
}

// ---- stories -----------------------------------------------------------------------------------

fn doc() -> SessionDoc {
    let mut agent = AgentConfig::new("m");
    agent.instructions = Some("Be brief.".to_owned());
    SessionDoc {
        agent_id: "agent_1".to_owned(),
        agent_version: Some(1),
        agent,
        environment: Environment::None,
        vault_ids: Vec::new(),
        prompt_cache_options: None,
        review: Review::None,
        spend_limit_cents: None,
    }
}

fn create() -> Vec<Input> {
    let create = Create {
        id: SessionId(1),
        project: "p".to_owned(),
        door: "agents".to_owned(),
        named: true,
        metadata: Some(Json::from(json!({"topic": "bills"}))),
        inheritance: None,
        epoch: 1,
    };
    let configure = Configure { settings: Some(doc().json()), ..Configure::default() };
    vec![Input::Create(create), Input::Configure(configure)]
}

fn say(text: &str) -> Input {
    let agent = Agent {
        model: "m".to_owned(),
        tools: vec![
            tool("look", everstate_kernel::tool::Runs::Client),
            tool("pay", server(true)),
            tool("balance", server(false)),
        ],
        ..Agent::default()
    };
    let body = Body::Message { role: Role::User, parts: vec![Part::text(text)] };
    Input::Begin(Begin {
        items: vec![NewItem { body, provider_id: None, extra: None }],
        answers: Vec::new(),
        approvals: Vec::new(),
        terms: TurnTerms {
            agent: Arc::new(agent),
            limits: Limits::default(),
            constraints: Constraints::default(),
            calls: Calls::Hold,
            visible: Visible::AsItGoes,
            caller: Caller::Detached,
            resumable: true,
            voice: REVISION.to_owned(),
            echo: None,
            trace: None,
            remind_every_ms: None,
            compact: None,
        },
        when_busy: WhenBusy::Steer,
    })
}

/// A session that was told "Hi" as it was made, and has a place for its first step.
fn story() -> Play {
    let mut play = Play::empty();
    let mut inputs = create();
    inputs.push(say("Hi"));
    play.feed_all(inputs).placed();
    play
}

fn answer(turn: u32, n: u32, outcome: Outcome, said: &str) -> Input {
    let call = everstate_kernel::ids::CallId { turn, n };
    let output = vec![Part::text(said)];
    Input::Answer { answers: vec![Answer { call, outcome, output }] }
}

fn thought(item: u32, parts: &[&str]) -> Vec<Delta> {
    let mut deltas = vec![open(item, Opening::Reasoning)];
    for part in parts {
        deltas.push(Delta::SummaryPart { item });
        deltas.push(Delta::Summary { item, text: (*part).to_owned() });
    }
    deltas.push(close(item));
    deltas
}

#[test]
fn a_plain_turn() {
    let mut play = story();
    play.show(&message(0, "Hello.")).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.1 turn.content_part.added {"item_id":"msg_1_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        3.2 turn.output_text.delta {"item_id":"msg_1_1","delta":"Hel","content_index":0,"output_index":0}
        3.3 turn.output_text.delta {"item_id":"msg_1_1","delta":"lo.","content_index":0,"output_index":0}
        3.4 turn.output_text.done {"item_id":"msg_1_1","text":"Hello.","content_index":0,"output_index":0}
        3.5 turn.content_part.done {"item_id":"msg_1_1","part":{"type":"output_text","text":"Hello."},"content_index":0,"output_index":0}
        4.6 turn.item.done {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[{"type":"output_text","text":"Hello."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        4.7 turn.completed {"status":"completed"}
        4.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn objects_have_every_field() {
    let mut play = story();
    play.show(&call(0, "look", r#"{ "at": "sky" }"#)).show(&call(1, "pay", "{}")).replied();
    let session = object::session(&Plain, &play.session).expect("it was created");
    let turn = object::turn(&Plain, &play.session, 1).expect("it was begun");
    let told = |it: Json| serde_json::to_string_pretty(&it.value()).expect("JSON");
    expect![[r#"
        {
          "id": "ses_1",
          "object": "agent.session",
          "agent": {
            "id": "agent_1",
            "instructions": "Be brief.",
            "model": "m",
            "multi_agent": {
              "enabled": false,
              "max_concurrent_subagents": null
            },
            "name": null,
            "reasoning": {
              "effort": null,
              "summary": null
            },
            "service_tier": "auto",
            "text": {
              "format": {
                "type": "text"
              },
              "verbosity": "medium"
            },
            "tools": [],
            "compaction": {
              "async": false
            },
            "experimental": {
              "time_awareness": false
            }
          },
          "created_at": 1700000001,
          "environment": {
            "type": "none"
          },
          "error": null,
          "last_active_at": 1700000003,
          "metadata": {
            "topic": "bills"
          },
          "required_actions": [
            {
              "type": "function_call",
              "call_id": "call_1_1",
              "turn_id": "turn_1",
              "name": "look",
              "arguments": {
                "at": "sky"
              }
            },
            {
              "type": "mcp_approval_request",
              "request_id": "mcpr_1_2",
              "turn_id": "turn_1",
              "request": {
                "type": "mcp_tool_call",
                "arguments": {},
                "message": "Allow the agent to call `pay` of `everstate`?",
                "name": "pay",
                "server_label": "everstate"
              }
            }
          ],
          "status": "requires_action",
          "usage": {
            "input_tokens": 10,
            "input_tokens_details": {
              "cached_tokens": 4
            },
            "output_tokens": 5,
            "output_tokens_details": {
              "reasoning_tokens": 2
            },
            "total_tokens": 15
          },
          "vault_ids": [],
          "spend_control": {
            "consumed": 0,
            "limit": null
          }
        }"#]]
    .assert_eq(&told(session));
    expect![[r#"
        {
          "id": "turn_1",
          "object": "agent.session.turn",
          "agent_id": "agent_1",
          "completed_at": null,
          "created_at": 1700000001,
          "error": null,
          "session_id": "ses_1",
          "started_at": 1700000001,
          "status": "waiting",
          "subagent_id": null,
          "usage": {
            "input_tokens": 10,
            "input_tokens_details": {
              "cached_tokens": 4
            },
            "output_tokens": 5,
            "output_tokens_details": {
              "reasoning_tokens": 2
            },
            "total_tokens": 15
          }
        }"#]]
    .assert_eq(&told(turn));
    assert_eq!(object::turn(&Plain, &play.session, 2), None);
}

#[test]
fn tools_answered_one_after_the_other() {
    let mut play = story();
    let mut deltas = message(0, "Let me look.");
    deltas.extend(call(1, "look", r#"{"at":"sky"}"#));
    deltas.extend(call(2, "look", ""));
    play.show(&deltas).replied();
    play.feed(answer(1, 2, Outcome::Ok, "blue")).feed(answer(1, 1, Outcome::Failed, "Broken."));
    play.placed().show(&message(0, "It is blue.")).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.1 turn.content_part.added {"item_id":"msg_1_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        3.2 turn.output_text.delta {"item_id":"msg_1_1","delta":"Let me","content_index":0,"output_index":0}
        3.3 turn.output_text.delta {"item_id":"msg_1_1","delta":" look.","content_index":0,"output_index":0}
        3.4 turn.output_text.done {"item_id":"msg_1_1","text":"Let me look.","content_index":0,"output_index":0}
        3.5 turn.content_part.done {"item_id":"msg_1_1","part":{"type":"output_text","text":"Let me look."},"content_index":0,"output_index":0}
        4.6 turn.item.done {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[{"type":"output_text","text":"Let me look."}],"role":"assistant","status":"completed","phase":"commentary"}}
        4.7 turn.item.added {"output_index":1,"item":{"id":"fc_1_2","type":"function_call","arguments":{"at":"sky"},"status":"in_progress","call_id":"call_1_1","name":"look"}}
        4.8 turn.item.added {"output_index":2,"item":{"id":"fc_1_3","type":"function_call","arguments":{},"status":"in_progress","call_id":"call_1_2","name":"look"}}
        4.9 requires_action {"status":"requires_action","waits":["call_1_1","call_1_2"]}
        5.0 turn.item.done {"output_index":2,"item":{"id":"fc_1_3","type":"function_call","arguments":{},"status":"completed","call_id":"call_1_2","name":"look"}}
        5.1 turn.item.added {"item":{"id":"fco_1_4","type":"function_call_output","error":null,"status":"completed","call_id":"call_1_2","output":"blue"}}
        6.0 turn.item.done {"output_index":1,"item":{"id":"fc_1_2","type":"function_call","arguments":{"at":"sky"},"status":"failed","call_id":"call_1_1","name":"look"}}
        6.1 turn.item.added {"item":{"id":"fco_1_5","type":"function_call_output","error":"Broken.","status":"failed","call_id":"call_1_1","output":null}}
        6.2 in_progress {"status":"in_progress"}
        8.0 turn.item.added {"output_index":3,"item":{"id":"msg_1_6","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        8.1 turn.content_part.added {"item_id":"msg_1_6","part":{"type":"output_text","text":""},"content_index":0,"output_index":3}
        8.2 turn.output_text.delta {"item_id":"msg_1_6","delta":"It is","content_index":0,"output_index":3}
        8.3 turn.output_text.delta {"item_id":"msg_1_6","delta":" blue.","content_index":0,"output_index":3}
        8.4 turn.output_text.done {"item_id":"msg_1_6","text":"It is blue.","content_index":0,"output_index":3}
        8.5 turn.content_part.done {"item_id":"msg_1_6","part":{"type":"output_text","text":"It is blue."},"content_index":0,"output_index":3}
        9.6 turn.item.done {"output_index":3,"item":{"id":"msg_1_6","type":"message","content":[{"type":"output_text","text":"It is blue."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        9.7 turn.completed {"status":"completed"}
        9.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn tools_of_the_server_and_a_person() {
    let mut play = story();
    let mut deltas = call(0, "balance", "{}");
    deltas.extend(call(1, "pay", r#"{"sum":42}"#));
    play.show(&deltas).replied().returned(1, Outcome::Ok, "100");
    let approval = Approval {
        call: everstate_kernel::ids::CallId { turn: 1, n: 2 },
        approve: true,
        by: "ann".to_owned(),
        reason: None,
    };
    play.feed(Input::Approve(approval)).returned(2, Outcome::Failed, "no such account");
    play.placed().show(&message(0, "It failed.")).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        4.0 turn.item.added {"output_index":0,"item":{"id":"mcp_1_1","type":"mcp_call","error":null,"status":"in_progress","server_label":"everstate","name":"balance","arguments":{},"output":null}}
        4.1 turn.item.added {"output_index":1,"item":{"id":"mcp_1_2","type":"mcp_call","error":null,"status":"in_progress","server_label":"everstate","name":"pay","arguments":{"sum":42},"output":null}}
        4.2 requires_action {"status":"requires_action","waits":["mcpr_1_2"]}
        5.0 turn.item.done {"output_index":0,"item":{"id":"mcp_1_1","type":"mcp_call","error":null,"status":"completed","server_label":"everstate","name":"balance","arguments":{},"output":"100"}}
        6.0 in_progress {"status":"in_progress"}
        7.0 turn.item.done {"output_index":1,"item":{"id":"mcp_1_2","type":"mcp_call","error":"no such account","status":"failed","server_label":"everstate","name":"pay","arguments":{"sum":42},"output":null}}
        9.0 turn.item.added {"output_index":2,"item":{"id":"msg_1_5","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        9.1 turn.content_part.added {"item_id":"msg_1_5","part":{"type":"output_text","text":""},"content_index":0,"output_index":2}
        9.2 turn.output_text.delta {"item_id":"msg_1_5","delta":"It fa","content_index":0,"output_index":2}
        9.3 turn.output_text.delta {"item_id":"msg_1_5","delta":"iled.","content_index":0,"output_index":2}
        9.4 turn.output_text.done {"item_id":"msg_1_5","text":"It failed.","content_index":0,"output_index":2}
        9.5 turn.content_part.done {"item_id":"msg_1_5","part":{"type":"output_text","text":"It failed."},"content_index":0,"output_index":2}
        10.6 turn.item.done {"output_index":2,"item":{"id":"msg_1_5","type":"message","content":[{"type":"output_text","text":"It failed."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        10.7 turn.completed {"status":"completed"}
        10.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_call_that_nobody_may_answer() {
    let mut play = story();
    play.show(&call(0, "fly", "{}")).replied().placed();
    play.show(&call(0, "look", r#"{"at":"#)).replied_as(Finish::Length);
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        4.0 turn.item.done {"output_index":0,"item":{"id":"fc_1_1","type":"function_call","arguments":{},"status":"failed","call_id":"call_1_1","name":"fly"}}
        4.1 turn.item.added {"item":{"id":"fco_1_2","type":"function_call_output","error":"There is no tool named `fly`. Use one of the tools you were given.","status":"failed","call_id":"call_1_1","output":null}}
        7.0 turn.item.done {"output_index":1,"item":{"id":"fc_1_3","type":"function_call","arguments":"{\"at\":","status":"incomplete","call_id":"call_1_2","name":"look"}}
        7.1 turn.item.added {"item":{"id":"fco_1_4","type":"function_call_output","error":"The turn ended before this call was run.","status":"incomplete","call_id":"call_1_2","output":null}}
        7.2 error {"error":{"type":"server_error","code":"max_output_tokens","message":"the model reached its limit of output tokens before it was done","param":null,"why":"output_tokens"}}
        7.3 turn.failed {"status":"failed","error":"max_output_tokens"}
        7.4 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn steering_is_heard_in_the_turn() {
    let mut play = story();
    play.show(&message(0, "Hello.")).feed(say("In French!")).replied();
    play.placed().show(&message(0, "Bonjour.")).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.1 turn.content_part.added {"item_id":"msg_1_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        3.2 turn.output_text.delta {"item_id":"msg_1_1","delta":"Hel","content_index":0,"output_index":0}
        3.3 turn.output_text.delta {"item_id":"msg_1_1","delta":"lo.","content_index":0,"output_index":0}
        3.4 turn.output_text.done {"item_id":"msg_1_1","text":"Hello.","content_index":0,"output_index":0}
        3.5 turn.content_part.done {"item_id":"msg_1_1","part":{"type":"output_text","text":"Hello."},"content_index":0,"output_index":0}
        4.0 turn.item.added {"item":{"id":"msg_1_2147483648","type":"message","content":[{"type":"input_text","text":"In French!"}],"role":"user","status":"completed"}}
        5.6 turn.item.done {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[{"type":"output_text","text":"Hello."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        7.0 turn.item.added {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        7.1 turn.content_part.added {"item_id":"msg_1_2","part":{"type":"output_text","text":""},"content_index":0,"output_index":1}
        7.2 turn.output_text.delta {"item_id":"msg_1_2","delta":"Bonj","content_index":0,"output_index":1}
        7.3 turn.output_text.delta {"item_id":"msg_1_2","delta":"our.","content_index":0,"output_index":1}
        7.4 turn.output_text.done {"item_id":"msg_1_2","text":"Bonjour.","content_index":0,"output_index":1}
        7.5 turn.content_part.done {"item_id":"msg_1_2","part":{"type":"output_text","text":"Bonjour."},"content_index":0,"output_index":1}
        8.6 turn.item.done {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[{"type":"output_text","text":"Bonjour."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        8.7 turn.completed {"status":"completed"}
        8.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_cancelled_turn_and_the_next() {
    let mut play = story();
    play.show(&message(0, "Let me look.")).show(&call(1, "look", "{}")).replied();
    play.feed(Input::Cancel { turn: 1 });
    play.feed(say("Never mind.")).placed().show(&[open(0, Opening::Message)]);
    play.show(&[Delta::Text { item: 0, text: "Fi".to_owned() }]).feed(Input::Cancel { turn: 2 });
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.1 turn.content_part.added {"item_id":"msg_1_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        3.2 turn.output_text.delta {"item_id":"msg_1_1","delta":"Let me","content_index":0,"output_index":0}
        3.3 turn.output_text.delta {"item_id":"msg_1_1","delta":" look.","content_index":0,"output_index":0}
        3.4 turn.output_text.done {"item_id":"msg_1_1","text":"Let me look.","content_index":0,"output_index":0}
        3.5 turn.content_part.done {"item_id":"msg_1_1","part":{"type":"output_text","text":"Let me look."},"content_index":0,"output_index":0}
        5.6 turn.item.done {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[{"type":"output_text","text":"Let me look."}],"role":"assistant","status":"completed","phase":"commentary"}}
        5.7 turn.item.added {"output_index":1,"item":{"id":"fc_1_2","type":"function_call","arguments":{},"status":"in_progress","call_id":"call_1_1","name":"look"}}
        5.8 requires_action {"status":"requires_action","waits":["call_1_1"]}
        6.0 turn.item.done {"output_index":1,"item":{"id":"fc_1_2","type":"function_call","arguments":{},"status":"incomplete","call_id":"call_1_1","name":"look"}}
        6.1 turn.item.added {"item":{"id":"fco_1_3","type":"function_call_output","error":"The turn ended before this call was run.","status":"incomplete","call_id":"call_1_1","output":null}}
        6.2 turn.cancelled {"status":"cancelled"}
        6.3 idle {"status":"idle"}
        7.0 turn.created {"status":"queued"}
        7.1 turn.item.added {"item":{"id":"msg_2_0","type":"message","content":[{"type":"input_text","text":"Never mind."}],"role":"user","status":"completed"}}
        7.2 turn.in_progress {"status":"in_progress"}
        7.3 in_progress {"status":"in_progress"}
        9.0 turn.item.added {"output_index":0,"item":{"id":"msg_2_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        10.0 turn.content_part.added {"item_id":"msg_2_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        10.1 turn.output_text.delta {"item_id":"msg_2_1","delta":"Fi","content_index":0,"output_index":0}
        11.4 turn.output_text.done {"item_id":"msg_2_1","text":"Fi","content_index":0,"output_index":0}
        11.5 turn.content_part.done {"item_id":"msg_2_1","part":{"type":"output_text","text":"Fi"},"content_index":0,"output_index":0}
        11.6 turn.item.done {"output_index":0,"item":{"id":"msg_2_1","type":"message","content":[{"type":"output_text","text":"Fi"}],"role":"assistant","status":"incomplete","phase":null}}
        11.7 turn.cancelled {"status":"cancelled"}
        11.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_turn_that_ends_as_it_begins() {
    let mut play = Play::empty();
    play.feed_all(create()).feed_all(vec![say("Hi"), Input::Cancel { turn: 1 }]);
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        2.0 turn.created {"status":"queued"}
        2.1 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        2.2 turn.in_progress {"status":"in_progress"}
        2.3 turn.cancelled {"status":"cancelled"}
        2.4 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_call_keeps_its_place_before_it_is_shown() {
    let mut play = story();
    let mut deltas = call(0, "look", "{}");
    deltas.extend(message(1, "Wait."));
    play.show(&deltas).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.1 turn.content_part.added {"item_id":"msg_1_2","part":{"type":"output_text","text":""},"content_index":0,"output_index":1}
        3.2 turn.output_text.delta {"item_id":"msg_1_2","delta":"Wa","content_index":0,"output_index":1}
        3.3 turn.output_text.delta {"item_id":"msg_1_2","delta":"it.","content_index":0,"output_index":1}
        3.4 turn.output_text.done {"item_id":"msg_1_2","text":"Wait.","content_index":0,"output_index":1}
        3.5 turn.content_part.done {"item_id":"msg_1_2","part":{"type":"output_text","text":"Wait."},"content_index":0,"output_index":1}
        4.6 turn.item.done {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[{"type":"output_text","text":"Wait."}],"role":"assistant","status":"completed","phase":"commentary"}}
        4.7 turn.item.added {"output_index":0,"item":{"id":"fc_1_1","type":"function_call","arguments":{},"status":"in_progress","call_id":"call_1_1","name":"look"}}
        4.8 requires_action {"status":"requires_action","waits":["call_1_1"]}
    "#]],
    );
}

#[test]
fn what_comes_after_a_part_is_done_is_told_with_its_item() {
    let mut play = story();
    let late = Delta::Text { item: 0, text: "!".to_owned() };
    play.show(&message(0, "Hello")).show(&[late]).replied();
    let events = tell(&play.rows, true);
    let kinds: Vec<&str> = events.iter().skip(5).map(|it| it.event).collect();
    assert_eq!(kinds.iter().filter(|it| it.ends_with("output_text.delta")).count(), 2);
    assert!(events.iter().any(|it| it.event.ends_with("item.done") && it.data.contains("Hello!")));
}

#[test]
fn a_failure_after_something_was_shown() {
    let mut play = story();
    play.show(&thought(0, &["Hm"])[..2]).show(&[Delta::Summary { item: 0, text: "m".to_owned() }]);
    play.failed(FailureClass::Broken).placed().show(&message(0, "Hel")[..2]);
    play.failed(FailureClass::Refused);
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"rs_1_1","type":"reasoning","summary":[],"status":"in_progress"}}
        3.1 turn.reasoning_summary_part.added {"item_id":"rs_1_1","part":{"type":"summary_text","text":""},"summary_index":0,"output_index":0}
        4.0 turn.reasoning_summary_text.delta {"item_id":"rs_1_1","delta":"m","summary_index":0,"output_index":0}
        5.4 turn.reasoning_summary_text.done {"item_id":"rs_1_1","text":"m","summary_index":0,"output_index":0}
        5.5 turn.reasoning_summary_part.done {"output_index":0,"status":"incomplete","part":{"type":"summary_text","text":"m"},"summary_index":0,"item_id":"rs_1_1"}
        5.6 turn.item.done {"output_index":0,"item":{"id":"rs_1_1","type":"reasoning","summary":[{"type":"summary_text","text":"m"}],"status":"incomplete"}}
        7.0 turn.item.added {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        7.1 turn.content_part.added {"item_id":"msg_1_2","part":{"type":"output_text","text":""},"content_index":0,"output_index":1}
        7.2 turn.output_text.delta {"item_id":"msg_1_2","delta":"H","content_index":0,"output_index":1}
        8.4 turn.output_text.done {"item_id":"msg_1_2","text":"H","content_index":0,"output_index":1}
        8.5 turn.content_part.done {"item_id":"msg_1_2","part":{"type":"output_text","text":"H"},"content_index":0,"output_index":1}
        8.6 turn.item.done {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[{"type":"output_text","text":"H"}],"role":"assistant","status":"incomplete","phase":null}}
        8.7 error {"error":{"type":"invalid_request_error","code":"cyber_policy","message":"the provider's stream ended without an end","param":null,"why":"content_refused"}}
        8.8 turn.failed {"status":"failed","error":"cyber_policy"}
        8.9 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_crash_and_another_try() {
    let mut play = story();
    let mut deltas = message(0, "Let me look.");
    deltas.extend(call(1, "look", "{}"));
    play.show(&deltas).feed(Input::Adopted { epoch: 2 });
    play.placed().show(&message(0, "Hello.")).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.1 turn.content_part.added {"item_id":"msg_1_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        3.2 turn.output_text.delta {"item_id":"msg_1_1","delta":"Let me","content_index":0,"output_index":0}
        3.3 turn.output_text.delta {"item_id":"msg_1_1","delta":" look.","content_index":0,"output_index":0}
        3.4 turn.output_text.done {"item_id":"msg_1_1","text":"Let me look.","content_index":0,"output_index":0}
        3.5 turn.content_part.done {"item_id":"msg_1_1","part":{"type":"output_text","text":"Let me look."},"content_index":0,"output_index":0}
        4.6 turn.item.done {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[{"type":"output_text","text":"Let me look."}],"role":"assistant","status":"incomplete","phase":null}}
        6.0 turn.item.added {"output_index":2,"item":{"id":"msg_1_3","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        6.1 turn.content_part.added {"item_id":"msg_1_3","part":{"type":"output_text","text":""},"content_index":0,"output_index":2}
        6.2 turn.output_text.delta {"item_id":"msg_1_3","delta":"Hel","content_index":0,"output_index":2}
        6.3 turn.output_text.delta {"item_id":"msg_1_3","delta":"lo.","content_index":0,"output_index":2}
        6.4 turn.output_text.done {"item_id":"msg_1_3","text":"Hello.","content_index":0,"output_index":2}
        6.5 turn.content_part.done {"item_id":"msg_1_3","part":{"type":"output_text","text":"Hello."},"content_index":0,"output_index":2}
        7.6 turn.item.done {"output_index":2,"item":{"id":"msg_1_3","type":"message","content":[{"type":"output_text","text":"Hello."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        7.7 turn.completed {"status":"completed"}
        7.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_limit_is_reached_and_raised() {
    let mut play = Play::empty();
    let mut inputs = create();
    let limit = |max| Input::Configure(Configure { spend_max: Some(max), ..Configure::default() });
    inputs.extend([limit(Some(0)), say("Hi")]);
    play.feed_all(inputs).feed(say("Hello?")).feed(limit(None));
    play.placed().show(&message(0, "Hello.")).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 budget_reached {"status":"budget_reached"}
        2.0 turn.item.added {"item":{"id":"msg_1_2147483648","type":"message","content":[{"type":"input_text","text":"Hello?"}],"role":"user","status":"completed"}}
        3.0 turn.in_progress {"status":"in_progress"}
        3.1 in_progress {"status":"in_progress"}
        5.0 turn.item.added {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        5.1 turn.content_part.added {"item_id":"msg_1_1","part":{"type":"output_text","text":""},"content_index":0,"output_index":0}
        5.2 turn.output_text.delta {"item_id":"msg_1_1","delta":"Hel","content_index":0,"output_index":0}
        5.3 turn.output_text.delta {"item_id":"msg_1_1","delta":"lo.","content_index":0,"output_index":0}
        5.4 turn.output_text.done {"item_id":"msg_1_1","text":"Hello.","content_index":0,"output_index":0}
        5.5 turn.content_part.done {"item_id":"msg_1_1","part":{"type":"output_text","text":"Hello."},"content_index":0,"output_index":0}
        6.6 turn.item.done {"output_index":0,"item":{"id":"msg_1_1","type":"message","content":[{"type":"output_text","text":"Hello."}],"role":"assistant","status":"completed","phase":"final_answer"}}
        6.7 turn.completed {"status":"completed"}
        6.8 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_parked_session() {
    let mut play = story();
    play.feed(Input::Park { reason: "its log is broken".to_owned() }).feed(Input::Unpark);
    play.feed(Input::Cancel { turn: 1 });
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 error {"error":{"type":"server_error","code":null,"message":"its log is broken","param":null,"why":"parked"}}
        3.1 failed {"status":"failed"}
        4.0 in_progress {"status":"in_progress"}
        5.0 turn.cancelled {"status":"cancelled"}
        5.1 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn summaries_and_structured_answers() {
    let mut play = story();
    let mut deltas = thought(0, &["First.", "Then."]);
    deltas.extend(message(1, r#"{"sum":42}"#));
    play.show(&deltas).replied();
    check(
        &play,
        expect![[r#"
        1.0 created {"status":"idle"}
        1.1 turn.created {"status":"queued"}
        1.2 turn.item.added {"item":{"id":"msg_1_0","type":"message","content":[{"type":"input_text","text":"Hi"}],"role":"user","status":"completed"}}
        1.3 turn.in_progress {"status":"in_progress"}
        1.4 in_progress {"status":"in_progress"}
        3.0 turn.item.added {"output_index":0,"item":{"id":"rs_1_1","type":"reasoning","summary":[],"status":"in_progress"}}
        3.1 turn.reasoning_summary_part.added {"item_id":"rs_1_1","part":{"type":"summary_text","text":""},"summary_index":0,"output_index":0}
        3.2 turn.reasoning_summary_text.delta {"item_id":"rs_1_1","delta":"First.","summary_index":0,"output_index":0}
        3.3 turn.reasoning_summary_text.done {"item_id":"rs_1_1","text":"First.","summary_index":0,"output_index":0}
        3.4 turn.reasoning_summary_part.done {"item_id":"rs_1_1","part":{"type":"summary_text","text":"First."},"summary_index":0,"output_index":0}
        3.5 turn.reasoning_summary_part.added {"item_id":"rs_1_1","part":{"type":"summary_text","text":""},"summary_index":1,"output_index":0}
        3.6 turn.reasoning_summary_text.delta {"item_id":"rs_1_1","delta":"Then.","summary_index":1,"output_index":0}
        3.7 turn.reasoning_summary_text.done {"item_id":"rs_1_1","text":"Then.","summary_index":1,"output_index":0}
        3.8 turn.reasoning_summary_part.done {"item_id":"rs_1_1","part":{"type":"summary_text","text":"Then."},"summary_index":1,"output_index":0}
        3.9 turn.item.added {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[],"role":"assistant","status":"in_progress","phase":null}}
        3.10 turn.content_part.added {"item_id":"msg_1_2","part":{"type":"output_text","text":""},"content_index":0,"output_index":1}
        3.11 turn.output_text.delta {"item_id":"msg_1_2","delta":"{\"sum","content_index":0,"output_index":1}
        3.12 turn.output_text.delta {"item_id":"msg_1_2","delta":"\":42}","content_index":0,"output_index":1}
        3.13 turn.output_text.done {"item_id":"msg_1_2","text":"{\"sum\":42}","content_index":0,"output_index":1}
        3.14 turn.content_part.done {"item_id":"msg_1_2","part":{"type":"output_text","text":"{\"sum\":42}"},"content_index":0,"output_index":1}
        4.11 turn.item.done {"output_index":0,"item":{"id":"rs_1_1","type":"reasoning","summary":[{"type":"summary_text","text":"First."},{"type":"summary_text","text":"Then."}],"status":"completed"}}
        4.18 turn.item.done {"output_index":1,"item":{"id":"msg_1_2","type":"message","content":[{"type":"output_text","text":"{\"sum\":42}"}],"role":"assistant","status":"completed","phase":"final_answer"}}
        4.19 turn.completed {"status":"completed"}
        4.20 idle {"status":"idle"}
    "#]],
    );
}

#[test]
fn a_phase_is_what_the_provider_says_unless_calls_follow() {
    fn phases(deltas: &[Delta]) -> Vec<Value> {
        let mut play = story();
        play.show(deltas).replied();
        let events = promises(&play.rows);
        let done = events.iter().filter(|(_, it)| it["type"] == "agent.session.turn.item.done");
        done.filter(|(_, it)| it["item"]["type"] == "message")
            .map(|(_, it)| it["item"]["phase"].clone())
            .collect()
    }
    let said = |phase: &str, with_call: bool| {
        let extra = Json::from(json!({"responses": {"phase": phase}}));
        let mut deltas = message(0, "Hm.");
        deltas.insert(3, Delta::Extra { item: 0, extra });
        if with_call {
            deltas.extend(call(1, "look", "{}"));
        }
        phases(&deltas)
    };
    assert_eq!(said("commentary", false), ["commentary"]);
    assert_eq!(said("final_answer", false), ["final_answer"]);
    assert_eq!(said("made_up", false), ["final_answer"]);
    assert_eq!(said("final_answer", true), ["commentary"]);
}

// ---- any story ---------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    Say,
    Place,
    Show(Vec<Delta>),
    Reply(Finish),
    Fail(FailureClass),
    Answer(Outcome),
    Approve(bool),
    Return(Outcome),
    Cancel,
    Crash,
    Limit(Option<u64>),
    Park,
}

/// Fragments for the items that are open when they come: `act` gives them their numbers.
fn deltas() -> impl Strategy<Value = Vec<Delta>> {
    let text = prop::sample::select(vec!["", "a", "bé", "😀", "\n\"", "{}"]);
    let name = prop::sample::select(vec!["look", "pay", "balance", "fly"]);
    let opening = prop_oneof![
        3 => Just(Opening::Message),
        2 => Just(Opening::Reasoning),
        2 => name.prop_map(|it| Opening::Call { name: it.to_owned() }),
        1 => Just(Opening::Opaque {
            dialect: "responses".to_owned(),
            json: Json::from(json!({"type": "web_search_call"})),
        }),
    ];
    let delta = (0u32..3, opening, text, 0..11u8).prop_map(|(item, opening, text, what)| {
        let text = text.to_owned();
        match what {
            0..3 => Delta::Open { item, opening, provider_id: None },
            3 | 4 => Delta::Text { item, text },
            5 => Delta::Summary { item, text },
            6 => Delta::Arguments { item, text },
            7 => Delta::TextPart { item },
            8 => Delta::Refusal { item, text },
            9 => Delta::Thought { item, text },
            _ => Delta::SummaryPart { item },
        }
    });
    prop::collection::vec(delta, 1..6)
}

/// Items are opened one after the other, and only an opened one grows.
fn numbered(play: &Play, deltas: Vec<Delta>) -> Vec<Delta> {
    let mut n_opened = play.n_opened();
    let mut numbered = Vec::new();
    for mut delta in deltas {
        if let Delta::Open { item, .. } = &mut delta {
            *item = n_opened;
            n_opened += 1;
        }
        numbered.push(delta);
    }
    numbered
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop::sample::select(vec![Outcome::Ok, Outcome::Failed]);
    let finish = prop::sample::select(vec![
        Finish::Stop,
        Finish::Stop,
        Finish::Stop,
        Finish::Length,
        Finish::Filter,
    ]);
    let class = prop::sample::select(vec![FailureClass::Broken, FailureClass::Refused]);
    let step = prop_oneof![
        2 => Just(Step::Say),
        4 => Just(Step::Place),
        8 => deltas().prop_map(Step::Show),
        4 => finish.prop_map(Step::Reply),
        1 => class.prop_map(Step::Fail),
        3 => outcome.clone().prop_map(Step::Answer),
        2 => any::<bool>().prop_map(Step::Approve),
        3 => outcome.prop_map(Step::Return),
        1 => Just(Step::Cancel),
        1 => Just(Step::Crash),
        1 => prop::option::of(0u64..3).prop_map(Step::Limit),
        1 => Just(Step::Park),
    ];
    prop::collection::vec(step, 0..40)
}

fn act(play: &mut Play, step: Step) {
    let call = |play: &Play| play.session.live.calls.keys().next().copied();
    let has_place = |play: &Play| {
        play.attempt()
            .and_then(|it| play.session.live.attempt(it))
            .is_some_and(|it| it.plan.is_some())
    };
    match step {
        Step::Say => _ = play.try_all(vec![say("Hi")]),
        Step::Place if play.attempt().is_some() && !has_place(play) => _ = play.placed(),
        Step::Show(deltas) if has_place(play) => _ = play.show(&numbered(play, deltas)),
        Step::Reply(finish) if has_place(play) => _ = play.replied_as(finish),
        Step::Fail(class) if has_place(play) => _ = play.failed(class),
        Step::Answer(outcome) => {
            if let Some(call) = call(play) {
                let output = vec![Part::text("answered")];
                play.try_all(vec![Input::Answer {
                    answers: vec![Answer { call, outcome, output }],
                }]);
            }
        }
        Step::Approve(approve) => {
            let by = "ann".to_owned();
            if let Some(call) = call(play) {
                play.try_all(vec![Input::Approve(Approval { call, approve, by, reason: None })]);
            }
        }
        Step::Return(outcome) => {
            if let Some(call) = call(play) {
                let output = vec![Part::text("returned")];
                play.try_all(vec![Input::Returned { call, outcome, output }]);
            }
        }
        Step::Cancel => _ = play.try_all(vec![Input::Cancel { turn: play.session.live.turn_no }]),
        Step::Crash => {
            _ = play.try_all(vec![Input::Adopted { epoch: play.session.live.epoch + 1 }])
        }
        Step::Limit(max) => {
            let told = Configure { spend_max: Some(max), ..Configure::default() };
            play.try_all(vec![Input::Configure(told)]);
        }
        Step::Park => {
            play.try_all(vec![Input::Park { reason: "why".to_owned() }]);
            play.try_all(vec![Input::Unpark]);
        }
        Step::Place | Step::Show(_) | Step::Reply(_) | Step::Fail(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a model says and whatever is done meanwhile: the session is told by the same rules.
    #[test]
    fn any_story_is_told_whole(steps in steps()) {
        let mut play = story();
        steps.into_iter().for_each(|it| act(&mut play, it));
        promises(&play.rows);
    }
}
