//! The fields of a response that repeat its request: always all of them, with the values that are in force, because
//! strict clients miss each one. What is secret in a request is not repeated, and so not kept.

use everstate_kernel::json::Json;

use crate::json::{Fields, Obj, array, list};

/// Fields of the request that are no fields of the response, and fields of the response that no request may set.
const NOT_ECHOED: &[&str] = &[
    "input",
    "stream",
    "stream_options",
    "include",
    "prompt_cache_options",
    "context_management",
    "moderation",
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "error",
    "incomplete_details",
    "output",
    "output_text",
    "usage",
];

/// Values of fields that the request left out. Numbers are never null: some clients refuse that.
const DEFAULTS: &[(&str, &str)] = &[
    ("background", "false"),
    ("frequency_penalty", "0.0"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("model", "null"),
    ("parallel_tool_calls", "true"),
    ("presence_penalty", "0.0"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("service_tier", "\"default\""),
    ("store", "true"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"},"verbosity":"medium"}"#),
    ("tool_choice", "\"auto\""),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", "\"disabled\""),
    ("user", "null"),
];

pub(crate) fn echo(request: &Fields, model: &str) -> Json {
    let mut out = Obj::new();
    for (name, default) in DEFAULTS {
        match (*name, request.get(name)) {
            ("model", _) => {
                out.str("model", model);
            }
            ("tools", Some(json)) => {
                let tools = list(json).unwrap_or_default();
                out.raw("tools", &array(tools.iter().map(|it| tool(it).text().to_owned())));
            }
            ("reasoning" | "text", Some(json)) => {
                out.raw(name, filled(json, default).text());
            }
            // What is really served is told when it is known.
            ("service_tier", Some(json)) if json.text() == "\"auto\"" => {
                out.raw(name, default);
            }
            ("service_tier", Some(json)) if json.text() == "\"fast\"" => {
                out.str(name, "priority");
            }
            (_, Some(json)) => {
                out.raw(name, json.text());
            }
            (_, None) => {
                out.raw(name, default);
            }
        }
    }
    if let Some(conversation) = request.get("conversation") {
        let mut named = Obj::new();
        match Fields::of(conversation) {
            Some(object) => named.json_or_null("id", object.get("id")),
            None => named.raw("id", conversation.text()),
        };
        out.raw("conversation", &named.text());
    }
    let known = |name: &str| {
        name == "conversation"
            || NOT_ECHOED.contains(&name)
            || DEFAULTS.iter().any(|(it, _)| *it == name)
    };
    for (name, json) in request.iter().filter(|(name, json)| !known(name) && json.text() != "null")
    {
        out.raw(name, json.text());
    }
    out.json()
}

/// An object with its missing fields filled in.
fn filled(json: &Json, default: &str) -> Json {
    let default = Json::parse(default).ok();
    let (Some(mut object), Some(default)) =
        (Fields::of(json), default.as_ref().and_then(Fields::of))
    else {
        return json.clone();
    };
    for (name, value) in default.into_iter() {
        if object.get(&name).is_none() {
            object.set(&name, value);
        }
    }
    object.json()
}

/// A tool without its secrets. Of a function every field is there, if need be as null.
fn tool(json: &Json) -> Json {
    let Some(mut object) = Fields::of(json) else { return json.clone() };
    let kind = object.text("type").unwrap_or_default();
    if kind == "function" {
        let mut out = Obj::of_kind("function");
        for name in ["name", "description", "parameters", "strict"] {
            out.json_or_null(name, object.take(name).as_ref());
        }
        for (name, json) in object.iter().filter(|(name, _)| *name != "type") {
            out.raw(name, json.text());
        }
        return out.json();
    }
    object.take("authorization");
    object.take("headers");
    if let Some(url) = object.text("server_url") {
        object.set("server_url", Json::of(&without_path(&url)));
    }
    object.json()
}

/// Paths and queries of tool servers are known to hold keys.
fn without_path(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next().unwrap_or_default();
    if end == rest.len() {
        format!("{scheme}://{host}")
    } else {
        format!("{scheme}://{host}/<redacted>")
    }
}
