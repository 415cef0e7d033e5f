//! The response object: what the request said, what was answered, how it stands.

use std::collections::BTreeMap;

use everstate_kernel::event::{Cut, End};
use everstate_kernel::json::Json;
use everstate_kernel::money::Usage;
use everstate_kernel::tool::{Runs, Safety, Tool};

use crate::Names;
use crate::json::{Fields, Obj, array};
use crate::responses::voice::Voice;

impl Voice {
    pub(super) fn object(&self, names: &dyn Names) -> Json {
        let mut out = Obj::new();
        out.str("id", &names.turn(self.turn)).str("object", "response");
        out.num("created_at", self.created_at / 1000);
        out.str("status", self.status());
        match &self.end {
            Some((End::Completed, at)) => out.num("completed_at", at / 1000),
            Some(_) | None => out.null("completed_at"),
        };
        self.write_end(&mut out);
        let echo = self.terms.as_ref().map(|it| &it.echo);
        for (name, json) in echo.into_iter().flat_map(Fields::iter) {
            match (name, &self.tier) {
                ("service_tier", Some(tier)) => out.str(name, tier),
                _ => out.raw(name, json.text()),
            };
        }
        let shown = self.slots.iter().filter(|it| !it.erased);
        out.raw("output", &array(shown.map(|it| it.json())));
        match (&self.usage, &self.end) {
            (Some(usage), Some(_)) => out.raw("usage", &usage_json(usage)),
            _ => out.null("usage"),
        };
        out.json()
    }

    fn status(&self) -> &'static str {
        match &self.end {
            Some((End::Completed, _)) => "completed",
            Some((End::Incomplete(_) | End::Steered, _)) => "incomplete",
            Some((End::Failed { .. }, _)) => "failed",
            Some((End::Cancelled(_), _)) => "cancelled",
            None if self.begun => "in_progress",
            None => match &self.terms {
                Some(terms) if !terms.background => "in_progress",
                Some(_) | None => "queued",
            },
        }
    }

    fn write_end(&self, out: &mut Obj) {
        let (mut error, mut incomplete) = ("null".to_owned(), "null".to_owned());
        match self.end.as_ref().map(|(end, _)| end) {
            Some(End::Failed { code, message }) => {
                let mut object = Obj::new();
                object.str("code", error_code(code)).str("message", message).str("why", code);
                error = object.text();
            }
            Some(End::Incomplete(cut)) => incomplete = reason(cut_reason(*cut)),
            Some(End::Steered) => incomplete = reason("steered"),
            Some(End::Completed | End::Cancelled(_)) | None => {}
        }
        out.raw("error", &error).raw("incomplete_details", &incomplete);
    }
}

fn reason(word: &str) -> String {
    let mut out = Obj::new();
    out.str("reason", word);
    out.text()
}

/// Clients know four reasons; each limit of ours is told as the nearest.
fn cut_reason(cut: Cut) -> &'static str {
    match cut {
        Cut::ContentFilter => "content_filter",
        Cut::Steps => "max_messages",
        Cut::OutputTokens | Cut::Tokens | Cut::Bytes | Cut::Cost | Cut::WorkTime => {
            "max_output_tokens"
        }
    }
}

/// Codes that strict clients accept. The kernel's own word stands beside it, as `why`.
const ERROR_CODES: &[&str] = &[
    "server_error",
    "rate_limit_exceeded",
    "invalid_prompt",
    "data_residency_mismatch",
    "bio_policy",
    "misalignment_policy_violation",
];

fn error_code(code: &str) -> &str {
    if ERROR_CODES.contains(&code) {
        return code;
    }
    match code {
        "content_refused" | "context_length_exceeded" | "upstream_invalid_request" => {
            "invalid_prompt"
        }
        _ => "server_error",
    }
}

fn usage_json(usage: &Usage) -> String {
    let mut input = Obj::new();
    input.num("cache_write_tokens", usage.cache_write).num("cached_tokens", usage.cached);
    let mut output = Obj::new();
    output.num("reasoning_tokens", usage.reasoning);
    let mut out = Obj::new();
    out.num("input_tokens", usage.input).raw("input_tokens_details", &input.text());
    out.num("output_tokens", usage.output).raw("output_tokens_details", &output.text());
    out.num("total_tokens", usage.tokens());
    out.text()
}

/// The tools of one server, as `mcp_list_tools` tells them.
#[derive(Clone, Debug)]
pub(crate) struct ToolList {
    pub(crate) label: String,
    /// A JSON array.
    pub(crate) tools: String,
}

impl ToolList {
    /// One for each server that the request asked for.
    pub(crate) fn of(
        echo: &Fields,
        tools: &[Tool],
        servers: &BTreeMap<String, String>,
    ) -> Vec<ToolList> {
        let mut lists: Vec<ToolList> = Vec::new();
        for asked in echo.list("tools").unwrap_or_default().iter().filter_map(Fields::of) {
            let Some(label) = asked.text("server_label") else { continue };
            if asked.text("type").as_deref() != Some("mcp")
                || lists.iter().any(|it| it.label == label)
            {
                continue;
            }
            let ours = |it: &&Tool| {
                servers.get(&it.name) == Some(&label) && matches!(it.runs, Runs::Server(_))
            };
            let tools = array(tools.iter().filter(ours).map(listed));
            lists.push(ToolList { label, tools });
        }
        lists
    }
}

fn listed(tool: &Tool) -> String {
    let read_only = match &tool.runs {
        Runs::Server(server) => server.safety == Safety::ReadOnly,
        Runs::Client | Runs::Provider { .. } => false,
    };
    let mut annotations = Obj::new();
    annotations.bool("read_only", read_only);
    let mut out = Obj::new();
    out.raw("annotations", &annotations.text());
    out.str_or_null("description", tool.description.as_deref());
    out.raw("input_schema", tool.parameters.as_ref().map_or(r#"{"type":"object"}"#, Json::text));
    out.str("name", &tool.name);
    out.text()
}
