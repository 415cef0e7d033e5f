//! `tools` and `tool_choice`.

use everstate_kernel::json::Json;
use everstate_kernel::tool::{Runs, Tool};

use crate::json::{Fields, Obj, is_null, string, tagged};
use crate::responses::NAME;
use crate::responses::request::check::{
    boolean, fields, invalid, kind, list, one_of, optional_text, required, required_text, shown,
    text, wrong,
};
use crate::responses::request::{Choice, Complaint, Filter, McpTool, Pick, ToolSpec};

const NAME_CHARS_MAX: usize = 128;

pub(crate) fn read_tools(json: &Json) -> Result<Vec<ToolSpec>, Complaint> {
    let read = |(i, tool): (usize, &Json)| read_tool(&format!("tools[{i}]"), tool);
    list("tools", json)?.iter().enumerate().map(read).collect()
}

fn read_tool(param: &str, json: &Json) -> Result<ToolSpec, Complaint> {
    let tool = fields(param, json)?;
    match kind(param, &tool)?.as_str() {
        "function" => Ok(ToolSpec::Tool(read_function(param, &tool)?)),
        "mcp" => Ok(ToolSpec::Mcp(read_mcp(param, &tool)?)),
        kind => {
            let name = optional_text(param, &tool, "name")?.unwrap_or_else(|| kind.to_owned());
            Ok(ToolSpec::Tool(Tool {
                name,
                description: None,
                parameters: None,
                strict: None,
                runs: Runs::Provider { dialect: NAME.to_owned(), json: json.clone() },
                extra: None,
            }))
        }
    }
}

pub(crate) fn read_function(param: &str, tool: &Fields) -> Result<Tool, Complaint> {
    let name = required_text(param, tool, "name")?;
    let sound = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(sound) {
        return Err(invalid(
            &format!("{param}.name"),
            format!(
                "Invalid '{param}.name': expected at most {NAME_CHARS_MAX} letters, digits, '_', '-' or '.', but got '{}'.",
                shown(&name)
            ),
        ));
    }
    if let Some(json) = tool.get("parameters") {
        fields(&format!("{param}.parameters"), json)?;
    }
    let mut extra = Obj::new();
    let mut any = false;
    for (name, json) in tool.iter() {
        if !["type", "name", "description", "parameters", "strict"].contains(&name)
            && !is_null(json)
        {
            extra.raw(name, json.text());
            any = true;
        }
    }
    Ok(Tool {
        name,
        description: optional_text(param, tool, "description")?,
        parameters: tool.get("parameters").cloned(),
        strict: tool.get("strict").map(|it| boolean(&format!("{param}.strict"), it)).transpose()?,
        runs: Runs::Client,
        extra: any.then(|| tagged(NAME, &extra.json())),
    })
}

fn read_mcp(param: &str, tool: &Fields) -> Result<McpTool, Complaint> {
    let (always, never) = match tool.get("require_approval") {
        Some(json) => read_approval(&format!("{param}.require_approval"), json)?,
        None => (None, None),
    };
    let allowed = match tool.get("allowed_tools") {
        Some(json) if json.text().starts_with('[') => Some(Filter {
            names: Some(read_names(&format!("{param}.allowed_tools"), json)?),
            read_only: None,
        }),
        Some(json) => Some(read_filter(&format!("{param}.allowed_tools"), json)?),
        None => None,
    };
    Ok(McpTool {
        server_label: required_text(param, tool, "server_label")?,
        allowed,
        always,
        never,
        server_url: optional_text(param, tool, "server_url")?,
        connector_id: optional_text(param, tool, "connector_id")?,
    })
}

fn read_approval(param: &str, json: &Json) -> Result<(Option<Filter>, Option<Filter>), Complaint> {
    let all = Some(Filter::default());
    if let Some(word) = string(json) {
        one_of(param, &word, &["always", "never"])?;
        return Ok(if word == "always" { (all, None) } else { (None, all) });
    }
    let object = Fields::of(json).ok_or_else(|| wrong(param, "a string or an object", json))?;
    let filter = |name: &str| {
        object.get(name).map(|it| read_filter(&format!("{param}.{name}"), it)).transpose()
    };
    Ok((filter("always")?, filter("never")?))
}

fn read_filter(param: &str, json: &Json) -> Result<Filter, Complaint> {
    let object = fields(param, json)?;
    Ok(Filter {
        names: object
            .get("tool_names")
            .map(|it| read_names(&format!("{param}.tool_names"), it))
            .transpose()?,
        read_only: object
            .get("read_only")
            .map(|it| boolean(&format!("{param}.read_only"), it))
            .transpose()?,
    })
}

pub(crate) fn read_names(param: &str, json: &Json) -> Result<Vec<String>, Complaint> {
    let read = |(i, it): (usize, &Json)| text(&format!("{param}[{i}]"), it);
    list(param, json)?.iter().enumerate().map(read).collect()
}

pub(crate) fn read_choice(json: &Json) -> Result<Choice, Complaint> {
    let param = "tool_choice";
    if let Some(word) = string(json) {
        one_of(param, &word, &["none", "auto", "required"])?;
        return Ok(match word.as_str() {
            "none" => Choice::None,
            "required" => Choice::Required,
            _ => Choice::Auto,
        });
    }
    let object = Fields::of(json).ok_or_else(|| wrong(param, "a string or an object", json))?;
    if kind(param, &object)? == "allowed_tools" {
        let mode = required_text(param, &object, "mode")?;
        one_of("tool_choice.mode", &mode, &["auto", "required"])?;
        let read = |(i, it): (usize, &Json)| {
            let param = format!("tool_choice.tools[{i}]");
            read_pick(&param, &fields(&param, it)?)
        };
        let tools = list("tool_choice.tools", required(param, &object, "tools")?)?;
        let picks = tools.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        return Ok(Choice::Picks { picks, required: mode == "required" });
    }
    Ok(match read_pick(param, &object)? {
        Pick::Tool(name) => Choice::Named(name),
        server => Choice::Picks { picks: vec![server], required: true },
    })
}

/// A tool is picked by its name; one that only its provider knows, by its kind.
fn read_pick(param: &str, pick: &Fields) -> Result<Pick, Complaint> {
    let name = optional_text(param, pick, "name")?;
    match (kind(param, pick)?.as_str(), name) {
        ("mcp", Some(name)) => {
            required_text(param, pick, "server_label")?;
            Ok(Pick::Tool(name))
        }
        ("mcp", None) => Ok(Pick::Server(required_text(param, pick, "server_label")?)),
        ("function" | "custom", None) => required_text(param, pick, "name").map(Pick::Tool),
        (_, Some(name)) => Ok(Pick::Tool(name)),
        (kind, None) => Ok(Pick::Tool(kind.to_owned())),
    }
}
