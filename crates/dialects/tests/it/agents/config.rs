//! What an agent and a session are made of: defaults, changes, and what a turn makes of them.

use everstate_dialects::agents::config::{
    AgentConfig, Environment, PromptCacheOptions, Review, SessionDoc,
};
use everstate_dialects::agents::request::{
    read_agent_create, read_agent_update, read_session_create, read_session_update,
};
use everstate_dialects::responses::request::ToolSpec;
use everstate_kernel::json::Json;
use expect_test::{Expect, expect};
use serde_json::{Value, json};

fn agent(body: Value) -> AgentConfig {
    read_agent_create(body.to_string().as_bytes()).expect("a sound agent")
}

fn check(value: &impl serde::Serialize, expect: Expect) {
    let text = serde_json::to_string_pretty(value).expect("it has a JSON form");
    expect.assert_eq(&text);
}

#[test]
fn defaults_are_filled_in() {
    check(
        &agent(json!({"model": "m"})),
        expect![[r#"
        {
          "model": "m",
          "metadata": {},
          "tools": [],
          "reasoning": {},
          "text": {
            "verbosity": "medium"
          },
          "service_tier": "auto",
          "multi_agent": {
            "enabled": false
          },
          "compaction": {
            "async": false
          },
          "experimental": {
            "time_awareness": false
          }
        }"#]],
    );
    let all = json!({
        "model": "m", "name": "n", "instructions": "i", "metadata": {"a": "b"},
        "reasoning": {"effort": "xhigh", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "schema": {"type": "object"}}, "verbosity": "low"},
        "service_tier": "flex", "multi_agent": {"enabled": true},
        "compaction": {"async": true}, "experimental": {"time_awareness": true},
        "tools": [
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}},
            {"type": "tool_search"},
            {"type": "programmatic_tool_calling"},
            {"type": "web_search", "location": {"city": "Bern"}},
            {"type": "computer_use"},
            {"type": "automations"},
            {"type": "mcp", "server_label": "l",
             "transport": {"type": "http", "server_url": "https://e.example", "headers": {"x": "y"}}},
            {"type": "mcp", "server_label": "s",
             "transport": {"type": "stdio", "command": "c", "cwd": "/", "args": ["a"]}},
            {"type": "mcp", "server_label": "everstate"},
        ],
    });
    check(
        &agent(all),
        expect![[r#"
        {
          "model": "m",
          "instructions": "i",
          "name": "n",
          "metadata": {
            "a": "b"
          },
          "tools": [
            {"type":"function","name":"f","description":"d","parameters":{"type":"object"},"async":false,"defer_loading":false},
            {"type":"tool_search"},
            {"type":"programmatic_tool_calling","enabled":true},
            {"type":"web_search","allowed_domains":null,"context_size":"medium","location":{"city":"Bern","country":null,"region":null,"timezone":null},"mode":"live"},
            {"type":"computer_use","include_screenshots":false},
            {"type":"automations"},
            {"type":"mcp","server_label":"l","transport":{"type":"http","server_url":"https://e.example","headers":{"x":"y"}},"allowed_tools":null,"connection_origin":"service","credential_id":null,"request_metadata":{},"required":false},
            {"type":"mcp","server_label":"s","transport":{"type":"stdio","args":["a"],"command":"c","cwd":"/","env_vars":[]},"allowed_tools":null,"connection_origin":"service","credential_id":null,"request_metadata":{},"required":false},
            {"type":"mcp","server_label":"everstate","transport":{"type":"http","server_url":"everstate:tools","headers":{}},"allowed_tools":null,"connection_origin":"service","credential_id":null,"request_metadata":{},"required":false}
          ],
          "reasoning": {
            "effort": "xhigh",
            "summary": "auto"
          },
          "text": {
            "schema": {"type":"object"},
            "verbosity": "low"
          },
          "service_tier": "flex",
          "multi_agent": {
            "enabled": true,
            "max_concurrent_subagents": 6
          },
          "compaction": {
            "async": true
          },
          "experimental": {
            "time_awareness": true
          }
        }"#]],
    );
}

#[test]
fn a_session_document_reads_what_it_wrote_and_what_earlier_ones_left_out() {
    let doc = SessionDoc {
        agent_id: "agent_1".to_owned(),
        agent_version: Some(3),
        agent: agent(
            json!({"model": "m", "text": {"format": {"type": "json_schema", "schema": {"b": 1, "a": 2}}}}),
        ),
        environment: Environment::None,
        vault_ids: vec!["vault_1".to_owned()],
        prompt_cache_options: Some(PromptCacheOptions { ttl: "12h".to_owned() }),
        review: Review::AutoReview,
        spend_limit_cents: Some(7),
    };
    assert_eq!(SessionDoc::read(&doc.json()), Some(doc));
    let least = Json::parse(r#"{"agent_id":"a","agent":{"model":"m"}}"#).expect("JSON");
    let least = SessionDoc::read(&least).expect("it is enough");
    assert_eq!(least.agent, AgentConfig::new("m"));
    assert_eq!(SessionDoc::read(&Json::parse("{}").expect("JSON")), None);
}

/// The fields of `new` that differ from `old`.
fn changes(old: &AgentConfig, new: &AgentConfig) -> String {
    let (old, new) = (json!(old), json!(new));
    let old = old.as_object().expect("an object");
    let new = new.as_object().expect("an object");
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = names.into_iter().filter(|it| old.get(*it) != new.get(*it));
    changed.map(|it| format!("{it}: {}\n", new.get(it).unwrap_or(&Value::Null))).collect::<String>()
}

#[test]
fn what_is_left_out_stays_and_null_is_the_default() {
    let old = agent(json!({
        "model": "m", "name": "n", "instructions": "i", "metadata": {"a": "b"},
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "schema": {}}, "verbosity": "low"},
        "service_tier": "flex", "multi_agent": {"enabled": true, "max_concurrent_subagents": 2},
        "compaction": {"async": true}, "experimental": {"time_awareness": true},
        "tools": [{"type": "tool_search"}],
    }));
    let saved = |body: Value| {
        let mut new = old.clone();
        new.merge(&read_agent_update(body.to_string().as_bytes()).expect("sound"));
        changes(&old, &new)
    };
    assert_eq!(saved(json!({})), "");
    let nulls = json!({
        "name": null, "instructions": null, "metadata": null, "reasoning": null, "text": null,
        "service_tier": null, "multi_agent": null, "compaction": null, "experimental": null, "tools": null,
    });
    expect![[r#"
        compaction: {"async":false}
        instructions: null
        metadata: {}
        multi_agent: {"enabled":false}
        name: null
        reasoning: {}
        service_tier: "auto"
        text: {"verbosity":"medium"}
        tools: []
    "#]]
    .assert_eq(&saved(nulls));
    // What is said replaces the whole of it, and only that.
    expect![[r#"
        reasoning: {"summary":"detailed"}
        text: {"verbosity":"high"}
    "#]]
    .assert_eq(&saved(
        json!({"reasoning": {"summary": "detailed"}, "text": {"verbosity": "high"}}),
    ));
    let update = |body: Value| {
        let mut new = old.clone();
        new.merge(&read_session_update(body.to_string().as_bytes()).expect("sound").agent);
        changes(&old, &new)
    };
    // In an update of a session the summary stays.
    expect![[r#"
        model: "n"
        reasoning: {"summary":"auto"}
    "#]]
    .assert_eq(&update(json!({"agent": {"reasoning": {"effort": null}, "model": "n"}})));
    assert_eq!(update(json!({"agent": {"reasoning": {}}})), "");
    let over = |body: Value| {
        let mut new = old.clone();
        new.merge(&read_session_create(body.to_string().as_bytes()).expect("sound").agent);
        changes(&old, &new)
    };
    let over_it = json!({"agent_id": "a", "environment": {"type": "none"}, "input": "hi",
        "agent": {"experimental": {}, "compaction": {}, "service_tier": "auto"}});
    expect![[r#"
        compaction: {"async":false}
        service_tier: "auto"
    "#]]
    .assert_eq(&over(over_it));
}

#[test]
fn a_turn_runs_what_the_agent_says() {
    let plain = agent(json!({"model": "m"})).kernel(None);
    check(
        &plain,
        expect![[r#"
        {
          "model": "m"
        }"#]],
    );
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let closed = json!({"type": "object", "properties": {"a": {"enum": [{"type": "object"}]}},
        "required": ["a"], "additionalProperties": false});
    for (schema, strict) in [(open, None), (closed, Some(true))] {
        let text = json!({"format": {"type": "json_schema", "schema": schema}});
        let agent = agent(json!({"model": "m", "text": text})).kernel(None);
        let Some(everstate_kernel::agent::Format::JsonSchema { strict: told, .. }) =
            agent.sampling.format
        else {
            panic!("a schema is wanted");
        };
        assert_eq!(told, strict, "{schema}");
    }
    let all = json!({"model": "m", "instructions": "i", "service_tier": "priority",
        "reasoning": {"effort": "low", "summary": "concise"}, "text": {"verbosity": "high"}});
    let cache = PromptCacheOptions { ttl: "12h".to_owned() };
    check(
        &agent(all).kernel(Some(&cache)),
        expect![[r#"
        {
          "model": "m",
          "instructions": "i",
          "sampling": {
            "reasoning_effort": "low",
            "reasoning_summary": "concise",
            "verbosity": "high",
            "service_tier": "priority"
          },
          "extra": {
            "responses": {
              "prompt_cache_options": {"ttl":"12h"}
            }
          }
        }"#]],
    );
}

/// What becomes of these tools in a session.
fn specs(tools: Value, expect: Expect) {
    let config = agent(json!({"model": "m", "tools": tools}));
    let text = match config.tool_specs("agent") {
        Ok(specs) => specs
            .iter()
            .map(|it| match it {
                ToolSpec::Tool(tool) => format!("{} of the client\n", tool.name),
                ToolSpec::Mcp(mcp) => format!("{}: {:?}\n", mcp.server_label, mcp.allowed),
            })
            .collect(),
        Err(complaint) => {
            format!(
                "{} {:?}: {complaint}",
                complaint.param.as_deref().unwrap_or_default(),
                complaint.code
            )
        }
    };
    expect.assert_eq(&text);
}

#[test]
fn what_cannot_be_done_yet_is_refused_by_name() {
    let function = |more: Value| {
        let mut tool =
            json!({"type": "function", "name": "f", "description": "d", "parameters": {}});
        let fields = tool.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        tool
    };
    specs(
        json!([
            function(json!({})), {"type": "tool_search"},
            {"type": "programmatic_tool_calling", "enabled": false},
            {"type": "web_search", "mode": "disabled"},
            {"type": "mcp", "server_label": "everstate", "allowed_tools": ["x"]},
        ]),
        expect![[r#"
            f of the client
            everstate: Some(Filter { names: Some(["x"]), read_only: None })
        "#]],
    );
    specs(
        json!([function(json!({"async": true}))]),
        expect![[
            r#"agent.tools[0].async Some("unsupported"): Functions that are not waited for are not available yet."#
        ]],
    );
    specs(
        json!([{"type": "tool_search"}, function(json!({"defer_loading": true}))]),
        expect![[
            r#"agent.tools[1].defer_loading Some("unsupported"): Functions that are loaded later are not available yet."#
        ]],
    );
    specs(
        json!([{"type": "programmatic_tool_calling"}]),
        expect![[
            r#"agent.tools[0] Some("unsupported"): Calling tools from code is not available yet."#
        ]],
    );
    specs(
        json!([{"type": "web_search"}]),
        expect![[r#"agent.tools[0] Some("unsupported"): Searching the web is not available yet."#]],
    );
    specs(
        json!([{"type": "computer_use"}]),
        expect![[
            r#"agent.tools[0] Some("unsupported"): The use of a computer is not available yet."#
        ]],
    );
    specs(
        json!([{"type": "automations"}]),
        expect![[r#"agent.tools[0] Some("unsupported"): Automations are not available yet."#]],
    );
    let elsewhere = json!({"type": "http", "server_url": "https://e.example"});
    specs(
        json!([{"type": "mcp", "server_label": "l", "transport": elsewhere}]),
        expect![[
            r#"agent.tools[0] Some("unsupported"): Tool servers elsewhere are not available yet; this server's own tools have the label 'everstate'."#
        ]],
    );
    let many = agent(json!({"model": "m", "multi_agent": {"enabled": true}}));
    expect!["Subagents are not available yet."]
        .assert_eq(&many.tool_specs("agent").expect_err("refused").to_string());
}
