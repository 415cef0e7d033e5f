//! What the client of a turn sees, as it sees it.

use everstate_kernel::delta::{Delta, Finish, Opening};
use everstate_kernel::event::Append;
use everstate_kernel::input::{FailureClass, Input};
use everstate_kernel::item::{Outcome, Sealed, Status};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::Value;

use crate::play::{Play, Row, call, close, message, open, tell};

const PLAIN: &str = r#"{"model":"m","input":"Hi","stream":true}"#;
const BACKGROUND: &str = r#"{"model":"m","input":"Hi","background":true,"stream":true}"#;
const TOOLS: &str = r#"{"model":"m","input":"Hi","tools":[
    {"type":"mcp","server_label":"everstate","allowed_tools":["pay","balance"]},
    {"type":"function","name":"look","parameters":{"type":"object"}}]}"#;

/// Every promise about a stream that does not depend on its story.
fn promises(rows: &[Row], turn: u32) -> (Vec<Value>, Value) {
    let (events, response) = tell(rows, turn, true);
    let (_, without_frames) = tell(rows, turn, false);
    assert_eq!(response, without_frames, "streamed or not, the object is the same");
    let (again, _) = tell(rows, turn, true);
    assert_eq!(events, again, "told again, the bytes are the same");

    let mut values = Vec::new();
    for (n, event) in events.iter().enumerate() {
        assert!(!event.data.contains(['\n', '\r']), "one line");
        let value: Value = serde_json::from_str(&event.data).expect("JSON");
        assert_eq!(value["type"], event.event);
        assert_eq!(value["sequence_number"], n, "no gap");
        values.push(value);
    }
    // A client that only listens ends up with the output of the object.
    let mut output: Vec<Value> = Vec::new();
    for value in &values {
        let at = value["output_index"].as_u64().map(|it| it as usize);
        match value["type"].as_str().expect("a type") {
            "response.output_item.added" => {
                assert_eq!(at, Some(output.len()), "items are added in their order");
                output.push(value["item"].clone());
            }
            "response.output_item.done" => output[at.expect("an index")] = value["item"].clone(),
            _ => {
                if let Some(at) = at {
                    assert_eq!(value["item_id"], output[at]["id"], "about an item that is there");
                }
            }
        }
    }
    let ids = |list: &[Value]| list.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&output), ids(response["output"].as_array().expect("a list")));
    if let Some(last) = values.last()
        && last["response"].is_object()
    {
        assert_eq!(last["response"], response, "the last event holds the object");
    }
    (values, response)
}

/// For other clients to be tried on: set `EVERSTATE_WIRE_DIR`.
fn keep(name: &str, events: &[Value], response: &Value) {
    if let Some(dir) = std::env::var_os("EVERSTATE_WIRE_DIR") {
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        let dir = std::path::Path::new(&dir);
        std::fs::write(dir.join(format!("{name}.events.jsonl")), lines.join("\n"))
            .expect("written");
        std::fs::write(dir.join(format!("{name}.json")), response.to_string()).expect("written");
    }
}

/// Events short enough to be read: the response inside them is told once, at the end.
fn told(events: &[Value], response: &Value) -> String {
    let mut out = String::new();
    for event in events {
        let mut event = event.clone();
        let fields = event.as_object_mut().expect("an object");
        let kind = fields.remove("type").expect("a type");
        let kind = kind.as_str().expect("text").trim_start_matches("response.").to_owned();
        let n = fields.remove("sequence_number").expect("a number");
        if let Some(response) = fields.remove("response") {
            fields.insert("status".to_owned(), response["status"].clone());
        }
        out.push_str(&format!("{n} {kind} {event}\n"));
    }
    for name in ["id", "status", "error", "incomplete_details", "usage"] {
        out.push_str(&format!("{name}: {}\n", response[name]));
    }
    for item in response["output"].as_array().expect("a list") {
        out.push_str(&format!("output: {item}\n"));
    }
    out
}

fn check(name: &str, play: &Play, turn: u32, expect: Expect) {
    let (events, response) = promises(&play.rows, turn);
    keep(name, &events, &response);
    expect.assert_eq(&told(&events, &response));
}

