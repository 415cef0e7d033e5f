//! Whatever is sent: a clear error in the API's own shape, nothing lost, and the server lives on.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{KEY, Server, events, read, text_of};

/// The body as it is; then what is said, with the field it is about.
async fn check(
    server: &Server,
    body: impl Into<reqwest::Body>,
    status: u16,
    code: &str,
    param: Value,
) {
    let answer =
        read(server.ask(Method::POST, "/v1/responses").body(body).send().await.unwrap()).await;
    let error = &answer.json["error"];
    let told = (answer.status, error["code"].as_str().unwrap_or(""), &error["param"]);
    assert_eq!(told, (status, code, &param), "{}", answer.json);
    for field in ["type", "code", "message", "param", "why", "try"] {
        assert!(error.get(field).is_some(), "{field} is missing: {error}");
    }
    assert_eq!(answer.retry.as_deref(), Some("false"));
}

#[tokio::test]
async fn bodies_that_are_no_requests_are_refused() {
    let server = Server::start("[server]\nbody_max_bytes = 4096\n").await;
    let none = Value::Null;
    for body in ["", "{", "[1,", "nul", "{\"model\": \"rehearsal\",}", "{} {}"] {
        check(&server, body, 400, "invalid_json", none.clone()).await;
    }
    check(&server, b"{\"model\": \"\xff\xfe\"}".to_vec(), 400, "invalid_json", none.clone()).await;
    let deep =
        format!("{{\"model\":\"rehearsal\",\"input\":{}1{}}}", "[".repeat(900), "]".repeat(900));
    check(&server, deep, 400, "invalid_json", none.clone()).await;
    let large = format!("{{\"model\":\"rehearsal\",\"input\":\"{}\"}}", "x".repeat(5_000));
    check(&server, large, 413, "body_too_large", none.clone()).await;
    let much = format!("{{\"model\":\"rehearsal\",\"input\":\"{}\"}}", "x".repeat(50_000));
    check(&server, much, 413, "body_too_large", none).await;
    // It lives on.
    assert!(
        text_of(&server.create(json!({ "model": "rehearsal", "input": "hi" })).await)
            .contains("hi")
    );
}

#[tokio::test]
async fn fields_that_do_not_fit_are_named() {
    let server = Server::start("").await;
    let with = |name: &str, value: Value| {
        let mut body = json!({ "model": "rehearsal", "input": "hi" });
        body[name] = value;
        body.to_string()
    };
    check(&server, "{}", 400, "missing_required_parameter", json!("model")).await;
    check(&server, with("model", json!("nothing-4")), 404, "model_not_found", json!("model")).await;
    check(
        &server,
        with("conversation", json!("conv_1")),
        400,
        "unsupported",
        json!("conversation"),
    )
    .await;
    let cases =
        [("model", json!(4)), ("stream", json!("yes")), ("tools", json!({})), ("input", json!(5))];
    for (name, value) in cases {
        let answer = read(
            server.ask(Method::POST, "/v1/responses").body(with(name, value)).send().await.unwrap(),
        )
        .await;
        assert_eq!(answer.status, 400, "{}", answer.json);
        assert!(
            answer.json["error"]["param"].as_str().unwrap().starts_with(name),
            "{}",
            answer.json
        );
    }
    let background =
        json!({ "model": "rehearsal", "input": "hi", "background": true, "store": false });
    check(&server, background.to_string(), 400, "unsupported", json!("background")).await;
    check(&server, with("prompt", json!({ "id": "p" })), 400, "unsupported", json!("prompt")).await;
    check(
        &server,
        with("include", json!(["everything"])),
        400,
        "invalid_value",
        json!("include[0]"),
    )
    .await;
    let search = with("tools", json!([{ "type": "web_search" }]));
    check(&server, search, 400, "unsupported", json!("tools")).await;
    let reference = with("input", json!([{ "type": "item_reference", "id": "msg_nobody" }]));
    check(&server, reference, 404, "not_found", json!("input[0]")).await;
    let unknown = with("previous_response_id", json!("resp_nobody"));
    check(&server, unknown, 400, "previous_response_not_found", json!("previous_response_id"))
        .await;
}

