//! `/v1/responses` in the plain ways.

use serde_json::{Value, json};

use crate::server::{Server, events, item, text_of};

#[tokio::test]
async fn a_response_is_created_stored_and_deleted() {
    let server = Server::start("").await;
    let made = server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    assert_eq!(made["status"], "completed");
    assert!(text_of(&made).contains("hello"), "{made}");
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("resp_"));

    let kept = server.get(&format!("/v1/responses/{id}")).await;
    assert_eq!(kept.json, made);
    let input = server.get(&format!("/v1/responses/{id}/input_items")).await;
    assert_eq!(input.json["data"][0]["content"][0]["text"], "hello");

    let deleted = server.delete(&format!("/v1/responses/{id}")).await;
    assert_eq!(deleted.json, json!({ "id": id, "object": "response", "deleted": true }));
    assert_eq!(server.get(&format!("/v1/responses/{id}")).await.status, 404);
    assert_eq!(server.delete(&format!("/v1/responses/{id}")).await.status, 404);
    assert_eq!(server.get("/everstate/v1/sessions").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_stream_tells_what_the_object_says() {
    let server = Server::start("").await;
    let body = json!({ "model": "rehearsal", "input": "hello there", "stream": true });
    let events = events(server.send("/v1/responses", body, &[]).await).await;
    for (n, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], n);
    }
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let deltas: String = events
        .iter()
        .filter(|it| it["type"] == "response.output_text.delta")
        .filter_map(|it| it["delta"].as_str())
        .collect();
    assert_eq!(deltas, text_of(&last["response"]));
    assert!(events.iter().filter(|it| it["type"] == "response.output_text.delta").count() > 2);
    let id = last["response"]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/responses/{id}")).await.json, last["response"]);
    let resumed = server.get(&format!("/v1/responses/{id}?stream=true")).await;
    assert_eq!(resumed.status, 400);
    assert_eq!(resumed.json["error"]["code"], "streaming_not_enabled");
}

/// How many user messages the model saw.
async fn said_before(server: &Server, id: &Value) -> Value {
    let body = json!({ "model": "rehearsal", "input": "and now?", "previous_response_id": id });
    server.create(body).await
}

#[tokio::test]
async fn a_chain_goes_on_in_place_and_forks_before_its_head() {
    let server = Server::start("").await;
    let first = server.create(json!({ "model": "rehearsal", "input": "one" })).await;
    let second = said_before(&server, &first["id"]).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let sessions = server.get("/everstate/v1/sessions").await.json;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1);

    // The head has moved on: the same continuation is a fork.
    let other = said_before(&server, &first["id"]).await;
    let sessions = server.get("/everstate/v1/sessions").await.json;
    assert_eq!(sessions["items"].as_array().unwrap().len(), 2);
    assert_ne!(other["id"], second["id"]);

    // Deleting the parent harms no fork, and no child.
    server.delete(&format!("/v1/responses/{}", first["id"].as_str().unwrap())).await;
    said_before(&server, &other["id"]).await;
    said_before(&server, &second["id"]).await;
    let gone = json!({ "model": "rehearsal", "input": "x", "previous_response_id": first["id"] });
    let gone = server.post("/v1/responses", gone).await;
    assert_eq!(
        (gone.status, &gone.json["error"]["code"]),
        (400, &json!("previous_response_not_found"))
    );
}

fn pay() -> Value {
    json!({ "type": "function", "name": "pay", "parameters": { "type": "object" } })
}

#[tokio::test]
async fn a_function_call_is_answered_by_the_next_request() {
    let server = Server::start("").await;
    let ask = json!({ "model": "rehearsal", "input": "call pay {\"sum\": 42}", "tools": [pay()] });
    let asked = server.create(ask).await;
    let call = item(&asked, "function_call");
    assert_eq!(call["name"], "pay");
    assert_eq!(call["arguments"], "{\"sum\": 42}");
    let next = |input: Value| json!({ "model": "rehearsal", "previous_response_id": asked["id"], "input": input, "tools": [pay()] });

    let unanswered = server.post("/v1/responses", next(json!("well?"))).await;
    assert_eq!(unanswered.status, 400);
    assert_eq!(
        unanswered.json["error"]["message"],
        format!("No tool output found for function call {}.", call["call_id"].as_str().unwrap())
    );
    assert_eq!(unanswered.json["error"]["param"], "input");

    let output =
        |id: &str| json!({ "type": "function_call_output", "call_id": id, "output": "paid" });
    let orphan = server.post("/v1/responses", next(json!([output("call_nobody")]))).await;
    assert_eq!(orphan.status, 400);
    assert_eq!(
        orphan.json["error"]["message"],
        "No tool call found for function call output with call_id call_nobody."
    );

    let id = call["call_id"].as_str().unwrap();
    let twice = server.post("/v1/responses", next(json!([output(id), output(id)]))).await;
    assert_eq!((twice.status, twice.json["error"]["param"].is_null()), (400, false));

    let done = server.create(next(json!([output(id)]))).await;
    assert!(text_of(&done).contains("paid"), "{done}");

    // The same again continues from before the head: a fork, whose call is still open.
    let again = server.create(next(json!([output(id)]))).await;
    assert!(text_of(&again).contains("paid"), "{again}");
}

#[tokio::test]
async fn history_can_be_told_instead_of_stored() {
    let server = Server::start("").await;
    let ask =
        json!({ "model": "rehearsal", "input": "call pay {}", "tools": [pay()], "store": false });
    let asked = server.create(ask).await;
    let id = asked["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/v1/responses/{id}")).await.status, 404);
    let mut input = vec![json!({ "role": "user", "content": "call pay {}" })];
    input.extend(asked["output"].as_array().unwrap().iter().cloned());
    let call_id = &item(&asked, "function_call")["call_id"];
    input.push(json!({ "type": "function_call_output", "call_id": call_id, "output": "paid" }));
    let body = json!({ "model": "rehearsal", "input": input, "tools": [pay()], "store": false });
    let done = server.create(body).await;
    assert!(text_of(&done).contains("paid"), "{done}");
}
