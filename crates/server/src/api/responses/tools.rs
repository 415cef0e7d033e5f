//! A request's tools. Those of `{type: "mcp", server_label: "everstate"}` are looked up in the configuration; all
//! others stay as the request has them.

use std::collections::BTreeSet;

use everstate_dialects::responses::request::{Choice, Filter, McpTool, ToolSpec};
use everstate_kernel::tool::{Runs, Safety, Tool, ToolChoice};

use crate::error::{ApiError, Result, codes, shown};
use crate::menu::{LABEL, Menu};

/// A client's function keeps its name: a tool of ours that has the same is not offered.
pub(crate) fn resolve(menu: &Menu, asked: &[ToolSpec]) -> Result<Vec<Tool>> {
    let clients: BTreeSet<&str> = asked
        .iter()
        .filter_map(|it| match it {
            ToolSpec::Tool(tool) if matches!(tool.runs, Runs::Client) => Some(tool.name.as_str()),
            ToolSpec::Tool(_) | ToolSpec::Mcp(_) => None,
        })
        .collect();
    let mut tools = Vec::new();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (place, spec) in asked.iter().enumerate() {
        match spec {
            ToolSpec::Tool(tool) => tools.push(tool.clone()),
            ToolSpec::Mcp(mcp) => {
                for tool in ours(menu, mcp, place)? {
                    if !clients.contains(tool.name.as_str()) && taken.insert(tool.name.clone()) {
                        tools.push(tool);
                    }
                }
            }
        }
    }
    Ok(tools)
}

/// The request's choice, among the tools that were resolved.
pub(super) fn choice(choice: &Choice, tools: &[Tool]) -> ToolChoice {
    choice.resolve(|label| {
        let of_label = |it: &&Tool| matches!(&it.runs, Runs::Server(it) if it.label == label);
        tools.iter().filter(of_label).map(|it| it.name.clone()).collect()
    })
}

fn ours(menu: &Menu, mcp: &McpTool, place: usize) -> Result<Vec<Tool>> {
    let param = |field: &str| format!("tools[{place}].{field}");
    let label_is = format!("the tools of this server's own configuration have the label `{LABEL}`");
    let elsewhere = [("server_url", &mcp.server_url), ("connector_id", &mcp.connector_id)];
    if let Some((field, _)) = elsewhere.iter().find(|(_, value)| value.is_some()) {
        let text = "tool servers elsewhere are not available yet";
        return Err(ApiError::new(&codes::UNSUPPORTED, text).param(param(field)).why(label_is));
    }
    if mcp.server_label != LABEL {
        let text = format!("there is no tool server with the label `{}`", shown(&mcp.server_label));
        return Err(ApiError::new(&codes::INVALID_VALUE, text)
            .param(param("server_label"))
            .why(label_is));
    }
    let named = |filter: &Option<Filter>, field: &str| -> Result<()> {
        let names = filter.iter().flat_map(|it| it.names.iter().flatten());
        match names.into_iter().find(|it| menu.get(it).is_none()) {
            Some(unknown) => Err(no_such_tool(menu, unknown).param(param(field))),
            None => Ok(()),
        }
    };
    named(&mcp.allowed, "allowed_tools")?;
    named(&mcp.always, "require_approval")?;
    named(&mcp.never, "require_approval")?;
    let admits = |filter: &Filter, tool: &Tool| filter.admits(&tool.name, reads_only(tool));
    let allowed =
        menu.all().filter(|it| mcp.allowed.as_ref().is_none_or(|filter| admits(filter, it)));
    Ok(allowed
        .map(|it| {
            let mut tool = it.clone();
            // A request can add to what a person has to see first. It cannot take anything away.
            let asks = mcp.always.as_ref().is_some_and(|filter| admits(filter, it));
            if let Runs::Server(server) = &mut tool.runs {
                server.approval |= asks;
            }
            tool
        })
        .collect())
}

fn no_such_tool(menu: &Menu, name: &str) -> ApiError {
    let known = match menu.names() {
        names if names.is_empty() => "none are configured".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    ApiError::new(&codes::INVALID_VALUE, format!("this server has no tool `{}`", shown(name)))
        .why(known)
        .attempt("add it to everstate.toml as [[tools]]")
}

fn reads_only(tool: &Tool) -> bool {
    matches!(&tool.runs, Runs::Server(server) if server.safety == Safety::ReadOnly)
}

#[cfg(test)]
mod tests;
