//! How a rehearsal says an answer: as the events of the Responses API, so that it is read by the same code as the
//! answer of a real server.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::rehearsal::MODEL;
use crate::rehearsal::scene::Scene;
use crate::rehearsal::script::{Finish, Usage};
use crate::reply::BYTES_PER_TOKEN;

/// So many events come before the first item.
pub(crate) const HEAD: usize = 2;

/// An item of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    Reasoning(String),
    Text(String),
    Call { name: String, arguments: String },
}

/// One event on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Spoken {
    pub(crate) bytes: Bytes,
    /// A fragment of text, reasoning or arguments: what delays and breaks count.
    pub(crate) is_piece: bool,
    pub(crate) is_end: bool,
}

pub(crate) struct Voice<'a> {
    scene: &'a Scene,
    out: Vec<Spoken>,
    sequence_number: u64,
    items: Vec<Value>,
}

impl<'a> Voice<'a> {
    pub(crate) fn new(scene: &'a Scene) -> Voice<'a> {
        Voice { scene, out: Vec::new(), sequence_number: 0, items: Vec::new() }
    }

    pub(crate) fn say(mut self, said: &[Said], finish: Finish, usage: Usage) -> Vec<Spoken> {
        let begun = self.response("in_progress", Value::Null, Value::Null);
        self.event("response.created", json!({"response": begun}));
        self.event("response.in_progress", json!({"response": begun}));
        for item in said {
            match item {
                Said::Reasoning(text) => self.reasoning(text),
                Said::Text(text) => self.text(text),
                Said::Call { name, arguments } => self.call(name, arguments),
            }
        }
        let usage = self.usage(said, usage);
        let (event, status, why) = match finish {
            Finish::Stop => ("response.completed", "completed", Value::Null),
            Finish::Length => {
                ("response.incomplete", "incomplete", json!({"reason": "max_output_tokens"}))
            }
            Finish::Filter => {
                ("response.incomplete", "incomplete", json!({"reason": "content_filter"}))
            }
        };
        let ended = self.response(status, why, usage);
        self.event(event, json!({"response": ended}));
        if let Some(last) = self.out.last_mut() {
            last.is_end = true;
        }
        self.out
    }

    fn text(&mut self, text: &str) {
        let (index, id) = (self.items.len(), format!("msg_{}", self.items.len()));
        let part = |text: &str| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []});
        let item = |status: &str, content: Value| json!({"type": "message", "id": id, "status": status, "role": "assistant", "content": content});
        let at = json!({"output_index": index, "item_id": id, "content_index": 0});
        self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item("in_progress", json!([]))}),
        );
        self.event("response.content_part.added", with(&at, json!({"part": part("")})));
        for piece in pieces(text) {
            self.piece(
                "response.output_text.delta",
                with(&at, json!({"delta": piece, "logprobs": []})),
            );
        }
        self.event("response.output_text.done", with(&at, json!({"text": text, "logprobs": []})));
        self.event("response.content_part.done", with(&at, json!({"part": part(text)})));
        self.done(index, item("completed", json!([part(text)])));
    }

    fn reasoning(&mut self, text: &str) {
        let (index, id) = (self.items.len(), format!("rs_{}", self.items.len()));
        let part = |text: &str| json!({"type": "summary_text", "text": text});
        let item = |summary: Value| json!({"type": "reasoning", "id": id, "summary": summary});
        let at = json!({"output_index": index, "item_id": id, "summary_index": 0});
        self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item(json!([]))}),
        );
        self.event("response.reasoning_summary_part.added", with(&at, json!({"part": part("")})));
        for piece in pieces(text) {
            self.piece("response.reasoning_summary_text.delta", with(&at, json!({"delta": piece})));
        }
        self.event("response.reasoning_summary_text.done", with(&at, json!({"text": text})));
        self.event("response.reasoning_summary_part.done", with(&at, json!({"part": part(text)})));
        self.done(index, item(json!([part(text)])));
    }

    fn call(&mut self, name: &str, arguments: &str) {
        let (index, id) = (self.items.len(), format!("fc_{}", self.items.len()));
        let item = |status: &str, arguments: &str| {
            json!({"type": "function_call", "id": id, "status": status, "call_id": format!("call_{index}"),
                "name": name, "arguments": arguments})
        };
        let at = json!({"output_index": index, "item_id": id});
        self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item("in_progress", "")}),
        );
        for piece in pieces(arguments) {
            self.piece(
                "response.function_call_arguments.delta",
                with(&at, json!({"delta": piece})),
            );
        }
        let whole = json!({"name": name, "arguments": arguments});
        self.event("response.function_call_arguments.done", with(&at, whole));
        self.done(index, item("completed", arguments));
    }

    fn done(&mut self, index: usize, item: Value) {
        self.event("response.output_item.done", json!({"output_index": index, "item": item}));
        self.items.push(item);
    }

    /// The response object. Its time is always 0: an answer is the same whenever it is given.
    fn response(&self, status: &str, incomplete: Value, usage: Value) -> Value {
        let Scene { turn, step, attempt, .. } = self.scene;
        json!({
            "id": format!("resp_{MODEL}_{turn}_{step}_{attempt}"), "object": "response", "created_at": 0,
            "status": status, "error": null, "incomplete_details": incomplete, "model": MODEL,
            "output": self.items, "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
            "instructions": null, "metadata": {}, "temperature": 1.0, "top_p": 1.0, "usage": usage,
        })
    }

    fn usage(&self, said: &[Said], usage: Usage) -> Value {
        let tokens = |bytes: u64| bytes.div_ceil(BYTES_PER_TOKEN);
        let len = |it: &Said| match it {
            Said::Reasoning(text) | Said::Text(text) => text.len() as u64,
            Said::Call { name, arguments } => (name.len() + arguments.len()) as u64,
        };
        let thought = said.iter().filter(|it| matches!(it, Said::Reasoning(_))).map(len).sum();
        let input = usage.input.unwrap_or(tokens(self.scene.bytes));
        let output = usage.output.unwrap_or(tokens(said.iter().map(len).sum()));
        json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": usage.cached.unwrap_or(0).min(input)},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(tokens(thought)).min(output)},
            "total_tokens": input.saturating_add(output),
        })
    }

    fn piece(&mut self, event: &str, data: Value) {
        self.event(event, data);
        if let Some(last) = self.out.last_mut() {
            last.is_piece = true;
        }
    }

    fn event(&mut self, event: &str, data: Value) {
        let head = json!({"type": event, "sequence_number": self.sequence_number});
        self.sequence_number += 1;
        let bytes = Bytes::from(format!("event: {event}\ndata: {}\n\n", with(&head, data)));
        self.out.push(Spoken { bytes, is_piece: false, is_end: false });
    }
}

/// The fields of both.
fn with(head: &Value, tail: Value) -> Value {
    let (mut all, tail) = (head.clone(), tail);
    if let (Value::Object(all), Value::Object(tail)) = (&mut all, tail) {
        all.extend(tail);
    }
    all
}

/// Words, each with the space after it.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(char::is_whitespace)
}
