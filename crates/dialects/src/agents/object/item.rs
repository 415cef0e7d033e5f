//! Items as the API tells them. What it has no item for (notes, compactions, system messages, items of other dialects)
//! is left out.

use everstate_kernel::ids::{CallId, ItemId};
use everstate_kernel::item::{Body, Item, Outcome, Part, Role, Status};

use crate::arrange::{plain_text, result_text};
use crate::json::{Obj, array, extra_of, quoted, sound, tidy};
use crate::responses;
use crate::{ItemKind, Names};

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    InProgress,
    Completed,
    Failed,
    Incomplete,
}

impl Stage {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Stage::InProgress => "in_progress",
            Stage::Completed => "completed",
            Stage::Failed => "failed",
            Stage::Incomplete => "incomplete",
        }
    }

    pub(crate) fn of_outcome(outcome: Outcome) -> Stage {
        match outcome {
            Outcome::Ok => Stage::Completed,
            Outcome::Failed | Outcome::Denied => Stage::Failed,
            Outcome::Cancelled | Outcome::Unknown => Stage::Incomplete,
        }
    }
}

impl From<Status> for Stage {
    fn from(status: Status) -> Stage {
        match status {
            Status::Completed => Stage::Completed,
            Status::Incomplete => Stage::Incomplete,
        }
    }
}

fn begin(names: &dyn Names, id: ItemId, kind: ItemKind, word: &str) -> Obj {
    let mut out = Obj::new();
    out.str("id", &names.item(id, kind)).str("type", word);
    out.str("turn_id", &names.session_turn(id.turn));
    out
}

/// What a user said; `None` for everything else.
pub(crate) fn user_message(names: &dyn Names, item: &Item) -> Option<String> {
    let Body::Message { role: Role::User, parts } = &item.body else { return None };
    let part = |part: &Part| match part {
        Part::Text { text, .. } | Part::Refusal { text } => Some(text_part("input_text", text)),
        Part::Image { url, .. } => Some(image_part(url)),
        Part::Opaque { .. } => None,
    };
    let mut out = begin(names, item.id, ItemKind::Message, "message");
    out.str("role", "user").str("status", Stage::from(item.status).word());
    out.raw("content", &array(parts.iter().filter_map(part)));
    Some(out.text())
}

/// The texts of a message as they are told. A refusal is a text here: the API has no word for it.
pub(crate) fn texts(parts: &[Part]) -> impl Iterator<Item = &str> {
    parts.iter().filter_map(|it| match it {
        Part::Text { text, .. } | Part::Refusal { text } => Some(text.as_str()),
        Part::Image { .. } | Part::Opaque { .. } => None,
    })
}

pub(crate) fn assistant_message<'a>(
    names: &dyn Names,
    id: ItemId,
    stage: Stage,
    phase: Option<&str>,
    texts: impl Iterator<Item = &'a str>,
) -> String {
    let mut out = begin(names, id, ItemKind::Message, "message");
    out.str("role", "assistant").str("status", stage.word());
    out.str_or_null("phase", phase);
    out.raw("content", &array(texts.map(|it| text_part("output_text", it))));
    out.text()
}

/// What a message is to its turn. Clients read structured answers out of every message that is no commentary, so one
/// that goes along with calls always is.
pub(crate) fn phase(item: &Item, with_calls: bool) -> Option<&'static str> {
    const COMMENTARY: &str = "commentary";
    const FINAL: &str = "final_answer";
    if item.status == Status::Incomplete {
        return None;
    }
    let told = || extra_of(responses::NAME, item.extra.as_ref())?.text("phase");
    match with_calls || told().as_deref() == Some(COMMENTARY) {
        true => Some(COMMENTARY),
        false => Some(FINAL),
    }
}

/// Did the answer that these items are ask for tools?
pub(crate) fn has_calls<'a>(mut items: impl Iterator<Item = &'a Item>) -> bool {
    items.any(|it| it.status == Status::Completed && matches!(it.body, Body::Call { .. }))
}

pub(crate) fn reasoning<'a>(
    names: &dyn Names,
    id: ItemId,
    stage: Stage,
    summary: impl Iterator<Item = &'a str>,
) -> String {
    let mut out = begin(names, id, ItemKind::Reasoning, "reasoning");
    out.str("status", stage.word());
    out.raw("summary", &array(summary.map(|it| text_part("summary_text", it))));
    out.text()
}

/// A call and, once it is known, what came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Called<'a> {
    pub(crate) item: ItemId,
    pub(crate) call: CallId,
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a str,
}

pub(crate) fn function_call(names: &dyn Names, called: Called<'_>, stage: Stage) -> String {
    let mut out = begin(names, called.item, ItemKind::FunctionCall, "function_call");
    out.str("status", stage.word()).str("call_id", &names.call(called.call));
    out.str("name", called.name).raw("arguments", &arguments_json(called.arguments));
    out.text()
}

/// A call of a tool that we run. `stage` is for one whose result is not known.
pub(crate) fn server_call(
    names: &dyn Names,
    called: Called<'_>,
    label: &str,
    stage: Stage,
    result: Option<(Outcome, &[Part])>,
) -> String {
    let mut out = begin(names, called.item, ItemKind::ServerCall, "mcp_call");
    let stage = result.map_or(stage, |(outcome, _)| Stage::of_outcome(outcome));
    out.str("status", stage.word()).str("server_label", label).str("name", called.name);
    out.raw("arguments", &arguments_json(called.arguments));
    let text = result.map(|(outcome, output)| result_text(outcome, output));
    let (output, error) = match stage {
        Stage::Completed => (text, None),
        Stage::InProgress | Stage::Failed | Stage::Incomplete => (None, text),
    };
    out.str_or_null("output", output.as_deref()).str_or_null("error", error.as_deref());
    out.text()
}

pub(crate) fn function_output(
    names: &dyn Names,
    item: ItemId,
    call: CallId,
    outcome: Outcome,
    output: &[Part],
) -> String {
    let mut out = begin(names, item, ItemKind::FunctionCallOutput, "function_call_output");
    out.str("status", Stage::of_outcome(outcome).word()).str("call_id", &names.call(call));
    if outcome != Outcome::Ok {
        out.null("output").str("error", &result_text(outcome, output));
        return out.text();
    }
    let has_images = output.iter().any(|it| matches!(it, Part::Image { .. }));
    match output {
        [] => out.null("output"),
        parts if has_images => {
            let part = |part: &Part| match part {
                Part::Text { text, .. } | Part::Refusal { text } => {
                    Some(text_part("input_text", text))
                }
                Part::Image { url, .. } => Some(image_part(url)),
                Part::Opaque { .. } => None,
            };
            out.raw("output", &array(parts.iter().filter_map(part)))
        }
        parts => out.str("output", &plain_text(parts)),
    };
    out.null("error");
    out.text()
}

pub(crate) fn text_part(kind: &str, text: &str) -> String {
    let mut out = Obj::of_kind(kind);
    out.str("text", text);
    out.text()
}

fn image_part(url: &str) -> String {
    let mut out = Obj::of_kind("input_image");
    out.str("image_url", url);
    out.text()
}

/// Arguments as the value that the model wrote, in one line; what is no JSON is told as the text it is. A model that
/// has nothing to say to a function often writes nothing at all.
pub(crate) fn arguments_json(text: &str) -> String {
    if text.trim().is_empty() {
        return "{}".to_owned();
    }
    let value = tidy(text).ok().filter(|it| sound(it).is_ok());
    value.map_or_else(|| quoted(text), |it| it.into_owned())
}
