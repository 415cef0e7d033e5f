//! Sessions, turns and items as objects and in lists.

use everstate_dialects::agents::config::{PromptCacheOptions, Review};
use everstate_dialects::agents::error::{CODES, Trouble};
use everstate_dialects::agents::{listing, object};
use everstate_kernel::event::{Cut, End, Why};
use everstate_kernel::fork::inherit;
use everstate_kernel::ids::{CallId, SessionId};
use everstate_kernel::input::*;
use everstate_kernel::item::{Body, Outcome, Part, Role};
use everstate_kernel::json::Json;
use everstate_kernel::state::Session;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::agents::voice::{create, doc, say, story};
use crate::names::Plain;
use crate::play::{Play, call, message};

fn items(session: &Session, turn: Option<u32>) -> String {
    let mut out = String::new();
    for item in listing::items(session, turn) {
        let json = item.json(&Plain);
        assert_eq!(json.value()["id"], item.name(&Plain));
        out.push_str(json.text());
        out.push('\n');
    }
    out
}

fn check(session: &Session, expect: Expect) {
    expect.assert_eq(&items(session, None));
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
fn a_session_tells_all_it_was_made_with() {
    let mut doc = doc();
    doc.agent.text.schema = Some(Json::from(json!({"type": "object"})));
    doc.agent.tools = vec![Json::from(json!({"type": "function", "name": "look"}))];
    doc.agent.multi_agent.enabled = true;
    doc.agent.multi_agent.max_concurrent_subagents = Some(6);
    doc.vault_ids = vec!["vault_1".to_owned()];
    doc.prompt_cache_options = Some(PromptCacheOptions { ttl: "12h".to_owned() });
    doc.review = Review::AutoReview;
    doc.spend_limit_cents = Some(500);
    let mut play = Play::empty();
    let configure = Configure { settings: Some(doc.json()), ..Configure::default() };
    play.feed_all(create()).feed(Input::Configure(configure));
    play.feed(Input::Park { reason: "its log is broken".to_owned() });
    let session = object::session(&Plain, &play.session).expect("it was created").value();
    let told = |names: &[&str]| -> Vec<Value> {
        names.iter().map(|it| session.pointer(it).cloned().unwrap_or_default()).collect()
    };
    assert_eq!(
        told(&[
            "/agent/text/format",
            "/agent/tools",
            "/agent/multi_agent",
            "/vault_ids",
            "/prompt_cache_options"
        ]),
        [
            json!({"type": "json_schema", "schema": {"type": "object"}}),
            json!([{"type": "function", "name": "look"}]),
            json!({"enabled": true, "max_concurrent_subagents": 6}),
            json!(["vault_1"]),
            json!({"ttl": "12h"}),
        ]
    );
    assert_eq!(
        told(&["/review", "/spend_control", "/status", "/error"]),
        [
            json!("auto_review"),
            json!({"consumed": 0, "limit": 500}),
            json!("failed"),
            json!("its log is broken"),
        ]
    );
}

#[test]
fn a_session_of_another_door_is_told_by_its_model() {
    let mut play = Play::new();
    play.ask(r#"{"model":"m","input":"Hi"}"#).placed().show(&message(0, "Hello.")).replied();
    let session = object::session(&Plain, &play.session).expect("it was created").value();
    assert_eq!(session["agent"]["model"], "m");
    assert_eq!(session["metadata"], json!({}));
    assert_eq!(object::session(&Plain, &Session::default()), None);
}

#[test]
fn why_a_turn_failed_is_one_of_the_codes() {
    let code =
        |end: End| Trouble::of_end(&end).map(|it| it.code.expect("a turn's trouble has one"));
    let words = [
        "insufficient_quota",
        "model_not_found",
        "no_offer",
        "context_length_exceeded",
        "process_lost",
        "rate_limit_exceeded",
        "upstream_overloaded",
        "upstream_auth",
        "upstream_timeout",
        "upstream_broken",
        "upstream_invalid_request",
        "content_refused",
        "made_up",
    ];
    let mut told = String::new();
    for word in words {
        let end = End::Failed { code: word.to_owned(), message: "why".to_owned() };
        let code = code(end).expect("it failed");
        assert!(CODES.contains(&code));
        told.push_str(&format!("{word}: {code}\n"));
    }
    for cut in [
        Cut::OutputTokens,
        Cut::ContentFilter,
        Cut::Steps,
        Cut::Tokens,
        Cut::Bytes,
        Cut::Cost,
        Cut::WorkTime,
    ] {
        let code = code(End::Incomplete(cut)).expect("it failed");
        assert!(CODES.contains(&code));
        told.push_str(&format!("{cut:?}: {code}\n"));
    }
    for end in [End::Completed, End::Cancelled(Why::Asked), End::Steered] {
        assert_eq!(code(end), None);
    }
    expect![[r#"
        insufficient_quota: usage_limit_exceeded
        model_not_found: resource_not_found
        no_offer: resource_not_found
        context_length_exceeded: context_length_exceeded
        process_lost: internal_error
        rate_limit_exceeded: rate_limit_exceeded
        upstream_overloaded: server_overloaded
        upstream_auth: authentication_error
        upstream_timeout: request_timeout
        upstream_broken: server_error
        upstream_invalid_request: invalid_request
        content_refused: cyber_policy
        made_up: internal_error
        OutputTokens: max_output_tokens
        ContentFilter: cyber_policy
        Steps: session_budget_exceeded
        Tokens: session_budget_exceeded
        Bytes: session_budget_exceeded
        Cost: session_budget_exceeded
        WorkTime: session_budget_exceeded
    "#]]
    .assert_eq(&told);
}

#[test]
fn lists_hold_what_was_said_and_done() {
    let mut play = story();
    let mut deltas = message(0, "Let me look.");
    deltas.extend(call(1, "look", "{}"));
    deltas.extend(call(2, "balance", "{}"));
    play.show(&deltas).replied().returned(2, Outcome::Unknown, "");
    check(
        &play.session,
        expect![[r#"
        {"id":"msg_1_0","type":"message","turn_id":"turn_1","role":"user","status":"completed","content":[{"type":"input_text","text":"Hi"}]}
        {"id":"msg_1_1","type":"message","turn_id":"turn_1","role":"assistant","status":"completed","phase":"commentary","content":[{"type":"output_text","text":"Let me look."}]}
        {"id":"fc_1_2","type":"function_call","turn_id":"turn_1","status":"in_progress","call_id":"call_1_1","name":"look","arguments":{}}
        {"id":"mcp_1_3","type":"mcp_call","turn_id":"turn_1","status":"incomplete","server_label":"everstate","name":"balance","arguments":{},"output":null,"error":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}
    "#]],
    );
    let answer = |output| Input::Answer {
        answers: vec![Answer { call: CallId { turn: 1, n: 1 }, outcome: Outcome::Ok, output }],
    };
    let image = Part::Image { url: "https://x/y.png".to_owned(), detail: None };
    play.feed(answer(vec![Part::text("See:"), image])).placed();
    play.feed(say("And?")).show(&message(0, "Blue.")).replied();
    check(
        &play.session,
        expect![[r#"
        {"id":"msg_1_0","type":"message","turn_id":"turn_1","role":"user","status":"completed","content":[{"type":"input_text","text":"Hi"}]}
        {"id":"msg_1_1","type":"message","turn_id":"turn_1","role":"assistant","status":"completed","phase":"commentary","content":[{"type":"output_text","text":"Let me look."}]}
        {"id":"fc_1_2","type":"function_call","turn_id":"turn_1","status":"completed","call_id":"call_1_1","name":"look","arguments":{}}
        {"id":"mcp_1_3","type":"mcp_call","turn_id":"turn_1","status":"incomplete","server_label":"everstate","name":"balance","arguments":{},"output":null,"error":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}
        {"id":"fco_1_5","type":"function_call_output","turn_id":"turn_1","status":"completed","call_id":"call_1_1","output":[{"type":"input_text","text":"See:"},{"type":"input_image","image_url":"https://x/y.png"}],"error":null}
        {"id":"msg_1_6","type":"message","turn_id":"turn_1","role":"assistant","status":"completed","phase":"final_answer","content":[{"type":"output_text","text":"Blue."}]}
        {"id":"msg_1_2147483648","type":"message","turn_id":"turn_1","role":"user","status":"completed","content":[{"type":"input_text","text":"And?"}]}
    "#]],
    );
    assert_eq!(items(&play.session, Some(2)), "");
}

#[test]
fn images_are_told_and_what_has_no_item_is_not() {
    let mut play = story();
    play.show(&message(0, "Hello.")).replied();
    let Input::Begin(mut begin) = say("What is it?") else { panic!("a beginning") };
    let image = Part::Image { url: "data:image/png;base64,AA==".to_owned(), detail: None };
    let Body::Message { parts, .. } = &mut begin.items[0].body else { panic!("a message") };
    parts.push(image);
    let system = Body::Message { role: Role::Developer, parts: vec![Part::text("Be brief.")] };
    begin.items.push(NewItem { body: system, provider_id: None, extra: None });
    play.feed(Input::Begin(begin));
    expect![[r#"
        {"id":"msg_2_0","type":"message","turn_id":"turn_2","role":"user","status":"completed","content":[{"type":"input_text","text":"What is it?"},{"type":"input_image","image_url":"data:image/png;base64,AA=="}]}
    "#]].assert_eq(&items(&play.session, Some(2)));
    assert_eq!(listing::turns(&play.session).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_fork_lists_what_it_inherited() {
    let mut play = story();
    play.show(&call(0, "balance", "{}")).replied().returned(1, Outcome::Ok, "100");
    play.placed().show(&message(0, "It is 100.")).replied();
    let before = items(&play.session, None);
    let inheritance = inherit(&play.session).expect("it was created");
    let mut forked = Play::empty();
    forked.feed(Input::Create(Create {
        id: SessionId(2),
        project: "p".to_owned(),
        door: "agents".to_owned(),
        named: true,
        metadata: None,
        inheritance: Some(inheritance),
        epoch: 1,
    }));
    assert_eq!(items(&forked.session, None), before);
    let session = object::session(&Plain, &forked.session).expect("it was created").value();
    assert_eq!(session["agent"]["id"], "agent_1");
}
