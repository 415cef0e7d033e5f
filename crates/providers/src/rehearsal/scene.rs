//! What a rehearsal sees of a request. It reads the bytes that would go over the wire, as a server would, and nothing
//! else: so the same request gets the same answer, in this process and in the next.

use std::collections::BTreeMap;

use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A request as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Scene {
    pub(crate) provider: String,
    pub(crate) offer: String,
    /// The name asked for.
    pub(crate) model: String,
    pub(crate) instructions: String,
    /// The text of the last user message.
    pub(crate) user: String,
    /// Names of the tools the model may call.
    pub(crate) tools: Vec<String>,
    /// Tool results after the last user message.
    pub(crate) results: Vec<Seen>,
    pub(crate) turn: u64,
    pub(crate) step: u64,
    pub(crate) attempt: u64,
    /// Counts the requests to this provider in this process, from 1.
    pub(crate) request: u64,
    pub(crate) bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// The tool's name, if its call is in the request.
    pub(crate) name: String,
    pub(crate) output: String,
}

/// Where in a session a request belongs: what no wire format says, put behind its body for the rehearsal alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Slate {
    turn: u64,
    step: u64,
    attempt: u64,
}

const SLATE: &str = "rehearsal";

/// Puts the slate behind an encoded body, which is a JSON object.
pub(crate) fn mark(body: &mut Vec<u8>, request: &Request) {
    let slate = Slate {
        turn: request.attempt.turn.into(),
        step: request.attempt.step.into(),
        attempt: request.attempt.attempt.into(),
    };
    if body.pop_if(|it| *it == b'}').is_some() {
        let slate = serde_json::to_string(&slate).expect("plain words and numbers");
        body.extend_from_slice(format!(",\"{SLATE}\":{slate}}}").as_bytes());
    }
}

/// Reads a marked body. `None` if it is no JSON object.
pub(crate) fn read(body: &[u8], provider: &str, offer: &Offer, request: u64) -> Option<Scene> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let object = json.as_object()?;
    let slate = object.get(SLATE).and_then(|it| Slate::deserialize(it).ok()).unwrap_or_default();
    let mut scene = Scene {
        provider: provider.to_owned(),
        offer: offer.id.clone(),
        model: offer.model.clone(),
        instructions: words(object.get("instructions")),
        turn: slate.turn,
        step: slate.step,
        attempt: slate.attempt,
        request,
        bytes: body.len() as u64,
        ..Scene::default()
    };
    let tools = object.get("tools").and_then(Value::as_array).into_iter().flatten();
    scene.tools = tools.filter_map(|it| Some(it.get("name")?.as_str()?.to_owned())).collect();
    match object.get("input") {
        Some(Value::Array(items)) => look(&mut scene, items),
        input => scene.user = words(input),
    }
    Some(scene)
}

fn look(scene: &mut Scene, items: &[Value]) {
    let mut calls = BTreeMap::new();
    for item in items {
        let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("");
        match (text("type"), text("role")) {
            ("message" | "", "user") => {
                scene.user = words(item.get("content"));
                scene.results.clear();
            }
            ("function_call", _) => {
                calls.insert(text("call_id"), text("name"));
            }
            ("function_call_output", _) => scene.results.push(Seen {
                name: calls.get(text("call_id")).copied().unwrap_or("").to_owned(),
                output: words(item.get("output")),
            }),
            _ => {}
        }
    }
}

/// The text in a content: a string, or parts of which some hold text.
fn words(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|it| it.get("text").and_then(Value::as_str));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
