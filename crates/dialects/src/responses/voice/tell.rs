//! The voice's small words: how each part of an item is opened, grows and is closed on the wire.
//!
//! The order is what clients rely on: an item is added before its parts, a part before its text; a part is done
//! before the next begins, and all parts before their item.

use everstate_kernel::delta::Opening;
use everstate_kernel::ids::{CallId, ItemId};
use everstate_kernel::item::{Body, Item, Outcome, Part, Status};
use everstate_kernel::json::Json;

use crate::arrange::result_text;
use crate::json::{Fields, Obj};
use crate::responses::NAME;
use crate::responses::voice::object::ToolList;
use crate::responses::voice::slot::{
    OpenPart, Progress, Shown, Slot, part, summary_part, thought_part,
};
use crate::responses::voice::{Voice, WireEvent};
use crate::{ItemKind, Names};

impl Voice {
    /// Writes one event. The number of events is part of what is told: it counts every one, from 0.
    fn say(&mut self, event: &'static str, out: &mut Vec<WireEvent>, fill: impl FnOnce(&mut Obj)) {
        let mut data = Obj::of_kind(event);
        data.num("sequence_number", self.next_event);
        fill(&mut data);
        self.next_event += 1;
        out.push(WireEvent { event, data: data.text() });
    }

    /// An event about the item at `place`.
    fn say_of(
        &mut self,
        event: &'static str,
        place: usize,
        out: &mut Vec<WireEvent>,
        fill: impl FnOnce(&mut Obj),
    ) {
        let id = self.slots[place].id.clone();
        self.say(event, out, |data| {
            data.str("item_id", &id).num("output_index", place as u64);
            fill(data);
        });
    }

    pub(super) fn say_response(
        &mut self,
        event: &'static str,
        names: &dyn Names,
        out: &mut Vec<WireEvent>,
    ) {
        let response = self.object(names);
        self.say(event, out, |data| {
            data.raw("response", response.text());
        });
    }

    /// Shows a new item.
    pub(super) fn add(&mut self, slot: Slot, out: &mut Vec<WireEvent>) -> usize {
        let place = self.slots.len();
        let json = slot.json();
        self.slots.push(slot);
        self.say("response.output_item.added", out, |data| {
            data.num("output_index", place as u64).raw("item", &json);
        });
        place
    }

    /// Shows what a model begins to say. Calls that we run appear when they are run; items of other dialects never.
    pub(super) fn open(
        &mut self,
        names: &dyn Names,
        id: ItemId,
        opening: &Opening,
        call: Option<CallId>,
        out: &mut Vec<WireEvent>,
    ) -> Option<usize> {
        let (kind, body) = match opening {
            Opening::Message => (ItemKind::Message, Shown::Message { parts: Vec::new() }),
            Opening::Reasoning => (
                ItemKind::Reasoning,
                Shown::Reasoning {
                    summary: Vec::new(),
                    content: Vec::new(),
                    sealed: None,
                    open: None,
                },
            ),
            Opening::Call { name } => {
                if self.server_of(name).is_some() {
                    return None;
                }
                let body = Shown::Call {
                    call_id: names.call(call?),
                    name: name.clone(),
                    arguments: String::new(),
                };
                (ItemKind::FunctionCall, body)
            }
            Opening::Opaque { dialect, json } => {
                if dialect != NAME {
                    return None;
                }
                (ItemKind::Other, Shown::Opaque(Fields::of(json)?))
            }
        };
        Some(self.add(Slot::new(names.item(id, kind), Some(id), body), out))
    }

