//! A kernel request as the body of `POST /chat/completions`.
//!
//! What a model said in one answer (thoughts, text, calls) is one message here; the results of its calls follow it
//! at once, and everything else waits until they are told. The order of the fields is as in the Responses dialect:
//! what stays the same first, the messages, then what changes from step to step.

use everstate_kernel::agent::Format;
use everstate_kernel::item::{Body, Item, Part, Reasoning, Role};
use everstate_kernel::json::Json;
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Tool, ToolChoice};

use crate::arrange::{self, Left, NO_PARAMETERS};
use crate::chat::NAME;
use crate::json::{Fields, Obj, array, extra_of, quoted};
use crate::upstream::{Encoded, Quirks};

pub(crate) fn encode(offer: &Offer, request: &Request, quirks: &Quirks) -> Encoded {
    let mut left = Left::default();
    let tools = tools(request, quirks, &mut left);
    let mut body = head(offer, request, quirks, &tools, &mut left).open();
    body.push_str(",\"messages\":[");
    let mut messages = Messages {
        offer,
        quirks,
        left: &mut left,
        body,
        n: 0,
        draft: Draft::default(),
        images: Vec::new(),
    };
    if let Some(instructions) = &request.agent.instructions {
        messages.message("system", &quoted(instructions), None);
    }
    let mut prefix = messages.body.len();

    let arranged = arrange::arrange(&request.items, messages.left);
    let n_prefix = arrange::n_prefix(&arranged, request);
    for (i, (_, item)) in arranged.iter().enumerate() {
        let next = arranged.get(i + 1).map(|(_, it)| &it.body);
        messages.item(item, matches!(next, Some(Body::Result { .. })));
        if i < n_prefix {
            // An answer that may still go on is not counted: only whole messages stay the same.
            prefix = messages.body.len();
        }
    }
    messages.finish_draft();
    let mut body = messages.body;
    body.push(']');
    body.push_str(&tail(request, quirks, &tools));
    body.push('}');
    Encoded { body: body.into_bytes(), prefix, left_behind: left.words() }
}

fn head(
    offer: &Offer,
    request: &Request,
    quirks: &Quirks,
    tools: &[String],
    left: &mut Left,
) -> Obj {
    let agent = &request.agent;
    let sampling = &agent.sampling;
    let mut out = Obj::new();
    out.str("model", &offer.upstream_model);
    if !tools.is_empty() {
        out.raw("tools", &array(tools));
        if let Some(parallel) =
            sampling.parallel_tool_calls.filter(|_| !quirks.no_parallel_tool_calls)
        {
            out.bool("parallel_tool_calls", parallel);
        }
    }
    if let Some(json) = &sampling.temperature {
        out.raw("temperature", json.text());
    }
    if let Some(json) = &sampling.top_p {
        out.raw("top_p", json.text());
    }
    if let Some(format) = sampling.format.as_ref().and_then(|it| response_format(it, quirks, left))
    {
        out.raw("response_format", &format);
    }
    if let Some(effort) = sampling.reasoning_effort.as_ref().filter(|_| !quirks.no_reasoning_effort)
    {
        out.str("reasoning_effort", effort);
    }
    if let Some(verbosity) = &sampling.verbosity {
        out.str("verbosity", verbosity);
    }
    if let Some(tier) = offer.tier.as_ref().or(sampling.service_tier.as_ref()) {
        out.str("service_tier", tier);
    }
    let extra = agent.extra.get(NAME);
    let has = |name: &str| extra.is_some_and(|it| it.contains_key(name));
    if !quirks.no_prompt_cache_key && !has("prompt_cache_key") {
        out.str("prompt_cache_key", &request.session.to_string());
    }
    for (name, json) in
        extra.into_iter().flatten().filter(|(name, _)| !WRITTEN.contains(&name.as_str()))
    {
        out.raw(name, json.text());
    }
    for dialect in agent.extra.keys().filter(|it| *it != NAME) {
        left.note(format!("request fields of the dialect `{dialect}`"));
    }
    out
}

/// Fields that are ours to write, whatever `extra` says.
const WRITTEN: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "n",
];

