//! An agent's tools as clients write them, in the form in which they are told back: with their defaults, without what
//! is secret. All kinds the API has are understood; which of them can be run is not decided here.

use std::collections::BTreeSet;

use everstate_kernel::json::Json;

use super::agent::Place;
use crate::agents::config::TOOLS_BYTES_MAX;
use crate::agents::config::tools::{OWN_LABEL, OWN_URL};
use crate::agents::request::{only, too_many, within};
use crate::json::{Fields, Obj, array};
use crate::responses::request::Complaint;
use crate::responses::request::check::{
    boolean, fields, invalid, list, one_of, required, required_text, shown, text,
};
use crate::responses::request::tools::{read_function, read_names};

const TOOLS_MAX: usize = 1_024;

pub(super) fn read(param: &str, json: &Json, place: Place) -> Result<Vec<Json>, Complaint> {
    let told = list(param, json)?;
    if told.len() > TOOLS_MAX {
        return Err(too_many(param, "tools", TOOLS_MAX, told.len()));
    }
    let mut names = BTreeSet::new();
    let mut tools = Vec::with_capacity(told.len());
    for (i, json) in told.iter().enumerate() {
        let at = format!("{param}[{i}]");
        let tool = fields(&at, json)?;
        let read = read_tool(&at, &tool, place)?;
        let name = tool.text("name").or_else(|| tool.text("server_label"));
        let kind = tool.text("type").unwrap_or_default();
        if !names.insert((kind, name.clone())) {
            let what = name.map_or_else(String::new, |it| format!(" '{}'", shown(&it)));
            return Err(invalid(
                &at,
                format!("Invalid '{at}': there are two tools{what} of this type."),
            ));
        }
        tools.push(read);
    }
    let n_bytes = array(tools.iter().map(|it| it.text())).len();
    if n_bytes > TOOLS_BYTES_MAX {
        return Err(invalid(
            param,
            format!(
                "Invalid '{param}': at most {TOOLS_BYTES_MAX} bytes of compact JSON, but there are {n_bytes}."
            ),
        ));
    }
    Ok(tools)
}

fn read_tool(at: &str, tool: &Fields, place: Place) -> Result<Json, Complaint> {
    let kind = required_text(at, tool, "type")?;
    one_of(
        &within(at, "type"),
        &kind,
        &[
            "function",
            "tool_search",
            "programmatic_tool_calling",
            "mcp",
            "web_search",
            "computer_use",
            "automations",
        ],
    )?;
    let flag = |name: &str, default: bool| match tool.get(name) {
        Some(json) => boolean(&within(at, name), json),
        None => Ok(default),
    };
    let mut out = Obj::of_kind(&kind);
    match kind.as_str() {
        "function" => {
            only(
                at,
                tool,
                &["type", "name", "description", "parameters", "async", "defer_loading"],
            )?;
            for name in ["name", "description", "parameters"] {
                required(at, tool, name)?;
            }
            read_function(at, tool)?;
            for name in ["name", "description", "parameters"] {
                out.json_or_null(name, tool.get(name));
            }
            out.bool("async", flag("async", false)?);
            out.bool("defer_loading", flag("defer_loading", false)?);
        }
        "programmatic_tool_calling" => {
            only(at, tool, &["type", "enabled"])?;
            out.bool("enabled", flag("enabled", true)?);
        }
        "computer_use" => {
            only(at, tool, &["type", "include_screenshots"])?;
            out.bool("include_screenshots", flag("include_screenshots", false)?);
        }
        "web_search" => read_search(at, tool, &mut out)?,
        "mcp" => read_server(at, tool, place, &mut out)?,
        _ => only(at, tool, &["type"])?,
    }
    Ok(out.json())
}

fn read_search(at: &str, tool: &Fields, out: &mut Obj) -> Result<(), Complaint> {
    only(at, tool, &["type", "allowed_domains", "context_size", "location", "mode"])?;
    if let Some(json) = tool.get("allowed_domains") {
        read_names(&within(at, "allowed_domains"), json)?;
    }
    let choice = |name: &str, words: &[&str], default: &str| {
        let Some(json) = tool.get(name) else { return Ok(default.to_owned()) };
        let at = within(at, name);
        let word = text(&at, json)?;
        one_of(&at, &word, words)?;
        Ok(word)
    };
    out.json_or_null("allowed_domains", tool.get("allowed_domains"));
    out.str("context_size", &choice("context_size", &["low", "medium", "high"], "medium")?);
    match tool.get("location") {
        None => {
            out.null("location");
        }
        Some(json) => {
            let at = within(at, "location");
            let location = fields(&at, json)?;
            let names = ["city", "country", "region", "timezone"];
            only(&at, &location, &names)?;
            let mut told = Obj::new();
            for name in names {
                let value =
                    location.get(name).map(|it| text(&within(&at, name), it)).transpose()?;
                told.str_or_null(name, value.as_deref());
            }
            out.raw("location", &told.text());
        }
    }
    out.str("mode", &choice("mode", &["disabled", "cached", "live"], "live")?);
    Ok(())
}

