//! A provider's Responses answer, streamed or whole, as pieces.
//!
//! Some providers stream every letter, some only whole items, some send one object. All three end in a final item,
//! so each item is *caught up* with it: what was not yet told is told then. What was streamed and what is kept is
//! thereby the same, whoever serves.

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::delta::{Delta, Finish, Opening, Piece, ReplyEnd};
use everstate_kernel::input::Failure;
use everstate_kernel::item::{Sealed, Status};
use everstate_kernel::json::Json;
use everstate_kernel::money::Usage;

use crate::body::Hear;
use crate::failure;
use crate::json::Fields;
use crate::responses::{NAME, wire};

#[derive(Debug)]
pub(crate) struct Answer {
    /// Who can read what is sealed here.
    domain: String,
    items: Vec<Told>,
    /// The provider's output index of an item, and its place among ours.
    places: BTreeMap<u64, usize>,
    /// Items that are told when they are whole, and are not yet: what comes after them waits, so that the order of the
    /// items is the provider's.
    awaited: BTreeSet<u64>,
    held: Vec<(String, Fields)>,
}

/// What of an item has been told so far. Lengths are in bytes.
#[derive(Debug)]
struct Told {
    n: u32,
    body: ToldBody,
    closed: bool,
}

#[derive(Debug)]
enum ToldBody {
    Message { parts: Vec<ToldPart> },
    Reasoning { summary: Vec<usize>, content: Vec<usize>, sealed: bool },
    Call { arguments: usize },
    Opaque,
}

#[derive(Debug)]
struct ToldPart {
    index: usize,
    refusal: bool,
    bytes: usize,
    annotations: usize,
}

impl Answer {
    pub(crate) fn new(domain: String) -> Answer {
        Answer {
            domain,
            items: Vec::new(),
            places: BTreeMap::new(),
            awaited: BTreeSet::new(),
            held: Vec::new(),
        }
    }

    /// Opens an item. One that only its own dialect understands is told when it is whole.
    fn open(&mut self, index: u64, item: &Fields, whole: bool, out: &mut Vec<Piece>) {
        if self.places.contains_key(&index) {
            return;
        }
        let kind = item.text("type").unwrap_or_default();
        let mut provider_id = item.text("id");
        let (opening, body) = match kind.as_str() {
            "message" => (Opening::Message, ToldBody::Message { parts: Vec::new() }),
            "reasoning" => (
                Opening::Reasoning,
                ToldBody::Reasoning { summary: Vec::new(), content: Vec::new(), sealed: false },
            ),
            "function_call" => {
                provider_id = item.text("call_id").or(provider_id);
                let name = item.text("name").unwrap_or_default();
                (Opening::Call { name }, ToldBody::Call { arguments: 0 })
            }
            _ if !whole => {
                self.awaited.insert(index);
                return;
            }
            _ => {
                (Opening::Opaque { dialect: NAME.to_owned(), json: item.json() }, ToldBody::Opaque)
            }
        };
        let n = self.items.len() as u32;
        self.places.insert(index, self.items.len());
        self.items.push(Told { n, body, closed: false });
        out.push(Piece::Delta(Delta::Open { item: n, opening, provider_id }));
    }

    fn told(&mut self, index: u64) -> Option<&mut Told> {
        let place = *self.places.get(&index)?;
        self.items.get_mut(place).filter(|it| !it.closed)
    }

    /// The final form of an item: tells what is missing of it, and closes it.
    fn close(&mut self, index: u64, item: Fields, out: &mut Vec<Piece>) {
        self.awaited.remove(&index);
        self.open(index, &item, true, out);
        let domain = self.domain.clone();
        let Some(told) = self.told(index) else { return };
        told.catch_up(&item, &domain, out);
        let n = told.n;
        if !matches!(told.body, ToldBody::Opaque)
            && let Some(extra) = wire::item_extra(&item)
        {
            out.push(Piece::Delta(Delta::Extra { item: n, extra }));
        }
        let status = match item.text("status").as_deref() {
            Some("incomplete") => Status::Incomplete,
            Some(_) | None => Status::Completed,
        };
        told.closed = true;
        out.push(Piece::Delta(Delta::Close { item: n, status }));
    }

