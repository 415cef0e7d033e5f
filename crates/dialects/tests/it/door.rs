//! Requests at the door: what is understood, and what is complained about.

use everstate_dialects::responses::listing::list;
use everstate_dialects::responses::request::{
    Choice, CreateRequest, InputItem, Pick, ToolSpec, read_create,
};
use everstate_kernel::item::{Body, Outcome, Part, Role};
use everstate_kernel::tool::Runs;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decode::hear;
use crate::encode::item;
use crate::names::Plain;

fn read(request: Value) -> CreateRequest {
    read_create(request.to_string().as_bytes()).expect("a sound request")
}

fn input(items: Value) -> Vec<InputItem> {
    read(json!({"model": "m", "input": items})).input
}

/// What is complained about.
fn check(body: impl AsRef<[u8]>, expect: Expect) {
    let complaint = read_create(body.as_ref()).expect_err("it is not sound");
    let param = complaint.param.as_deref().unwrap_or("-");
    let code = complaint.code.unwrap_or("-");
    expect.assert_eq(&format!("{param} {code}: {}", complaint.message));
}

#[test]
fn mistakes_are_named_where_they_are() {
    check(
        b"{\"model\":\"m\",",
        expect!["- -: The body is not valid JSON: EOF while parsing a value at line 1 column 13."],
    );
    check(b"\xff{}", expect!["- -: The body is not UTF-8: byte 0 belongs to no letter."]);
    check(
        "[1]",
        expect![
            "body invalid_type: Invalid type for 'body': expected an object, but got an array instead."
        ],
    );
    check(
        r#"{"input":"hi"}"#,
        expect![
            "model missing_required_parameter: Missing required parameter: 'model'. Name one of GET /v1/models."
        ],
    );
    check(
        r#"{"model":1}"#,
        expect![
            "model invalid_type: Invalid type for 'model': expected a string, but got a number instead."
        ],
    );
    check(
        r#"{"model":"m","input":7}"#,
        expect![
            "input invalid_type: Invalid type for 'input': expected a string or an array, but got a number instead."
        ],
    );
    check(
        r#"{"model":"m","input":["hi"]}"#,
        expect![
            "input[0] invalid_type: Invalid type for 'input[0]': expected an object, but got a string instead."
        ],
    );
    check(
        r#"{"model":"m","input":[{"content":"hi"}]}"#,
        expect![
            "input[0].type missing_required_parameter: Missing required parameter: 'input[0].type'."
        ],
    );
    check(
        r#"{"model":"m","input":[{"role":"wizard","content":"hi"}]}"#,
        expect![
            "input[0].role invalid_value: Invalid value: 'wizard'. Supported values are: 'user', 'assistant', 'system', 'developer'."
        ],
    );
    check(
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#,
        expect![
            "input[0].content[0].type invalid_value: Invalid value: 'text'. Supported values are: 'input_text', 'input_image', 'input_file', 'input_audio', 'output_text', 'refusal'."
        ],
    );
    check(
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_image","image_url":"file:///etc/passwd"}]}]}"#,
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': expected an https: URL or a data: URL of an image, but got 'file:///etc/passwd'."
        ],
    );
    check(
        r#"{"model":"m","input":[{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}]}"#,
        expect![
            "input[0] invalid_value: No tool output found for function call 'a': send its function_call_output too."
        ],
    );
    check(
        r#"{"model":"m","input":[{"type":"function_call_output","call_id":"a","output":"1"},{"type":"function_call_output","call_id":"a","output":"2"}]}"#,
        expect![
            "input[1].call_id invalid_value: Duplicate tool output for call 'a': a call is answered once."
        ],
    );
    check(
        r#"{"model":"m","temperature":-1}"#,
        expect![
            "temperature decimal_below_min_value: Invalid 'temperature': decimal below minimum value. Expected a value >= 0, but got -1 instead."
        ],
    );
    check(
        r#"{"model":"m","temperature":"hot"}"#,
        expect![
            "temperature invalid_type: Invalid type for 'temperature': expected a number, but got a string instead."
        ],
    );
    check(
        r#"{"model":"m","max_output_tokens":8}"#,
        expect![
            "max_output_tokens integer_below_min_value: Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 8 instead."
        ],
    );
    check(
        r#"{"model":"m","max_output_tokens":16.5}"#,
        expect![
            "max_output_tokens invalid_type: Invalid type for 'max_output_tokens': expected an integer, but got a number instead."
        ],
    );
    check(
        r#"{"model":"m","stream":"yes"}"#,
        expect![
            "stream invalid_type: Invalid type for 'stream': expected a boolean, but got a string instead."
        ],
    );
    check(
        r#"{"model":"m","previous_response_id":"r","conversation":"c"}"#,
        expect![
            "previous_response_id mutually_exclusive_parameters: 'previous_response_id' and 'conversation' exclude each other: send one of them."
        ],
    );
    check(
        r#"{"model":"m","metadata":{"a":1}}"#,
        expect![
            "metadata.a invalid_type: Invalid type for 'metadata.a': expected a string, but got a number instead."
        ],
    );
    check(
        r#"{"model":"m","tools":[{"type":"function"}]}"#,
        expect![
            "tools[0].name missing_required_parameter: Missing required parameter: 'tools[0].name'."
        ],
    );
    check(
        r#"{"model":"m","tools":[{"type":"function","name":"a b"}]}"#,
        expect![
            "tools[0].name invalid_value: Invalid 'tools[0].name': expected at most 128 letters, digits, '_', '-' or '.', but got 'a b'."
        ],
    );
    check(
        r#"{"model":"m","tools":[{"type":"mcp","server_label":"x","require_approval":"maybe"}]}"#,
        expect![
            "tools[0].require_approval invalid_value: Invalid value: 'maybe'. Supported values are: 'always', 'never'."
        ],
    );
    check(
        r#"{"model":"m","tool_choice":"maybe"}"#,
        expect![
            "tool_choice invalid_value: Invalid value: 'maybe'. Supported values are: 'none', 'auto', 'required'."
        ],
    );
    check(
        r#"{"model":"m","text":{"format":{"type":"json_schema","name":"n"}}}"#,
        expect![
            "text.format.schema missing_required_parameter: Missing required parameter: 'text.format.schema'."
        ],
    );
    check(
        r#"{"model":"\ud800"}"#,
        expect![
            "- -: The body is not valid JSON: unexpected end of hex escape at line 1 column 17."
        ],
    );
    for place in
        [r#""metadata":{"k":@}"#, r#""user":@"#, r#""input":[{"type":"new","x":[{"y":@}]}]"#]
    {
        for value in [r#""\udc00""#, r#"{"\ud83d":1}"#, "1e999"] {
            let body = format!("{{\"model\":\"m\",{}}}", place.replace('@', value));
            let complaint = read_create(body.as_bytes()).expect_err("no reader can take it");
            assert!(complaint.message.starts_with("The body is not valid JSON: "), "{complaint:?}");
        }
    }
    check(
        r#"{"model":"m","max_output_tokens":18446744073709551616}"#,
        expect![
            "max_output_tokens integer_above_max_value: Invalid 'max_output_tokens': integer above maximum value. Expected a value <= 18446744073709551615, but got 18446744073709551616 instead."
        ],
    );
}

