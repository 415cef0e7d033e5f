//! Sessions as objects: made, changed, looked at, deleted.

use serde_json::{Value, json};

use super::{PATH, STAGE, function, message, result, session, with_tools};
use crate::running::{Bank, ours};
use crate::server::Server;

fn path(session: &Value) -> String {
    format!("{PATH}/{}", session["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_session_is_made_told_and_deleted() {
    let server = Server::start("").await;
    let mut body = session("hello");
    body["metadata"] = json!({ "who": "me" });
    body["spend_control"] = json!({ "limit": 500 });
    body["prompt_cache_options"] = json!({ "ttl": "12h" });
    let made = server.idle(body).await;
    assert_eq!(made["object"], "agent.session");
    assert_eq!(made["metadata"], json!({ "who": "me" }));
    assert_eq!(made["spend_control"], json!({ "limit": 500, "consumed": 0 }));
    assert_eq!(made["prompt_cache_options"], json!({ "ttl": "12h" }));
    assert_eq!(made["environment"], json!({ "type": "none" }));
    assert_eq!(made["agent"]["model"], "rehearsal");
    assert!(made["agent"]["id"].as_str().unwrap().starts_with("agent_"));
    assert!(made["usage"]["total_tokens"].as_u64().unwrap() > 0);

    let turns = server.rows(&format!("{}/turns", path(&made))).await;
    assert_eq!((turns.len(), &turns[0]["status"]), (1, &json!("completed")));
    let turn = format!("{}/turns/{}", path(&made), turns[0]["id"].as_str().unwrap());
    assert_eq!(server.get(&turn).await.json, turns[0]);
    assert_eq!(turns[0]["agent_id"], made["agent"]["id"]);
    assert_eq!(turns[0]["session_id"], made["id"]);
    let items = server.rows(&format!("{}/items", path(&made))).await;
    assert_eq!(items.len(), 2);
    assert_eq!((&items[0]["role"], &items[1]["role"]), (&json!("user"), &json!("assistant")));
    assert_eq!(server.rows(&format!("{turn}/items")).await, items);
    assert_eq!(server.rows(&format!("{}/subagents", path(&made))).await, Vec::<Value>::new());

    let deleted = server.delete(&path(&made)).await;
    let told = json!({ "id": made["id"], "object": "agent.session.deleted", "deleted": true });
    assert_eq!((deleted.status, deleted.json), (200, told));
    for gone in ["", "/items", "/turns", "/events", "/subagents"] {
        let answer = server.get(&format!("{}{gone}", path(&made))).await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (404, &json!("not_found")));
    }
    assert_eq!(server.delete(&path(&made)).await.status, 404);
    assert_eq!(server.tell(&made, json!([message("hi")])).await.status, 404);
    assert_eq!(server.rows(PATH).await, Vec::<Value>::new());
}

#[tokio::test]
async fn what_runs_is_cancelled_before_it_is_deleted() {
    let server = Server::start(STAGE).await;
    let made = server.new_session(session("hang")).await;
    let refused = server.delete(&path(&made)).await;
    assert_eq!((refused.status, refused.retry.as_deref()), (409, Some("false")));
    server.tell(&made, json!([{ "type": "agent.session.input.cancel" }])).await;
    server.until(&made, "idle").await;
    assert_eq!(server.delete(&path(&made)).await.status, 200);
}

#[tokio::test]
async fn an_update_changes_what_it_names() {
    let server = Server::start(
        "[[offers]]\nmodel = \"other\"\nprovider = \"stage\"\n[[offers]]\nmodel = \"rehearsal\"\nprovider = \"stage\"\n[providers.stage]\nkind = \"rehearsal\"\n",
    )
    .await;
    let mut body = with_tools("hello", &["pay"]);
    body["metadata"] = json!({ "a": "1", "b": "2" });
    body["agent"]["reasoning"] = json!({ "effort": "low", "summary": "auto" });
    let made = server.idle(body).await;
    let update = |body: Value| {
        let (server, path) = (&server, path(&made));
        async move {
            let answer = server.post(&path, body).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            answer.json
        }
    };
    let mut expected = made.clone();
    // Nothing is said: nothing changes.
    assert_eq!(update(json!({})).await["agent"], made["agent"]);
    let changed = update(json!({
        "agent": { "model": "other", "reasoning": { "effort": "high" }, "service_tier": "flex", "tools": [function("look")] },
        "metadata": { "c": "3" }, "review": "auto_review", "prompt_cache_options": { "ttl": "30m" },
        "spend_control": { "limit": 7 },
    }))
    .await;
    expected["agent"]["model"] = json!("other");
    expected["agent"]["reasoning"] = json!({ "effort": "high", "summary": "auto" });
    expected["agent"]["service_tier"] = json!("flex");
    expected["agent"]["tools"][0]["name"] = json!("look");
    expected["metadata"] = json!({ "c": "3" });
    expected["review"] = json!("auto_review");
    expected["prompt_cache_options"] = json!({ "ttl": "30m" });
    expected["spend_control"]["limit"] = json!(7);
    expected["last_active_at"] = changed["last_active_at"].clone();
    assert_eq!(changed, expected);
    let cleared = update(json!({
        "agent": { "tools": null, "service_tier": null, "reasoning": { "effort": null } }, "metadata": null,
        "prompt_cache_options": null, "review": "none", "spend_control": null,
    }))
    .await;
    assert_eq!(cleared["agent"]["tools"], json!([]));
    assert_eq!(cleared["agent"]["service_tier"], "auto");
    assert_eq!(cleared["agent"]["reasoning"], json!({ "effort": null, "summary": "auto" }));
    assert_eq!(cleared["metadata"], json!({}));
    assert_eq!(cleared["spend_control"]["limit"], Value::Null);
    assert_eq!(cleared.get("prompt_cache_options"), None);
    // The next turn runs with it.
    let server_tell = server.tell(&made, json!([message("call pay")])).await;
    assert_eq!(server_tell.status, 202);
    server.until(&made, "idle").await;
    let items = server.rows(&format!("{}/items", path(&made))).await;
    let last = items.last().unwrap()["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(last.contains("there is no tool pay"), "{last}");
}

#[tokio::test]
async fn a_session_outlives_the_server() {
    let server = Server::start(STAGE).await;
    let made = server.new_session(with_tools("call pay", &["pay"])).await;
    let waits = server.until(&made, "requires_action").await;
    let server = Server::start_in(server.stop().await, STAGE, &[]).await;
    assert_eq!(
        server.until(&made, "requires_action").await["required_actions"],
        waits["required_actions"]
    );
    let mut stream = server.listen(&made, "").await;
    let answer = result(&waits["required_actions"][0], "paid");
    assert_eq!(server.tell(&made, json!([answer])).await.status, 202);
    stream.find("idle").await;
    assert!(super::answer(&stream.told).contains("paid"));
}

#[tokio::test]
async fn tools_of_this_server_wait_for_a_person() {
    let bank = Bank::open(true).await;
    let server = Server::start(&bank.tool("pay", "idempotent", true)).await;
    let body = |review: &str| {
        let mut body = session("call pay {\"order\": \"1182\"}");
        body["agent"]["tools"] = ours(json!({}));
        body["review"] = json!(review);
        body
    };
    let made = server.new_session(body("none")).await;
    let waits = server.until(&made, "requires_action").await;
    let action = &waits["required_actions"][0];
    assert_eq!(
        (&action["type"], &action["request"]["name"]),
        (&json!("mcp_approval_request"), &json!("pay"))
    );
    let answer = |decision: &str| {
        let response = json!({ "type": "mcp_tool_call", "decision": decision });
        json!([{ "type": "agent.session.input.mcp_approval_request_result", "request_id": action["request_id"], "response": response }])
    };
    assert_eq!(bank.paid(), 0);
    assert_eq!(server.tell(&made, answer("approve")).await.status, 202);
    server.until(&made, "idle").await;
    assert_eq!(bank.paid(), 1);
    // The first answer counts.
    assert_eq!(server.tell(&made, answer("deny")).await.status, 202);
    let items = server.rows(&format!("{}/items", path(&made))).await;
    let call = items.iter().find(|it| it["type"] == "mcp_call").unwrap();
    assert_eq!(
        (&call["status"], &call["server_label"]),
        (&json!("completed"), &json!("everstate"))
    );

    // Where nobody is to be asked, it is denied.
    let made = server.idle(body("auto_review")).await;
    assert_eq!(made["review"], "auto_review");
    assert_eq!(bank.paid(), 1);
    let items = server.rows(&format!("{}/items", path(&made))).await;
    let call = items.iter().find(|it| it["type"] == "mcp_call").unwrap();
    assert_eq!(call["status"], "failed", "{call}");
}

/// With a price, so that there is something to limit.
const SHOP: &str = "[[offers]]\nmodel = \"rehearsal\"\nprovider = \"stage\"\nprice = { input = \"2000\", output = \"2000\" }\n[providers.stage]\nkind = \"rehearsal\"\n";

#[tokio::test]
async fn a_spending_limit_pauses_and_raising_it_resumes() {
    let server = Server::start(SHOP).await;
    let mut body = session("hello");
    body["spend_control"] = json!({ "limit": 1 });
    body["stream"] = json!(true);
    let events = server.open(body).await.rest().await;
    let last = events.last().unwrap();
    assert_eq!(super::short(last), "budget_reached", "{last}");
    let made = last["session"].clone();
    assert_eq!(server.until(&made, "budget_reached").await["spend_control"]["limit"], 1);
    let mut stream = server.listen(&made, "").await;
    let raised = server.post(&path(&made), json!({ "spend_control": { "limit": null } })).await;
    assert_eq!(raised.status, 200, "{}", raised.json);
    stream.find("idle").await;
    assert!(super::answer(&stream.told).contains("hello"), "{:?}", stream.kinds());
    let after = server.until(&made, "idle").await;
    assert_eq!(after["spend_control"]["limit"], Value::Null);
}

#[tokio::test]
async fn an_answer_has_the_form_that_was_asked_for() {
    let config = "[[providers.rehearsal.script.rules]]\ntext = '{\"sum\": 3}'\n[providers.rehearsal]\nkind = \"rehearsal\"\n";
    let server = Server::start(config).await;
    let schema = json!({ "type": "object", "properties": { "sum": { "type": "integer" } }, "required": ["sum"], "additionalProperties": false });
    let mut body = session(
        [json!({ "role": "user", "content": [
        { "type": "input_text", "text": "add" },
        { "type": "input_image", "image_url": "data:image/png;base64,QUJD" },
    ] })]
        .to_vec(),
    );
    body["agent"]["text"] = json!({ "format": { "type": "json_schema", "schema": schema } });
    body["stream"] = json!(true);
    let events = server.open(body).await.rest().await;
    assert_eq!(super::answer(&events), "{\"sum\": 3}");
    let made = &events[0]["session"];
    assert_eq!(made["agent"]["text"]["format"], json!({ "type": "json_schema", "schema": schema }));
    let items = server.rows(&format!("{}/items", path(made))).await;
    assert_eq!(items[0]["content"][1]["image_url"], "data:image/png;base64,QUJD");
}

/// What a tool would search for is not there, so there is nothing to tell of it; what is told to the model aside is no
/// item.
#[tokio::test]
async fn what_is_no_item_and_no_tool_is_not_told() {
    let server = Server::start("").await;
    let mut body = session("hello");
    body["agent"]["tools"] = json!([{ "type": "tool_search" }, function("pay")]);
    body["agent"]["experimental"] = json!({ "time_awareness": true });
    let made = server.idle(body).await;
    assert_eq!(made["agent"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(made["agent"]["experimental"], json!({ "time_awareness": true }));
    let facts = server
        .get(&format!("/everstate/v1/sessions/{}/events", made["id"].as_str().unwrap()))
        .await
        .json;
    let facts = facts["items"].as_array().unwrap();
    assert!(facts.iter().any(|it| it["kind"] == "reminded"), "{facts:#?}");
    assert_eq!(server.rows(&format!("{}/items", path(&made))).await.len(), 2);
}