    /// The final form of the whole answer.
    fn finish(&mut self, response: &Fields, out: &mut Vec<Piece>) -> Result<(), Failure> {
        let finish = match response.text("status").as_deref() {
            Some("incomplete") => {
                let why = response.fields("incomplete_details").and_then(|it| it.text("reason"));
                match why.as_deref() {
                    Some("content_filter") => Finish::Filter,
                    Some(_) | None => Finish::Length,
                }
            }
            Some("failed") => return Err(failed(response)),
            Some(early @ ("queued" | "in_progress" | "cancelled")) => {
                return Err(failure::broken(format!(
                    "the provider ended an answer that is `{early}`"
                )));
            }
            Some(_) | None => Finish::Stop,
        };
        for (index, item) in response.list("output").unwrap_or_default().iter().enumerate() {
            if let Some(item) = Fields::of(item) {
                self.close(index as u64, item, out);
            }
        }
        // Items that are not in the final list (some providers leave it empty) end as they stand.
        for told in self.items.iter_mut().filter(|it| !it.closed) {
            told.closed = true;
            let status =
                if finish == Finish::Stop { Status::Completed } else { Status::Incomplete };
            out.push(Piece::Delta(Delta::Close { item: told.n, status }));
        }
        out.push(Piece::End(ReplyEnd {
            finish,
            usage: usage(response.fields("usage")),
            tier: response.text("service_tier"),
            provider_id: response.text("id"),
            model: response.text("model"),
        }));
        Ok(())
    }
}

