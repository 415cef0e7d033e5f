//! What clients of the Agents API send: what is understood, and what is complained about.

use everstate_dialects::agents::request::{
    read_agent_create, read_agent_update, read_events, read_session_create, read_session_update,
};
use everstate_dialects::responses::request::Complaint;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

fn told<T: std::fmt::Debug>(read: Result<T, Complaint>) -> String {
    match read {
        Ok(read) => format!("{read:#?}"),
        Err(it) => {
            let param = it.param.as_deref().unwrap_or("-");
            format!("{param} {}: {}", it.code.unwrap_or("-"), it.message)
        }
    }
}

fn agent(body: Value, expect: Expect) {
    expect.assert_eq(&told(read_agent_create(body.to_string().as_bytes())));
}

fn create(more: Value, expect: Expect) {
    let mut body = json!({"environment": {"type": "none"}, "agent": {"model": "m"}, "input": "hi"});
    let fields = body.as_object_mut().expect("an object");
    for (name, value) in more.as_object().expect("an object") {
        match value {
            Value::String(it) if it == "-" => _ = fields.remove(name),
            value => _ = fields.insert(name.clone(), value.clone()),
        }
    }
    expect.assert_eq(&told(read_session_create(body.to_string().as_bytes())));
}

fn update(body: Value, expect: Expect) {
    expect.assert_eq(&told(read_session_update(body.to_string().as_bytes())));
}

fn events(events: Value, expect: Expect) {
    let body = json!({ "events": events });
    expect.assert_eq(&told(read_events(body.to_string().as_bytes())));
}

#[test]
fn an_agent_is_complained_about_where_it_is_wrong() {
    agent(
        json!({}),
        expect!["model missing_required_parameter: Missing required parameter: 'model'."],
    );
    agent(
        json!({"model": null}),
        expect![
            "model invalid_type: Invalid type for 'model': expected a string, but got null instead."
        ],
    );
    agent(
        json!({"model": ""}),
        expect!["model invalid_value: Invalid 'model': a model's name has 1 to 256 letters."],
    );
    agent(
        json!({"model": "m", "modle": 1}),
        expect!["modle unknown_parameter: Unknown parameter: 'modle'."],
    );
    agent(
        json!({"model": "m", "name": "n".repeat(257)}),
        expect!["name invalid_value: Invalid 'name': a name has at most 256 letters."],
    );
    agent(
        json!({"model": "m", "reasoning": {"effort": "huge"}}),
        expect![
            "reasoning.effort invalid_value: Invalid value: 'huge'. Supported values are: 'none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'."
        ],
    );
    agent(
        json!({"model": "m", "text": {"format": {"type": "json_object"}}}),
        expect![
            "text.format.type invalid_value: Invalid value: 'json_object'. Supported values are: 'text', 'json_schema'."
        ],
    );
    agent(
        json!({"model": "m", "text": {"format": {"type": "json_schema"}}}),
        expect![
            "text.format.schema missing_required_parameter: Missing required parameter: 'text.format.schema'."
        ],
    );
    agent(
        json!({"model": "m", "service_tier": "slow"}),
        expect![
            "service_tier invalid_value: Invalid value: 'slow'. Supported values are: 'auto', 'default', 'flex', 'priority', 'fast', 'ultrafast'."
        ],
    );
    agent(
        json!({"model": "m", "multi_agent": {}}),
        expect![
            "multi_agent.enabled missing_required_parameter: Missing required parameter: 'multi_agent.enabled'."
        ],
    );
    agent(
        json!({"model": "m", "experimental": {"telepathy": true}}),
        expect![
            "experimental.telepathy unknown_parameter: Unknown parameter: 'experimental.telepathy'."
        ],
    );
    let keys: serde_json::Map<String, Value> =
        (0..17).map(|i| (i.to_string(), json!("v"))).collect();
    agent(
        json!({"model": "m", "metadata": keys}),
        expect!["metadata invalid_value: Invalid 'metadata': at most 16 keys, but there are 17."],
    );
    agent(
        json!({"model": "m", "metadata": {"k".repeat(65): "v"}}),
        expect![
            "metadata.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk… invalid_value: Invalid 'metadata.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…': a key has at most 64 letters."
        ],
    );
    agent(
        json!({"model": "m", "metadata": {"k": "v".repeat(513)}}),
        expect!["metadata.k invalid_value: Invalid 'metadata.k': a value has at most 512 letters."],
    );
    agent(
        json!({"model": "m", "metadata": {"k": 1}}),
        expect![
            "metadata.k invalid_type: Invalid type for 'metadata.k': expected a string, but got a number instead."
        ],
    );
}