    /// Closes an item and whatever of it is open. Closing twice is closing once.
    pub(super) fn close(&mut self, place: usize, status: Status, out: &mut Vec<WireEvent>) {
        if !self.slots[place].is_open() {
            return;
        }
        match &self.slots[place].body {
            Shown::Message { .. } => self.end_part(place, out),
            Shown::Reasoning { .. } => self.end_thought(place, out),
            Shown::Call { arguments, .. } => {
                let arguments = arguments.clone();
                self.say_of("response.function_call_arguments.done", place, out, |data| {
                    data.str("arguments", &arguments);
                });
            }
            Shown::ServerCall { .. } => {
                self.say_of("response.mcp_call.failed", place, out, |_| {});
            }
            Shown::Result { .. }
            | Shown::Approval { .. }
            | Shown::List { .. }
            | Shown::Opaque(_) => {}
        }
        self.slots[place].progress = Progress::Closed(status);
        self.item_done(place, out);
    }

    fn item_done(&mut self, place: usize, out: &mut Vec<WireEvent>) {
        let json = self.slots[place].json();
        self.say("response.output_item.done", out, |data| {
            data.num("output_index", place as u64).raw("item", &json);
        });
    }

    // ---- messages ----------------------------------------------------------------------------

    /// The message's parts, while it is open.
    fn parts(&mut self, place: usize) -> Option<&mut Vec<Part>> {
        let slot = self.slots.get_mut(place).filter(|it| it.is_open())?;
        match &mut slot.body {
            Shown::Message { parts } => Some(parts),
            Shown::Reasoning { .. }
            | Shown::Call { .. }
            | Shown::Result { .. }
            | Shown::ServerCall { .. }
            | Shown::Approval { .. }
            | Shown::List { .. }
            | Shown::Opaque(_) => None,
        }
    }

    fn last_part(&self, place: usize) -> Option<(usize, &Part)> {
        match &self.slots.get(place)?.body {
            Shown::Message { parts } => Some((parts.len().checked_sub(1)?, parts.last()?)),
            Shown::Reasoning { .. }
            | Shown::Call { .. }
            | Shown::Result { .. }
            | Shown::ServerCall { .. }
            | Shown::Approval { .. }
            | Shown::List { .. }
            | Shown::Opaque(_) => None,
        }
    }

    fn new_part(&mut self, place: usize, new: Part, out: &mut Vec<WireEvent>) {
        if self.parts(place).is_none() {
            return;
        }
        self.end_part(place, out);
        let json = part(&new);
        let Some(parts) = self.parts(place) else { return };
        parts.push(new);
        let index = parts.len() as u64 - 1;
        self.say_of("response.content_part.added", place, out, |data| {
            data.num("content_index", index).raw("part", &json);
        });
    }

    fn end_part(&mut self, place: usize, out: &mut Vec<WireEvent>) {
        let Some((index, last)) = self.last_part(place) else { return };
        let (index, last) = (index as u64, last.clone());
        match &last {
            Part::Text { text, .. } => {
                self.say_of("response.output_text.done", place, out, |data| {
                    data.num("content_index", index).str("text", text).raw("logprobs", "[]");
                });
            }
            Part::Refusal { text } => {
                self.say_of("response.refusal.done", place, out, |data| {
                    data.num("content_index", index).str("refusal", text);
                });
            }
            Part::Image { .. } | Part::Opaque { .. } => {}
        }
        self.say_of("response.content_part.done", place, out, |data| {
            data.num("content_index", index).raw("part", &part(&last));
        });
    }

    pub(super) fn text_part(&mut self, place: usize, out: &mut Vec<WireEvent>) {
        self.new_part(place, Part::text(""), out);
    }

    pub(super) fn text(&mut self, place: usize, text: &str, out: &mut Vec<WireEvent>) {
        if !matches!(self.last_part(place), Some((_, Part::Text { .. }))) {
            self.new_part(place, Part::text(""), out);
        }
        let Some(parts) = self.parts(place) else { return };
        let index = parts.len() as u64 - 1;
        if let Some(Part::Text { text: so_far, .. }) = parts.last_mut() {
            so_far.push_str(text);
        }
        if !text.is_empty() {
            self.say_of("response.output_text.delta", place, out, |data| {
                data.num("content_index", index).str("delta", text).raw("logprobs", "[]");
            });
        }
    }