impl Hear for Answer {
    fn event(&mut self, kind: &str, data: Fields, out: &mut Vec<Piece>) -> Result<(), Failure> {
        let kind = data.text("type").unwrap_or_else(|| kind.to_owned());
        let index = data.number("output_index");
        if self.awaited.first().is_some_and(|first| index.is_some_and(|it| it > *first)) {
            self.held.push((kind, data));
            return Ok(());
        }
        let index = index.unwrap_or(0);
        let part = |name| data.number(name).unwrap_or(0) as usize;
        let delta = || data.text("delta").unwrap_or_default();
        match kind.as_str() {
            "response.output_item.added" => {
                if let Some(item) = data.fields("item") {
                    self.open(index, &item, false, out);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = data.fields("item") {
                    let was_awaited = self.awaited.contains(&index);
                    self.close(index, item, out);
                    if was_awaited {
                        for (kind, data) in std::mem::take(&mut self.held) {
                            self.event(&kind, data, out)?;
                        }
                    }
                }
            }
            "response.output_text.delta" => {
                if let Some(told) = self.told(index) {
                    told.text(part("content_index"), false, &delta(), out);
                }
            }
            "response.refusal.delta" => {
                if let Some(told) = self.told(index) {
                    told.text(part("content_index"), true, &delta(), out);
                }
            }
            "response.output_text.annotation.added" => {
                if let (Some(told), Some(annotation)) = (self.told(index), data.get("annotation")) {
                    told.annotation(part("content_index"), annotation, out);
                }
            }
            "response.reasoning_summary_text.delta" => {
                if let Some(told) = self.told(index) {
                    told.summary(part("summary_index"), &delta(), out);
                }
            }
            "response.reasoning_text.delta" | "response.reasoning.delta" => {
                if let Some(told) = self.told(index) {
                    told.thought(part("content_index"), &delta(), out);
                }
            }
            "response.function_call_arguments.delta" => {
                if let Some(told) = self.told(index) {
                    told.arguments(&delta(), out);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let Some(response) = data.fields("response") else {
                    return Err(failure::broken(format!("the provider's `{kind}` says nothing")));
                };
                if kind == "response.failed" {
                    return Err(failed(&response));
                }
                self.finish(&response, out)?;
            }
            "error" => return Err(failure::of_object(None, &data)),
            // Progress that the final items repeat, and events of tools that we do not know.
            _ if data.get("error").is_some() && !kind.starts_with("response.") => {
                return Err(failure::of_object(None, &data));
            }
            _ => {}
        }
        Ok(())
    }

    fn whole(&mut self, body: Fields, out: &mut Vec<Piece>) -> Result<(), Failure> {
        if body.text("status").as_deref() == Some("failed") {
            return Err(failed(&body));
        }
        if body.get("error").is_some() {
            return Err(failure::of_object(None, &body));
        }
        if body.list("output").is_none() {
            return Err(failure::broken(
                "the provider's answer is JSON, but no response: it has no `output`".to_owned(),
            ));
        }
        self.finish(&body, out)
    }

    /// Responses streams end with their own event; `[DONE]` alone is no end.
    fn end(&mut self, _out: &mut Vec<Piece>) -> Result<bool, Failure> {
        Ok(false)
    }
}

impl Told {
    fn text(&mut self, index: usize, refusal: bool, text: &str, out: &mut Vec<Piece>) {
        let item = self.n;
        let ToldBody::Message { parts } = &mut self.body else { return };
        let follows = match parts.last() {
            Some(last) if last.index == index && last.refusal == refusal => None,
            // An earlier part cannot grow any more.
            Some(last) if last.index > index => return,
            Some(last) => Some(!refusal && !last.refusal),
            None => Some(false),
        };
        if let Some(after_text) = follows {
            if after_text {
                out.push(Piece::Delta(Delta::TextPart { item }));
            }
            parts.push(ToldPart { index, refusal, bytes: 0, annotations: 0 });
        }
        let last = parts.last_mut().expect("there is one, or it was just opened");
        last.bytes += text.len();
        let text = text.to_owned();
        out.push(Piece::Delta(match refusal {
            true => Delta::Refusal { item, text },
            false => Delta::Text { item, text },
        }));
    }

    fn annotation(&mut self, index: usize, annotation: &Json, out: &mut Vec<Piece>) {
        let item = self.n;
        let ToldBody::Message { parts } = &mut self.body else { return };
        if let Some(last) = parts.last_mut().filter(|it| it.index == index && !it.refusal) {
            last.annotations += 1;
            out.push(Piece::Delta(Delta::Annotation { item, annotation: annotation.clone() }));
        }
    }

    fn summary(&mut self, index: usize, text: &str, out: &mut Vec<Piece>) {
        let item = self.n;
        let ToldBody::Reasoning { summary, .. } = &mut self.body else { return };
        if index + 1 < summary.len() {
            return;
        }
        while summary.len() <= index {
            if !summary.is_empty() {
                out.push(Piece::Delta(Delta::SummaryPart { item }));
            }
            summary.push(0);
        }
        summary[index] += text.len();
        out.push(Piece::Delta(Delta::Summary { item, text: text.to_owned() }));
    }

    /// The kernel keeps one text of thoughts; several parts stand apart in it.
    fn thought(&mut self, index: usize, text: &str, out: &mut Vec<Piece>) {
        let item = self.n;
        let ToldBody::Reasoning { content, .. } = &mut self.body else { return };
        if index + 1 < content.len() {
            return;
        }
        while content.len() <= index {
            if content.last().is_some_and(|it| *it > 0) {
                out.push(Piece::Delta(Delta::Thought { item, text: "\n\n".to_owned() }));
            }
            content.push(0);
        }
        content[index] += text.len();
        out.push(Piece::Delta(Delta::Thought { item, text: text.to_owned() }));
    }

    fn arguments(&mut self, text: &str, out: &mut Vec<Piece>) {
        let item = self.n;
        let ToldBody::Call { arguments } = &mut self.body else { return };
        *arguments += text.len();
        out.push(Piece::Delta(Delta::Arguments { item, text: text.to_owned() }));
    }

    fn catch_up(&mut self, item: &Fields, domain: &str, out: &mut Vec<Piece>) {
        match &self.body {
            ToldBody::Message { .. } => {
                for (index, part) in item.list("content").unwrap_or_default().iter().enumerate() {
                    if let Some(part) = Fields::of(part) {
                        self.catch_up_part(index, &part, out);
                    }
                }
            }
            ToldBody::Reasoning { sealed, .. } => {
                let sealed = *sealed;
                for (index, part) in item.list("summary").unwrap_or_default().iter().enumerate() {
                    let text = Fields::of(part).and_then(|it| it.text("text")).unwrap_or_default();
                    let ToldBody::Reasoning { summary, .. } = &self.body else { return };
                    if let Some(rest) = rest(&text, summary.get(index).copied()) {
                        self.summary(index, &rest, out);
                    }
                }
                for (index, part) in item.list("content").unwrap_or_default().iter().enumerate() {
                    let text = Fields::of(part).and_then(|it| it.text("text")).unwrap_or_default();
                    let ToldBody::Reasoning { content, .. } = &self.body else { return };
                    if let Some(rest) = rest(&text, content.get(index).copied()) {
                        self.thought(index, &rest, out);
                    }
                }
                if let Some(content) = item.text("encrypted_content").filter(|_| !sealed) {
                    let sealed = Sealed { domain: domain.to_owned(), content };
                    out.push(Piece::Delta(Delta::Sealed { item: self.n, sealed }));
                    if let ToldBody::Reasoning { sealed, .. } = &mut self.body {
                        *sealed = true;
                    }
                }
            }
            ToldBody::Call { arguments } => {
                let whole = item.text("arguments").unwrap_or_default();
                if let Some(rest) = rest(&whole, Some(*arguments)).filter(|it| !it.is_empty()) {
                    self.arguments(&rest, out);
                }
            }
            ToldBody::Opaque => {}
        }
    }

    fn catch_up_part(&mut self, index: usize, part: &Fields, out: &mut Vec<Piece>) {
        let refusal = match part.text("type").as_deref() {
            Some("output_text" | "text") => false,
            Some("refusal") => true,
            // A part that no delta can carry.
            Some(_) | None => return,
        };
        let whole = part.text(if refusal { "refusal" } else { "text" }).unwrap_or_default();
        let ToldBody::Message { parts } = &self.body else { return };
        let told = parts.iter().find(|it| it.index == index);
        let n_annotations = told.map_or(0, |it| it.annotations);
        if let Some(rest) = rest(&whole, told.map(|it| it.bytes)) {
            self.text(index, refusal, &rest, out);
        }
        let annotations = part.list("annotations").unwrap_or_default();
        for annotation in annotations.iter().skip(n_annotations) {
            self.annotation(index, annotation, out);
        }
    }
}

/// What of `whole` is still to be told; `None` if nothing is. A part that was never opened is opened even if empty.
fn rest(whole: &str, told: Option<usize>) -> Option<String> {
    match told {
        None => Some(whole.to_owned()),
        Some(bytes) => whole.get(bytes..).filter(|it| !it.is_empty()).map(str::to_owned),
    }
}

fn failed(response: &Fields) -> Failure {
    let mut failure = failure::of_object(None, response);
    if failure.class == everstate_kernel::input::FailureClass::Broken && failure.code.is_none() {
        failure.message = "the provider's answer failed, and it does not say why".to_owned();
    }
    failure
}

fn usage(fields: Option<Fields>) -> Usage {
    let Some(fields) = fields else { return Usage { estimated: true, ..Usage::default() } };
    let count = |fields: &Fields, name| fields.number(name).unwrap_or(0);
    let input = fields.fields("input_tokens_details").unwrap_or_default();
    let output = fields.fields("output_tokens_details").unwrap_or_default();
    Usage {
        input: count(&fields, "input_tokens"),
        cached: count(&input, "cached_tokens"),
        cache_write: count(&input, "cache_write_tokens"),
        output: count(&fields, "output_tokens"),
        reasoning: count(&output, "reasoning_tokens"),
        estimated: false,
    }
}
