//! The section `[[tools]]`: what is taken, and how a wrong one is refused.

use everstate_kernel::json::Json;
use everstate_runtime::secret::SecretRef;
use everstate_tools::{ToolConfig, Toolbox};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::calling::toolbox;

#[test]
fn a_tool_is_declared_as_a_turn_knows_it() {
    let toolbox = toolbox(&[
        json!({"name": "pay", "method": "POST", "url": "https://bank.example/pay/{order}",
            "description": "Pays.", "approval": true, "timeout_ms": 1000}),
        json!({"kind": "http", "name": "look", "method": "GET", "url": "https://bank.example/look",
            "parameters": {"type": "object", "properties": {}}, "safety": "read_only",
            "timeout_ms": 1000}),
    ]);
    let declared: Vec<String> =
        toolbox.declared().iter().map(|it| Json::of(it).text().to_owned()).collect();
    expect![[r#"
        {"name":"look","parameters":{"type":"object","properties":{},"additionalProperties":false},"runs":{"server":{"label":"everstate","safety":"read_only","approval":false,"timeout_ms":4500}}}
        {"name":"pay","description":"Pays.","parameters":{"type":"object","properties":{"order":{"type":"string"}},"required":["order"],"additionalProperties":false},"runs":{"server":{"label":"everstate","safety":"neither","approval":true,"timeout_ms":2000}}}"#]].assert_eq(&declared.join("\n"));
}

#[test]
fn a_section_that_is_wrong_says_so() {
    let check = |change: Value, expected: Expect| {
        let mut section = json!({
            "name": "pay",
            "method": "POST",
            "url": "https://bank.example/pay/{order}",
        });
        let section = section.as_object_mut().expect("an object");
        section.extend(change.as_object().expect("an object").clone());
        let sections = vec![ToolConfig(section.clone())];
        let wrong = Toolbox::from_config(sections, &SecretRef::resolve).expect_err("it is wrong");
        expected.assert_eq(&wrong.to_string());
    };
    check(
        json!({"name": "a b"}),
        expect![
            "tool 1 (`a b`) cannot be used: a tool needs a name of 1 to 64 letters, digits, `_` and `-`"
        ],
    );
    check(
        json!({"kind": "shell"}),
        expect![[
            r#"tool 1 (`pay`) cannot be used: there is no kind of tool "shell"; there are: http"#
        ]],
    );
    check(
        json!({"method": "TRACE"}),
        expect![
            "tool 1 (`pay`) cannot be used: method `TRACE`: use GET, POST, PUT, PATCH or DELETE"
        ],
    );
    check(
        json!({"url": "https://{host}/"}),
        expect![
            "tool 1 (`pay`) cannot be used: url: an argument may not be part of its host or port"
        ],
    );
    check(
        json!({"colour": "red"}),
        expect![
            "tool 1 (`pay`) cannot be used: unknown field `colour`, expected one of `name`, `description`, `method`, `url`, `headers`, `parameters`, `output`, `timeout_ms`, `safety`, `approval`, `allow_private`, `answer_max_bytes`"
        ],
    );
    check(
        json!({"safety": "safe"}),
        expect![
            "tool 1 (`pay`) cannot be used: unknown variant `safe`, expected one of `read_only`, `idempotent`, `neither`"
        ],
    );
    check(
        json!({"timeout_ms": 0}),
        expect!["tool 1 (`pay`) cannot be used: timeout_ms: use 1 to 3600000"],
    );
    check(
        json!({"headers": {"Authorization": "Bearer sk-1234"}}),
        expect![
            "tool 1 (`pay`) cannot be used: the header `Authorization`: a secret does not belong into a configuration file, where it is copied and shown: put it into an environment variable or a file, and write `env:NAME` or `file:PATH`"
        ],
    );
    check(
        json!({"headers": {"Authorization": "env:EVERSTATE_NOT_SET"}}),
        expect![
            "tool 1 (`pay`) cannot be used: the header `Authorization`: the environment variable `EVERSTATE_NOT_SET` is not set or is empty: set it before starting"
        ],
    );
    check(
        json!({"parameters": {"type": "object"}}),
        expect![
            "tool 1 (`pay`) cannot be used: url: `{order}` is not among the properties of `parameters`"
        ],
    );
    check(
        json!({"parameters": {"type": "object", "properties": {"order": {}}}}),
        expect![
            "tool 1 (`pay`) cannot be used: url: `{order}` is in the path, so `parameters` must require it"
        ],
    );
    check(
        json!({"parameters": {"type": "string"}}),
        expect![[
            r#"tool 1 (`pay`) cannot be used: parameters: the arguments are an object, write `type = "object"`"#
        ]],
    );
    check(
        json!({"output": {"$ref": "https://example.com/schema.json"}}),
        expect![
            "tool 1 (`pay`) cannot be used: output: Resource 'https://example.com/schema.json' is not present in a registry and retrieving it failed: Retrieval is disabled, cannot fetch https://example.com/schema.json"
        ],
    );
}

#[test]
fn secrets_do_not_go_over_an_open_connection() {
    let section = json!({
        "name": "pay",
        "method": "POST",
        "url": "http://bank.example/pay",
        "headers": {"Authorization": "env:PATH"},
    });
    let sections = vec![ToolConfig(section.as_object().expect("an object").clone())];
    let wrong = Toolbox::from_config(sections, &SecretRef::resolve).expect_err("it is wrong");
    assert!(wrong.what.contains("open connection"), "{wrong}");
}

#[test]
fn names_are_taken_once() {
    let section = json!({"name": "pay", "method": "POST", "url": "https://bank.example/pay"});
    let section = ToolConfig(section.as_object().expect("an object").clone());
    let sections = vec![section.clone(), section];
    let wrong = Toolbox::from_config(sections, &SecretRef::resolve).expect_err("it is wrong");
    assert_eq!((wrong.n, wrong.name.as_str()), (2, "pay"));
}