    pub(super) fn refusal(&mut self, place: usize, text: &str, out: &mut Vec<WireEvent>) {
        if !matches!(self.last_part(place), Some((_, Part::Refusal { .. }))) {
            self.new_part(place, Part::Refusal { text: String::new() }, out);
        }
        let Some(parts) = self.parts(place) else { return };
        let index = parts.len() as u64 - 1;
        if let Some(Part::Refusal { text: so_far }) = parts.last_mut() {
            so_far.push_str(text);
        }
        if !text.is_empty() {
            self.say_of("response.refusal.delta", place, out, |data| {
                data.num("content_index", index).str("delta", text);
            });
        }
    }

    pub(super) fn annotation(&mut self, place: usize, annotation: &Json, out: &mut Vec<WireEvent>) {
        let Some(parts) = self.parts(place) else { return };
        let index = parts.len();
        let Some(Part::Text { annotations, .. }) = parts.last_mut() else { return };
        annotations.push(annotation.clone());
        let n = annotations.len() as u64 - 1;
        self.say_of("response.output_text.annotation.added", place, out, |data| {
            data.num("content_index", index as u64 - 1);
            data.num("annotation_index", n).raw("annotation", annotation.text());
        });
    }

    // ---- reasoning ---------------------------------------------------------------------------

    fn end_thought(&mut self, place: usize, out: &mut Vec<WireEvent>) {
        let Shown::Reasoning { summary, content, open, .. } = &mut self.slots[place].body else {
            return;
        };
        let Some(kind) = open.take() else { return };
        let of =
            |texts: &[String]| (texts.len() as u64 - 1, texts.last().cloned().unwrap_or_default());
        match kind {
            OpenPart::Summary => {
                let (index, text) = of(summary);
                self.say_of("response.reasoning_summary_text.done", place, out, |data| {
                    data.num("summary_index", index).str("text", &text);
                });
                self.say_of("response.reasoning_summary_part.done", place, out, |data| {
                    data.num("summary_index", index).raw("part", &summary_part(&text));
                });
            }
            OpenPart::Content => {
                let (index, text) = of(content);
                self.say_of("response.reasoning_text.done", place, out, |data| {
                    data.num("content_index", index).str("text", &text);
                });
                self.say_of("response.content_part.done", place, out, |data| {
                    data.num("content_index", index).raw("part", &thought_part(&text));
                });
            }
        }
    }

    pub(super) fn summary_part(&mut self, place: usize, out: &mut Vec<WireEvent>) {
        if !self.slots[place].is_open() {
            return;
        }
        self.end_thought(place, out);
        let Shown::Reasoning { summary, open, .. } = &mut self.slots[place].body else { return };
        summary.push(String::new());
        *open = Some(OpenPart::Summary);
        let index = summary.len() as u64 - 1;
        self.say_of("response.reasoning_summary_part.added", place, out, |data| {
            data.num("summary_index", index).raw("part", &summary_part(""));
        });
    }

    pub(super) fn summary(&mut self, place: usize, text: &str, out: &mut Vec<WireEvent>) {
        if !self.slots[place].is_open() {
            return;
        }
        let Shown::Reasoning { summary, open, .. } = &self.slots[place].body else { return };
        if *open != Some(OpenPart::Summary) && summary.is_empty() {
            self.summary_part(place, out);
        }
        let Shown::Reasoning { summary, .. } = &mut self.slots[place].body else { return };
        let index = summary.len() as u64 - 1;
        if let Some(last) = summary.last_mut() {
            last.push_str(text);
        }
        if !text.is_empty() {
            self.say_of("response.reasoning_summary_text.delta", place, out, |data| {
                data.num("summary_index", index).str("delta", text);
            });
        }
    }