fn tail(request: &Request, quirks: &Quirks, tools: &[String]) -> String {
    let mut out = String::new();
    let mut field = |name: &str, json: &str| {
        out.push_str(&format!(",{}:{json}", quoted(name)));
    };
    if !tools.is_empty()
        && let Some(choice) = tool_choice(&request.tool_choice, quirks)
    {
        field("tool_choice", &choice);
    }
    if let Some(n) = request.max_output_tokens {
        let name = if quirks.max_tokens { "max_tokens" } else { "max_completion_tokens" };
        field(name, &n.to_string());
    }
    field("stream", "true");
    if !quirks.no_stream_options {
        field("stream_options", r#"{"include_usage":true}"#);
    }
    out
}

fn tools(request: &Request, quirks: &Quirks, left: &mut Left) -> Vec<String> {
    let mut out: Vec<String> =
        arrange::functions(request).into_iter().map(|it| function(it, quirks)).collect();
    for tool in &request.agent.tools {
        if let Runs::Provider { dialect, json } = &tool.runs {
            if dialect == NAME {
                out.push(json.text().to_owned());
            } else {
                left.note(format!("tool `{}` of the dialect `{dialect}`", tool.name));
            }
        }
    }
    out
}

fn function(tool: &Tool, quirks: &Quirks) -> String {
    let mut inner = Obj::new();
    inner.str("name", &tool.name);
    if let Some(description) = &tool.description {
        inner.str("description", description);
    }
    inner.raw("parameters", tool.parameters.as_ref().map_or(NO_PARAMETERS, Json::text));
    if let Some(strict) = tool.strict.filter(|_| !quirks.no_strict) {
        inner.bool("strict", strict);
    }
    let mut out = Obj::of_kind("function");
    out.raw("function", &inner.text());
    append(&mut out, extra_of(NAME, tool.extra.as_ref()));
    out.text()
}

fn append(out: &mut Obj, extra: Option<Fields>) {
    for (name, json) in extra.unwrap_or_default().iter() {
        out.raw(name, json.text());
    }
}

fn tool_choice(choice: &ToolChoice, quirks: &Quirks) -> Option<String> {
    let named = |name: &str| {
        let mut inner = Obj::new();
        inner.str("name", name);
        let mut out = Obj::of_kind("function");
        out.raw("function", &inner.text());
        out.text()
    };
    let forced = !quirks.no_forced_tools;
    match choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(quoted("none")),
        ToolChoice::Required => forced.then(|| quoted("required")),
        ToolChoice::Named(name) => forced.then(|| named(name)),
        ToolChoice::Allowed { names, required } => forced.then(|| {
            let mut inner = Obj::new();
            inner.str("mode", if *required { "required" } else { "auto" });
            inner.raw("tools", &array(names.iter().map(|it| named(it))));
            let mut out = Obj::of_kind("allowed_tools");
            out.raw("allowed_tools", &inner.text());
            out.text()
        }),
    }
}

fn response_format(format: &Format, quirks: &Quirks, left: &mut Left) -> Option<String> {
    match format {
        Format::Text => None,
        Format::JsonObject => Some(Obj::of_kind("json_object").text()),
        Format::JsonSchema { .. } if quirks.no_json_schema => {
            left.note("the schema of the answer");
            Some(Obj::of_kind("json_object").text())
        }
        Format::JsonSchema { name, description, schema, strict } => {
            let mut inner = Obj::new();
            inner.str("name", name);
            if let Some(description) = description {
                inner.str("description", description);
            }
            inner.raw("schema", schema.text());
            if let Some(strict) = strict.filter(|_| !quirks.no_strict) {
                inner.bool("strict", strict);
            }
            let mut out = Obj::of_kind("json_schema");
            out.raw("json_schema", &inner.text());
            Some(out.text())
        }
    }
}

struct Messages<'a> {
    offer: &'a Offer,
    quirks: &'a Quirks,
    left: &'a mut Left,
    body: String,
    n: usize,
    draft: Draft,
    /// Images of results, until all results of the answer are told.
    images: Vec<String>,
}

/// An answer of the model, growing item by item.
#[derive(Default)]
struct Draft {
    texts: Vec<String>,
    thoughts: Vec<String>,
    details: Option<String>,
    calls: Vec<String>,
    extra: Fields,
}