#[test]
fn tools_are_complained_about_where_they_are_wrong() {
    let tools = |tools: Value, expect| agent(json!({"model": "m", "tools": tools}), expect);
    tools(
        json!([{}]),
        expect![
            "tools[0].type missing_required_parameter: Missing required parameter: 'tools[0].type'."
        ],
    );
    tools(
        json!([{"type": "shell"}]),
        expect![
            "tools[0].type invalid_value: Invalid value: 'shell'. Supported values are: 'function', 'tool_search', 'programmatic_tool_calling', 'mcp', 'web_search', 'computer_use', 'automations'."
        ],
    );
    tools(
        json!([{"type": "function", "name": "f", "description": "d"}]),
        expect![
            "tools[0].parameters missing_required_parameter: Missing required parameter: 'tools[0].parameters'."
        ],
    );
    tools(
        json!([{"type": "function", "name": "f g", "description": "d", "parameters": {}}]),
        expect![
            "tools[0].name invalid_value: Invalid 'tools[0].name': expected at most 128 letters, digits, '_', '-' or '.', but got 'f g'."
        ],
    );
    tools(
        json!([{"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": true}]),
        expect!["tools[0].strict unknown_parameter: Unknown parameter: 'tools[0].strict'."],
    );
    let twice = json!({"type": "function", "name": "f", "description": "d", "parameters": {}});
    tools(
        json!([twice, twice]),
        expect![
            "tools[1] invalid_value: Invalid 'tools[1]': there are two tools 'f' of this type."
        ],
    );
    let large = json!({"type": "function", "name": "f", "description": "d".repeat(3 << 20), "parameters": {}});
    tools(
        json!([large]),
        expect![
            "tools invalid_value: Invalid 'tools': at most 3145728 bytes of compact JSON, but there are 3145829."
        ],
    );
    tools(
        json!([{"type": "mcp", "server_label": "l"}]),
        expect![
            "tools[0].transport missing_required_parameter: Missing required parameter: 'tools[0].transport'."
        ],
    );
    // A saved agent holds no secret.
    tools(
        json!([{"type": "mcp", "server_label": "l",
            "transport": {"type": "http", "server_url": "u", "authorization": "secret"}}]),
        expect![
            "tools[0].transport.authorization unknown_parameter: Unknown parameter: 'tools[0].transport.authorization'."
        ],
    );
    tools(
        json!([{"type": "web_search", "mode": "quick"}]),
        expect![
            "tools[0].mode invalid_value: Invalid value: 'quick'. Supported values are: 'disabled', 'cached', 'live'."
        ],
    );
}

#[test]
fn secrets_of_a_session_are_not_kept() {
    let transport = json!({"type": "http", "server_url": "u", "authorization": "hush", "headers": {"k": "hush"}});
    let stdio = json!({"type": "stdio", "command": "c", "cwd": "/", "env": {"K": "hush"}});
    let tools = json!([
        {"type": "mcp", "server_label": "l", "transport": transport},
        {"type": "mcp", "server_label": "s", "transport": stdio},
    ]);
    let body = json!({"environment": {"type": "none"}, "agent": {"model": "m", "tools": tools}, "input": "hi"});
    let read = told(read_session_create(body.to_string().as_bytes()));
    assert!(read.contains("server_url") && !read.contains("hush"), "{read}");
}

