//! A provider's Chat answer, streamed or whole, as pieces.
//!
//! There are no items here, only fields that grow: thoughts, text, a refusal, calls by index. An item is opened when
//! its first letter comes; thoughts and text are closed when the other begins, calls at the end, because their
//! fragments may come interleaved.

use everstate_kernel::delta::{Delta, Finish, Opening, Piece, ReplyEnd};
use everstate_kernel::input::Failure;
use everstate_kernel::item::{Sealed, Status};
use everstate_kernel::json::Json;
use everstate_kernel::money::Usage;

use crate::body::Hear;
use crate::chat::NAME;
use crate::failure;
use crate::json::{Fields, Obj, array, list, string, tagged};

#[derive(Debug)]
pub(crate) struct Answer {
    /// Who can read what is sealed here.
    domain: String,
    n_items: u32,
    speaking: Option<Speaking>,
    calls: Vec<Call>,
    finish: Option<Finish>,
    usage: Option<Usage>,
    tier: Option<String>,
    id: Option<String>,
    model: Option<String>,
}

/// The item that text or thoughts go to.
#[derive(Debug)]
enum Speaking {
    Message { item: u32, any_text: bool },
    Reasoning { item: u32, details: Vec<Fields> },
}

#[derive(Debug)]
struct Call {
    index: u64,
    id: Option<String>,
    /// `None` until its name is known: so long its arguments are held.
    item: Option<u32>,
    name: String,
    held: String,
    extra: Fields,
}

impl Answer {
    pub(crate) fn new(domain: String) -> Answer {
        Answer {
            domain,
            n_items: 0,
            speaking: None,
            calls: Vec::new(),
            finish: None,
            usage: None,
            tier: None,
            id: None,
            model: None,
        }
    }

    fn open(&mut self, opening: Opening, provider_id: Option<String>, out: &mut Vec<Piece>) -> u32 {
        let item = self.n_items;
        self.n_items += 1;
        out.push(Piece::Delta(Delta::Open { item, opening, provider_id }));
        item
    }

    fn hush(&mut self, status: Status, out: &mut Vec<Piece>) {
        match self.speaking.take() {
            Some(Speaking::Message { item, .. }) => {
                out.push(Piece::Delta(Delta::Close { item, status }));
            }
            Some(Speaking::Reasoning { item, details }) => {
                if !details.is_empty() {
                    let content = array(details.iter().map(|it| it.json().text().to_owned()));
                    let sealed = Sealed { domain: self.domain.clone(), content };
                    out.push(Piece::Delta(Delta::Sealed { item, sealed }));
                }
                out.push(Piece::Delta(Delta::Close { item, status: Status::Completed }));
            }
            None => {}
        }
    }

    fn text(&mut self, text: &str, refusal: bool, out: &mut Vec<Piece>) {
        if text.is_empty() {
            return;
        }
        let item = self.message(out);
        if let Some(Speaking::Message { any_text, .. }) = &mut self.speaking {
            *any_text |= !refusal;
        }
        let text = text.to_owned();
        out.push(Piece::Delta(match refusal {
            true => Delta::Refusal { item, text },
            false => Delta::Text { item, text },
        }));
    }

    fn message(&mut self, out: &mut Vec<Piece>) -> u32 {
        if let Some(Speaking::Message { item, .. }) = &self.speaking {
            return *item;
        }
        self.hush(Status::Completed, out);
        let item = self.open(Opening::Message, None, out);
        self.speaking = Some(Speaking::Message { item, any_text: false });
        item
    }

    fn reasoning(&mut self, out: &mut Vec<Piece>) -> u32 {
        if let Some(Speaking::Reasoning { item, .. }) = &self.speaking {
            return *item;
        }
        self.hush(Status::Completed, out);
        let item = self.open(Opening::Reasoning, None, out);
        self.speaking = Some(Speaking::Reasoning { item, details: Vec::new() });
        item
    }

    fn thought(&mut self, text: &str, out: &mut Vec<Piece>) {
        if !text.is_empty() {
            let item = self.reasoning(out);
            out.push(Piece::Delta(Delta::Thought { item, text: text.to_owned() }));
        }
    }

    /// A delta, or a whole message: the fields are the same.
    fn said(&mut self, delta: &Fields, out: &mut Vec<Piece>) {
        let told = delta.text("reasoning_content").or_else(|| delta.text("reasoning"));
        if let Some(text) = &told {
            self.thought(text, out);
        }
        for detail in delta.list("reasoning_details").unwrap_or_default() {
            if let Some(detail) = Fields::of(&detail) {
                self.detail(detail, told.is_none(), out);
            }
        }
        if let Some(content) = delta.get("content") {
            match (string(content), list(content)) {
                (Some(text), _) => self.text(&text, false, out),
                (None, Some(parts)) => self.parts(&parts, out),
                (None, None) => {}
            }
        }
        if let Some(text) = delta.text("refusal") {
            self.text(&text, true, out);
        }
        for annotation in delta.list("annotations").unwrap_or_default() {
            self.annotation(&annotation, out);
        }
        for (i, call) in delta.list("tool_calls").unwrap_or_default().iter().enumerate() {
            if let Some(call) = Fields::of(call) {
                self.call(i as u64, call, out);
            }
        }
    }

