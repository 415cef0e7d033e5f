//! Bad input at the Agents door, and what belongs to somebody else.

use serde_json::{Value, json};

use super::{PATH, STAGE, message, result, session, with_tools};
use crate::server::Server;

async fn check(server: &Server, body: Value, status: u16, code: &str, param: &str) {
    let answer = server.post(PATH, body.clone()).await;
    let error = &answer.json["error"];
    let told = (answer.status, error["code"].as_str(), error["param"].as_str());
    assert_eq!(told, (status, Some(code), Some(param)), "{body}: {}", answer.json);
    assert_eq!(answer.retry.as_deref(), Some("false"));
}

#[tokio::test]
async fn a_session_that_cannot_be_is_refused_whole() {
    let server = Server::start("").await;
    let with = |name: &str, value: Value| {
        let mut body = session("hello");
        body[name] = value;
        body
    };
    let agent = |name: &str, value: Value| {
        let mut body = session("hello");
        body["agent"][name] = value;
        body
    };
    check(&server, agent("model", json!("nobody")), 404, "model_not_found", "model").await;
    check(&server, with("agent_id", json!("agent_none")), 404, "not_found", "agent_id").await;
    let hosted = json!({ "type": "openai_hosted" });
    check(&server, with("environment", hosted), 400, "unsupported", "environment.type").await;
    let many = json!({ "enabled": true });
    check(&server, agent("multi_agent", many), 400, "unsupported", "agent.multi_agent.enabled")
        .await;
    let search = json!([{ "type": "web_search" }]);
    check(&server, agent("tools", search), 400, "unsupported", "agent.tools[0]").await;
    let unknown =
        json!([{ "type": "mcp", "server_label": "everstate", "allowed_tools": ["none"] }]);
    check(&server, agent("tools", unknown), 400, "invalid_value", "tools[0].allowed_tools").await;
    let pairs: Value =
        (0..17).map(|n| (n.to_string(), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    check(&server, with("metadata", pairs), 400, "invalid_value", "metadata").await;
    for url in [
        "https://127.0.0.1/a.png",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://db.internal/",
        "http://example.com/a.png",
    ] {
        let image =
            json!([{ "role": "user", "content": [{ "type": "input_image", "image_url": url }] }]);
        check(
            &server,
            with("input", image),
            400,
            "invalid_image_url",
            "input[0].content[0].image_url",
        )
        .await;
    }
    assert!(server.rows(PATH).await.is_empty());
    assert_eq!(server.get("/everstate/v1/sessions").await.json["items"], json!([]));
    let broken = server.ask(reqwest::Method::POST, PATH).body("{").send().await.unwrap();
    assert_eq!(crate::server::read(broken).await.json["error"]["code"], "invalid_json");
}

#[tokio::test]
async fn events_that_fit_nothing_are_refused() {
    let server = Server::start(STAGE).await;
    let other = server.new_session(with_tools("call pay", &["pay"])).await;
    let others = server.until(&other, "requires_action").await["required_actions"][0].clone();
    let made = server.new_session(with_tools("call pay", &["pay"])).await;
    let waits = server.until(&made, "requires_action").await;
    let mine = &waits["required_actions"][0];
    let check = async |event: Value, code: &str| {
        let answer = server.tell(&made, json!([event])).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["code"]),
            (400, &json!(code)),
            "{}",
            answer.json
        );
        assert_eq!(answer.retry.as_deref(), Some("false"));
    };
    // A call of another session, or of none.
    check(result(&others, "x"), "invalid_request_error").await;
    check(
        result(&json!({ "turn_id": mine["turn_id"], "call_id": "call_" }), "x"),
        "invalid_request_error",
    )
    .await;
    let wrong_turn = json!({ "turn_id": others["turn_id"], "call_id": mine["call_id"] });
    check(result(&wrong_turn, "x"), "invalid_value").await;
    let approve = |id: &Value| {
        let response = json!({ "type": "mcp_tool_call", "decision": "approve" });
        json!({ "type": "agent.session.input.mcp_approval_request_result", "request_id": id, "response": response })
    };
    check(approve(&mine["call_id"]), "approval_not_found").await;
    check(approve(&json!("mcpr_none")), "approval_not_found").await;
    let computer = json!({ "type": "agent.session.input.computer_use_approval_request_result", "request_id": "x", "response": { "type": "browser_origin_access", "decision": "deny" } });
    check(computer, "approval_not_found").await;
    let private = json!([{ "type": "input_image", "image_url": "https://10.0.0.1/" }]);
    let mut shown = result(mine, "x");
    shown["output"] = private;
    check(shown, "invalid_image_url").await;
    check(json!({ "type": "agent.session.input.message", "input": [] }), "invalid_value").await;
    assert_eq!(
        server.until(&made, "requires_action").await["required_actions"],
        waits["required_actions"]
    );
}

#[tokio::test]
async fn an_update_that_cannot_be_changes_nothing() {
    let server = Server::start("").await;
    let made = server.idle(session("hello")).await;
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    for (body, status) in [
        (json!({ "agent": { "model": "nobody" } }), 404),
        (json!({ "agent": { "instructions": "x" } }), 400),
        (
            json!({ "agent": { "tools": [{ "type": "web_search" }] }, "metadata": { "a": "b" } }),
            400,
        ),
        (json!({ "spend_control": { "limit": 0 } }), 400),
        (json!({ "environment": { "type": "none" } }), 400),
        (json!([]), 400),
    ] {
        let answer = server.post(&path, body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.json);
    }
    assert_eq!(server.get(&path).await.json, made);
    assert!(server.rows(&format!("{PATH}?metadata[a]=b")).await.is_empty());
}

/// To another project it is as if there were nothing.
#[tokio::test]
async fn what_belongs_to_another_project_is_not_there() {
    let mut server = Server::start("").await;
    let made = server.idle(with_tools("hello", &["pay"])).await;
    let turn =
        server.rows(&format!("{PATH}/{}/turns", made["id"].as_str().unwrap())).await[0]["id"]
            .clone();
    server.post("/everstate/v1/projects", json!({ "name": "other" })).await;
    let key = server.post("/everstate/v1/keys", json!({ "project": "other", "name": "k" })).await;
    let key = key.json["key"].as_str().unwrap_or_else(|| panic!("{}", key.json)).to_owned();
    server.with_key(&key);
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let turn = turn.as_str().unwrap();
    for path in [
        path.clone(),
        format!("{path}/events"),
        format!("{path}/items"),
        format!("{path}/turns"),
        format!("{path}/turns/{turn}"),
        format!("{path}/turns/{turn}/items"),
        format!("{path}/subagents"),
        format!("{path}/subagents/x"),
    ] {
        assert_eq!(server.get(&path).await.status, 404, "{path}");
    }
    assert_eq!(server.post(&path, json!({})).await.status, 404);
    assert_eq!(server.delete(&path).await.status, 404);
    assert_eq!(server.tell(&made, json!([message("hi")])).await.status, 404);
    assert!(server.rows(PATH).await.is_empty());
    let own = made["agent"]["id"].as_str().unwrap();
    assert!(server.rows(&format!("{PATH}?agent_id={own}")).await.is_empty());
    assert_eq!(
        server.get(&format!("{PATH}?after={}", made["id"].as_str().unwrap())).await.status,
        404
    );
}