#[test]
fn a_session_is_read() {
    create(
        json!({}),
        expect![[r#"
            CreateSession {
                agent_id: None,
                agent: AgentPatch {
                    model: Some(
                        "m",
                    ),
                    instructions: None,
                    name: None,
                    metadata: None,
                    tools: None,
                    reasoning: None,
                    effort: None,
                    text: None,
                    service_tier: None,
                    multi_agent: None,
                    compaction: None,
                    time_awareness: None,
                },
                input: [
                    NewItem {
                        body: Message {
                            role: User,
                            parts: [
                                Text {
                                    text: "hi",
                                    annotations: [],
                                },
                            ],
                        },
                        provider_id: None,
                        extra: None,
                    },
                ],
                environment: None,
                metadata: {},
                vault_ids: [],
                prompt_cache_options: None,
                review: None,
                spend_limit_cents: None,
                stream: false,
                include_obfuscation: true,
            }"#]],
    );
    create(
        json!({
            "agent_id": "agent_1", "agent": "-", "metadata": {"a": "b"}, "vault_ids": ["v"],
            "prompt_cache_options": {}, "review": "auto_review", "spend_control": {"limit": 5},
            "stream": true, "stream_options": {"include_obfuscation": true},
            "input": [{"role": "user", "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "data:image/png;base64,QUJD"},
                {"type": "input_image", "image_url": "https://e.example/a.png"},
            ]}],
        }),
        expect![[r#"
            CreateSession {
                agent_id: Some(
                    "agent_1",
                ),
                agent: AgentPatch {
                    model: None,
                    instructions: None,
                    name: None,
                    metadata: None,
                    tools: None,
                    reasoning: None,
                    effort: None,
                    text: None,
                    service_tier: None,
                    multi_agent: None,
                    compaction: None,
                    time_awareness: None,
                },
                input: [
                    NewItem {
                        body: Message {
                            role: User,
                            parts: [
                                Text {
                                    text: "look",
                                    annotations: [],
                                },
                                Image {
                                    url: "data:image/png;base64,QUJD",
                                    detail: None,
                                },
                                Image {
                                    url: "https://e.example/a.png",
                                    detail: None,
                                },
                            ],
                        },
                        provider_id: None,
                        extra: None,
                    },
                ],
                environment: None,
                metadata: {
                    "a": "b",
                },
                vault_ids: [
                    "v",
                ],
                prompt_cache_options: Some(
                    PromptCacheOptions {
                        ttl: "30m",
                    },
                ),
                review: AutoReview,
                spend_limit_cents: Some(
                    5,
                ),
                stream: true,
                include_obfuscation: true,
            }"#]],
    );
}

#[test]
fn a_session_is_complained_about_where_it_is_wrong() {
    create(
        json!({"agent": "-"}),
        expect![
            "agent.model missing_required_parameter: Missing required parameter: 'agent.model'."
        ],
    );
    create(
        json!({"agent": {"name": "n"}}),
        expect!["agent.name unknown_parameter: Unknown parameter: 'agent.name'."],
    );
    create(
        json!({"environment": "-"}),
        expect![
            "environment missing_required_parameter: Missing required parameter: 'environment'."
        ],
    );
    create(
        json!({"environment": {"type": "openai_hosted"}}),
        expect![
            "environment.type unsupported: Environments of the type 'openai_hosted' are not available yet: use 'none', and functions of your own."
        ],
    );
    create(
        json!({"environment": {"type": "none", "files": []}}),
        expect!["environment.files unknown_parameter: Unknown parameter: 'environment.files'."],
    );
    create(
        json!({"input": "-"}),
        expect!["input missing_required_parameter: Missing required parameter: 'input'."],
    );
    create(
        json!({"input": []}),
        expect!["input invalid_value: Invalid 'input': there is no message."],
    );
    create(
        json!({"input": [{"role": "assistant", "content": []}]}),
        expect![
            "input[0].role invalid_value: Invalid value: 'assistant'. Supported values are: 'user'."
        ],
    );
    create(
        json!({"input": [{"role": "user", "content": []}]}),
        expect!["input[0].content invalid_value: Invalid 'input[0].content': it is empty."],
    );
    create(
        json!({"stream_options": {}}),
        expect![
            "stream_options invalid_value: Invalid 'stream_options': only allowed when 'stream' is true."
        ],
    );
    create(
        json!({"review": "some"}),
        expect![
            "review invalid_value: Invalid value: 'some'. Supported values are: 'none', 'auto_review'."
        ],
    );
    create(
        json!({"spend_control": {}}),
        expect![
            "spend_control.limit missing_required_parameter: Missing required parameter: 'spend_control.limit'."
        ],
    );
    create(
        json!({"spend_control": {"limit": 0}}),
        expect![
            "spend_control.limit integer_below_min_value: Invalid 'spend_control.limit': integer below minimum value. Expected a value >= 1, but got 0 instead."
        ],
    );
    create(
        json!({"spend_control": {"limit": 1.5}}),
        expect![
            "spend_control.limit invalid_type: Invalid type for 'spend_control.limit': expected an integer, but got a number instead."
        ],
    );
    create(
        json!({"prompt_cache_options": {"ttl": "1h"}}),
        expect![
            "prompt_cache_options.ttl invalid_value: Invalid value: '1h'. Supported values are: '30m', '12h'."
        ],
    );
    create(
        json!({"vault_ids": vec!["v"; 65]}),
        expect![
            "vault_ids invalid_value: Invalid 'vault_ids': at most 64 vaults, but there are 65."
        ],
    );
    let image = |url: &str| json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]});
    create(
        image("http://e.example/a.png"),
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': expected an https: URL, or a data: URL of an image in base 64, but got 'http://e.example/a.png'."
        ],
    );
    create(
        image("file:///etc/passwd"),
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': expected an https: URL, or a data: URL of an image in base 64, but got 'file:///etc/passwd'."
        ],
    );
    create(
        image("data:text/html;base64,QUJD"),
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': 'text/html' is none of image/png, image/jpeg, image/webp, image/gif."
        ],
    );
    create(
        image("data:image/png;base64,QUJ"),
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': its data is not base 64."
        ],
    );
    create(
        image("data:image/png;base64,Q*JD"),
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': its data is not base 64."
        ],
    );
    create(
        image(&format!("https://e.example/{}", "a".repeat(8_192))),
        expect![
            "input[0].content[0].image_url invalid_image_url: Invalid 'input[0].content[0].image_url': an address has at most 8192 bytes."
        ],
    );
}

