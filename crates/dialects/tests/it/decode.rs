//! Decoders over recorded traffic, whole and cut anywhere.

use everstate_dialects::dialect;
use everstate_dialects::upstream::Decoder;
use everstate_kernel::delta::{Delta, Finish, Fold, Piece, ReplyEnd};
use everstate_kernel::input::{Failure, FailureClass};
use everstate_kernel::item::{Output, OutputBody, Part};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cassettes::{self, Answer, Exchange, say};
use crate::encode::offer;

pub(crate) type Heard = (Vec<Piece>, Result<(), Failure>);

pub(crate) fn hear<'a>(dialect_name: &str, chunks: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let dialect = dialect(dialect_name).expect("a dialect of ours");
    let mut decoder: Box<dyn Decoder> = dialect.decoder(&offer(dialect_name));
    let mut out = Vec::new();
    for chunk in chunks {
        if let Err(failure) = decoder.push(chunk, &mut out) {
            return (out, Err(failure));
        }
    }
    let end = decoder.finish(&mut out);
    (out, end)
}

pub(crate) fn fold(pieces: &[Piece]) -> (Vec<Output>, Option<ReplyEnd>) {
    let (mut fold, mut end) = (Fold::default(), None);
    for piece in pieces {
        match piece {
            Piece::Delta(delta) => fold.push(delta),
            Piece::End(it) => end = Some(it.clone()),
        }
    }
    (fold.finish(), end)
}

/// What the items say, in a form that the recorded object can be brought into too.
pub(crate) fn told(outputs: &[Output]) -> Value {
    let mut out = Vec::new();
    for output in outputs {
        match &output.body {
            OutputBody::Message { parts } => {
                let mut texts = String::new();
                for part in parts {
                    match part {
                        Part::Text { text, annotations } => {
                            texts.push_str(text);
                            texts.push_str(&"^".repeat(annotations.len()));
                        }
                        Part::Refusal { text } => texts.push_str(text),
                        Part::Image { .. } | Part::Opaque { .. } => panic!("no such delta"),
                    }
                }
                out.push(json!({"message": texts}));
            }
            OutputBody::Reasoning(reasoning) => out.push(json!({
                "reasoning": reasoning.summary,
                "content": reasoning.content.concat(),
                // Sealed anew each time it is sent: the text differs between an item's end and the answer's.
                "sealed": reasoning.sealed.is_some(),
            })),
            OutputBody::Call { name, arguments } => {
                out.push(json!({"call": name, "arguments": arguments}));
            }
            OutputBody::Opaque { json, .. } => out.push(json.value()),
        }
    }
    Value::Array(out)
}

pub(crate) fn told_responses(response: &Value) -> Value {
    let mut out = Vec::new();
    for item in response["output"].as_array().expect("a response has its output") {
        out.push(match item["type"].as_str().expect("an item has a type") {
            "message" => {
                let mut texts = String::new();
                for part in item["content"].as_array().expect("parts") {
                    texts
                        .push_str(part["text"].as_str().or(part["refusal"].as_str()).unwrap_or(""));
                    let n = part["annotations"].as_array().map_or(0, Vec::len);
                    texts.push_str(&"^".repeat(n));
                }
                json!({"message": texts})
            }
            "reasoning" => {
                let texts = |list: &Value| -> Vec<String> {
                    let parts = list.as_array().into_iter().flatten();
                    parts.map(|it| it["text"].as_str().unwrap_or("").to_owned()).collect()
                };
                json!({
                    "reasoning": texts(&item["summary"]),
                    "content": texts(&item["content"]).concat(),
                    "sealed": item["encrypted_content"].is_string(),
                })
            }
            "function_call" => json!({"call": item["name"], "arguments": item["arguments"]}),
            _ => item.clone(),
        });
    }
    Value::Array(out)
}

/// The final object of a Responses answer, as recorded.
pub(crate) fn final_response(body: &Answer) -> Option<Value> {
    match body {
        Answer::Json(json) => Some(json.clone()),
        Answer::Text(text) => {
            let data = text.lines().filter_map(|it| it.strip_prefix("data: "));
            let events = data.filter_map(|it| serde_json::from_str::<Value>(it).ok());
            events.rev().map(|it| it["response"].clone()).find(Value::is_object)
        }
        Answer::None => None,
    }
}

pub(crate) fn is_responses(it: &Exchange) -> bool {
    it.uri.split(['?', '#']).next().is_some_and(|it| it.ends_with("/responses"))
}

fn is_chat(it: &Exchange) -> bool {
    it.uri.split(['?', '#']).next().is_some_and(|it| it.ends_with("/chat/completions"))
}

