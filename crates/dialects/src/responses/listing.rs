//! What a client said, as `input_items` lists it.

use std::collections::BTreeMap;

use everstate_kernel::ids::CallId;
use everstate_kernel::item::{Body, Item, Part, Role, Status};
use everstate_kernel::json::Json;

use crate::arrange::result_text;
use crate::json::{Fields, Obj, array, extra_of};
use crate::responses::voice::slot;
use crate::responses::{NAME, wire};
use crate::{ItemKind, Names};

/// The wire objects of the items that a client said in one input, in their order. A call that it told as history keeps
/// the client's name for it; what has no wire form (compactions, erased items) is left out.
pub fn list<'a>(names: &dyn Names, items: impl IntoIterator<Item = &'a Item>) -> Vec<Json> {
    let mut told: BTreeMap<CallId, String> = BTreeMap::new();
    let mut out = Vec::new();
    for item in items {
        if let (Body::Call { call, .. }, Some(id)) = (&item.body, &item.provider_id) {
            told.insert(*call, id.clone());
        }
        out.extend(one(names, item, &told));
    }
    out
}

fn one(names: &dyn Names, item: &Item, told: &BTreeMap<CallId, String>) -> Option<Json> {
    let call_id = |call: &CallId| told.get(call).cloned().unwrap_or_else(|| names.call(*call));
    let status = match item.status {
        Status::Completed => "completed",
        Status::Incomplete => "incomplete",
    };
    let begin = |kind: ItemKind, word: &str| {
        let mut out = Obj::new();
        out.str("id", &names.item(item.id, kind)).str("type", word);
        out
    };
    let mut out = match &item.body {
        Body::Message { role, parts } => {
            let mut out = begin(ItemKind::Message, "message");
            out.str("status", status).str("role", role_word(*role));
            let parts = parts.iter().filter_map(|it| part(it, *role));
            out.raw("content", &array(parts));
            out
        }
        Body::Note { text } => {
            let mut out = begin(ItemKind::Message, "message");
            out.str("status", status).str("role", "developer");
            out.raw("content", &array(part(&Part::text(text.clone()), Role::Developer)));
            out
        }
        Body::Reasoning(reasoning) => {
            let mut out = begin(ItemKind::Reasoning, "reasoning");
            out.str("status", status);
            out.raw("summary", &array(reasoning.summary.iter().map(|it| slot::summary_part(it))));
            if !reasoning.content.is_empty() {
                let parts = reasoning.content.iter().map(|it| slot::thought_part(it));
                out.raw("content", &array(parts));
            }
            if let Some(sealed) = &reasoning.sealed {
                out.str("encrypted_content", &wire::seal(sealed));
            }
            out
        }
        Body::Call { call, name, arguments } => {
            let mut out = begin(ItemKind::FunctionCall, "function_call");
            out.str("status", status).str("arguments", arguments);
            out.str("call_id", &call_id(call)).str("name", name);
            out
        }
        Body::Result { call, outcome, output } => {
            let mut out = begin(ItemKind::FunctionCallOutput, "function_call_output");
            out.str("status", status).str("call_id", &call_id(call));
            let rich =
                output.iter().any(|it| !matches!(it, Part::Text { .. } | Part::Refusal { .. }));
            match rich {
                true => {
                    out.raw("output", &array(output.iter().filter_map(|it| part(it, Role::User))))
                }
                false => out.str("output", &result_text(*outcome, output)),
            };
            out
        }
        Body::Opaque { dialect, json } => {
            if dialect != NAME {
                return None;
            }
            let mut out = Obj::new();
            out.str("id", &names.item(item.id, ItemKind::Other));
            for (name, json) in Fields::of(json)?.iter().filter(|(name, _)| *name != "id") {
                out.raw(name, json.text());
            }
            out
        }
        Body::Compaction { .. } | Body::Erased => return None,
    };
    for (name, json) in extra_of(NAME, item.extra.as_ref()).unwrap_or_default().iter() {
        out.raw(name, json.text());
    }
    Some(out.json())
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

fn part(part: &Part, role: Role) -> Option<String> {
    match part {
        Part::Text { .. } | Part::Refusal { .. } if role == Role::Assistant => {
            Some(slot::part(part))
        }
        Part::Text { text, .. } | Part::Refusal { text } => {
            let mut out = Obj::of_kind("input_text");
            out.str("text", text);
            Some(out.text())
        }
        Part::Image { url, detail } => {
            let mut out = Obj::of_kind("input_image");
            out.str("detail", detail.as_deref().unwrap_or("auto")).null("file_id");
            out.str("image_url", url);
            Some(out.text())
        }
        Part::Opaque { dialect, json } => (dialect == NAME).then(|| json.text().to_owned()),
    }
}