    pub(super) fn thought(&mut self, place: usize, text: &str, out: &mut Vec<WireEvent>) {
        if !self.slots[place].is_open() {
            return;
        }
        let Shown::Reasoning { content, open, .. } = &self.slots[place].body else { return };
        if *open != Some(OpenPart::Content) && content.is_empty() {
            self.end_thought(place, out);
            let Shown::Reasoning { content, open, .. } = &mut self.slots[place].body else {
                return;
            };
            content.push(String::new());
            *open = Some(OpenPart::Content);
            self.say_of("response.content_part.added", place, out, |data| {
                data.num("content_index", 0).raw("part", &thought_part(""));
            });
        }
        let Shown::Reasoning { content, .. } = &mut self.slots[place].body else { return };
        let index = content.len() as u64 - 1;
        if let Some(last) = content.last_mut() {
            last.push_str(text);
        }
        if !text.is_empty() {
            self.say_of("response.reasoning_text.delta", place, out, |data| {
                data.num("content_index", index).str("delta", text);
            });
        }
    }

    // ---- calls -------------------------------------------------------------------------------

    pub(super) fn arguments(&mut self, place: usize, text: &str, out: &mut Vec<WireEvent>) {
        if !self.slots[place].is_open() || text.is_empty() {
            return;
        }
        let Shown::Call { arguments, .. } = &mut self.slots[place].body else { return };
        arguments.push_str(text);
        self.say_of("response.function_call_arguments.delta", place, out, |data| {
            data.str("delta", text);
        });
    }

    pub(super) fn tell_call(
        &mut self,
        names: &dyn Names,
        item: ItemId,
        label: String,
        name: &str,
        approval: Option<String>,
        out: &mut Vec<WireEvent>,
    ) -> usize {
        let body = Shown::ServerCall {
            label,
            name: name.to_owned(),
            arguments: String::new(),
            output: None,
            error: None,
            approval,
        };
        let place =
            self.add(Slot::new(names.item(item, ItemKind::ServerCall), Some(item), body), out);
        self.say_of("response.mcp_call.in_progress", place, out, |_| {});
        place
    }

    pub(super) fn server_arguments(&mut self, place: usize, text: &str, out: &mut Vec<WireEvent>) {
        if let Shown::ServerCall { arguments, .. } = &mut self.slots[place].body {
            *arguments = text.to_owned();
        }
        self.say_of("response.mcp_call_arguments.delta", place, out, |data| {
            data.str("delta", text);
        });
        self.say_of("response.mcp_call_arguments.done", place, out, |data| {
            data.str("arguments", text);
        });
    }

    pub(super) fn end_call(
        &mut self,
        call: CallId,
        outcome: Outcome,
        said: &[Part],
        out: &mut Vec<WireEvent>,
    ) {
        let Some(place) = self.run.get(&call).copied().filter(|it| self.slots[*it].is_open())
        else {
            return;
        };
        let text = result_text(outcome, said);
        let Shown::ServerCall { output, error, .. } = &mut self.slots[place].body else { return };
        let event = match outcome {
            Outcome::Ok => {
                *output = Some(text);
                self.slots[place].progress = Progress::Closed(Status::Completed);
                "response.mcp_call.completed"
            }
            Outcome::Failed | Outcome::Denied => {
                *error = Some(text);
                self.slots[place].progress = Progress::Failed;
                "response.mcp_call.failed"
            }
            Outcome::Cancelled | Outcome::Unknown => {
                *error = Some(text);
                self.slots[place].progress = Progress::Closed(Status::Incomplete);
                "response.mcp_call.failed"
            }
        };
        self.say_of(event, place, out, |_| {});
        self.item_done(place, out);
    }

    /// A call the client was shown, and that was answered without it.
    pub(super) fn tell_result(
        &mut self,
        names: &dyn Names,
        call: CallId,
        item: ItemId,
        outcome: Outcome,
        output: &[Part],
        out: &mut Vec<WireEvent>,
    ) {
        let body =
            Shown::Result { call_id: names.call(call), output: result_text(outcome, output) };
        let id = names.item(item, ItemKind::FunctionCallOutput);
        let place = self.add(Slot::new(id, Some(item), body), out);
        self.close(place, Status::Completed, out);
    }

