//! Which of an agent's tools a turn of ours can be given. A saved agent may hold others; a session that would use them
//! is refused, by name, so that nothing is silently left out.

use crate::agents::config::AgentConfig;
use crate::json::Fields;
use crate::responses::request::tools::{read_function, read_names};
use crate::responses::request::{Complaint, Filter, McpTool, ToolSpec};

/// The label of this server's own tools.
pub const OWN_LABEL: &str = "everstate";
/// Stands where the API wants the address of a tool server, for this server's own.
pub const OWN_URL: &str = "everstate:tools";

impl AgentConfig {
    /// What a session of ours can do for this agent, or the first thing it cannot. `at` is where the configuration
    /// stands in the request, for the complaint: `agent`.
    pub fn tool_specs(&self, at: &str) -> Result<Vec<ToolSpec>, Complaint> {
        if self.multi_agent.enabled {
            return Err(unsupported(&format!("{at}.multi_agent.enabled"), "Subagents are"));
        }
        let mut specs = Vec::new();
        for (i, json) in self.tools.iter().enumerate() {
            let param = format!("{at}.tools[{i}]");
            let tool = Fields::of(json).unwrap_or_default();
            specs.extend(spec(&param, &tool)?);
        }
        Ok(specs)
    }
}

/// `None`: it asks for nothing.
fn spec(param: &str, tool: &Fields) -> Result<Option<ToolSpec>, Complaint> {
    let says = |name: &str, json: &str| tool.get(name).is_some_and(|it| it.text() == json);
    let no = |what: &str| Err(unsupported(param, what));
    match tool.text("type").unwrap_or_default().as_str() {
        "function" if says("async", "true") => {
            Err(unsupported(&format!("{param}.async"), "Functions that are not waited for are"))
        }
        "function" if says("defer_loading", "true") => Err(unsupported(
            &format!("{param}.defer_loading"),
            "Functions that are loaded later are",
        )),
        "function" => {
            let mut plain = Fields::default();
            for name in ["type", "name", "description", "parameters"] {
                if let Some(json) = tool.get(name) {
                    plain.set(name, json.clone());
                }
            }
            Ok(Some(ToolSpec::Tool(read_function(param, &plain)?)))
        }
        // Without functions that are loaded later there is nothing to search.
        "tool_search" => Ok(None),
        "programmatic_tool_calling" if says("enabled", "false") => Ok(None),
        "programmatic_tool_calling" => no("Calling tools from code is"),
        "web_search" if says("mode", "\"disabled\"") => Ok(None),
        "web_search" => no("Searching the web is"),
        "computer_use" => no("The use of a computer is"),
        "automations" => no("Automations are"),
        "mcp" => own(param, tool).map(Some),
        other => no(&format!("A tool of the type '{other}' is")),
    }
}

/// This server's own tools look like those of a tool server.
fn own(param: &str, tool: &Fields) -> Result<ToolSpec, Complaint> {
    if tool.text("server_label").as_deref() != Some(OWN_LABEL) {
        return Err(Complaint {
            message: format!(
                "Tool servers elsewhere are not available yet; this server's own tools have the label '{OWN_LABEL}'."
            ),
            param: Some(param.to_owned()),
            code: Some("unsupported"),
        });
    }
    let names = tool.get("allowed_tools");
    let names = names.map(|it| read_names(&format!("{param}.allowed_tools"), it)).transpose()?;
    Ok(ToolSpec::Mcp(McpTool {
        server_label: OWN_LABEL.to_owned(),
        allowed: names.map(|names| Filter { names: Some(names), read_only: None }),
        always: None,
        never: None,
        server_url: None,
        connector_id: None,
    }))
}

fn unsupported(param: &str, what: &str) -> Complaint {
    Complaint {
        message: format!("{what} not available yet."),
        param: Some(param.to_owned()),
        code: Some("unsupported"),
    }
}
