//! A kernel request as the body of `POST /responses`.
//!
//! Order matters: what stays the same through a session comes first, then the items, which only grow, then what
//! changes from step to step. So a provider's prompt cache finds the longest common beginning.

use everstate_kernel::agent::Format;
use everstate_kernel::item::{Body, Item, Part, Reasoning, Role};
use everstate_kernel::json::Json;
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use everstate_kernel::tool::{Runs, Tool, ToolChoice};

use crate::arrange::{self, Left, NO_PARAMETERS};
use crate::json::{Fields, Obj, array, extra_of, quoted};
use crate::responses::NAME;
use crate::upstream::{Encoded, Quirks};

/// The least that OpenAI accepts.
const OUTPUT_TOKENS_MIN: u64 = 16;

pub(crate) fn encode(offer: &Offer, request: &Request, quirks: &Quirks) -> Encoded {
    let mut left = Left::default();
    let tools = tools(request, quirks, &mut left);
    let mut body = head(offer, request, quirks, &tools, &mut left).open();
    body.push_str(",\"input\":[");
    let mut prefix = body.len();

    let arranged = arrange::arrange(&request.items, &mut left);
    let n_prefix = arrange::n_prefix(&arranged, request);
    let mut writer = Items { offer, quirks, left: &mut left, images: Vec::new() };
    let mut n_written = 0usize;
    for (i, (_, item)) in arranged.iter().enumerate() {
        let following = arranged.get(i + 1..).unwrap_or_default();
        let results_follow =
            following.first().is_some_and(|(_, it)| matches!(it.body, Body::Result { .. }));
        for text in writer.item(item, following, results_follow) {
            if n_written > 0 {
                body.push(',');
            }
            body.push_str(&text);
            n_written += 1;
        }
        if i < n_prefix {
            prefix = body.len();
        }
    }
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
    if let Some(instructions) = &agent.instructions {
        out.str("instructions", instructions);
    }
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
    if let Some(text) = text(request, quirks, left) {
        out.raw("text", &text);
    }
    if let Some(reasoning) = reasoning(request, quirks) {
        out.raw("reasoning", &reasoning);
    }
    if let Some(tier) = offer.tier.as_ref().or(sampling.service_tier.as_ref()) {
        out.str("service_tier", tier);
    }
    let extra = agent.extra.get(NAME);
    let has = |name: &str| extra.is_some_and(|it| it.contains_key(name));
    if !quirks.no_prompt_cache_key && !has("prompt_cache_key") {
        out.str("prompt_cache_key", &request.session.to_string());
    }
    if !quirks.no_store {
        out.bool("store", false);
        if offer.can.reasoning {
            out.raw("include", r#"["reasoning.encrypted_content"]"#);
        }
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
    "instructions",
    "input",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "text",
    "reasoning",
    "service_tier",
    "store",
    "include",
    "stream",
    "stream_options",
    "max_output_tokens",
    "background",
    "conversation",
    "previous_response_id",
];

fn tail(request: &Request, quirks: &Quirks, tools: &[String]) -> String {
    let mut out = String::new();
    let mut field = |name: &str, json: &str| {
        out.push_str(&format!(",{}:{json}", quoted(name)));
    };
    if !tools.is_empty()
        && let Some(choice) = tool_choice(request, quirks)
    {
        field("tool_choice", &choice);
    }
    if let Some(n) = request.max_output_tokens {
        field("max_output_tokens", &n.max(OUTPUT_TOKENS_MIN).to_string());
    }
    field("stream", "true");
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
    let mut out = Obj::of_kind("function");
    out.str("name", &tool.name);
    if let Some(description) = &tool.description {
        out.str("description", description);
    }
    out.raw("parameters", tool.parameters.as_ref().map_or(NO_PARAMETERS, Json::text));
    // Absent means strict in this dialect: a schema of ours was not written for that.
    let ours = matches!(tool.runs, Runs::Server(_)).then_some(false);
    if let Some(strict) = tool.strict.or(ours).filter(|_| !quirks.no_strict) {
        out.bool("strict", strict);
    }
    append(&mut out, extra_of(NAME, tool.extra.as_ref()));
    out.text()
}

fn append(out: &mut Obj, extra: Option<Fields>) {
    for (name, json) in extra.unwrap_or_default().iter() {
        out.raw(name, json.text());
    }
}

fn tool_choice(request: &Request, quirks: &Quirks) -> Option<String> {
    let named = |name: &str| {
        let provider = request.agent.tools.iter().find_map(|it| match &it.runs {
            Runs::Provider { json, .. } if it.name == name => Fields::of(json)?.text("type"),
            Runs::Provider { .. } | Runs::Client | Runs::Server(_) => None,
        });
        let mut out = Obj::of_kind(provider.as_deref().unwrap_or("function"));
        if provider.as_deref().is_none_or(|it| it == "custom") {
            out.str("name", name);
        }
        out.text()
    };
    let forced = !quirks.no_forced_tools;
    match &request.tool_choice {
        ToolChoice::Auto => None,
        ToolChoice::None => Some(quoted("none")),
        ToolChoice::Required => forced.then(|| quoted("required")),
        ToolChoice::Named(name) => forced.then(|| named(name)),
        ToolChoice::Allowed { names, required } => forced.then(|| {
            let mut out = Obj::of_kind("allowed_tools");
            out.str("mode", if *required { "required" } else { "auto" });
            out.raw("tools", &array(names.iter().map(|it| named(it))));
            out.text()
        }),
    }
}

fn text(request: &Request, quirks: &Quirks, left: &mut Left) -> Option<String> {
    let sampling = &request.agent.sampling;
    let mut out = Obj::new();
    match &sampling.format {
        None => {}
        Some(Format::Text) => {
            out.raw("format", &Obj::of_kind("text").text());
        }
        Some(Format::JsonObject) => {
            out.raw("format", &Obj::of_kind("json_object").text());
        }
        Some(Format::JsonSchema { .. }) if quirks.no_json_schema => {
            left.note("the schema of the answer");
            out.raw("format", &Obj::of_kind("json_object").text());
        }
        Some(Format::JsonSchema { name, description, schema, strict }) => {
            let mut format = Obj::of_kind("json_schema");
            format.str("name", name);
            if let Some(description) = description {
                format.str("description", description);
            }
            format.raw("schema", schema.text());
            if let Some(strict) = strict.filter(|_| !quirks.no_strict) {
                format.bool("strict", strict);
            }
            out.raw("format", &format.text());
        }
    }
    if let Some(verbosity) = &sampling.verbosity {
        out.str("verbosity", verbosity);
    }
    Some(out.text()).filter(|it| it != "{}")
}

fn reasoning(request: &Request, quirks: &Quirks) -> Option<String> {
    let sampling = &request.agent.sampling;
    if quirks.no_reasoning_effort {
        return None;
    }
    let mut out = Obj::new();
    if let Some(effort) = &sampling.reasoning_effort {
        out.str("effort", effort);
    }
    if let Some(summary) = &sampling.reasoning_summary {
        out.str("summary", summary);
    }
    Some(out.text()).filter(|it| it != "{}")
}

struct Items<'a> {
    offer: &'a Offer,
    quirks: &'a Quirks,
    left: &'a mut Left,
    /// Images of results, until all results of the answer are told.
    images: Vec<String>,
}

impl Items<'_> {
    fn item(
        &mut self,
        item: &Item,
        following: &[(usize, &Item)],
        results_follow: bool,
    ) -> Vec<String> {
        let extra = extra_of(NAME, item.extra.as_ref());
        match &item.body {
            Body::Message { role, parts } => vec![self.message(*role, parts, extra)],
            Body::Reasoning(reasoning) => {
                self.reasoning(reasoning, following, extra).into_iter().collect()
            }
            Body::Call { call, name, arguments } => {
                let mut out = Obj::of_kind("function_call");
                out.str("call_id", &arrange::call_id(*call, self.quirks.short_call_ids));
                out.str("name", name);
                out.str("arguments", if arguments.trim().is_empty() { "{}" } else { arguments });
                append(&mut out, extra);
                vec![out.text()]
            }
            Body::Result { call, outcome, output } => {
                let call_id = arrange::call_id(*call, self.quirks.short_call_ids);
                let rich =
                    output.iter().any(|it| !matches!(it, Part::Text { .. } | Part::Refusal { .. }));
                let mut out = Obj::of_kind("function_call_output");
                out.str("call_id", &call_id);
                if rich && !self.quirks.text_results {
                    out.raw("output", &self.parts(output, false));
                } else {
                    out.str("output", &arrange::result_text(*outcome, output));
                    self.hold_images(&call_id, output);
                }
                let mut texts = vec![out.text()];
                if !results_follow && !self.images.is_empty() {
                    let mut out = Obj::of_kind("message");
                    out.str("role", "user");
                    out.raw("content", &array(self.images.drain(..)));
                    texts.push(out.text());
                }
                texts
            }
            Body::Compaction { summary, .. } => {
                let text = format!("{}{}", arrange::SUMMARY, arrange::plain_text(summary));
                vec![self.message(Role::Developer, &[Part::text(text)], None)]
            }
            Body::Note { text } => {
                vec![self.message(Role::Developer, &[Part::text(text.clone())], None)]
            }
            Body::Opaque { dialect, json } => self.opaque(dialect, json).into_iter().collect(),
            Body::Erased => Vec::new(),
        }
    }

    fn hold_images(&mut self, call_id: &str, output: &[Part]) {
        let mut images = arrange::images(output).peekable();
        if images.peek().is_some() {
            self.images.push(text_part("input_text", &arrange::images_of(call_id)));
            for image in images {
                let image = self.part(image, false);
                self.images.extend(image);
            }
        }
    }

    fn message(&mut self, role: Role, parts: &[Part], extra: Option<Fields>) -> String {
        let mut out = Obj::of_kind("message");
        out.str(
            "role",
            match role {
                Role::System => "system",
                Role::Developer if self.quirks.no_developer_role => "system",
                Role::Developer => "developer",
                Role::User => "user",
                Role::Assistant => "assistant",
            },
        );
        out.raw("content", &self.parts(parts, role == Role::Assistant));
        append(&mut out, extra);
        out.text()
    }

    fn parts(&mut self, parts: &[Part], said: bool) -> String {
        let parts: Vec<String> = parts.iter().filter_map(|it| self.part(it, said)).collect();
        array(parts)
    }

    /// `said`: by the model.
    fn part(&mut self, part: &Part, said: bool) -> Option<String> {
        match part {
            Part::Text { text, .. } => {
                Some(text_part(if said { "output_text" } else { "input_text" }, text))
            }
            Part::Refusal { text } if said => {
                let mut out = Obj::of_kind("refusal");
                out.str("refusal", text);
                Some(out.text())
            }
            Part::Refusal { text } => Some(text_part("input_text", text)),
            Part::Image { url, detail } => {
                let mut out = Obj::of_kind("input_image");
                out.str("image_url", url);
                out.str("detail", detail.as_deref().unwrap_or("auto"));
                Some(out.text())
            }
            Part::Opaque { dialect, json } if dialect == NAME => Some(json.text().to_owned()),
            Part::Opaque { dialect, .. } => {
                self.left.note(format!("a content part of the dialect `{dialect}`"));
                None
            }
        }
    }

    /// A provider refuses reasoning whose following item is missing, and cannot read what another sealed.
    fn reasoning(
        &mut self,
        reasoning: &Reasoning,
        following: &[(usize, &Item)],
        extra: Option<Fields>,
    ) -> Option<String> {
        let next = following.iter().find(|(_, it)| !matches!(it.body, Body::Reasoning(_)));
        let has_partner = next.is_some_and(|(_, it)| match &it.body {
            Body::Message { role, .. } => *role == Role::Assistant,
            Body::Call { .. } => true,
            Body::Opaque { dialect, json } => dialect == NAME && sends(json),
            Body::Reasoning(_)
            | Body::Result { .. }
            | Body::Compaction { .. }
            | Body::Note { .. }
            | Body::Erased => false,
        });
        let sealed = match &reasoning.sealed {
            // A list of details: what the Chat dialect seals.
            Some(it) if it.content.starts_with('[') => {
                self.left.note("reasoning sealed in another dialect");
                None
            }
            Some(it) if it.domain != self.offer.crypto_domain => {
                self.left.note(arrange::reasoning_left_behind(&it.domain));
                None
            }
            Some(it) => Some(it),
            None => None,
        };
        let plain = self.quirks.reasoning_field.is_some() && !reasoning.content.is_empty();
        if !has_partner || (sealed.is_none() && !plain) {
            return None;
        }
        let mut out = Obj::of_kind("reasoning");
        out.raw(
            "summary",
            &array(reasoning.summary.iter().map(|it| text_part("summary_text", it))),
        );
        if plain {
            let parts = reasoning.content.iter().map(|it| text_part("reasoning_text", it));
            out.raw("content", &array(parts));
        }
        if let Some(sealed) = sealed {
            out.str("encrypted_content", &sealed.content);
        }
        append(&mut out, extra);
        Some(out.text())
    }

    fn opaque(&mut self, dialect: &str, json: &Json) -> Option<String> {
        if dialect != NAME {
            self.left.note(format!("an item of the dialect `{dialect}`"));
            return None;
        }
        if !sends(json) {
            return None;
        }
        // The provider's names for its items mean nothing where nothing is stored.
        let mut fields = Fields::of(json)?;
        fields.take("id");
        Some(fields.json().text().to_owned())
    }
}

/// Does an opaque item of this dialect go to a provider? Ours about tool servers are told by calls and results.
fn sends(json: &Json) -> bool {
    let kind = Fields::of(json).and_then(|it| it.text("type")).unwrap_or_default();
    !kind.is_empty() && !kind.starts_with("mcp_")
}

fn text_part(kind: &str, text: &str) -> String {
    let mut out = Obj::of_kind(kind);
    out.str("text", text);
    out.text()
}
