//! Requests as they are sent, and read back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everstate_dialects::dialect;
use everstate_dialects::responses::request::{InputItem, read_create};
use everstate_dialects::upstream::{Encoded, Quirks};
use everstate_kernel::agent::Agent;
use everstate_kernel::ids::{AttemptId, CallId, ItemId, SessionId};
use everstate_kernel::item::{Body, Item, Outcome, Part, Reasoning, Role, Sealed, Status};
use everstate_kernel::json::Json;
use everstate_kernel::money::Price;
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool, ToolChoice};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::Value;

pub(crate) fn offer(dialect: &str) -> Offer {
    Offer {
        id: "somewhere/global/model-1".to_owned(),
        model: "model".to_owned(),
        upstream_model: "model-1".to_owned(),
        provider: "somewhere".to_owned(),
        dialect: dialect.to_owned(),
        scope: Scope::Global,
        tier: None,
        price: Price::default(),
        context_tokens: 100_000,
        output_tokens_max: 10_000,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: BTreeMap::new(),
        crypto_domain: "somewhere:org".to_owned(),
        cache_ttl_ms: 0,
    }
}

pub(crate) fn tool(name: &str, runs: Runs) -> Tool {
    Tool {
        name: name.to_owned(),
        description: Some(format!("Does {name}.")),
        parameters: Some(
            Json::parse(r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#)
                .expect("JSON"),
        ),
        strict: None,
        runs,
        extra: None,
    }
}

pub(crate) fn server(approval: bool) -> Runs {
    Runs::Server(ServerTool {
        label: "everstate".to_owned(),
        safety: Safety::Neither,
        approval,
        timeout_ms: 1000,
    })
}

pub(crate) fn item(turn: u32, idx: u32, body: Body) -> Item {
    Item {
        id: ItemId { turn, idx },
        body,
        status: Status::Completed,
        provider_id: None,
        extra: None,
    }
}

pub(crate) fn call(turn: u32, n: u32) -> CallId {
    CallId { turn, n }
}

fn said(role: Role, text: &str) -> Body {
    Body::Message { role, parts: vec![Part::text(text)] }
}

fn asked(n: u32, name: &str, arguments: &str) -> Body {
    Body::Call { call: call(1, n), name: name.to_owned(), arguments: arguments.to_owned() }
}

fn answered(n: u32, outcome: Outcome, output: Vec<Part>) -> Body {
    Body::Result { call: call(1, n), outcome, output }
}

fn request(bodies: Vec<Body>, n_prefix: usize) -> Request {
    let items = (0..).zip(bodies).map(|(idx, it)| Arc::new(item(1, idx, it)));
    Request {
        session: SessionId(7),
        attempt: AttemptId { turn: 1, step: 1, attempt: 1 },
        agent: Arc::new(Agent {
            model: "model".to_owned(),
            instructions: Some("Be brief.".to_owned()),
            tools: vec![
                tool("pay", server(false)),
                tool("look", Runs::Client),
                tool("pay", Runs::Client),
            ],
            ..Agent::default()
        }),
        tool_choice: ToolChoice::Auto,
        items: items.collect(),
        n_prefix,
        max_output_tokens: Some(5),
    }
}

fn encode(dialect_name: &str, request: &Request, quirks: &Quirks) -> Encoded {
    let dialect = dialect(dialect_name).expect("ours");
    dialect.encode(&offer(dialect_name), request, quirks).expect("it can be said")
}

fn lines(encoded: &Encoded) -> String {
    let value: Value = serde_json::from_slice(&encoded.body).expect("the body is JSON");
    let mut out = String::new();
    for (name, value) in value.as_object().expect("an object") {
        match value {
            Value::Array(items) if name == "input" || name == "messages" => {
                for item in items {
                    out.push_str(&format!("{name}: {item}\n"));
                }
            }
            other => out.push_str(&format!("{name} {other}\n")),
        }
    }
    for it in &encoded.left_behind {
        out.push_str(&format!("left behind: {it}\n"));
    }
    out
}

fn check(dialect: &str, bodies: Vec<Body>, quirks: &Quirks, expect: Expect) {
    expect.assert_eq(&lines(&encode(dialect, &request(bodies, 0), quirks)));
}

fn a_loop() -> Vec<Body> {
    let sealed = |domain: &str| {
        Body::Reasoning(Reasoning {
            summary: vec!["Hm.".to_owned()],
            content: Vec::new(),
            sealed: Some(Sealed { domain: domain.to_owned(), content: "gAAA".to_owned() }),
        })
    };
    vec![
        said(Role::User, "Pay 42."),
        sealed("somewhere:org"),
        said(Role::Assistant, "At once."),
        sealed("elsewhere"),
        asked(1, "pay", "{\"n\":42}"),
        asked(2, "look", ""),
        Body::Note { text: "Call 0/c9 has happened after all.".to_owned() },
        answered(2, Outcome::Unknown, Vec::new()),
        answered(
            1,
            Outcome::Ok,
            vec![
                Part::text("paid"),
                Part::Image { url: "data:image/png;base64,AA==".to_owned(), detail: None },
            ],
        ),
        sealed("somewhere:org"),
    ]
}

#[test]
fn responses_keep_their_own_reasoning_and_answer_calls_before_notes() {
    check(
        "responses",
        a_loop(),
        &Quirks::default(),
        expect![[r#"
        model "model-1"
        instructions "Be brief."
        tools [{"type":"function","name":"look","description":"Does look.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}},{"type":"function","name":"pay","description":"Does pay.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}]
        prompt_cache_key "ses_0000000000000000000000000w"
        store false
        include ["reasoning.encrypted_content"]
        input: {"type":"message","role":"user","content":[{"type":"input_text","text":"Pay 42."}]}
        input: {"type":"reasoning","summary":[{"type":"summary_text","text":"Hm."}],"encrypted_content":"gAAA"}
        input: {"type":"message","role":"assistant","content":[{"type":"output_text","text":"At once."}]}
        input: {"type":"function_call","call_id":"call_1_1","name":"pay","arguments":"{\"n\":42}"}
        input: {"type":"function_call","call_id":"call_1_2","name":"look","arguments":"{}"}
        input: {"type":"function_call_output","call_id":"call_1_2","output":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}
        input: {"type":"function_call_output","call_id":"call_1_1","output":[{"type":"input_text","text":"paid"},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"auto"}]}
        input: {"type":"message","role":"developer","content":[{"type":"input_text","text":"Call 0/c9 has happened after all."}]}
        max_output_tokens 16
        stream true
        left behind: reasoning sealed for `elsewhere`
    "#]],
    );
}

#[test]
fn chat_gathers_an_answer_into_one_message() {
    check(
        "chat",
        a_loop(),
        &Quirks::default(),
        expect![[r#"
        model "model-1"
        tools [{"type":"function","function":{"name":"look","description":"Does look.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}},{"type":"function","function":{"name":"pay","description":"Does pay.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}}]
        prompt_cache_key "ses_0000000000000000000000000w"
        messages: {"role":"system","content":"Be brief."}
        messages: {"role":"user","content":"Pay 42."}
        messages: {"role":"assistant","content":"At once.","tool_calls":[{"id":"call_1_1","type":"function","function":{"name":"pay","arguments":"{\"n\":42}"}},{"id":"call_1_2","type":"function","function":{"name":"look","arguments":"{}"}}]}
        messages: {"role":"tool","tool_call_id":"call_1_2","content":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}
        messages: {"role":"tool","tool_call_id":"call_1_1","content":"paid"}
        messages: {"role":"user","content":[{"type":"text","text":"Images of the result of call_1_1:"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}
        messages: {"role":"developer","content":"Call 0/c9 has happened after all."}
        max_completion_tokens 5
        stream true
        stream_options {"include_usage":true}
        left behind: reasoning sealed for `elsewhere`
        left behind: reasoning sealed in another dialect (2 times)
    "#]],
    );
}

#[test]
fn quirks_change_only_what_they_name() {
    let quirks = Quirks {
        max_tokens: true,
        no_developer_role: true,
        no_stream_options: true,
        no_prompt_cache_key: true,
        no_store: true,
        short_call_ids: true,
        text_results: true,
        ..Quirks::default()
    };
    let bodies = a_loop()[4..9].to_vec();
    check(
        "chat",
        bodies.clone(),
        &quirks,
        expect![[r#"
        model "model-1"
        tools [{"type":"function","function":{"name":"look","description":"Does look.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}},{"type":"function","function":{"name":"pay","description":"Does pay.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}}]
        messages: {"role":"system","content":"Be brief."}
        messages: {"role":"assistant","content":null,"tool_calls":[{"id":"000010001","type":"function","function":{"name":"pay","arguments":"{\"n\":42}"}},{"id":"000010002","type":"function","function":{"name":"look","arguments":"{}"}}]}
        messages: {"role":"tool","tool_call_id":"000010002","content":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}
        messages: {"role":"tool","tool_call_id":"000010001","content":"paid"}
        messages: {"role":"user","content":[{"type":"text","text":"Images of the result of 000010001:"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA=="}}]}
        messages: {"role":"system","content":"Call 0/c9 has happened after all."}
        max_tokens 5
        stream true
    "#]],
    );
    check(
        "responses",
        bodies,
        &quirks,
        expect![[r#"
        model "model-1"
        instructions "Be brief."
        tools [{"type":"function","name":"look","description":"Does look.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}},{"type":"function","name":"pay","description":"Does pay.","parameters":{"type":"object","properties":{"n":{"type":"integer"}}}}]
        input: {"type":"function_call","call_id":"000010001","name":"pay","arguments":"{\"n\":42}"}
        input: {"type":"function_call","call_id":"000010002","name":"look","arguments":"{}"}
        input: {"type":"function_call_output","call_id":"000010002","output":"It is not known whether this call was carried out. Do not assume either; find out before you repeat it."}
        input: {"type":"function_call_output","call_id":"000010001","output":"paid"}
        input: {"type":"message","role":"user","content":[{"type":"input_text","text":"Images of the result of 000010001:"},{"type":"input_image","image_url":"data:image/png;base64,AA==","detail":"auto"}]}
        input: {"type":"message","role":"system","content":[{"type":"input_text","text":"Call 0/c9 has happened after all."}]}
        max_output_tokens 16
        stream true
    "#]],
    );
}

/// What providers insist on, whatever the transcript looks like.
fn sound(dialect: &str, encoded: &Encoded) {
    let body: Value = serde_json::from_slice(&encoded.body).expect("the body is JSON");
    assert!(encoded.prefix <= encoded.body.len());
    assert!(std::str::from_utf8(&encoded.body[..encoded.prefix]).is_ok());
    let (mut open, mut done) = (BTreeSet::new(), BTreeSet::new());
    let id = |it: &Value| it.as_str().expect("an id").to_owned();
    if dialect == "responses" {
        for item in body["input"].as_array().expect("a list") {
            match item["type"].as_str().expect("a type") {
                "function_call" => assert!(open.insert(id(&item["call_id"]))),
                "function_call_output" => {
                    assert!(open.remove(&id(&item["call_id"])), "an answer to nothing");
                    assert!(done.insert(id(&item["call_id"])), "answered twice");
                }
                "message" if item["role"] != "assistant" => assert!(open.is_empty()),
                _ => {}
            }
        }
    } else {
        for message in body["messages"].as_array().expect("a list") {
            if message["role"] == "tool" {
                assert!(open.remove(&id(&message["tool_call_id"])), "an answer to nothing");
                assert!(done.insert(id(&message["tool_call_id"])), "answered twice");
                continue;
            }
            assert!(open.is_empty(), "results follow their calls at once");
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                assert!(open.insert(id(&call["id"])));
            }
        }
    }
    assert!(open.is_empty(), "every call has its answer");
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{0,6}", Just("\"\\\u{0}\n🦀\u{2028}".to_owned())]
}

/// Legal transcripts: each call is answered later, before the next answer of the model.
fn transcripts() -> impl Strategy<Value = Vec<Body>> {
    let round =
        (texts(), texts(), prop::collection::vec((texts(), any::<bool>()), 0..4), any::<u8>());
    prop::collection::vec(round, 0..5).prop_map(|rounds| {
        let (mut out, mut n) = (Vec::new(), 0);
        for (question, answer, calls, mix) in rounds {
            out.push(said(if mix & 1 == 0 { Role::User } else { Role::Developer }, &question));
            if mix & 2 == 0 {
                out.push(Body::Reasoning(Reasoning {
                    summary: Vec::new(),
                    content: vec![answer.clone()],
                    sealed: Some(Sealed {
                        domain: "somewhere:org".to_owned(),
                        content: "x".to_owned(),
                    }),
                }));
            }
            if mix & 4 == 0 || calls.is_empty() {
                out.push(said(Role::Assistant, &answer));
            }
            let first = n + 1;
            for (arguments, _) in &calls {
                n += 1;
                out.push(asked(n, "look", arguments));
            }
            if mix & 8 == 0 {
                out.push(Body::Note { text: "news".to_owned() });
            }
            let mut results: Vec<Body> = (first..=n)
                .zip(&calls)
                .map(|(n, (text, image))| {
                    let mut output = vec![Part::text(text.clone())];
                    if *image {
                        output
                            .push(Part::Image { url: "https://x/y.png".to_owned(), detail: None });
                    }
                    answered(n, if *image { Outcome::Ok } else { Outcome::Failed }, output)
                })
                .collect();
            if mix & 16 == 0 {
                results.reverse();
            }
            out.append(&mut results);
        }
        out
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_request_is_sound(bodies in transcripts(), short in any::<bool>(), plain in any::<bool>()) {
        let quirks = Quirks {
            short_call_ids: short,
            text_results: plain,
            reasoning_field: plain.then(|| "reasoning_content".to_owned()),
            ..Quirks::default()
        };
        for dialect in ["responses", "chat"] {
            sound(dialect, &encode(dialect, &request(bodies.clone(), 0), &quirks));
        }
    }

    /// The next step's request begins with the bytes that this one held of the common items.
    #[test]
    fn the_prefix_stays_byte_for_byte(bodies in transcripts(), more in transcripts()) {
        for dialect in ["responses", "chat"] {
            let now = request(bodies.clone(), 0);
            let mut longer = bodies.clone();
            // Names of calls go on counting.
            longer.extend(more.iter().cloned().map(|it| match it {
                Body::Call { call: CallId { n, .. }, name, arguments } => Body::Call { call: call(2, n), name, arguments },
                Body::Result { call: CallId { n, .. }, outcome, output } => Body::Result { call: call(2, n), outcome, output },
                other => other,
            }));
            let mut next = request(longer, bodies.len());
            next.tool_choice = ToolChoice::None;
            next.max_output_tokens = None;
            let now = encode(dialect, &now, &Quirks::default());
            let next = encode(dialect, &next, &Quirks::default());
            prop_assert!(now.body.starts_with(&next.body[..next.prefix]), "{}", dialect);
            prop_assert!(now.prefix <= next.prefix);
        }
    }

    /// What is sent in the form of Responses reads back as the same items.
    #[test]
    fn there_and_back(bodies in transcripts()) {
        let encoded = encode("responses", &request(bodies.clone(), 0), &Quirks::default());
        let back = read_create(&encoded.body).expect("our own request is sound");
        let mut names = BTreeMap::new();
        let mut read = Vec::new();
        for it in back.input {
            let InputItem::New(item) = it else { panic!("an answer to nothing: {it:?}") };
            read.push(match item.body {
                Body::Call { call, name, arguments } => {
                    names.insert(call, item.provider_id.clone().expect("a call id"));
                    Body::Call { call: named(&names[&call]), name, arguments }
                }
                Body::Result { call, output, .. } => {
                    Body::Result { call: named(&names[&call]), outcome: Outcome::Ok, output }
                }
                other => other,
            });
        }
        // Notes become the developer's words; sealed contents come back as a stranger's; how a call ended is in words.
        let mut expected = Vec::new();
        let items: Vec<Arc<Item>> = request(bodies, 0).items;
        let mut held = Vec::new();
        let mut open = 0;
        for (i, it) in items.iter().enumerate() {
            let body = match it.body.clone() {
                Body::Note { text } => {
                    let body = said(Role::Developer, &text);
                    if open > 0 { held.push(body); continue; }
                    body
                }
                Body::Call { call, name, arguments } => {
                    open += 1;
                    let arguments = if arguments.trim().is_empty() { "{}".to_owned() } else { arguments };
                    Body::Call { call, name, arguments }
                }
                Body::Result { call, outcome, output } => {
                    open -= 1;
                    let empty = output == vec![Part::text("")];
                    let output = if empty && outcome == Outcome::Failed {
                        vec![Part::text("The call failed.")]
                    } else {
                        output.into_iter().map(|it| match it {
                            Part::Image { url, .. } => Part::Image { url, detail: Some("auto".to_owned()) },
                            other => other,
                        }).collect()
                    };
                    Body::Result { call, outcome: Outcome::Ok, output }
                }
                Body::Reasoning(mut it) => {
                    let next = items[i + 1..].iter().map(|it| &it.body).next();
                    let kept = match next {
                        Some(Body::Message { role, .. }) => *role == Role::Assistant,
                        Some(Body::Call { .. }) => true,
                        _ => false,
                    };
                    if !kept { continue; }
                    it.content = Vec::new();
                    it.sealed = it.sealed.map(|it| Sealed { domain: "unknown".to_owned(), ..it });
                    Body::Reasoning(it)
                }
                other => other,
            };
            expected.push(body);
            if open == 0 {
                expected.append(&mut held);
            }
        }
        prop_assert_eq!(read, expected);
    }
}

fn named(wire: &str) -> CallId {
    let mut parts = wire.split('_').skip(1).map(|it| it.parse().expect("a number"));
    CallId { turn: parts.next().expect("a turn"), n: parts.next().expect("a number") }
}
