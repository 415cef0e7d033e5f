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
    expect![[""]].assert_eq(&declared.join("\n"));
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
    check(json!({"name": "a b"}), expect![[""]]);
    check(json!({"kind": "shell"}), expect![[""]]);
    check(json!({"method": "TRACE"}), expect![[""]]);
    check(json!({"url": "https://{host}/"}), expect![[""]]);
    check(json!({"colour": "red"}), expect![[""]]);
    check(json!({"safety": "safe"}), expect![[""]]);
    check(json!({"timeout_ms": 0}), expect![[""]]);
    check(json!({"headers": {"Authorization": "Bearer sk-1234"}}), expect![[""]]);
    check(json!({"headers": {"Authorization": "env:EVERSTATE_NOT_SET"}}), expect![[""]]);
    check(json!({"parameters": {"type": "object"}}), expect![[""]]);
    check(json!({"parameters": {"type": "object", "properties": {"order": {}}}}), expect![[""]]);
    check(json!({"parameters": {"type": "string"}}), expect![[""]]);
    check(json!({"output": {"$ref": "https://example.com/schema.json"}}), expect![[""]]);
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