#[test]
fn too_much_of_a_thing_is_refused() {
    let deep = format!("{{\"model\":\"m\",\"x\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
    check(deep, expect!["- -: The body is nested deeper than 96 levels: flatten it."]);
    let keys: serde_json::Map<String, Value> =
        (0..17).map(|i| (format!("k{i}"), json!("v"))).collect();
    check(
        json!({"model": "m", "metadata": keys}).to_string(),
        expect!["metadata invalid_value: Invalid 'metadata': at most 16 keys, but there are 17."],
    );
    check(
        json!({"model": "m", "metadata": {"k": "v".repeat(513)}}).to_string(),
        expect!["metadata.k invalid_value: Invalid 'metadata.k': a value has at most 512 letters."],
    );
}

#[test]
fn input_is_a_text_or_items_short_and_long() {
    let said = |role, text: &str| Body::Message { role, parts: vec![Part::text(text)] };
    let bodies: Vec<Body> = input(json!([
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}], "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "phase": "final_answer",
         "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]},
    ]))
    .into_iter()
    .map(|it| match it {
        InputItem::New(new) => new.body,
        other => panic!("not said: {other:?}"),
    })
    .collect();
    assert_eq!(
        bodies,
        [
            said(Role::Developer, "Be brief."),
            said(Role::User, "Hi"),
            said(Role::Assistant, "Hello")
        ]
    );
    let InputItem::New(new) = &input(json!("Hi"))[0] else { panic!("said") };
    assert_eq!(new.body, said(Role::User, "Hi"));
}