#[test]
fn a_text_answer() {
    let mut play = Play::new();
    play.ask(PLAIN).placed().show(&message(0, "Hello.")).replied();
    check(
        "text",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":0}
        3 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_1","output_index":0}
        4 output_text.delta {"logprobs":[],"delta":"Hel","item_id":"msg_1_1","output_index":0,"content_index":0}
        5 output_text.delta {"logprobs":[],"delta":"lo.","item_id":"msg_1_1","output_index":0,"content_index":0}
        6 output_text.done {"logprobs":[],"text":"Hello.","item_id":"msg_1_1","output_index":0,"content_index":0}
        7 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"Hello."},"content_index":0,"item_id":"msg_1_1","output_index":0}
        8 output_item.done {"item":{"id":"msg_1_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Hello."}]},"output_index":0}
        9 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"msg_1_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Hello."}]}
    "#]],
    );
}

#[test]
fn the_object_has_every_field() {
    let mut play = Play::new();
    play.ask(r#"{"model":"m","input":"Hi","temperature":0.2,"tools":[{"type":"function","name":"look","parameters":null}],"metadata":{"a":"b"},"made_up":[1]}"#)
        .placed()
        .show(&message(0, "Hello."))
        .replied();
    let (events, response) = promises(&play.rows, 1);
    keep("object", &events, &response);
    expect![[r#"
        {
          "id": "resp_1",
          "object": "response",
          "created_at": 1700000002,
          "status": "completed",
          "completed_at": 1700000004,
          "error": null,
          "incomplete_details": null,
          "background": false,
          "frequency_penalty": 0.0,
          "instructions": null,
          "max_output_tokens": null,
          "max_tool_calls": null,
          "metadata": {
            "a": "b"
          },
          "model": "m",
          "parallel_tool_calls": true,
          "presence_penalty": 0.0,
          "previous_response_id": null,
          "prompt_cache_key": null,
          "reasoning": {
            "effort": null,
            "summary": null
          },
          "safety_identifier": null,
          "service_tier": "default",
          "store": true,
          "temperature": 0.2,
          "text": {
            "format": {
              "type": "text"
            },
            "verbosity": "medium"
          },
          "tool_choice": "auto",
          "tools": [
            {
              "type": "function",
              "name": "look",
              "description": null,
              "parameters": null,
              "strict": null
            }
          ],
          "top_logprobs": 0,
          "top_p": 1.0,
          "truncation": "disabled",
          "user": null,
          "made_up": [
            1
          ],
          "output": [
            {
              "id": "msg_1_1",
              "type": "message",
              "status": "completed",
              "role": "assistant",
              "content": [
                {
                  "type": "output_text",
                  "annotations": [],
                  "logprobs": [],
                  "text": "Hello."
                }
              ]
            }
          ],
          "usage": {
            "input_tokens": 10,
            "input_tokens_details": {
              "cache_write_tokens": 0,
              "cached_tokens": 4
            },
            "output_tokens": 5,
            "output_tokens_details": {
              "reasoning_tokens": 2
            },
            "total_tokens": 15
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&response).expect("JSON"));
}

#[test]
fn reasoning_then_a_call_for_the_client() {
    let mut play = Play::new();
    let sealed = Sealed { domain: "a:org".to_owned(), content: "gAAA".to_owned() };
    let mut deltas = vec![
        open(0, Opening::Reasoning),
        Delta::Summary { item: 0, text: "I ".to_owned() },
        Delta::Summary { item: 0, text: "look.".to_owned() },
        Delta::SummaryPart { item: 0 },
        Delta::Summary { item: 0, text: "Twice.".to_owned() },
        Delta::Sealed { item: 0, sealed },
        close(0),
    ];
    deltas.extend(call(1, "look", "{\"n\":1}"));
    play.ask(TOOLS).placed().show(&deltas[..3]).show(&deltas[3..]).replied();
    check(
        "function_call",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[]},"output_index":0}
        3 mcp_list_tools.in_progress {"output_index":0,"item_id":"mcpl_1_0"}
        4 mcp_list_tools.completed {"output_index":0,"item_id":"mcpl_1_0"}
        5 output_item.done {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]},"output_index":0}
        6 output_item.added {"item":{"id":"rs_1_1","type":"reasoning","status":"in_progress","summary":[]},"output_index":1}
        7 reasoning_summary_part.added {"part":{"type":"summary_text","text":""},"summary_index":0,"item_id":"rs_1_1","output_index":1}
        8 reasoning_summary_text.delta {"delta":"I ","summary_index":0,"item_id":"rs_1_1","output_index":1}
        9 reasoning_summary_text.delta {"delta":"look.","summary_index":0,"item_id":"rs_1_1","output_index":1}
        10 reasoning_summary_text.done {"text":"I look.","summary_index":0,"item_id":"rs_1_1","output_index":1}
        11 reasoning_summary_part.done {"part":{"type":"summary_text","text":"I look."},"summary_index":0,"item_id":"rs_1_1","output_index":1}
        12 reasoning_summary_part.added {"part":{"type":"summary_text","text":""},"summary_index":1,"item_id":"rs_1_1","output_index":1}
        13 reasoning_summary_text.delta {"delta":"Twice.","summary_index":1,"item_id":"rs_1_1","output_index":1}
        14 reasoning_summary_text.done {"text":"Twice.","summary_index":1,"item_id":"rs_1_1","output_index":1}
        15 reasoning_summary_part.done {"part":{"type":"summary_text","text":"Twice."},"summary_index":1,"item_id":"rs_1_1","output_index":1}
        16 output_item.done {"item":{"id":"rs_1_1","type":"reasoning","status":"completed","summary":[{"type":"summary_text","text":"I look."},{"type":"summary_text","text":"Twice."}],"encrypted_content":"es1.5.a:orggAAA"},"output_index":1}
        17 output_item.added {"item":{"id":"fc_1_2","type":"function_call","status":"in_progress","arguments":"","call_id":"call_1_1","name":"look"},"output_index":2}
        18 function_call_arguments.delta {"delta":"{\"n\":1}","output_index":2,"item_id":"fc_1_2"}
        19 function_call_arguments.done {"arguments":"{\"n\":1}","output_index":2,"item_id":"fc_1_2"}
        20 output_item.done {"item":{"id":"fc_1_2","type":"function_call","status":"completed","arguments":"{\"n\":1}","call_id":"call_1_1","name":"look"},"output_index":2}
        21 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]}
        output: {"id":"rs_1_1","type":"reasoning","status":"completed","summary":[{"type":"summary_text","text":"I look."},{"type":"summary_text","text":"Twice."}],"encrypted_content":"es1.5.a:orggAAA"}
        output: {"id":"fc_1_2","type":"function_call","status":"completed","arguments":"{\"n\":1}","call_id":"call_1_1","name":"look"}
    "#]],
    );
}