#[tokio::test]
async fn names_of_another_project_do_not_exist() {
    let mut server = Server::start("").await;
    let made = server.create(json!({ "model": "rehearsal", "input": "secret" })).await;
    let sessions = server.get("/everstate/v1/sessions").await.json;
    let session = sessions["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(server.post("/everstate/v1/projects", json!({ "name": "other" })).await.status, 200);
    let key = server.post("/everstate/v1/keys", json!({ "project": "other", "name": "k" })).await;
    let admin = server.with_key(key.json["key"].as_str().unwrap());
    assert_eq!(admin, KEY);

    let id = made["id"].as_str().unwrap();
    let foreign = server.get(&format!("/v1/responses/{id}")).await;
    let unknown = server.get("/v1/responses/resp_nobody").await;
    assert_eq!((foreign.status, unknown.status), (404, 404));
    assert_eq!(foreign.json["error"]["code"], unknown.json["error"]["code"]);
    for path in ["", "/input_items"] {
        assert_eq!(server.get(&format!("/v1/responses/{id}{path}")).await.status, 404);
    }
    assert_eq!(server.post(&format!("/v1/responses/{id}/cancel"), json!({})).await.status, 404);
    assert_eq!(server.delete(&format!("/v1/responses/{id}")).await.status, 404);
    let chained = json!({ "model": "rehearsal", "input": "x", "previous_response_id": id });
    assert_eq!(server.post("/v1/responses", chained).await.status, 400);
    for path in ["", "/events", "/events?follow=true", "/verify", "/explain", "/items"] {
        let answer = server.get(&format!("/everstate/v1/sessions/{session}{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(server.get("/everstate/v1/sessions").await.json["items"], json!([]));
    assert_eq!(server.get("/everstate/v1/config").await.status, 403);
    assert_eq!(server.post("/everstate/v1/keys", json!({})).await.status, 403);

    let ours = server.with_key(KEY);
    let keys = server.get("/everstate/v1/keys").await.json;
    assert!(!keys.to_string().contains(&ours), "{keys}");
    let key_id =
        keys["items"].as_array().unwrap().iter().find(|it| it["project"] == "other").unwrap();
    let key_id = key_id["id"].as_str().unwrap();
    assert_eq!(server.delete(&format!("/everstate/v1/keys/{key_id}")).await.status, 200);
    server.with_key(&ours);
    assert_eq!(server.get("/v1/models").await.status, 401);
}

#[tokio::test]
async fn what_is_not_there_is_said_clearly() {
    let server = Server::start("").await;
    for path in [
        "/v1/conversations",
        "/v1/chat/completions",
        "/v1/responses/compact",
        "/v1/responses/input_tokens",
    ] {
        let answer = server.post(path, json!({})).await;
        assert_eq!((answer.status, answer.retry.as_deref()), (501, Some("false")), "{path}");
        assert_eq!(answer.json["error"]["code"], "not_available_yet");
    }
    let nowhere = server.get("/v2/everything").await;
    assert_eq!((nowhere.status, &nowhere.json["error"]["code"]), (404, &json!("unknown_url")));
    let method = server.delete("/v1/models").await;
    assert_eq!((method.status, &method.json["error"]["code"]), (405, &json!("method_not_allowed")));
    assert_eq!(server.get("/v1/models/nothing-4").await.json["error"]["code"], "model_not_found");
    let models = server.get("/v1/models").await.json;
    assert_eq!(models["data"][0]["id"], "rehearsal");
    assert_eq!(models["data"][0]["simulation"], true);
}

/// Upstreams that misbehave, each as a rule of the rehearsal.
const STAGE: &str = r#"
[providers.rehearsal]
kind = "rehearsal"
timeouts = { first_token_ms = 200, idle_ms = 200 }
[limits]
attempts_max = 2
backoff_ms = 1
[[providers.rehearsal.script.rules]]
when = { says_exactly = "hang" }
text = "one two"
broken = "hang"
[[providers.rehearsal.script.rules]]
when = { says_exactly = "html" }
text = "one two"
broken = "html"
[[providers.rehearsal.script.rules]]
when = { says_exactly = "reset" }
text = "one two"
broken = "reset"
[[providers.rehearsal.script.rules]]
when = { says_exactly = "cut" }
text = "one two three"
broken = "cut"
after_pieces = 2
[[providers.rehearsal.script.rules]]
when = { says_exactly = "refuse" }
error = { status = 400, code = "content_policy_violation", message = "no" }
[[providers.rehearsal.script.rules]]
when = { says_exactly = "limit" }
error = { status = 429, message = "slow down" }
[[providers.rehearsal.script.rules]]
when = { says_exactly = "broken call", results = false }
calls = [{ name = "pay", arguments = "{\"order\": " }]
[[providers.rehearsal.script.rules]]
when = { result = "JSON" }
text = "sorry: {result}"
"#;

#[tokio::test]
async fn an_upstream_that_misbehaves_is_told_about() {
    let server = Server::start(STAGE).await;
    for (input, status) in [
        ("hang", 504),
        ("html", 502),
        ("reset", 502),
        ("cut", 502),
        ("refuse", 400),
        ("limit", 429),
    ] {
        let body = json!({ "model": "rehearsal", "input": input });
        let answer = server.post("/v1/responses", body.clone()).await;
        assert_eq!(answer.status, status, "{input}: {}", answer.json);
        assert_eq!(answer.retry.as_deref(), Some("false"), "{input}");
        let address = answer.json["error"]["address"].as_str().unwrap();
        assert!(address.starts_with("ses_") && address.ends_with("/1.1"), "{address}");

        let mut streamed = body;
        streamed["stream"] = true.into();
        let told = events(server.send("/v1/responses", streamed, &[]).await).await;
        let last = told.last().unwrap();
        assert_eq!(last["type"], "response.failed", "{input}: {last}");
        assert!(last["response"]["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn broken_arguments_go_back_to_the_model() {
    let bank = crate::running::Bank::open(true).await;
    let server = Server::start(&format!("{STAGE}{}", bank.tool("pay", "neither", false))).await;
    let tools = crate::running::ours(json!({}));
    let body = json!({ "model": "rehearsal", "input": "broken call", "tools": tools });
    let done = server.create(body).await;
    assert!(text_of(&done).starts_with("sorry: "), "{done}");
    assert_eq!(bank.paid(), 0);
}
