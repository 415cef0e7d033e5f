//! What both upstream dialects do with a request before they write it: items in the order providers accept, names of
//! calls, tools without doubles, and words for what a result does not say itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use everstate_kernel::ids::CallId;
use everstate_kernel::item::{Body, Item, Outcome, Part, Role, Status};
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Tool};

/// Items in the order providers accept: between a call and its result there is nothing but what came with the call
/// and other results. `place` is where the item stands in the request.
pub(crate) fn arrange<'a>(items: &'a [Arc<Item>], left: &mut Left) -> Vec<(usize, &'a Item)> {
    let (mut out, mut held) = (Vec::new(), Vec::new());
    let (mut open, mut answered) = (BTreeSet::new(), BTreeSet::new());
    // Where the first result of the calls that are open stands.
    let mut first_result = None;
    for (place, item) in items.iter().enumerate() {
        let item = item.as_ref();
        if item.status == Status::Incomplete {
            continue;
        }
        match &item.body {
            Body::Call { call, .. } => {
                open.insert(*call);
                said(&mut out, &mut first_result, (place, item));
            }
            Body::Result { call, .. } => {
                if open.remove(call) {
                    answered.insert(*call);
                    first_result.get_or_insert(out.len());
                    out.push((place, item));
                } else if !answered.contains(call) {
                    left.note("the result of a call that is not in the request");
                }
                if open.is_empty() {
                    first_result = None;
                    out.append(&mut held);
                }
            }
            Body::Message { role: Role::Assistant, .. }
            | Body::Reasoning(_)
            | Body::Opaque { .. } => {
                said(&mut out, &mut first_result, (place, item));
            }
            Body::Message { role: Role::User | Role::System | Role::Developer, .. }
            | Body::Compaction { .. }
            | Body::Note { .. } => {
                if open.is_empty() {
                    out.push((place, item));
                } else {
                    held.push((place, item));
                }
            }
            Body::Erased => {}
        }
    }
    out.append(&mut held);
    out
}

/// What a model said while calls are open goes before their results.
fn said<'a>(
    out: &mut Vec<(usize, &'a Item)>,
    first_result: &mut Option<usize>,
    item: (usize, &'a Item),
) {
    match first_result {
        Some(place) => {
            out.insert(*place, item);
            *place += 1;
        }
        None => out.push(item),
    }
}

/// How many of the arranged items, from the first, belong to the request's cacheable part.
pub(crate) fn n_prefix(arranged: &[(usize, &Item)], request: &Request) -> usize {
    arranged.iter().take_while(|(place, _)| *place < request.n_prefix).count()
}

/// What a request could not take along, each thing once, with how often.
#[derive(Debug, Default)]
pub(crate) struct Left(BTreeMap<String, u32>);

impl Left {
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn words(self) -> Vec<String> {
        let word = |(what, n)| if n == 1 { what } else { format!("{what} ({n} times)") };
        self.0.into_iter().map(word).collect()
    }
}

/// The upstream name of a call: short, and the same in every request.
pub(crate) fn call_id(call: CallId, short: bool) -> String {
    if !short {
        return format!("call_{}_{}", call.turn, call.n);
    }
    let bits = u64::from(call.turn) << 20 | u64::from(call.n) & 0xf_ffff;
    let digit = |i: u32| {
        let digit = (bits >> (5 * (8 - i)) & 31) as u32;
        char::from_digit(digit, 32).expect("five bits are a digit")
    };
    (0..9).map(digit).collect()
}

/// The tools a model may be offered as functions: ours and the client's; of the same name, the client's.
pub(crate) fn functions(request: &Request) -> Vec<&Tool> {
    let tools = &request.agent.tools;
    let is_client = |it: &&Tool| matches!(it.runs, Runs::Client);
    let clients: BTreeSet<&str> =
        tools.iter().filter(is_client).map(|it| it.name.as_str()).collect();
    let (mut seen, mut offered) = (BTreeSet::new(), Vec::new());
    for tool in tools {
        let wanted = match tool.runs {
            Runs::Client => true,
            Runs::Server(_) => !clients.contains(tool.name.as_str()),
            Runs::Provider { .. } => false,
        };
        if wanted && seen.insert(tool.name.as_str()) {
            offered.push(tool);
        }
    }
    offered
}

/// The schema of a function without parameters.
pub(crate) const NO_PARAMETERS: &str =
    r#"{"type":"object","properties":{},"required":[],"additionalProperties":false}"#;

/// The text of a result. One that says nothing gets words for how it ended.
pub(crate) fn result_text(outcome: Outcome, output: &[Part]) -> String {
    let text = plain_text(output);
    if !text.is_empty() || (outcome == Outcome::Ok && !output.is_empty()) {
        return text;
    }
    match outcome {
        Outcome::Ok => "",
        Outcome::Failed => "The call failed.",
        Outcome::Denied => "The call was not allowed, and was not run.",
        Outcome::Cancelled => "The call was cancelled: its result is not wanted any more.",
        Outcome::Unknown => {
            "It is not known whether this call was carried out. Do not assume either; find out before you repeat it."
        }
    }
    .to_owned()
}

pub(crate) fn plain_text(parts: &[Part]) -> String {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|it| match it {
            Part::Text { text, .. } | Part::Refusal { text } => Some(text.as_str()),
            Part::Image { .. } | Part::Opaque { .. } => None,
        })
        .collect();
    texts.join("\n")
}

pub(crate) fn images(parts: &[Part]) -> impl Iterator<Item = &Part> {
    parts.iter().filter(|it| matches!(it, Part::Image { .. }))
}

/// Stands before the images of a result that could not be inside it.
pub(crate) fn images_of(call: &str) -> String {
    format!("Images of the result of {call}:")
}

/// Stands before what a compaction kept.
pub(crate) const SUMMARY: &str = "Summary of the conversation so far:\n";

pub(crate) fn reasoning_left_behind(domain: &str) -> String {
    format!("reasoning sealed for `{domain}`")
}
