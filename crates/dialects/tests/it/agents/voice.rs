//! What a client of the Agents API hears of a session, story by story.

use std::sync::Arc;

use everstate_dialects::agents::config::{AgentConfig, Environment, Review, SessionDoc};
use everstate_dialects::agents::voice::REVISION;
use everstate_kernel::agent::{Agent, Limits};
use everstate_kernel::delta::{Delta, Finish, Opening};
use everstate_kernel::ids::SessionId;
use everstate_kernel::input::*;
use everstate_kernel::item::{Body, Outcome, Part, Role};
use everstate_kernel::json::Json;
use everstate_kernel::policy::Constraints;
use expect_test::expect;
use serde_json::{Value, json};

use crate::agents::any::said;
use crate::agents::promises::{check, promises, tell};
use crate::encode::{server, tool};
use crate::play::{Play, call, close, message, open};

pub(super) fn doc() -> SessionDoc {
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

pub(super) fn create() -> Vec<Input> {
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

pub(super) fn say(text: &str) -> Input {
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
            by: None,
        },
        when_busy: WhenBusy::Steer,
    })
}

/// A session that was told "Hi" as it was made, and has a place for its first step.
pub(super) fn story() -> Play {
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
fn a_session_that_is_summed_up_first() {
    let mut play = story();
    play.show(&message(0, "Hello.")).replied();
    let Input::Begin(mut begin) = say("And?") else { panic!("a beginning") };
    begin.terms.compact = Some(Compact { at_tokens: 10 });
    play.feed(Input::Begin(begin)).placed();
    let begun = promises(&play.rows).len();
    play.replied_with(vec![said("All in short.")], Finish::Stop);
    play.placed().show(&message(0, "Goodbye.")).replied();
    let events = promises(&play.rows);
    assert_eq!(events[begun - 1].1["type"], "agent.session.in_progress");
    assert_eq!(events[begun].1["type"], "agent.session.turn.item.added");
    assert!(!events.iter().any(|(_, it)| it.to_string().contains("in short")));
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
