//! Plays a rule: turns what it says into the bytes a server would send, and into what goes wrong on the way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{StreamExt, unfold};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::rehearsal::scene::Scene;
use crate::rehearsal::script::{Arguments, Broken, Call, Refusal, Rule};
use crate::rehearsal::voice::{HEAD, Said, Voice};
use crate::reply::Arrived;

/// The answer a rule gives in this scene, except for what is waited before its head is there. `delay_ms` is the script's, for rules that have none.
pub(crate) fn play(rule: &Rule, scene: &Scene, delay_ms: u64) -> Arrived {
    if let Some(error) = &rule.error {
        let message = error.message.as_deref().map(|it| fill(it, scene));
        return refuse(&Refusal { message, ..error.clone() });
    }
    if rule.broken == Some(Broken::Html) {
        return answer(200, "text/html", "<!doctype html><title>Welcome</title>".to_owned());
    }
    let spoken =
        Voice::new(scene).say(&said(rule, scene), rule.finish, rule.usage.unwrap_or_default());
    let (mut beats, mut pieces) = (VecDeque::new(), 0);
    for (n, event) in spoken.into_iter().enumerate() {
        // Before its first piece, an answer that is to break shows nothing at all.
        let is_due = if rule.after_pieces == 0 { n == HEAD } else { event.is_piece };
        if rule.broken.is_some() && (event.is_end || is_due && pieces == rule.after_pieces) {
            break;
        }
        let wait_ms = match (n == HEAD, event.is_piece && pieces > 0) {
            (true, _) => rule.first_delay_ms,
            (false, true) => rule.delay_ms.unwrap_or(delay_ms),
            (false, false) => 0,
        };
        pieces += u32::from(event.is_piece);
        beats.push_back(Beat { wait_ms, bytes: event.bytes });
    }
    let ending = match rule.broken {
        None | Some(Broken::Cut | Broken::Html) => Ending::Close,
        Some(Broken::Hang) => Ending::Hang,
        Some(Broken::Reset) => Ending::Reset,
        Some(Broken::Garbage) => {
            let bytes = Bytes::from_static(
                b"event: response.output_te\ndata: {\"type\": \xff\xfe nonsense\n\n",
            );
            beats.push_back(Beat { wait_ms: 0, bytes });
            Ending::Close
        }
    };
    Arrived { status: 200, headers: kind("text/event-stream"), body: stream(beats, ending).boxed() }
}

/// An error as a server says it.
pub(crate) fn refuse(error: &Refusal) -> Arrived {
    let code = error.code.as_deref().unwrap_or(match error.status {
        401 | 403 => "invalid_api_key",
        404 => "model_not_found",
        429 => "rate_limit_exceeded",
        500..=599 => "server_error",
        _ => "invalid_request_error",
    });
    let message = error.message.as_deref().unwrap_or("said by the rehearsal's script");
    let body = json!({"error": {"message": message, "type": code, "param": null, "code": code}});
    let mut it = answer(error.status, "application/json", body.to_string());
    if let Some(ms) = error.retry_after_ms {
        it.headers.insert("retry-after-ms", HeaderValue::from(ms));
    }
    it
}

fn answer(status: u16, content_type: &'static str, body: String) -> Arrived {
    let beats = VecDeque::from([Beat { wait_ms: 0, bytes: Bytes::from(body) }]);
    Arrived { status, headers: kind(content_type), body: stream(beats, Ending::Close).boxed() }
}

fn kind(content_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
}

/// The items of the answer, with the scene's words filled in.
fn said(rule: &Rule, scene: &Scene) -> Vec<Said> {
    let fill = |text: &str| if rule.verbatim { text.to_owned() } else { fill(text, scene) };
    let reasoning = rule.reasoning.iter().map(|it| Said::Reasoning(fill(it)));
    let text = rule.text.iter().map(|it| Said::Text(fill(it)));
    let calls = rule.calls.iter().map(|Call { name, arguments }| Said::Call {
        name: name.clone(),
        arguments: match arguments {
            Arguments::Raw(text) => fill(text),
            Arguments::Json(map) => {
                let map = map.iter().map(|(name, it)| (name.clone(), fill_json(it, scene)));
                Value::Object(map.collect()).to_string()
            }
        },
    });
    reasoning.chain(text).chain(calls).collect()
}

fn fill_json(value: &Value, scene: &Scene) -> Value {
    match value {
        Value::String(text) => Value::String(fill(text, scene)),
        Value::Array(items) => items.iter().map(|it| fill_json(it, scene)).collect(),
        Value::Object(map) => {
            let map = map.iter().map(|(name, it)| (name.clone(), fill_json(it, scene)));
            Value::Object(map.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Replaces `{user}`, `{result}`, `{turn}`, `{step}`, `{attempt}`, `{provider}` and `{model}`, in one pass: words that
/// are filled in are not looked at again. Other braces stay.
fn fill(text: &str, scene: &Scene) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let word = rest.find('}').map(|close| &rest[..=close]);
        let filled = match word {
            Some("{user}") => scene.user.clone(),
            Some("{result}") => {
                scene.results.last().map(|it| it.output.clone()).unwrap_or_default()
            }
            Some("{turn}") => scene.turn.to_string(),
            Some("{step}") => scene.step.to_string(),
            Some("{attempt}") => scene.attempt.to_string(),
            Some("{provider}") => scene.provider.clone(),
            Some("{model}") => scene.model.clone(),
            Some(_) | None => {
                out.push('{');
                rest = &rest[1..];
                continue;
            }
        };
        out.push_str(&filled);
        rest = &rest[word.map_or(1, str::len)..];
    }
    out.push_str(rest);
    out
}

struct Beat {
    wait_ms: u64,
    bytes: Bytes,
}

#[derive(Clone, Copy)]
enum Ending {
    Close,
    Hang,
    Reset,
}

fn stream(
    beats: VecDeque<Beat>,
    ending: Ending,
) -> impl futures_util::Stream<Item = Result<Bytes, String>> + Send + 'static {
    unfold(Some((beats, ending)), |state| async move {
        let (mut beats, ending) = state?;
        match (beats.pop_front(), ending) {
            (Some(Beat { wait_ms, bytes }), ending) => {
                if wait_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                Some((Ok(bytes), Some((beats, ending))))
            }
            (None, Ending::Close) => None,
            (None, Ending::Reset) => Some((Err("connection reset by the script".to_owned()), None)),
            (None, Ending::Hang) => std::future::pending().await,
        }
    })
}