#[test]
fn thoughts_and_a_refusal() {
    let mut play = Play::new();
    play.ask(PLAIN)
        .placed()
        .show(&[
            open(0, Opening::Reasoning),
            Delta::Thought { item: 0, text: "Hm".to_owned() },
            Delta::Thought { item: 0, text: "m.".to_owned() },
            close(0),
            open(1, Opening::Message),
            Delta::Refusal { item: 1, text: "No.".to_owned() },
            close(1),
        ])
        .replied();
    check(
        "refusal",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"rs_1_1","type":"reasoning","status":"in_progress","summary":[]},"output_index":0}
        3 content_part.added {"part":{"type":"reasoning_text","text":""},"content_index":0,"item_id":"rs_1_1","output_index":0}
        4 reasoning_text.delta {"delta":"Hm","content_index":0,"item_id":"rs_1_1","output_index":0}
        5 reasoning_text.delta {"delta":"m.","content_index":0,"item_id":"rs_1_1","output_index":0}
        6 reasoning_text.done {"text":"Hmm.","content_index":0,"item_id":"rs_1_1","output_index":0}
        7 content_part.done {"part":{"type":"reasoning_text","text":"Hmm."},"content_index":0,"item_id":"rs_1_1","output_index":0}
        8 output_item.done {"item":{"id":"rs_1_1","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Hmm."}]},"output_index":0}
        9 output_item.added {"item":{"id":"msg_1_2","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":1}
        10 content_part.added {"part":{"type":"refusal","refusal":""},"content_index":0,"item_id":"msg_1_2","output_index":1}
        11 refusal.delta {"delta":"No.","content_index":0,"item_id":"msg_1_2","output_index":1}
        12 refusal.done {"refusal":"No.","content_index":0,"item_id":"msg_1_2","output_index":1}
        13 content_part.done {"part":{"type":"refusal","refusal":"No."},"content_index":0,"item_id":"msg_1_2","output_index":1}
        14 output_item.done {"item":{"id":"msg_1_2","type":"message","status":"completed","role":"assistant","content":[{"type":"refusal","refusal":"No."}]},"output_index":1}
        15 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"rs_1_1","type":"reasoning","status":"completed","summary":[],"content":[{"type":"reasoning_text","text":"Hmm."}]}
        output: {"id":"msg_1_2","type":"message","status":"completed","role":"assistant","content":[{"type":"refusal","refusal":"No."}]}
    "#]],
    );
}

