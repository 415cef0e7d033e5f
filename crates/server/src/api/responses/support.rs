//! What the wire can say and this release does not do: refused whole, so that nothing is silently left out.

use everstate_dialects::responses::request::CreateRequest;
use everstate_kernel::offer::Offer;
use everstate_kernel::tool::{Runs, Tool};
use everstate_placement::offers::Offers;
use everstate_providers::rehearsal::SIMULATION;

use crate::error::{ApiError, Result, codes, shown};

/// Fields that would be ignored, or done by somebody else, and why. What becomes of all others is told in
/// docs/reference/api.md.
const REFUSED: &[(&str, &str)] = &[
    ("conversation", "use `previous_response_id`"),
    ("prompt", "prompts stored elsewhere are not known here; send the text"),
    ("context_management", "nothing is compacted at a request's wish"),
    ("background_options", "a background response begins at once"),
    ("multi_agent", "one agent works on a session"),
    ("generate", "it belongs to the WebSocket, which is not served"),
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
    for (name, about) in REFUSED {
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

/// Where nothing is written but facts, nothing can be gone on with.
pub(super) fn kept_by_nobody(request: &CreateRequest) -> Result<()> {
    let asked = [
        ("background", request.background),
        ("previous_response_id", request.previous_response_id.is_some()),
    ];
    let Some((name, _)) = asked.into_iter().find(|it| it.1) else { return Ok(()) };
    let text = format!("`{name}` needs what this project does not keep");
    Err(ApiError::new(&codes::UNSUPPORTED, text)
        .param(name)
        .why("its items are kept in memory only, and only while their turn is answered")
        .attempt("send the whole conversation as `input`, and wait for the answer"))
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
