use everstate_kernel::tool::ServerTool;

use super::*;

fn menu() -> Menu {
    let tool = |name: &str, safety, approval| Tool {
        name: name.to_owned(),
        description: None,
        parameters: None,
        strict: None,
        runs: Runs::Server(ServerTool { label: LABEL.to_owned(), safety, approval, timeout_ms: 1 }),
        extra: None,
    };
    Menu::new([
        tool("look", Safety::ReadOnly, false),
        tool("pay", Safety::Neither, true),
        tool("note", Safety::Idempotent, false),
    ])
}

fn function(name: &str) -> ToolSpec {
    ToolSpec::Tool(Tool {
        name: name.to_owned(),
        description: None,
        parameters: None,
        strict: None,
        runs: Runs::Client,
        extra: None,
    })
}

fn mcp() -> McpTool {
    McpTool {
        server_label: LABEL.to_owned(),
        allowed: None,
        always: None,
        never: None,
        server_url: None,
        connector_id: None,
    }
}

fn names(list: &[&str]) -> Option<Filter> {
    Some(Filter { names: Some(list.iter().map(|it| (*it).to_owned()).collect()), read_only: None })
}

/// `name` run by the client, `name+` by us, `name?` by us after a person's yes; or the error's parameter.
fn check(asked: &[ToolSpec], expect: &str) {
    let told = match resolve(&menu(), asked) {
        Ok(tools) => {
            let word = |tool: &Tool| match &tool.runs {
                Runs::Client => tool.name.clone(),
                Runs::Server(it) if it.approval => format!("{}?", tool.name),
                Runs::Server(_) => format!("{}+", tool.name),
                Runs::Provider { .. } => format!("{}!", tool.name),
            };
            tools.iter().map(word).collect::<Vec<_>>().join(" ")
        }
        Err(error) => format!("{} {}", error.code().word, error.json()["error"]["param"]),
    };
    assert_eq!(told, expect);
}

#[test]
fn tools_of_the_configuration_are_found_by_name() {
    check(&[ToolSpec::Mcp(mcp())], "look+ note+ pay?");
    check(&[ToolSpec::Mcp(McpTool { allowed: names(&["pay", "look"]), ..mcp() })], "look+ pay?");
    let reads = Filter { names: None, read_only: Some(true) };
    check(&[ToolSpec::Mcp(McpTool { allowed: Some(reads), ..mcp() })], "look+");
}

#[test]
fn a_clients_function_keeps_its_name() {
    check(&[ToolSpec::Mcp(mcp()), function("pay")], "look+ note+ pay");
}

#[test]
fn approval_can_be_asked_for_and_not_taken_away() {
    let all = Some(Filter::default());
    check(&[ToolSpec::Mcp(McpTool { never: all.clone(), ..mcp() })], "look+ note+ pay?");
    check(&[ToolSpec::Mcp(McpTool { always: all, ..mcp() })], "look? note? pay?");
    check(&[ToolSpec::Mcp(McpTool { always: names(&["note"]), ..mcp() })], "look+ note? pay?");
}

#[test]
fn what_is_not_there_is_said() {
    let with = |it: McpTool| [ToolSpec::Mcp(it)];
    check(
        &with(McpTool { allowed: names(&["fly"]), ..mcp() }),
        r#"invalid_value "tools[0].allowed_tools""#,
    );
    check(
        &with(McpTool { always: names(&["fly"]), ..mcp() }),
        r#"invalid_value "tools[0].require_approval""#,
    );
    check(
        &with(McpTool { server_label: "deepwiki".to_owned(), ..mcp() }),
        r#"invalid_value "tools[0].server_label""#,
    );
    check(
        &with(McpTool { server_url: Some("https://example.org".to_owned()), ..mcp() }),
        r#"unsupported "tools[0].server_url""#,
    );
}