impl Messages<'_> {
    fn item(&mut self, item: &Item, results_follow: bool) {
        let extra = extra_of(NAME, item.extra.as_ref());
        match &item.body {
            Body::Message { role: Role::Assistant, parts } => {
                self.note_parts(parts);
                let text = arrange::plain_text(parts);
                if !text.is_empty() {
                    self.draft.texts.push(text);
                }
                for (name, json) in extra.unwrap_or_default().into_iter() {
                    self.draft.extra.set(&name, json);
                }
            }
            Body::Message { role, parts } => {
                let role = match role {
                    Role::System => "system",
                    Role::Developer if self.quirks.no_developer_role => "system",
                    Role::Developer => "developer",
                    Role::User | Role::Assistant => "user",
                };
                self.finish_draft();
                let content = self.content(parts);
                self.message(role, &content, extra);
            }
            Body::Reasoning(reasoning) => self.reasoning(reasoning),
            Body::Call { call, name, arguments } => {
                let mut function = Obj::new();
                function.str("name", name);
                function.str("arguments", &sound(arguments));
                let mut out = Obj::new();
                out.str("id", &arrange::call_id(*call, self.quirks.short_call_ids));
                out.str("type", "function");
                out.raw("function", &function.text());
                append(&mut out, extra);
                self.draft.calls.push(out.text());
            }
            Body::Result { call, outcome, output } => {
                self.finish_draft();
                let call_id = arrange::call_id(*call, self.quirks.short_call_ids);
                let mut out = Obj::new();
                out.str("role", "tool");
                out.str("tool_call_id", &call_id);
                out.str("content", &arrange::result_text(*outcome, output));
                self.push(&out.text());
                self.hold_images(&call_id, output);
                if !results_follow && !self.images.is_empty() {
                    let parts = std::mem::take(&mut self.images);
                    self.message("user", &array(parts), None);
                }
            }
            Body::Compaction { summary, .. } => {
                let text = format!("{}{}", arrange::SUMMARY, arrange::plain_text(summary));
                self.told(&text);
            }
            Body::Note { text } => self.told(text),
            Body::Opaque { dialect, .. } => {
                self.left.note(format!("an item of the dialect `{dialect}`"));
            }
            Body::Erased => {}
        }
    }

    /// Said by the runtime.
    fn told(&mut self, text: &str) {
        self.finish_draft();
        let role = if self.quirks.no_developer_role { "system" } else { "developer" };
        self.message(role, &quoted(text), None);
    }

    /// Content parts of an answer that have no place in this dialect.
    fn note_parts(&mut self, parts: &[Part]) {
        for part in parts {
            if let Part::Opaque { dialect, .. } = part {
                self.left.note(format!("a content part of the dialect `{dialect}`"));
            }
        }
    }

    fn reasoning(&mut self, reasoning: &Reasoning) {
        if self.quirks.reasoning_field.is_some() {
            self.draft.thoughts.extend(reasoning.content.iter().cloned());
        }
        match &reasoning.sealed {
            Some(sealed) if sealed.domain != self.offer.crypto_domain => {
                self.left.note(arrange::reasoning_left_behind(&sealed.domain));
            }
            // What this dialect seals is a list of details; anything else was sealed in another one.
            Some(sealed) if sealed.content.starts_with('[') => {
                self.draft.details = Some(sealed.content.clone());
            }
            Some(_) => self.left.note("reasoning sealed in another dialect"),
            None => {}
        }
    }

    fn content(&mut self, parts: &[Part]) -> String {
        if let [Part::Text { text, .. }] = parts {
            return quoted(text);
        }
        let parts: Vec<String> = parts.iter().filter_map(|it| self.part(it)).collect();
        array(parts)
    }

    fn part(&mut self, part: &Part) -> Option<String> {
        match part {
            Part::Text { text, .. } | Part::Refusal { text } => Some(text_part(text)),
            Part::Image { url, detail } => {
                let mut inner = Obj::new();
                inner.str("url", url);
                if let Some(detail) = detail {
                    inner.str("detail", detail);
                }
                let mut out = Obj::of_kind("image_url");
                out.raw("image_url", &inner.text());
                Some(out.text())
            }
            Part::Opaque { dialect, json } if dialect == NAME => Some(json.text().to_owned()),
            Part::Opaque { dialect, .. } => {
                self.left.note(format!("a content part of the dialect `{dialect}`"));
                None
            }
        }
    }

    fn hold_images(&mut self, call_id: &str, output: &[Part]) {
        let images: Vec<&Part> = arrange::images(output).collect();
        if !images.is_empty() {
            self.images.push(text_part(&arrange::images_of(call_id)));
            for image in images {
                let image = self.part(image);
                self.images.extend(image);
            }
        }
        for part in output {
            if let Part::Opaque { dialect, .. } = part {
                self.left.note(format!("a content part of the dialect `{dialect}`"));
            }
        }
    }

    fn message(&mut self, role: &str, content: &str, extra: Option<Fields>) {
        let mut out = Obj::new();
        out.str("role", role);
        out.raw("content", content);
        append(&mut out, extra);
        self.push(&out.text());
    }

    fn push(&mut self, message: &str) {
        if self.n > 0 {
            self.body.push(',');
        }
        self.n += 1;
        self.body.push_str(message);
    }

    fn finish_draft(&mut self) {
        let draft = std::mem::take(&mut self.draft);
        if draft.texts.is_empty() && draft.calls.is_empty() {
            return;
        }
        let mut out = Obj::new();
        out.str("role", "assistant");
        match draft.texts.is_empty() {
            true => out.null("content"),
            false => out.str("content", &draft.texts.join("\n\n")),
        };
        if let Some(field) = &self.quirks.reasoning_field
            && !draft.thoughts.is_empty()
        {
            out.str(field, &draft.thoughts.join("\n\n"));
        }
        if let Some(details) = &draft.details {
            out.raw("reasoning_details", details);
        }
        if !draft.calls.is_empty() {
            out.raw("tool_calls", &array(&draft.calls));
        }
        append(&mut out, Some(draft.extra));
        self.push(&out.text());
    }
}

/// Many servers of this dialect read the arguments of earlier calls as JSON, and fail where they are not.
fn sound(arguments: &str) -> String {
    if arguments.trim().is_empty() {
        return "{}".to_owned();
    }
    let parsed = crate::json::tidy(arguments).ok().and_then(|it| Json::parse(it).ok());
    match parsed.as_ref().and_then(Fields::of) {
        Some(_) => arguments.to_owned(),
        None => {
            let mut out = Obj::new();
            out.str("not_json", arguments);
            out.text()
        }
    }
}

fn text_part(text: &str) -> String {
    let mut out = Obj::of_kind("text");
    out.str("text", text);
    out.text()
}