#[test]
fn history_answers_approvals_and_references() {
    let items = input(json!([
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "look", "arguments": "{}", "status": "completed"},
        {"type": "function_call_output", "call_id": "a", "output": [{"type": "input_image", "image_url": "https://x/y.png"}]},
        {"type": "function_call_output", "call_id": "b", "output": "42"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "es1.5.a:orggAAA"},
        {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "Hm"}], "encrypted_content": "gAAA"},
        {"type": "mcp_call", "id": "mcp_1", "name": "pay", "arguments": "{}", "output": "paid", "server_label": "everstate"},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "everstate", "tools": []},
        {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": false, "reason": "too much"},
        {"id": "msg_7"},
        {"type": "item_reference", "id": "msg_8"},
    ]));
    let mut told = String::new();
    for it in &items {
        let line = match it {
            InputItem::New(new) => format!("{:?} {:?}", new.provider_id, new.body),
            other => format!("{other:?}"),
        };
        told.push_str(&line);
        told.push('\n');
    }
    expect![[r#"
        Some("a") Call { call: CallId { turn: 0, n: 1 }, name: "look", arguments: "{}" }
        None Result { call: CallId { turn: 0, n: 1 }, outcome: Ok, output: [Image { url: "https://x/y.png", detail: None }] }
        Answer { call_id: "b", output: [Text { text: "42", annotations: [] }] }
        Some("rs_1") Reasoning(Reasoning { summary: [], content: [], sealed: Some(Sealed { domain: "a:org", content: "gAAA" }) })
        Some("rs_2") Reasoning(Reasoning { summary: ["Hm"], content: [], sealed: Some(Sealed { domain: "unknown", content: "gAAA" }) })
        Some("mcp_1") Call { call: CallId { turn: 0, n: 2 }, name: "pay", arguments: "{}" }
        Some("mcp_1") Result { call: CallId { turn: 0, n: 2 }, outcome: Ok, output: [Text { text: "paid", annotations: [] }] }
        Some("mcpl_1") Opaque { dialect: "responses", json: {"type":"mcp_list_tools","id":"mcpl_1","server_label":"everstate","tools":[]} }
        Approval { request_id: "mcpr_1", approve: false, reason: Some("too much") }
        Reference("msg_7")
        Reference("msg_8")
    "#]].assert_eq(&told);
}

#[test]
fn tools_are_the_clients_the_servers_or_a_providers() {
    let request = read(
        json!({"model": "m", "input": "", "tool_choice": {"type": "mcp", "server_label": "everstate"}, "tools": [
            {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": true, "defer_loading": true},
            {"type": "mcp", "server_label": "everstate", "allowed_tools": {"tool_names": ["pay"], "read_only": false},
             "require_approval": {"always": {"tool_names": ["pay"]}}, "authorization": "sk-secret-123456", "headers": {"X": "y"}},
            {"type": "web_search"},
        ]}),
    );
    let [ToolSpec::Tool(look), ToolSpec::Mcp(mcp), ToolSpec::Tool(search)] = &request.tools[..]
    else {
        panic!("three tools: {:?}", request.tools)
    };
    assert_eq!(look.runs, Runs::Client);
    assert_eq!(
        look.extra.as_ref().expect("a field we do not know").text(),
        r#"{"responses":{"defer_loading":true}}"#
    );
    let allowed = mcp.allowed.as_ref().expect("only some");
    assert!(
        allowed.admits("pay", false) && !allowed.admits("pay", true) && !allowed.admits("x", false)
    );
    assert!(mcp.always.as_ref().expect("asked").admits("pay", false) && mcp.never.is_none());
    assert!(matches!(&search.runs, Runs::Provider { dialect, .. } if dialect == "responses"));
    assert_eq!(
        request.tool_choice,
        Choice::Picks { picks: vec![Pick::Server("everstate".to_owned())], required: true }
    );
    // Secrets are not kept.
    assert!(!request.echo.text().contains("secret") && !request.echo.text().contains("headers"));
}

#[test]
fn unknown_fields_are_kept_as_they_were_written() {
    let body = "{ \"model\":\"m\", \"input\":\"x\", \"new_thing\" : { \"a\": 1.50,\n \"b\" : [1e3] }, \"status\":\"evil\", \"temperature\": 1.0 }";
    let request = read_create(body.as_bytes()).expect("sound");
    assert_eq!(request.extra["new_thing"].text(), r#"{"a":1.50,"b":[1e3]}"#);
    assert!(request.echo.text().contains(r#""new_thing":{"a":1.50,"b":[1e3]}"#));
    assert!(!request.echo.text().contains("evil"));
    assert_eq!(request.sampling.temperature.expect("told").text(), "1.0");
}

#[test]
fn listed_items_are_wire_objects() {
    let items = [
        item(1, 0, Body::Message { role: Role::User, parts: vec![Part::text("Hi")] }),
        item(
            1,
            1,
            Body::Call {
                call: crate::encode::call(1, 1),
                name: "look".to_owned(),
                arguments: "{}".to_owned(),
            },
        ),
        item(
            1,
            2,
            Body::Result {
                call: crate::encode::call(1, 1),
                outcome: Outcome::Unknown,
                output: Vec::new(),
            },
        ),
        item(1, 3, Body::Erased),
    ];
    let told: Vec<String> = list(&Plain, &items).iter().map(|it| it.text().to_owned()).collect();
    expect![[r#"
        {"id":"msg_1_0","type":"message","status":"completed","role":"user","content":[{"type":"input_text","text":"Hi"}]}
        {"id":"fc_1_1","type":"function_call","status":"completed","arguments":"{}","call_id":"call_1_1","name":"look"}
        {"id":"fco_1_2","type":"function_call_output","status":"completed","call_id":"call_1_1","output":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}"#]].assert_eq(&told.join("\n"));
}

fn values() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "model",
        "input",
        "type",
        "role",
        "user",
        "message",
        "content",
        "input_text",
        "text",
        "function_call",
        "call_id",
        "output",
        "tools",
        "mcp",
        "server_label",
        "function",
        "name",
        "reasoning",
        "summary",
        "metadata",
        "tool_choice",
        "allowed_tools",
        "choices",
        "delta",
        "tool_calls",
        "index",
        "item",
        "output_index",
        "usage",
        "response.completed",
        "response",
        "response.output_item.done",
        "finish_reason",
        "message",
        "error",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        "\\PC{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((words.clone(), inner), 0..6).prop_map(|it| Value::Object(
                it.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_from_outside_is_too_strange(value in values(), noise in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut request = json!({"model": "m", "input": value, "tools": value, "tool_choice": value, "x": value});
        let _ = read_create(request.to_string().as_bytes());
        for name in ["tools", "tool_choice", "input"] {
            request.as_object_mut().expect("an object").remove(name);
            let _ = read_create(request.to_string().as_bytes());
        }
        let _ = read_create(&noise);
        for dialect in ["responses", "chat"] {
            let event = format!("data: {value}\n\n");
            let _ = hear(dialect, [event.as_bytes()]);
            let _ = hear(dialect, [value.to_string().as_bytes()]);
            let _ = hear(dialect, [noise.as_slice()]);
        }
    }
}