    /// Content as a list, as some providers send it: text, and thoughts among it.
    fn parts(&mut self, parts: &[Json], out: &mut Vec<Piece>) {
        for part in parts.iter().filter_map(Fields::of) {
            match part.text("type").as_deref() {
                Some("thinking") => {
                    for thought in part.list("thinking").unwrap_or_default() {
                        let text = Fields::of(&thought).and_then(|it| it.text("text"));
                        self.thought(&text.unwrap_or_default(), out);
                    }
                }
                Some("refusal") => self.text(&part.text("refusal").unwrap_or_default(), true, out),
                Some(_) | None => self.text(&part.text("text").unwrap_or_default(), false, out),
            }
        }
    }

    /// A detail of reasoning; in a stream it comes in fragments that are to be put together. Given back as it came.
    fn detail(&mut self, detail: Fields, tell: bool, out: &mut Vec<Piece>) {
        let item = self.reasoning(out);
        let text = detail.text("text").or_else(|| detail.text("summary"));
        if let Some(text) = text.filter(|it| tell && !it.is_empty()) {
            out.push(Piece::Delta(Delta::Thought { item, text }));
        }
        let Some(Speaking::Reasoning { details, .. }) = &mut self.speaking else { return };
        let same = |it: &&mut Fields| {
            it.get("type") == detail.get("type") && it.get("index") == detail.get("index")
        };
        let Some(last) = details.last_mut().filter(same) else {
            details.push(detail);
            return;
        };
        for (name, json) in detail.into_iter() {
            let grown = match (name.as_str(), last.text(&name), string(&json)) {
                ("text" | "summary" | "data", Some(so_far), Some(more)) => {
                    Json::of(&format!("{so_far}{more}"))
                }
                _ if json.text() == "null" && last.get(&name).is_some() => continue,
                _ => json,
            };
            last.set(&name, grown);
        }
    }

    /// In the form all dialects share: flat, with its kind.
    fn annotation(&mut self, annotation: &Json, out: &mut Vec<Piece>) {
        let Some(fields) = Fields::of(annotation) else { return };
        let flat = match (fields.text("type"), fields.fields("url_citation")) {
            (Some(kind), Some(citation)) if kind == "url_citation" => {
                let mut flat = Obj::of_kind("url_citation");
                flat.num("start_index", citation.number("start_index").unwrap_or(0));
                flat.num("end_index", citation.number("end_index").unwrap_or(0));
                flat.str("title", &citation.text("title").unwrap_or_default());
                flat.str("url", &citation.text("url").unwrap_or_default());
                flat.json()
            }
            _ => annotation.clone(),
        };
        // A note to text needs a text.
        if let Some(Speaking::Message { item, any_text: true }) = &self.speaking {
            out.push(Piece::Delta(Delta::Annotation { item: *item, annotation: flat }));
        }
    }

    fn call(&mut self, place: u64, mut fields: Fields, out: &mut Vec<Piece>) {
        let index = fields.number("index");
        fields.take("index");
        let id = fields.take_text("id").filter(|it| !it.is_empty());
        let function = fields.fields("function").unwrap_or_default();
        let name = function.text("name").unwrap_or_default();
        let arguments = match function.get("arguments") {
            // Some send the object itself.
            Some(json) => string(json).unwrap_or_else(|| json.text().to_owned()),
            None => String::new(),
        };
        fields.take("function");
        fields.take("type");

        // Some providers leave the index out, or repeat one for another call: a new id with a name is a new call.
        let index = index.unwrap_or(place);
        let same = |it: &Call| {
            it.index == index
                && !(id.is_some() && it.id.is_some() && it.id != id && !name.is_empty())
        };
        let known = self.calls.iter().rposition(same);
        let at = known.unwrap_or_else(|| {
            self.calls.push(Call {
                index,
                id: None,
                item: None,
                name: String::new(),
                held: String::new(),
                extra: Fields::default(),
            });
            self.calls.len() - 1
        });
        let call = &mut self.calls[at];
        call.id = call.id.take().or(id);
        for (name, json) in fields.into_iter().filter(|(_, json)| json.text() != "null") {
            call.extra.set(&name, json);
        }
        call.held.push_str(&arguments);
        if call.item.is_none() {
            call.name.push_str(&name);
            if call.name.is_empty() {
                return;
            }
            self.open_call(at, out);
        }
        self.tell_arguments(at, out);
    }

    fn open_call(&mut self, at: usize, out: &mut Vec<Piece>) {
        self.hush(Status::Completed, out);
        let (name, id) = (self.calls[at].name.clone(), self.calls[at].id.clone());
        let item = self.open(Opening::Call { name }, id, out);
        self.calls[at].item = Some(item);
    }

    fn tell_arguments(&mut self, at: usize, out: &mut Vec<Piece>) {
        let call = &mut self.calls[at];
        let text = std::mem::take(&mut call.held);
        if let Some(item) = call.item
            && !text.is_empty()
        {
            out.push(Piece::Delta(Delta::Arguments { item, text }));
        }
    }