#[test]
fn recorded_responses_decode_to_what_was_answered() {
    let Some(recorded) = cassettes::all() else { return };
    let (mut n_streams, mut n_whole, mut n_unfinished, mut n_errors) = (0, 0, 0, 0);
    for it in recorded.exchanges.iter().filter(|it| is_responses(it)) {
        let name = &it.cassette;
        if it.status != 200 {
            let dialect = dialect("responses").expect("ours");
            let failure = dialect.failure(it.status, None, &it.body.bytes());
            assert_eq!(failure.class, FailureClass::Invalid, "{name}: {failure:?}");
            n_errors += 1;
            continue;
        }
        let expected = final_response(&it.body).expect("an answer");
        let body = it.body.bytes();
        let (pieces, end) = hear("responses", [body.as_slice()]);
        if matches!(expected["status"].as_str(), Some("queued" | "in_progress")) {
            // Recorded requests in the background: their first answer is no answer yet.
            assert_eq!(end.expect_err("it has no end").class, FailureClass::Broken, "{name}");
            n_unfinished += 1;
            continue;
        }
        assert_eq!(end, Ok(()), "{name}");
        let (outputs, reply) = fold(&pieces);
        let reply = reply.expect("an end");
        let folded = told(&outputs);
        let mut expected_told = told_responses(&expected);
        // A part that is there, but says nothing, tells nothing. Streams may leave their final list empty.
        if expected["output"].as_array().is_some_and(Vec::is_empty) {
            expected_told = folded.clone();
        }
        assert_eq!(folded, expected_told, "{name}");
        let usage = &expected["usage"];
        assert_eq!(reply.usage.input, usage["input_tokens"].as_u64().unwrap_or(0), "{name}");
        assert_eq!(reply.usage.output, usage["output_tokens"].as_u64().unwrap_or(0), "{name}");
        let cached = usage["input_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        assert_eq!(reply.usage.cached, cached, "{name}");
        let reasoning = usage["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap_or(0);
        assert_eq!(reply.usage.reasoning, reasoning, "{name}");
        assert_eq!(reply.model.as_deref(), expected["model"].as_str(), "{name}");
        // One was recorded from a server that spells it its own way.
        let completed = matches!(expected["status"].as_str(), Some("completed" | "complete"));
        assert_eq!(reply.finish == Finish::Stop, completed, "{name}");
        match it.body {
            Answer::Text(_) => n_streams += 1,
            Answer::Json(_) | Answer::None => n_whole += 1,
        }
    }
    say(&format!(
        "responses: {n_streams} streams, {n_whole} whole answers, {n_unfinished} unfinished, {n_errors} errors; \
         {} files read, {} of them without an HTTP exchange of ours",
        recorded.n_files,
        recorded.other.len()
    ));
    assert!(
        n_streams >= 8 && n_whole >= 50,
        "recorded traffic was there, but hardly any of it was read"
    );
}

/// What a chat answer says in all: thoughts, text, and calls in their order.
fn told_chat(outputs: &[Output]) -> Value {
    let (mut thoughts, mut text, mut calls) = (String::new(), String::new(), Vec::new());
    for output in outputs {
        match &output.body {
            OutputBody::Message { parts } => {
                for part in parts {
                    if let Part::Text { text: it, .. } | Part::Refusal { text: it } = part {
                        text.push_str(it);
                    }
                }
            }
            OutputBody::Reasoning(it) => thoughts.push_str(&it.content.concat()),
            OutputBody::Call { name, arguments } => calls.push(json!([name, arguments])),
            OutputBody::Opaque { .. } => panic!("chat has no opaque items"),
        }
    }
    json!({"thoughts": thoughts, "text": text, "calls": calls})
}

/// The same, read off the recorded chunks or message by simple means.
fn expected_chat(body: &Answer) -> (Value, Value) {
    let chunks: Vec<Value> = match body {
        Answer::Json(json) => vec![json.clone()],
        Answer::Text(text) => text
            .lines()
            .filter_map(|it| it.strip_prefix("data: "))
            .filter_map(|it| serde_json::from_str(it).ok())
            .collect(),
        Answer::None => Vec::new(),
    };
    let (mut thoughts, mut text, mut usage) = (String::new(), String::new(), Value::Null);
    let mut calls: Vec<(String, String)> = Vec::new();
    for chunk in &chunks {
        for told in [&chunk["usage"], &chunk["x_groq"]["usage"]] {
            if told.is_object() {
                usage = told.clone();
            }
        }
        let choice = &chunk["choices"][0];
        let delta = if choice["delta"].is_object() { &choice["delta"] } else { &choice["message"] };
        let said = delta["reasoning_content"].as_str().or(delta["reasoning"].as_str());
        thoughts.push_str(said.unwrap_or(""));
        match &delta["content"] {
            Value::String(it) => text.push_str(it),
            Value::Array(parts) => {
                for part in parts {
                    text.push_str(part["text"].as_str().unwrap_or(""));
                    for it in part["thinking"].as_array().into_iter().flatten() {
                        thoughts.push_str(it["text"].as_str().unwrap_or(""));
                    }
                }
            }
            _ => {}
        }
        for (i, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let at = call["index"].as_u64().unwrap_or(i as u64) as usize;
            while calls.len() <= at {
                calls.push(Default::default());
            }
            calls[at].0.push_str(call["function"]["name"].as_str().unwrap_or(""));
            calls[at].1.push_str(call["function"]["arguments"].as_str().unwrap_or(""));
        }
    }
    (json!({"thoughts": thoughts, "text": text, "calls": calls}), usage)
}

#[test]
fn recorded_chat_decodes_to_what_was_answered() {
    let Some(recorded) = cassettes::all() else { return };
    let (mut n_streams, mut n_whole, mut n_failed) = (0, 0, Vec::new());
    for it in recorded.exchanges.iter().filter(|it| is_chat(it)) {
        let name = &it.cassette;
        let body = it.body.bytes();
        if it.status != 200 {
            let failure = dialect("chat").expect("ours").failure(it.status, None, &body);
            n_failed.push(format!("{name}: {:?}", failure.class));
            continue;
        }
        let (pieces, end) = hear("chat", [body.as_slice()]);
        if let Err(failure) = end {
            n_failed.push(format!("{name}: {:?} {}", failure.class, failure.message));
            continue;
        }
        let (outputs, reply) = fold(&pieces);
        let reply = reply.expect("an end");
        let (expected, usage) = expected_chat(&it.body);
        assert_eq!(told_chat(&outputs), expected, "{name}");
        if usage.is_object() {
            assert_eq!(reply.usage.input, usage["prompt_tokens"].as_u64().unwrap_or(0), "{name}");
            let output = usage["completion_tokens"].as_u64().unwrap_or(0);
            assert!(reply.usage.output >= output, "{name}");
            assert!(reply.usage.reasoning <= reply.usage.output, "{name}");
        } else {
            assert!(reply.usage.estimated, "{name}");
        }
        match it.body {
            Answer::Text(_) => n_streams += 1,
            Answer::Json(_) | Answer::None => n_whole += 1,
        }
    }
    say(&format!("chat: {n_streams} streams, {n_whole} whole answers; failed: {n_failed:#?}"));
    assert!(
        n_streams >= 8 && n_whole >= 55,
        "recorded traffic was there, but hardly any of it was read"
    );
    assert!(n_failed.len() <= 6, "more failed than the recorded errors");
}

/// The recorded streams that are short enough to be cut often.
fn streams() -> Vec<(&'static str, String, Vec<u8>)> {
    let recorded = cassettes::all().map(|it| it.exchanges).unwrap_or_default();
    let mut out = Vec::new();
    for it in recorded.iter().filter(|it| it.status == 200) {
        let dialect = match (is_responses(it), is_chat(it)) {
            (true, _) => "responses",
            (_, true) => "chat",
            _ => continue,
        };
        let body = it.body.bytes();
        if body.len() < 60_000 {
            out.push((dialect, it.cassette.clone(), body));
        }
    }
    out
}

#[test]
fn cutting_recorded_bytes_anywhere_changes_nothing() {
    let streams = streams();
    if streams.is_empty() {
        return;
    }
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let strategy =
        (any::<prop::sample::Index>(), prop::collection::vec(1usize..400, 1..40), 1usize..4);
    proptest!(config, |((stream, sizes, scale) in strategy)| {
        let (dialect, name, body) = &streams[stream.index(streams.len())];
        let whole = hear(dialect, [body.as_slice()]);
        let mut chunks = Vec::new();
        let mut rest = body.as_slice();
        for size in sizes.iter().cycle() {
            let n = (size / scale).max(1).min(rest.len());
            let (chunk, after) = rest.split_at(n);
            chunks.push(chunk);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let cut = hear(dialect, chunks);
        prop_assert_eq!(cut, whole, "{}", name);
    });
}

#[test]
fn a_recorded_stream_that_breaks_off_has_no_end() {
    let streams = streams();
    let config =
        ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    if streams.is_empty() {
        return;
    }
    proptest!(config, |((stream, at) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()))| {
        let (dialect, name, body) = &streams[stream.index(streams.len())];
        let whole = hear(dialect, [body.as_slice()]);
        prop_assume!(whole.1.is_ok());
        let (pieces, end) = hear(dialect, [&body[..at.index(body.len())]]);
        let ended = pieces.iter().any(|it| matches!(it, Piece::End(_)));
        prop_assert_eq!(ended, end.is_ok(), "{}", name);
        // What was told before is the beginning of what would have been told, but for the end of a chat answer that
        // lost its usage.
        let told: Vec<&Piece> = pieces.iter().filter(|it| matches!(it, Piece::Delta(_))).collect();
        let all: Vec<&Piece> = whole.0.iter().filter(|it| matches!(it, Piece::Delta(_))).collect();
        prop_assert!(all.starts_with(&told), "{}", name);
    });
}

fn fails(dialect: &str, body: &str) -> String {
    let (pieces, end) = hear(dialect, [body.as_bytes()]);
    let failure = end.expect_err("it is no answer");
    // However it is cut, the words are the same.
    let (again, end) = hear(dialect, body.as_bytes().chunks(3));
    assert_eq!((&again, end.expect_err("it is no answer")), (&pieces, failure.clone()));
    format!("{:?} {}", failure.class, failure.message)
}

#[test]
fn what_is_no_answer_is_named() {
    use expect_test::expect;
    let html = "<!doctype html>\n<html><body>Please log in: sk-live-0123456789</body></html>";
    for dialect in ["responses", "chat"] {
        expect![["Broken the provider's answer is neither a stream of events nor JSON: `<!doctype html> <html><body>Please log in: [hidden]</body></html>`"]]
            .assert_eq(&fails(dialect, html));
        expect!["Broken the provider's answer is empty"].assert_eq(&fails(dialect, ""));
        expect!["Broken the provider's answer is empty"].assert_eq(&fails(dialect, " \n\n"));
        expect!["RateLimited slow down"].assert_eq(&fails(
            dialect,
            r#"{"error":{"message":"slow down","code":"rate_limit_exceeded"}}"#,
        ));
        expect!["Overloaded try later"].assert_eq(&fails(
            dialect,
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"try later\",\"type\":\"server_error\"}}\n\n",
        ));
        assert!(fails(dialect, "data: {\"choices\":[\n\n").starts_with("Broken"));
        assert!(fails(dialect, "{\"a\":1}").starts_with("Broken"));
        let deep = format!("data: {}\n\n", "[".repeat(5000));
        assert!(fails(dialect, &deep).starts_with("Broken"));
    }
    expect!["QuotaExhausted no money"].assert_eq(&fails(
        "responses",
        "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"insufficient_quota\",\"message\":\"no money\"}}}\n\n",
    ));
    expect!["Broken the provider's stream ended without an end"].assert_eq(&fails(
        "responses",
        "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"x\"}\n\ndata: [DONE]\n\n",
    ));
}

#[test]
fn interleaved_parallel_calls_are_told_apart() {
    let chunk = |calls: Value| {
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}))
    };
    let stream = [
        chunk(json!([{"index": 0, "id": "a", "function": {"name": "one", "arguments": ""}}])),
        chunk(json!([{"index": 1, "id": "b", "function": {"name": "two", "arguments": "{\"x\""}}])),
        chunk(json!([{"index": 0, "function": {"arguments": "{}"}}, {"index": 1, "function": {"arguments": ":1}"}}])),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n".to_owned(),
    ]
    .concat();
    let (pieces, end) = hear("chat", [stream.as_bytes()]);
    assert_eq!(end, Ok(()));
    let (outputs, _) = fold(&pieces);
    assert_eq!(told_chat(&outputs)["calls"], json!([["one", "{}"], ["two", "{\"x\":1}"]]));
    let closes = pieces.iter().filter(|it| matches!(it, Piece::Delta(Delta::Close { .. })));
    assert_eq!(closes.count(), 2);
}

#[test]
fn a_piece_may_end_in_half_a_letter() {
    let chunk = |delta: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{delta}\"}}}}]}}\n\n")
    };
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let stream = [chunk(r"a\ud83d"), chunk(r"\ude00b"), end.to_owned()].concat();
    let (pieces, end) = hear("chat", [stream.as_bytes()]);
    assert_eq!(end, Ok(()));
    let (outputs, _) = fold(&pieces);
    assert_eq!(told_chat(&outputs)["text"], "a\u{FFFD}\u{FFFD}b");
}