fn read_server(at: &str, tool: &Fields, place: Place, out: &mut Obj) -> Result<(), Complaint> {
    only(
        at,
        tool,
        &[
            "type",
            "server_label",
            "transport",
            "allowed_tools",
            "connection_origin",
            "credential_id",
            "request_metadata",
            "required",
        ],
    )?;
    let label = required_text(at, tool, "server_label")?;
    let transport = match tool.get("transport") {
        Some(json) => {
            let at = within(at, "transport");
            read_transport(&at, &fields(&at, json)?, place)?
        }
        // This server's own tools have no address.
        None if label == OWN_LABEL => own_transport(place),
        None => return Err(required(at, tool, "transport").err().unwrap_or_else(|| missing(at))),
    };
    if let Some(json) = tool.get("allowed_tools") {
        read_names(&within(at, "allowed_tools"), json)?;
    }
    let origin = match tool.get("connection_origin") {
        Some(json) => text(&within(at, "connection_origin"), json)?,
        None => "service".to_owned(),
    };
    one_of(&within(at, "connection_origin"), &origin, &["service", "environment"])?;
    let credential = tool.get("credential_id");
    let credential = credential.map(|it| text(&within(at, "credential_id"), it)).transpose()?;
    if let Some(json) = tool.get("request_metadata") {
        fields(&within(at, "request_metadata"), json)?;
    }
    let must = tool.get("required").map(|it| boolean(&within(at, "required"), it)).transpose()?;
    out.str("server_label", &label);
    out.raw("transport", &transport);
    out.json_or_null("allowed_tools", tool.get("allowed_tools"));
    out.str("connection_origin", &origin);
    out.str_or_null("credential_id", credential.as_deref());
    out.raw("request_metadata", tool.get("request_metadata").map_or("{}", Json::text));
    out.bool("required", must.unwrap_or(false));
    Ok(())
}

fn missing(at: &str) -> Complaint {
    super::missing(&within(at, "transport"))
}

fn own_transport(place: Place) -> String {
    let mut out = Obj::of_kind("http");
    out.str("server_url", OWN_URL);
    if place == Place::Saved {
        out.raw("headers", "{}");
    }
    out.text()
}

/// What is secret in it is checked, and not kept: a saved agent must hold none.
fn read_transport(at: &str, transport: &Fields, place: Place) -> Result<String, Complaint> {
    let kind = required_text(at, transport, "type")?;
    one_of(&within(at, "type"), &kind, &["http", "stdio"])?;
    let is_saved = place == Place::Saved;
    let texts = |name: &str| match transport.get(name) {
        Some(json) => read_names(&within(at, name), json),
        None => Ok(Vec::new()),
    };
    let pairs = |name: &str| match transport.get(name) {
        Some(json) => {
            let at = within(at, name);
            for (name, json) in fields(&at, json)?.iter() {
                text(&within(&at, &shown(name)), json)?;
            }
            Ok(json.text().to_owned())
        }
        None => Ok("{}".to_owned()),
    };
    let mut out = Obj::of_kind(&kind);
    if kind == "http" {
        let known: &[&str] = match is_saved {
            true => &["type", "server_url", "headers"],
            false => &["type", "server_url", "headers", "authorization"],
        };
        only(at, transport, known)?;
        let url = required_text(at, transport, "server_url")?;
        let headers = pairs("headers")?;
        if let Some(json) = transport.get("authorization") {
            text(&within(at, "authorization"), json)?;
        }
        out.str("server_url", &url);
        if is_saved {
            out.raw("headers", &headers);
        }
        return Ok(out.text());
    }
    let known: &[&str] = match is_saved {
        true => &["type", "command", "cwd", "args", "env_vars"],
        false => &["type", "command", "cwd", "args", "env_vars", "env"],
    };
    only(at, transport, known)?;
    pairs("env")?;
    let quote = |names: Vec<String>| array(names.iter().map(|it| crate::json::quoted(it)));
    out.raw("args", &quote(texts("args")?));
    out.str("command", &required_text(at, transport, "command")?);
    out.str("cwd", &required_text(at, transport, "cwd")?);
    out.raw("env_vars", &quote(texts("env_vars")?));
    Ok(out.text())
}