    fn about(&mut self, body: &Fields) {
        self.id = self.id.take().or_else(|| body.text("id").filter(|it| !it.is_empty()));
        self.model = self.model.take().or_else(|| body.text("model").filter(|it| !it.is_empty()));
        self.tier = body.text("service_tier").or_else(|| self.tier.take());
        let usage = body
            .fields("usage")
            .or_else(|| body.fields("x_groq").and_then(|it| it.fields("usage")));
        if let Some(usage) = usage {
            self.usage = Some(counted(&usage));
        }
    }

    fn finished(&mut self, reason: &str) -> Result<(), Failure> {
        self.finish = Some(match reason {
            "length" | "max_tokens" | "model_length" => Finish::Length,
            "content_filter" | "content_filtered" | "safety" => Finish::Filter,
            "error" => {
                return Err(failure::broken(
                    "the provider ended its answer with an error it does not explain".to_owned(),
                ));
            }
            // `stop`, `tool_calls`, `function_call`, and what others call the same.
            _ => Finish::Stop,
        });
        Ok(())
    }

    fn close(&mut self, out: &mut Vec<Piece>) {
        let finish = self.finish.unwrap_or(Finish::Stop);
        let status = match finish {
            Finish::Stop => Status::Completed,
            Finish::Length | Finish::Filter => Status::Incomplete,
        };
        for at in 0..self.calls.len() {
            if self.calls[at].item.is_none() {
                self.open_call(at, out);
                self.tell_arguments(at, out);
            }
        }
        self.hush(status, out);
        // Only the last call can have been cut short.
        let last = self.calls.len().saturating_sub(1);
        for (at, call) in self.calls.iter().enumerate() {
            let Some(item) = call.item else { continue };
            if !call.extra.is_empty() {
                let extra = tagged(NAME, &call.extra.json());
                out.push(Piece::Delta(Delta::Extra { item, extra }));
            }
            let status = if at == last { status } else { Status::Completed };
            out.push(Piece::Delta(Delta::Close { item, status }));
        }
        out.push(Piece::End(ReplyEnd {
            finish,
            usage: self.usage.unwrap_or(Usage { estimated: true, ..Usage::default() }),
            tier: self.tier.take(),
            provider_id: self.id.take(),
            model: self.model.take(),
        }));
    }
}

impl Hear for Answer {
    fn event(&mut self, kind: &str, data: Fields, out: &mut Vec<Piece>) -> Result<(), Failure> {
        if kind == "error" || data.get("error").is_some() {
            return Err(failure::of_object(None, &data));
        }
        self.about(&data);
        for choice in data.list("choices").unwrap_or_default() {
            let Some(choice) = Fields::of(&choice) else { continue };
            if choice.number("index").unwrap_or(0) != 0 {
                continue;
            }
            if let Some(error) = choice.fields("error") {
                return Err(failure::of_object(None, &error));
            }
            if let Some(delta) = choice.fields("delta").or_else(|| choice.fields("message")) {
                self.said(&delta, out);
            }
            if let Some(reason) = choice.text("finish_reason") {
                self.finished(&reason)?;
            }
        }
        Ok(())
    }

    fn whole(&mut self, body: Fields, out: &mut Vec<Piece>) -> Result<(), Failure> {
        if body.get("error").is_some() {
            return Err(failure::of_object(None, &body));
        }
        self.about(&body);
        let choice = body.list("choices").and_then(|it| Fields::of(it.first()?));
        let Some((choice, message)) =
            choice.and_then(|it| Some((it.clone(), it.fields("message")?)))
        else {
            return Err(failure::broken(
                "the provider's answer is JSON, but no chat completion: it has no message"
                    .to_owned(),
            ));
        };
        if let Some(error) = choice.fields("error") {
            return Err(failure::of_object(None, &error));
        }
        self.said(&message, out);
        self.finished(&choice.text("finish_reason").unwrap_or_default())?;
        self.close(out);
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<Piece>) -> Result<bool, Failure> {
        if self.finish.is_none() {
            return Ok(false);
        }
        self.close(out);
        Ok(true)
    }
}

/// Some leave reasoning out of the output they count, but not out of the total.
fn counted(usage: &Fields) -> Usage {
    let count = |fields: &Fields, name| fields.number(name).unwrap_or(0);
    let input_details = usage.fields("prompt_tokens_details").unwrap_or_default();
    let output_details = usage.fields("completion_tokens_details").unwrap_or_default();
    let input = count(usage, "prompt_tokens");
    let told = count(usage, "completion_tokens");
    let output = told.max(count(usage, "total_tokens").saturating_sub(input));
    Usage {
        input,
        cached: count(&input_details, "cached_tokens").max(count(usage, "prompt_cache_hit_tokens")),
        cache_write: count(&input_details, "cache_write_tokens"),
        output,
        reasoning: count(&output_details, "reasoning_tokens").max(output - told).min(output),
        estimated: false,
    }
}
