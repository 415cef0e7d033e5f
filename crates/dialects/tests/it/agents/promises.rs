//! What holds of every telling of a session, whatever its story, and tellings short enough to be read.

use std::collections::BTreeMap;

use everstate_dialects::agents::voice::{AgentEvent, EventKey, SessionVoice};
use everstate_dialects::agents::{listing, object};
use everstate_kernel::state::Session;
use expect_test::Expect;
use serde_json::Value;

use crate::names::Plain;
use crate::play::{Play, Row};

fn seq_of(place: usize) -> u64 {
    place as u64 + 1
}

fn hear(voice: &mut SessionVoice, place: usize, row: &Row) -> Vec<AgentEvent> {
    match row {
        Row::Append(append) => voice.hear_append(&Plain, append),
        Row::Frame(frame) => voice.hear_frame(&Plain, seq_of(place), frame),
    }
}

pub(super) fn tell(rows: &[Row], with_frames: bool) -> Vec<AgentEvent> {
    tell_with(rows, |_| with_frames)
}

/// With the frames in some places only.
fn tell_with(rows: &[Row], frame: impl Fn(usize) -> bool) -> Vec<AgentEvent> {
    let mut voice = SessionVoice::new();
    let mut events = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        if matches!(row, Row::Append(_)) || frame(place) {
            events.extend(hear(&mut voice, place, row));
        }
    }
    events
}

/// The session after so many rows.
pub(super) fn session_at(rows: &[Row], n: usize) -> Session {
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
pub(super) fn promises(rows: &[Row]) -> Vec<(EventKey, Value)> {
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
    let same = |told: &[AgentEvent]| {
        let facts = told.iter().filter(|it| !is_frame(&it.key));
        let facts: BTreeMap<EventKey, &AgentEvent> = facts.map(|it| (it.key, it)).collect();
        for event in facts.values() {
            // Of a text that was shown in part, the whole takes the place of the rest.
            let is_rest = event.event.ends_with(".delta");
            assert!(is_rest || bare.get(&event.key) == Some(*event), "{event:?}");
        }
        for event in bare.values().filter(|it| !it.data.contains("item_id")) {
            let was_shown = event.event.ends_with("item.added");
            assert!(was_shown || facts.get(&event.key) == Some(&event), "{event:?}");
        }
    };
    same(told);
    for cut in [rows.len() / 3, rows.len() / 2, rows.len() * 2 / 3] {
        same(&tell_with(rows, |place| place < cut));
        same(&tell_with(rows, |place| place >= cut));
        same(&tell_with(rows, |place| place != cut));
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

pub(super) fn check(play: &Play, expect: Expect) {
    let events = promises(&play.rows);
    keep(&events);
    expect.assert_eq(&short(&events));
}