#[test]
fn a_call_that_we_run_then_the_answer() {
    let mut play = Play::new();
    play.ask(TOOLS)
        .placed()
        .show(&call(0, "balance", "{}"))
        .replied()
        .returned(1, Outcome::Ok, "42")
        .placed()
        .show(&message(0, "It is 42."))
        .replied();
    check(
        "server_call",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[]},"output_index":0}
        3 mcp_list_tools.in_progress {"output_index":0,"item_id":"mcpl_1_0"}
        4 mcp_list_tools.completed {"output_index":0,"item_id":"mcpl_1_0"}
        5 output_item.done {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]},"output_index":0}
        6 output_item.added {"item":{"id":"mcp_1_1","type":"mcp_call","status":"in_progress","approval_request_id":null,"arguments":"","error":null,"name":"balance","output":null,"server_label":"everstate"},"output_index":1}
        7 mcp_call.in_progress {"output_index":1,"item_id":"mcp_1_1"}
        8 mcp_call_arguments.delta {"delta":"{}","output_index":1,"item_id":"mcp_1_1"}
        9 mcp_call_arguments.done {"arguments":"{}","output_index":1,"item_id":"mcp_1_1"}
        10 mcp_call.completed {"output_index":1,"item_id":"mcp_1_1"}
        11 output_item.done {"item":{"id":"mcp_1_1","type":"mcp_call","status":"completed","approval_request_id":null,"arguments":"{}","error":null,"name":"balance","output":"42","server_label":"everstate"},"output_index":1}
        12 output_item.added {"item":{"id":"msg_1_3","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":2}
        13 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_3","output_index":2}
        14 output_text.delta {"logprobs":[],"delta":"It i","item_id":"msg_1_3","output_index":2,"content_index":0}
        15 output_text.delta {"logprobs":[],"delta":"s 42.","item_id":"msg_1_3","output_index":2,"content_index":0}
        16 output_text.done {"logprobs":[],"text":"It is 42.","item_id":"msg_1_3","output_index":2,"content_index":0}
        17 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"It is 42."},"content_index":0,"item_id":"msg_1_3","output_index":2}
        18 output_item.done {"item":{"id":"msg_1_3","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"It is 42."}]},"output_index":2}
        19 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":20,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":8},"output_tokens":10,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":30}
        output: {"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]}
        output: {"id":"mcp_1_1","type":"mcp_call","status":"completed","approval_request_id":null,"arguments":"{}","error":null,"name":"balance","output":"42","server_label":"everstate"}
        output: {"id":"msg_1_3","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"It is 42."}]}
    "#]],
    );
}

#[test]
fn an_approval_and_the_turn_after_it() {
    let mut play = Play::new();
    play.ask(TOOLS).placed().show(&call(0, "pay", "{\"n\":42}")).replied();
    check(
        "approval",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[]},"output_index":0}
        3 mcp_list_tools.in_progress {"output_index":0,"item_id":"mcpl_1_0"}
        4 mcp_list_tools.completed {"output_index":0,"item_id":"mcpl_1_0"}
        5 output_item.done {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]},"output_index":0}
        6 output_item.added {"item":{"id":"mcpr_1_1","type":"mcp_approval_request","arguments":"{\"n\":42}","name":"pay","server_label":"everstate"},"output_index":1}
        7 output_item.done {"item":{"id":"mcpr_1_1","type":"mcp_approval_request","arguments":"{\"n\":42}","name":"pay","server_label":"everstate"},"output_index":1}
        8 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]}
        output: {"id":"mcpr_1_1","type":"mcp_approval_request","arguments":"{\"n\":42}","name":"pay","server_label":"everstate"}
    "#]],
    );

    let answer = TOOLS.replace(
        "\"Hi\"",
        r#"[{"type":"mcp_approval_response","approval_request_id":"mcpr_1_1","approve":true}]"#,
    );
    play.ask(&answer)
        .returned(1, Outcome::Failed, "no such account")
        .placed()
        .show(&message(0, "It failed."))
        .replied();
    check(
        "approved",
        &play,
        2,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"mcpl_2_0","type":"mcp_list_tools","server_label":"everstate","tools":[]},"output_index":0}
        3 mcp_list_tools.in_progress {"output_index":0,"item_id":"mcpl_2_0"}
        4 mcp_list_tools.completed {"output_index":0,"item_id":"mcpl_2_0"}
        5 output_item.done {"item":{"id":"mcpl_2_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]},"output_index":0}
        6 output_item.added {"item":{"id":"mcp_1_1","type":"mcp_call","status":"in_progress","approval_request_id":"mcpr_1_1","arguments":"","error":null,"name":"pay","output":null,"server_label":"everstate"},"output_index":1}
        7 mcp_call.in_progress {"output_index":1,"item_id":"mcp_1_1"}
        8 mcp_call_arguments.delta {"delta":"{\"n\":42}","output_index":1,"item_id":"mcp_1_1"}
        9 mcp_call_arguments.done {"arguments":"{\"n\":42}","output_index":1,"item_id":"mcp_1_1"}
        10 mcp_call.failed {"output_index":1,"item_id":"mcp_1_1"}
        11 output_item.done {"item":{"id":"mcp_1_1","type":"mcp_call","status":"failed","approval_request_id":"mcpr_1_1","arguments":"{\"n\":42}","error":{"type":"mcp_tool_execution_error","content":[{"type":"text","text":"no such account"}]},"name":"pay","output":null,"server_label":"everstate"},"output_index":1}
        12 output_item.added {"item":{"id":"msg_2_1","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":2}
        13 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_2_1","output_index":2}
        14 output_text.delta {"logprobs":[],"delta":"It fa","item_id":"msg_2_1","output_index":2,"content_index":0}
        15 output_text.delta {"logprobs":[],"delta":"iled.","item_id":"msg_2_1","output_index":2,"content_index":0}
        16 output_text.done {"logprobs":[],"text":"It failed.","item_id":"msg_2_1","output_index":2,"content_index":0}
        17 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"It failed."},"content_index":0,"item_id":"msg_2_1","output_index":2}
        18 output_item.done {"item":{"id":"msg_2_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"It failed."}]},"output_index":2}
        19 completed {"status":"completed"}
        id: "resp_2"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"mcpl_2_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]}
        output: {"id":"mcp_1_1","type":"mcp_call","status":"failed","approval_request_id":"mcpr_1_1","arguments":"{\"n\":42}","error":{"type":"mcp_tool_execution_error","content":[{"type":"text","text":"no such account"}]},"name":"pay","output":null,"server_label":"everstate"}
        output: {"id":"msg_2_1","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"It failed."}]}
    "#]],
    );
}

#[test]
fn an_answer_that_was_lost_stays_incomplete_before_the_new_one() {
    let mut play = Play::new();
    let lost = &message(0, "One two three.")[..2];
    play.ask(BACKGROUND)
        .placed()
        .show(lost)
        .feed(Input::Adopted { epoch: 2 })
        .placed()
        .show(&message(0, "One, two, three."))
        .replied();
    check(
        "lost",
        &play,
        1,
        expect![[r#"
        0 created {"status":"queued"}
        1 queued {"status":"queued"}
        2 in_progress {"status":"in_progress"}
        3 output_item.added {"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":0}
        4 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_1","output_index":0}
        5 output_text.delta {"logprobs":[],"delta":"One two","item_id":"msg_1_1","output_index":0,"content_index":0}
        6 output_text.done {"logprobs":[],"text":"One two","item_id":"msg_1_1","output_index":0,"content_index":0}
        7 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"One two"},"content_index":0,"item_id":"msg_1_1","output_index":0}
        8 output_item.done {"item":{"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One two"}]},"output_index":0}
        9 output_item.added {"item":{"id":"msg_1_2","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":1}
        10 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_2","output_index":1}
        11 output_text.delta {"logprobs":[],"delta":"One, two","item_id":"msg_1_2","output_index":1,"content_index":0}
        12 output_text.delta {"logprobs":[],"delta":", three.","item_id":"msg_1_2","output_index":1,"content_index":0}
        13 output_text.done {"logprobs":[],"text":"One, two, three.","item_id":"msg_1_2","output_index":1,"content_index":0}
        14 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"One, two, three."},"content_index":0,"item_id":"msg_1_2","output_index":1}
        15 output_item.done {"item":{"id":"msg_1_2","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One, two, three."}]},"output_index":1}
        16 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One two"}]}
        output: {"id":"msg_1_2","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One, two, three."}]}
    "#]],
    );
}

