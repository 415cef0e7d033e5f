//! What the wire can say and this release does not do: refused whole, so that nothing is silently left out.

use everstate_dialects::responses::request::CreateRequest;
use everstate_kernel::offer::Offer;
use everstate_kernel::tool::{Runs, Tool};
use everstate_placement::offers::Offers;
use everstate_providers::rehearsal::SIMULATION;

use Fate::{Ignored, Passed, Refused, Works};

use crate::error::{ApiError, Result, codes, shown};

/// A field of the request, and what becomes of it. Fields that are not in the list are passed.
struct Field {
    name: &'static str,
    fate: Fate,
    about: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// We act on it.
    Works,
    /// Checked, and without effect.
    Ignored,
    /// Kept, repeated in the response, and given to a provider that speaks this API.
    Passed,
    /// It would be ignored, or done by somebody else.
    Refused,
}

const fn field(name: &'static str, fate: Fate, about: &'static str) -> Field {
    Field { name, fate, about }
}

const FIELDS: &[Field] = &[
    field("model", Works, "a model of `GET /v1/models`; required"),
    field("input", Works, "text, or a list of items; answers to calls and approvals too"),
    field("instructions", Works, "of this response alone, as in the API"),
    field(
        "previous_response_id",
        Works,
        "the newest goes on in its session, an older one forks it",
    ),
    field("store", Works, "`false`: only in memory, forgotten soon after"),
    field("background", Works, "goes on without its caller; has to be stored"),
    field("stream", Works, "with `background`, the stream can be taken up again after any event"),
    field(
        "stream_options",
        Ignored,
        "events are never padded, whatever `include_obfuscation` says",
    ),
    field("metadata", Works, "at most 16 keys"),
    field(
        "include",
        Works,
        "the values listed below; which of them have something to show is the provider's doing",
    ),
    field(
        "tools",
        Works,
        "functions of the client; tools of this server as `{\"type\": \"mcp\", \"server_label\": \"everstate\"}`; a provider's own tools, if an offer of the model speaks this API; other tool servers are refused",
    ),
    field("tool_choice", Works, "a word, a tool, or `allowed_tools`"),
    field("max_tool_calls", Works, "counts the calls that this server runs"),
    field("parallel_tool_calls", Works, "told to the model's provider"),
    field("temperature", Works, "from 0 to 2"),
    field("top_p", Works, "from 0 to 1"),
    field("max_output_tokens", Works, "from 16"),
    field("reasoning", Works, "`effort` and `summary`"),
    field("text", Works, "`format` (text, JSON, JSON Schema) and `verbosity`"),
    field("service_tier", Works, "told to the model's provider"),
    field("truncation", Passed, "we drop nothing by ourselves"),
    field("top_logprobs", Passed, ""),
    field("user", Passed, ""),
    field("safety_identifier", Passed, ""),
    field("prompt_cache_key", Passed, ""),
    field("prompt_cache_options", Passed, "not repeated in the response"),
    field("prompt_cache_retention", Passed, ""),
    field("moderation", Passed, "not repeated in the response"),
    field("conversation", Refused, "use `previous_response_id`"),
    field("prompt", Refused, "prompts stored elsewhere are not known here; send the text"),
    field("context_management", Refused, "nothing is compacted at a request's wish"),
    field("background_options", Refused, "a background response begins at once"),
    field("multi_agent", Refused, "one agent works on a session"),
    field("generate", Refused, "it belongs to the WebSocket, which is not served"),
];

/// What an answer may be asked to include. Some of it only some providers have.
const INCLUDE: &[&str] = &[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
];

pub(super) fn supported(request: &CreateRequest) -> Result<()> {
    let no = |param: &str, text: String| ApiError::new(&codes::UNSUPPORTED, text).param(param);
    for Field { name, about, .. } in FIELDS.iter().filter(|it| it.fate == Refused) {
        let asked = match *name {
            "conversation" => request.conversation.is_some(),
            name => request.extra.contains_key(name),
        };
        if asked {
            return Err(no(name, format!("`{name}` is not available yet")).why(*about));
        }
    }
    if request.background && !request.store {
        let text = "a response in the background has to be stored: leave out `store: false`";
        return Err(no("background", text.to_owned()));
    }
    for (place, include) in request.include.iter().enumerate() {
        if !INCLUDE.contains(&include.as_str()) {
            let text = format!("`{}` cannot be included", shown(include));
            return Err(ApiError::new(&codes::INVALID_VALUE, text)
                .param(format!("include[{place}]"))
                .why(format!("these can: {}", INCLUDE.join(", "))));
        }
    }
    Ok(())
}

/// Tools that a provider runs itself need one that does.
pub(super) fn served(offers: &Offers, model: &str, tools: &[Tool]) -> Result<()> {
    let real = |it: &&Offer| it.model == model && it.facts.get(SIMULATION) != Some(&true);
    for tool in tools {
        let Runs::Provider { dialect, json } = &tool.runs else { continue };
        if !offers.list.iter().filter(real).any(|it| it.dialect == *dialect) {
            let kind = json.value();
            let kind = kind["type"].as_str().unwrap_or(&tool.name);
            let text = format!("no offer of `{model}` runs tools of the type `{}`", shown(kind));
            return Err(ApiError::new(&codes::UNSUPPORTED, text)
                .param("tools")
                .why("tools of this type are run by a provider, in its own API"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
