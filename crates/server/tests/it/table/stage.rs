//! A server with something in it to ask about: what the names in an address stand for, and what a request needs
//! besides the field that it is about.

use std::sync::Mutex;

use reqwest::Method;
use serde_json::{Value, json};

use super::sdk::{Field, Operation, Sdk, Values};
use crate::server::{Answer, Server, read};

pub(crate) struct Stage {
    pub(crate) server: Server,
    /// Names that the last address was made of, for the fields that have to fit it.
    last: Mutex<Values>,
}

const CONFIG: &str = r#"
[[tools]]
name = "look"
description = "Looks something up."
method = "GET"
url = "https://example.com/{order}"
safety = "read_only"
"#;

const IMAGE: &str = "data:image/png;base64,iVBORw0KGgo=";

impl Stage {
    pub(crate) async fn new() -> Stage {
        Stage { server: Server::start(CONFIG).await, last: Mutex::default() }
    }

    /// An address with real names in it; what it names was made just now, so that it can be changed and deleted. `about`
    /// is the field that it will be asked with.
    pub(crate) async fn path(&self, path: &str, about: &str) -> String {
        let mut real = path.replace("{model}", "rehearsal");
        if path.contains("{response_id}") {
            real = real.replace("{response_id}", &self.response(path).await);
        }
        if path.contains("{agent_id}") {
            real = real.replace("{agent_id}", &self.made("/v1/agents", AGENT).await);
        }
        if path.contains("{session_id}") && !path.contains("/artifacts") {
            let is_whole = path.ends_with("{session_id}");
            let (session, turn, call) = match is_whole {
                true => (self.rested().await, String::new(), String::new()),
                false => self.held().await,
            };
            real = real.replace("{session_id}", &session).replace("{turn_id}", &turn);
            *self.last.lock().unwrap() =
                Values::from([("turn_id", json!(turn)), ("call_id", json!(call))]);
        }
        if path.contains("{vault_id}") {
            let vault = self.made("/v1/vaults", r#"{"name":"keys"}"#).await;
            real = real.replace("{vault_id}", &vault);
            if path.contains("{credential_id}") {
                let body = json!({ "name": "mcp", "auth": credential(about) }).to_string();
                let made = self.made(&format!("/v1/vaults/{vault}/credentials"), &body).await;
                real = real.replace("{credential_id}", &made);
            }
        }
        // What is not served needs no real name.
        while let Some((head, rest)) = real.split_once('{') {
            real = format!("{head}none{}", rest.split_once('}').unwrap().1);
        }
        real
    }

    async fn response(&self, path: &str) -> String {
        let stream = path.ends_with("{response_id}");
        let body =
            json!({ "model": "rehearsal", "input": "hi", "background": true, "stream": stream });
        let text = self.server.send("/v1/responses", body, &[]).await.text().await.unwrap();
        let at = text.find("resp_").unwrap();
        let id = text[at..].split('"').next().unwrap().to_owned();
        self.server.ended(&id).await;
        id
    }

    async fn made(&self, path: &str, body: &str) -> String {
        let answer = self.server.post(path, serde_json::from_str(body).unwrap()).await;
        assert!(answer.status < 300, "{path}: {}", answer.json);
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// A session that has nothing to do, and can be deleted.
    async fn rested(&self) -> String {
        let body = json!({
            "environment": { "type": "none" }, "agent": { "model": "rehearsal" }, "input": "hi",
        });
        let session = self.made("/v1/agents/sessions", &body.to_string()).await;
        while self.server.get(&format!("/v1/agents/sessions/{session}")).await.json["status"]
            != "idle"
        {}
        session
    }

    /// A session whose turn waits for its client; the turn, and the call.
    async fn held(&self) -> (String, String, String) {
        let tool = json!({
            "type": "function", "name": "refund", "description": "", "parameters": { "type": "object" },
        });
        let body = json!({
            "environment": { "type": "none" },
            "agent": { "model": "rehearsal", "tools": [tool] },
            "input": "call refund {}",
        });
        let session = self.made("/v1/agents/sessions", &body.to_string()).await;
        loop {
            let now = self.server.get(&format!("/v1/agents/sessions/{session}")).await.json;
            if now["status"] == "requires_action" {
                let action = &now["required_actions"][0];
                let text = |name: &str| action[name].as_str().unwrap().to_owned();
                return (session, text("turn_id"), text("call_id"));
            }
            assert_eq!(now["status"], "in_progress", "{now}");
        }
    }

    /// What every request of this operation needs.
    pub(crate) async fn base(&self, operation: &Operation) -> Value {
        match operation.name.as_str() {
            "POST /v1/responses" => json!({ "model": "rehearsal", "input": "hi" }),
            "POST /v1/agents" => json!({ "model": "rehearsal" }),
            "POST /v1/agents/sessions" => json!({
                "environment": { "type": "none" }, "agent": { "model": "rehearsal" }, "input": "hi",
            }),
            "POST /v1/agents/sessions/{session_id}/events" => {
                json!({ "events": [{ "type": "agent.session.input.cancel" }] })
            }
            "POST /v1/vaults" => json!({ "name": "keys" }),
            "POST /v1/vaults/{vault_id}/credentials" => {
                json!({ "name": "mcp", "auth": credential("") })
            }
            _ => json!({}),
        }
    }

    /// The smallest request that has this field and can work.
    pub(crate) async fn request(&self, sdk: &Sdk, operation: &Operation, field: &Field) -> Value {
        let mut request = self.base(operation).await;
        let made = sdk.request(operation, field, &self.values(operation, field).await);
        for (name, value) in made.as_object().unwrap() {
            request[name] = value.clone();
        }
        match operation.name.as_str() {
            "POST /v1/responses" => responses(&mut request, field),
            "POST /v1/agents/sessions" => {
                if let Some(agent) = request["agent"].as_object_mut() {
                    agent.entry("model").or_insert(json!("rehearsal"));
                }
                if field.text.starts_with("stream_options") {
                    request["stream"] = json!(true);
                }
            }
            "GET /v1/responses/{response_id}" if field.text == "starting_after" => {
                request["stream"] = json!(true);
            }
            _ => {}
        }
        request
    }

    async fn values(&self, operation: &Operation, field: &Field) -> Values {
        let mut values = Values::from([
            ("model", json!("rehearsal")),
            ("image_url", json!(IMAGE)),
            ("server_label", json!("everstate")),
            ("tool_names", json!(["look"])),
            ("tools[mcp].allowed_tools", json!(["look"])),
            ("tools[function].name", json!("refund")),
            ("agent.tools[function].name", json!("refund")),
            ("agent.tools[mcp].server_label", json!("deep")),
            ("agent.tools[web_search].mode", json!("live")),
            ("tool_choice[function].name", json!("refund")),
            ("tool_choice[custom].name", json!("refund")),
            ("tool_choice[mcp].name", json!("look")),
            ("tool_choice[allowed_tools].tools", json!([{ "type": "function", "name": "refund" }])),
            ("max_output_tokens", json!(16)),
            ("stream_options", json!({})),
            ("after", Value::Null),
            ("server_url", json!("https://mcp.example.com/mcp")),
            ("mcp_server_url", json!("https://mcp.example.com/mcp")),
            ("token_endpoint", json!("https://login.example.com/token")),
            ("resource", json!("https://mcp.example.com/")),
            ("expires_at", json!("2031-01-01T00:00:00Z")),
            ("secret_name", json!("SERVICE_API_KEY")),
            ("allowed_hosts", json!(["api.example.com"])),
            ("allowed_domains", json!(["example.com"])),
            ("cwd", json!("/work")),
            // With `success`.
            ("events[agent.session.input.tool_result].error", Value::Null),
        ]);
        match (operation.name.as_str(), field.text.as_str()) {
            ("POST /v1/responses", "previous_response_id") => {
                let made = self.server.create(json!({ "model": "rehearsal", "input": "hi" })).await;
                values.insert("previous_response_id", made["id"].clone());
            }
            ("POST /v1/agents/sessions" | "GET /v1/agents/sessions", "agent_id") => {
                values.insert("agent_id", json!(self.made("/v1/agents", AGENT).await));
            }
            ("POST /v1/agents/sessions", "vault_ids") => {
                let vault = self.made("/v1/vaults", r#"{"name":"keys"}"#).await;
                values.insert("vault_ids", json!([vault]));
            }
            _ => {}
        }
        if operation.path.ends_with("/events") {
            values.extend(self.last.lock().unwrap().clone());
        }
        values
    }

    pub(crate) async fn ask(&self, operation: &Operation, path: &str, request: Value) -> Answer {
        let method: Method = operation.method.parse().unwrap();
        let mut path = path.to_owned();
        if operation.query.is_some() {
            path = format!("{path}?{}", query(&request));
        }
        let mut asking = self.server.ask(method, &path);
        if operation.method == "POST" {
            asking = asking.body(request.to_string());
        }
        let answer = asking.send().await.unwrap();
        // The events of a session have no end.
        if operation.name.starts_with("GET") && operation.path.ends_with("/events") {
            let status = answer.status().as_u16();
            if status == 200 {
                return Answer { status, retry: None, json: Value::Null };
            }
        }
        read(answer).await
    }
}

const AGENT: &str = r#"{"model":"rehearsal"}"#;

/// Of the kind that the field is about.
fn credential(about: &str) -> Value {
    // What a field is tried with first is the first of what the SDK lists.
    if about.contains("[mcp_oauth]") || ["auth", "auth.type"].contains(&about) {
        let post = about.contains("[client_secret_post]");
        let kind = if post { "client_secret_post" } else { "client_secret_basic" };
        return json!({
            "type": "mcp_oauth",
            "mcp_server_url": "https://mcp.example.com/mcp",
            "access_token": "secret",
            "refresh": {
                "client_id": "us",
                "refresh_token": "secret",
                "token_endpoint": "https://login.example.com/token",
                "token_endpoint_auth": { "type": kind, "client_secret": "secret" },
            },
        });
    }
    if about.contains("[environment_variable]") {
        return json!({
            "type": "environment_variable",
            "secret_name": "SERVICE_API_KEY",
            "secret_value": "secret",
            "networking": { "type": "unrestricted" },
        });
    }
    json!({ "type": "static_bearer", "mcp_server_url": "https://mcp.example.com/mcp", "token": "secret" })
}

/// What some fields of a response's request want beside them.
fn responses(request: &mut Value, field: &Field) {
    let top = field.text.split(['.', '[']).next().unwrap();
    if top == "tool_choice" && request["tools"].is_null() {
        let function = json!({ "type": "function", "name": "refund" });
        request["tools"] = json!([function, { "type": "mcp", "server_label": "everstate" }]);
    }
    if field.text.starts_with("input[function_call].") || field.text == "input[function_call]" {
        let output =
            json!({ "type": "function_call_output", "call_id": "a text", "output": "paid" });
        request["input"].as_array_mut().unwrap().push(output);
    }
    if field.text.starts_with("input[function_call_output].") {
        let call = json!({
            "type": "function_call", "call_id": "a text", "name": "refund", "arguments": "{}",
        });
        request["input"][0]["call_id"] = json!("a text");
        request["input"].as_array_mut().unwrap().insert(0, call);
    }
    images(&mut request["input"]);
    if field.text != "background" && request["previous_response_id"].is_null() {
        request["store"] = json!(false);
    }
}

/// An image is somewhere: without an address, it is a file.
fn images(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(images),
        Value::Object(map) => {
            if map.get("type").is_some_and(|it| it == "input_image")
                && !map.contains_key("image_url")
            {
                map.entry("file_id").or_insert(json!("file-1"));
            }
            map.values_mut().for_each(images);
        }
        _ => {}
    }
}

/// As the official clients write it: `metadata[order]=1182`.
fn query(request: &Value) -> String {
    let mut pairs = Vec::new();
    for (name, value) in request.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Object(map) => {
                for (key, value) in map {
                    pairs.push(format!("{name}[{}]={}", escaped(key), plain(value)));
                }
            }
            Value::Array(list) => {
                for value in list {
                    pairs.push(format!("{name}[]={}", plain(value)));
                }
            }
            value => pairs.push(format!("{name}={}", plain(value))),
        }
    }
    pairs.join("&")
}

fn plain(value: &Value) -> String {
    escaped(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn escaped(text: &str) -> String {
    // An address has an end.
    let bytes = text.bytes().take(2_000);
    bytes
        .map(|it| match it.is_ascii_alphanumeric() || b"-_.".contains(&it) {
            true => char::from(it).to_string(),
            false => format!("%{it:02X}"),
        })
        .collect()
}