#[test]
fn a_failure_is_told_once() {
    let mut play = Play::new();
    play.ask(PLAIN).placed().show(&message(0, "On")[..2]).failed(FailureClass::Invalid);
    check(
        "failed",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":0}
        3 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_1","output_index":0}
        4 output_text.delta {"logprobs":[],"delta":"O","item_id":"msg_1_1","output_index":0,"content_index":0}
        5 output_text.done {"logprobs":[],"text":"O","item_id":"msg_1_1","output_index":0,"content_index":0}
        6 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"O"},"content_index":0,"item_id":"msg_1_1","output_index":0}
        7 output_item.done {"item":{"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"O"}]},"output_index":0}
        8 failed {"status":"failed"}
        id: "resp_1"
        status: "failed"
        error: {"code":"invalid_prompt","message":"the provider's stream ended without an end","why":"upstream_invalid_request"}
        incomplete_details: null
        usage: null
        output: {"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"O"}]}
    "#]],
    );
}

#[test]
fn news_of_an_earlier_call_moves_no_name() {
    let mut play = Play::new();
    play.ask(TOOLS).placed().show(&call(0, "balance", "{}")).replied();
    play.feed(Input::Cancel { turn: 1 }).ask(PLAIN).placed();
    let call = everstate_kernel::ids::CallId { turn: 1, n: 1 };
    let output = vec![everstate_kernel::item::Part::text("100")];
    play.feed(Input::Returned { call, outcome: Outcome::Ok, output });
    play.show(&message(0, "Hello.")).replied().placed().show(&message(0, "It is 100.")).replied();
    let (_, response) = promises(&play.rows, 2);
    let names: Vec<&Value> =
        response["output"].as_array().expect("a list").iter().map(|it| &it["id"]).collect();
    assert_eq!(names, ["msg_2_1", "msg_2_2"]);
}

#[test]
fn a_cancelled_answer_is_incomplete_and_says_cancelled() {
    let mut play = Play::new();
    play.ask(BACKGROUND).placed().show(&message(0, "One two")[..2]).feed(Input::Cancel { turn: 1 });
    check(
        "cancelled",
        &play,
        1,
        expect![[r#"
        0 created {"status":"queued"}
        1 queued {"status":"queued"}
        2 in_progress {"status":"in_progress"}
        3 output_item.added {"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":0}
        4 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_1","output_index":0}
        5 output_text.delta {"logprobs":[],"delta":"One","item_id":"msg_1_1","output_index":0,"content_index":0}
        6 output_text.done {"logprobs":[],"text":"One","item_id":"msg_1_1","output_index":0,"content_index":0}
        7 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"One"},"content_index":0,"item_id":"msg_1_1","output_index":0}
        8 output_item.done {"item":{"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One"}]},"output_index":0}
        9 incomplete {"status":"cancelled"}
        id: "resp_1"
        status: "cancelled"
        error: null
        incomplete_details: null
        usage: null
        output: {"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One"}]}
    "#]],
    );
}