    pub(super) fn tell_list(
        &mut self,
        names: &dyn Names,
        idx: u32,
        list: ToolList,
        out: &mut Vec<WireEvent>,
    ) {
        let id = names.item(ItemId { turn: self.turn, idx }, ItemKind::ToolList);
        let body = Shown::List { label: list.label, tools: list.tools };
        let place = self.add(Slot::new(id, None, body), out);
        self.say_of("response.mcp_list_tools.in_progress", place, out, |_| {});
        self.say_of("response.mcp_list_tools.completed", place, out, |_| {});
        self.close(place, Status::Completed, out);
    }

    // ---- facts after fragments ---------------------------------------------------------------

    /// Tells what of an item was not shown: all of it, where no fragment was.
    pub(super) fn catch_up(&mut self, place: usize, item: &Item, out: &mut Vec<WireEvent>) {
        if !self.slots[place].is_open() {
            return;
        }
        match &item.body {
            Body::Message { parts, .. } => self.catch_up_message(place, parts, out),
            Body::Reasoning(reasoning) => {
                for (index, text) in reasoning.summary.iter().enumerate() {
                    let Shown::Reasoning { summary, .. } = &self.slots[place].body else { return };
                    let rest = rest(text, summary.get(index).map(String::len));
                    let is_new = index >= summary.len();
                    if let Some(rest) = rest.filter(|_| index + 1 >= summary.len()) {
                        if is_new {
                            self.summary_part(place, out);
                        }
                        self.summary(place, rest, out);
                    }
                }
                let whole = reasoning.content.concat();
                let Shown::Reasoning { content, .. } = &self.slots[place].body else { return };
                let told = Some(content.concat().len()).filter(|_| !content.is_empty());
                if let Some(rest) = rest(&whole, told).filter(|_| !reasoning.content.is_empty()) {
                    self.thought(place, rest, out);
                }
                if let Some(sealed) = &reasoning.sealed {
                    self.slots[place].seal(sealed);
                }
            }
            Body::Call { arguments: whole, .. } => {
                let Shown::Call { arguments, .. } = &self.slots[place].body else { return };
                if let Some(rest) = rest(whole, Some(arguments.len())) {
                    self.arguments(place, rest, out);
                }
            }
            Body::Result { .. }
            | Body::Compaction { .. }
            | Body::Note { .. }
            | Body::Opaque { .. }
            | Body::Erased => {}
        }
        if let Some(extra) = &item.extra {
            self.slots[place].add_extra(extra);
        }
    }

    fn catch_up_message(&mut self, place: usize, parts: &[Part], out: &mut Vec<WireEvent>) {
        let told = parts.iter().filter(|it| matches!(it, Part::Text { .. } | Part::Refusal { .. }));
        for (index, part) in told.enumerate() {
            let Some(shown) = self.parts(place) else { return };
            if index + 1 < shown.len() {
                continue;
            }
            let (bytes, n_annotations) = match shown.get(index) {
                Some(Part::Text { text, annotations }) => (Some(text.len()), annotations.len()),
                Some(Part::Refusal { text }) => (Some(text.len()), 0),
                Some(Part::Image { .. } | Part::Opaque { .. }) | None => (None, 0),
            };
            match part {
                Part::Text { text, annotations } => {
                    if bytes.is_none() {
                        self.text_part(place, out);
                    }
                    if let Some(rest) = rest(text, bytes.or(Some(0))) {
                        self.text(place, rest, out);
                    }
                    for annotation in annotations.iter().skip(n_annotations) {
                        self.annotation(place, annotation, out);
                    }
                }
                Part::Refusal { text } => {
                    if let Some(rest) = rest(text, bytes) {
                        self.refusal(place, rest, out);
                    }
                }
                Part::Image { .. } | Part::Opaque { .. } => {}
            }
        }
    }
}

/// What is left to be told of `whole` after so many bytes; `None` if nothing is.
fn rest(whole: &str, told: Option<usize>) -> Option<&str> {
    match told {
        None => Some(whole),
        Some(bytes) => whole.get(bytes..).filter(|it| !it.is_empty()),
    }
}