#[test]
fn an_update_tells_what_was_said_from_what_was_not() {
    update(
        json!({}),
        expect![[r#"
        UpdateSession {
            agent: AgentPatch {
                model: None,
                instructions: None,
                name: None,
                metadata: None,
                tools: None,
                reasoning: None,
                effort: None,
                text: None,
                service_tier: None,
                multi_agent: None,
                compaction: None,
                time_awareness: None,
            },
            metadata: None,
            prompt_cache_options: None,
            review: None,
            spend_limit_cents: None,
        }"#]],
    );
    update(
        json!({"metadata": null, "prompt_cache_options": null, "review": "none", "spend_control": {"limit": null}}),
        expect![[r#"
            UpdateSession {
                agent: AgentPatch {
                    model: None,
                    instructions: None,
                    name: None,
                    metadata: None,
                    tools: None,
                    reasoning: None,
                    effort: None,
                    text: None,
                    service_tier: None,
                    multi_agent: None,
                    compaction: None,
                    time_awareness: None,
                },
                metadata: Some(
                    {},
                ),
                prompt_cache_options: Some(
                    None,
                ),
                review: Some(
                    None,
                ),
                spend_limit_cents: Some(
                    None,
                ),
            }"#]],
    );
    update(
        json!({"spend_control": null}),
        expect![[r#"
        UpdateSession {
            agent: AgentPatch {
                model: None,
                instructions: None,
                name: None,
                metadata: None,
                tools: None,
                reasoning: None,
                effort: None,
                text: None,
                service_tier: None,
                multi_agent: None,
                compaction: None,
                time_awareness: None,
            },
            metadata: None,
            prompt_cache_options: None,
            review: None,
            spend_limit_cents: Some(
                None,
            ),
        }"#]],
    );
    update(
        json!({"agent": {"instructions": "no"}}),
        expect!["agent.instructions unknown_parameter: Unknown parameter: 'agent.instructions'."],
    );
    update(
        json!({"agent": {"reasoning": {"summary": "auto"}}}),
        expect![
            "agent.reasoning.summary unknown_parameter: Unknown parameter: 'agent.reasoning.summary'."
        ],
    );
    update(
        json!({"agent": {"model": null}}),
        expect![
            "agent.model invalid_type: Invalid type for 'agent.model': expected a string, but got null instead."
        ],
    );
}

#[test]
fn events_are_read() {
    let image = json!({"type": "input_image", "image_url": "https://e.example/a.png"});
    let result = |more: Value| {
        let mut event =
            json!({"type": "agent.session.input.tool_result", "turn_id": "t", "call_id": "c"});
        event
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        event
    };
    events(
        json!([
            {"type": "agent.session.input.message", "input": [{"role": "user", "content": "hi"}]},
            {"type": "agent.session.input.cancel"},
            result(json!({"success": true, "output": "ok"})),
            result(json!({"success": true, "output": null, "error": null})),
            result(json!({"success": true, "output": [image]})),
            result(json!({"success": false, "error": "broke"})),
            {"type": "agent.session.input.mcp_approval_request_result", "request_id": "r",
             "response": {"type": "mcp_tool_call", "decision": "deny"}},
            {"type": "agent.session.input.computer_use_approval_request_result", "request_id": "r",
             "response": {"type": "browser_origin_access", "decision": "approve"}},
        ]),
        expect![[r#"
            [
                Message(
                    [
                        NewItem {
                            body: Message {
                                role: User,
                                parts: [
                                    Text {
                                        text: "hi",
                                        annotations: [],
                                    },
                                ],
                            },
                            provider_id: None,
                            extra: None,
                        },
                    ],
                ),
                Cancel,
                ToolResult {
                    turn_id: "t",
                    call_id: "c",
                    outcome: Ok,
                    output: [
                        Text {
                            text: "ok",
                            annotations: [],
                        },
                    ],
                },
                ToolResult {
                    turn_id: "t",
                    call_id: "c",
                    outcome: Ok,
                    output: [],
                },
                ToolResult {
                    turn_id: "t",
                    call_id: "c",
                    outcome: Ok,
                    output: [
                        Image {
                            url: "https://e.example/a.png",
                            detail: None,
                        },
                    ],
                },
                ToolResult {
                    turn_id: "t",
                    call_id: "c",
                    outcome: Failed,
                    output: [
                        Text {
                            text: "broke",
                            annotations: [],
                        },
                    ],
                },
                McpApproval {
                    request_id: "r",
                    decision: Deny,
                },
                ComputerUseApproval {
                    request_id: "r",
                },
            ]"#]],
    );
    events(json!([]), expect!["events invalid_value: Invalid 'events': there is no event."]);
    events(
        json!([{"type": "agent.session.input.shout"}]),
        expect![
            "events[0].type invalid_value: Invalid value: 'agent.session.input.shout'. Supported values are: 'agent.session.input.message', 'agent.session.input.cancel', 'agent.session.input.tool_result', 'agent.session.input.mcp_approval_request_result', 'agent.session.input.computer_use_approval_request_result'."
        ],
    );
    events(
        json!([result(json!({"output": "ok"}))]),
        expect![
            "events[0].success missing_required_parameter: Missing required parameter: 'events[0].success'."
        ],
    );
    events(
        json!([result(json!({"success": true, "error": "broke"}))]),
        expect![
            "events[0].error invalid_value: Invalid 'events[0].error': a call that succeeded has no error."
        ],
    );
    events(
        json!([result(json!({"success": "yes"}))]),
        expect![
            "events[0].success invalid_type: Invalid type for 'events[0].success': expected a boolean, but got a string instead."
        ],
    );
    events(
        json!([{"type": "agent.session.input.message", "input": "hi"}]),
        expect![
            "events[0].input invalid_type: Invalid type for 'events[0].input': expected an array, but got a string instead."
        ],
    );
    events(
        json!(vec![json!({"type": "agent.session.input.cancel"}); 101]),
        expect!["events invalid_value: Invalid 'events': at most 100 events, but there are 101."],
    );
    events(
        json!([{"type": "agent.session.input.mcp_approval_request_result", "request_id": "r",
            "response": {"type": "mcp_tool_call", "decision": "maybe"}}]),
        expect![
            "events[0].response.decision invalid_value: Invalid value: 'maybe'. Supported values are: 'approve', 'deny', 'cancel'."
        ],
    );
}

/// Anything a client could write in place of one field of a sound request.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(|it| json!(it)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("type|name|[a-z_]{1,9}", inner, 0..4)
                .prop_map(|it| Value::Object(it.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Readers answer or complain; they never break.
    #[test]
    fn nothing_breaks_a_reader(value in anything(), at in 0usize..40) {
        let function = json!({"type": "function", "name": "f", "description": "d", "parameters": {}});
        let agent = json!({
            "model": "m", "instructions": "i", "reasoning": {"effort": "low"}, "text": {"verbosity": "low"},
            "service_tier": "auto", "multi_agent": {"enabled": false}, "compaction": {"async": true},
            "experimental": {"time_awareness": true}, "tools": [function],
        });
        let session = json!({
            "agent": agent, "environment": {"type": "none"}, "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            "metadata": {"a": "b"}, "review": "none", "spend_control": {"limit": 1}, "vault_ids": [],
        });
        let result = json!({"events": [{"type": "agent.session.input.tool_result", "turn_id": "t", "call_id": "c", "success": true, "output": "o"}]});
        for mut body in [agent, session, result] {
            let mut places = Vec::new();
            walk(&body, String::new(), &mut places);
            let place = places[at % places.len()].clone();
            *body.pointer_mut(&place).expect("a place of its own") = value.clone();
            let body = body.to_string();
            read_agent_create(body.as_bytes()).ok();
            read_agent_update(body.as_bytes()).ok();
            read_session_create(body.as_bytes()).ok();
            read_session_update(body.as_bytes()).ok();
            read_events(body.as_bytes()).ok();
        }
    }
}

fn walk(value: &Value, at: String, out: &mut Vec<String>) {
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(i, it)| walk(it, format!("{at}/{i}"), out));
        }
        Value::Object(map) => {
            map.iter().for_each(|(name, it)| walk(it, format!("{at}/{name}"), out))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    out.push(at);
}