#[test]
fn an_answer_cut_short() {
    let mut play = Play::new();
    let mut deltas = message(0, "One two");
    deltas.pop();
    deltas.push(Delta::Close { item: 0, status: Status::Incomplete });
    play.ask(PLAIN).placed().show(&deltas).replied_as(Finish::Length);
    check(
        "incomplete",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"msg_1_1","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":0}
        3 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_1","output_index":0}
        4 output_text.delta {"logprobs":[],"delta":"One","item_id":"msg_1_1","output_index":0,"content_index":0}
        5 output_text.delta {"logprobs":[],"delta":" two","item_id":"msg_1_1","output_index":0,"content_index":0}
        6 output_text.done {"logprobs":[],"text":"One two","item_id":"msg_1_1","output_index":0,"content_index":0}
        7 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"One two"},"content_index":0,"item_id":"msg_1_1","output_index":0}
        8 output_item.done {"item":{"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One two"}]},"output_index":0}
        9 incomplete {"status":"incomplete"}
        id: "resp_1"
        status: "incomplete"
        error: null
        incomplete_details: {"reason":"max_output_tokens"}
        usage: {"input_tokens":10,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}
        output: {"id":"msg_1_1","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"One two"}]}
    "#]],
    );
}

#[test]
fn a_tool_that_does_not_exist_is_answered_in_the_open() {
    let mut play = Play::new();
    play.ask(TOOLS)
        .placed()
        .show(&call(0, "fly", "{}"))
        .replied()
        .placed()
        .show(&message(0, "Sorry."))
        .replied();
    check(
        "no_such_tool",
        &play,
        1,
        expect![[r#"
        0 created {"status":"in_progress"}
        1 in_progress {"status":"in_progress"}
        2 output_item.added {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[]},"output_index":0}
        3 mcp_list_tools.in_progress {"output_index":0,"item_id":"mcpl_1_0"}
        4 mcp_list_tools.completed {"output_index":0,"item_id":"mcpl_1_0"}
        5 output_item.done {"item":{"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]},"output_index":0}
        6 output_item.added {"item":{"id":"fc_1_1","type":"function_call","status":"in_progress","arguments":"","call_id":"call_1_1","name":"fly"},"output_index":1}
        7 function_call_arguments.delta {"delta":"{}","output_index":1,"item_id":"fc_1_1"}
        8 function_call_arguments.done {"arguments":"{}","output_index":1,"item_id":"fc_1_1"}
        9 output_item.done {"item":{"id":"fc_1_1","type":"function_call","status":"completed","arguments":"{}","call_id":"call_1_1","name":"fly"},"output_index":1}
        10 output_item.added {"item":{"id":"fco_1_2","type":"function_call_output","status":"in_progress","call_id":"call_1_1","output":"There is no tool named `fly`. Use one of the tools you were given."},"output_index":2}
        11 output_item.done {"item":{"id":"fco_1_2","type":"function_call_output","status":"completed","call_id":"call_1_1","output":"There is no tool named `fly`. Use one of the tools you were given."},"output_index":2}
        12 output_item.added {"item":{"id":"msg_1_3","type":"message","status":"in_progress","role":"assistant","content":[]},"output_index":3}
        13 content_part.added {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":""},"content_index":0,"item_id":"msg_1_3","output_index":3}
        14 output_text.delta {"logprobs":[],"delta":"Sor","item_id":"msg_1_3","output_index":3,"content_index":0}
        15 output_text.delta {"logprobs":[],"delta":"ry.","item_id":"msg_1_3","output_index":3,"content_index":0}
        16 output_text.done {"logprobs":[],"text":"Sorry.","item_id":"msg_1_3","output_index":3,"content_index":0}
        17 content_part.done {"part":{"type":"output_text","annotations":[],"logprobs":[],"text":"Sorry."},"content_index":0,"item_id":"msg_1_3","output_index":3}
        18 output_item.done {"item":{"id":"msg_1_3","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Sorry."}]},"output_index":3}
        19 completed {"status":"completed"}
        id: "resp_1"
        status: "completed"
        error: null
        incomplete_details: null
        usage: {"input_tokens":20,"input_tokens_details":{"cache_write_tokens":0,"cached_tokens":8},"output_tokens":10,"output_tokens_details":{"reasoning_tokens":4},"total_tokens":30}
        output: {"id":"mcpl_1_0","type":"mcp_list_tools","server_label":"everstate","tools":[{"annotations":{"read_only":false},"description":"Does pay.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"pay"},{"annotations":{"read_only":false},"description":"Does balance.","input_schema":{"type":"object","properties":{"n":{"type":"integer"}}},"name":"balance"}]}
        output: {"id":"fc_1_1","type":"function_call","status":"completed","arguments":"{}","call_id":"call_1_1","name":"fly"}
        output: {"id":"fco_1_2","type":"function_call_output","status":"completed","call_id":"call_1_1","output":"There is no tool named `fly`. Use one of the tools you were given."}
        output: {"id":"msg_1_3","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Sorry."}]}
    "#]],
    );
}

#[test]
fn erased_items_leave_the_object() {
    let mut play = Play::new();
    play.ask(PLAIN).placed().show(&message(0, "Secret.")).replied();
    let id = play.session.transcript.entries.last().expect("an answer").item.id;
    play.feed(Input::Erase { items: vec![id] });
    let (_, response) = tell(&play.rows, 1, true);
    assert_eq!(response["output"], serde_json::json!([]));
}

#[test]
fn another_turns_rows_say_nothing() {
    let mut play = Play::new();
    play.ask(PLAIN).placed().show(&message(0, "Hello.")).replied();
    let (events, response) = tell(&play.rows, 2, true);
    assert_eq!(events, []);
    assert_eq!(response["status"], "queued");
}

/// Any fragments, sound or not.
fn deltas() -> impl Strategy<Value = Vec<Delta>> {
    let texts = prop_oneof![Just(String::new()), Just("ä\n\"".to_owned()), "[a-z ]{1,4}"];
    let items = prop_oneof![
        Just(Opening::Message),
        Just(Opening::Reasoning),
        Just(Opening::Call { name: "look".to_owned() }),
        Just(Opening::Call { name: "balance".to_owned() }),
    ];
    let item = (items, prop::collection::vec((0u8..6, texts), 0..6), any::<bool>());
    prop::collection::vec(item, 0..5).prop_map(|all| {
        let mut out = Vec::new();
        for (item, (opening, words, closed)) in (0..).zip(all) {
            out.push(open(item, opening.clone()));
            let mut in_summary = true;
            for (word, text) in words {
                out.push(match (&opening, word) {
                    (Opening::Message, 0) => Delta::TextPart { item },
                    (Opening::Message, 1) => Delta::Refusal { item, text },
                    (Opening::Message, _) => Delta::Text { item, text },
                    (Opening::Reasoning, 0) if in_summary => Delta::SummaryPart { item },
                    (Opening::Reasoning, 1 | 2) if in_summary => Delta::Summary { item, text },
                    (Opening::Reasoning, _) => {
                        in_summary = false;
                        Delta::Thought { item, text }
                    }
                    (Opening::Call { .. } | Opening::Opaque { .. }, _) => {
                        Delta::Arguments { item, text }
                    }
                });
            }
            if closed {
                out.push(close(item));
            }
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a model says, in whatever frames, whether it is lost on the way or not: the stream keeps its promises.
    #[test]
    fn streams_keep_their_promises(
        first in deltas(),
        second in deltas(),
        sizes in prop::collection::vec(1usize..5, 1..8),
        lost in any::<bool>(),
    ) {
        let mut play = Play::new();
        play.ask(&TOOLS.replace("\"Hi\"", "\"Hi\",\"background\":true")).placed();
        let show = |play: &mut Play, deltas: &[Delta]| {
            let mut rest = deltas;
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*size).min(rest.len()));
                play.show(now);
                rest = later;
            }
        };
        if lost {
            show(&mut play, &first);
            play.feed(Input::Adopted { epoch: 2 }).feed(Input::Tick).placed();
        }
        show(&mut play, &second);
        play.replied();
        promises(&play.rows, 1);
        // And at every moment on the way.
        for n in 0..play.rows.len() {
            let (events, response) = tell(&play.rows[..n], 1, true);
            let sequence: Vec<u64> = (0..events.len() as u64).collect();
            let told: Vec<u64> = events
                .iter()
                .map(|it| serde_json::from_str::<Value>(&it.data).expect("JSON")["sequence_number"].as_u64().expect("a number"))
                .collect();
            prop_assert_eq!(told, sequence);
            prop_assert!(response["id"].is_string());
        }
    }
}

/// Rows survive the log's own form: what is told after reading them back is the same.
#[test]
fn rows_read_back_say_the_same() {
    let mut play = Play::new();
    play.ask(TOOLS).placed().show(&call(0, "balance", "{}")).replied().returned(
        1,
        Outcome::Ok,
        "42",
    );
    let read_back: Vec<Row> = play
        .rows
        .iter()
        .map(|row| match row {
            Row::Append(append) => {
                Row::Append(Append::decode(append.seq, &append.encode()).expect("our own row"))
            }
            Row::Frame(frame) => {
                let text = serde_json::to_string(frame).expect("JSON");
                Row::Frame(serde_json::from_str(&text).expect("our own frame"))
            }
        })
        .collect();
    assert_eq!(tell(&play.rows, 1, true), tell(&read_back, 1, true));
}
