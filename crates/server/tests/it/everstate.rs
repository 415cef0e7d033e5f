//! `/everstate/v1`: sessions, their facts, and why.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::server::{Server, read_events, text_of};

async fn only_session(server: &Server) -> String {
    let sessions = server.get("/everstate/v1/sessions").await.json;
    sessions["items"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_tells_its_facts() {
    let server = Server::start("").await;
    let made = server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    let id = only_session(&server).await;
    let path = format!("/everstate/v1/sessions/{id}");
    let state = server.get(&path).await.json;
    assert_eq!((&state["state"], &state["project"]), (&json!("idle"), &json!("default")));
    assert_eq!(state["turns"][0]["response"], made["id"]);
    // Named by its first letters, or as the newest.
    for name in [&id[..14], "@"] {
        assert_eq!(server.get(&format!("/everstate/v1/sessions/{name}")).await.json["id"], *id);
    }
    assert_eq!(server.get("/everstate/v1/sessions/ses_zzzz").await.status, 404);

    let events = server.get(&format!("{path}/events")).await.json;
    let kinds: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["created", "owned"]);
    for kind in
        ["turn_started", "step_started", "attempt_opened", "placed", "replied", "turn_ended"]
    {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let find = |kind: &str| {
        let items = events["items"].as_array().unwrap();
        items.iter().find(|it| it["kind"] == kind).unwrap().clone()
    };
    assert_eq!(find("created")["project"], "default");
    assert_eq!(find("placed")["address"], format!("{id}/1.1"));
    assert_eq!(find("placed")["plan"]["offer"], "rehearsal/global/rehearsal");
    let after = find("placed")["seq"].as_u64().unwrap();
    let rest = server.get(&format!("{path}/events?after={after}")).await.json;
    assert!(rest["items"].as_array().unwrap().iter().all(|it| it["seq"].as_u64().unwrap() > after));

    let verdict = server.get(&format!("{path}/verify")).await.json;
    assert_eq!((&verdict["ok"], &verdict["broken"]), (&json!(true), &Value::Null));

    let why = server.get(&format!("{path}/explain?step=1.1")).await.json;
    assert_eq!(why["items"][0]["offer"], "rehearsal/global/rehearsal");
    assert_eq!(why["items"][0]["offers"][0]["verdict"], "chosen");
    assert_eq!(why["items"][0]["outcome"]["kind"], "replied");
    assert_eq!(server.get(&format!("{path}/explain?step=7.1")).await.status, 404);
    assert_eq!(server.get(&format!("{path}/explain?step=x")).await.status, 400);
}

#[tokio::test]
async fn a_session_is_followed_while_it_is_spoken_to() {
    let server = Server::start("").await;
    server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    let id = only_session(&server).await;
    let path = format!("/everstate/v1/sessions/{id}");
    let follow = server
        .ask(reqwest::Method::GET, &format!("{path}/events?follow=true"))
        .send()
        .await
        .unwrap();
    let mut stream = follow.bytes_stream();
    let said = server.post(&format!("{path}/say"), json!({ "text": "go on" })).await;
    assert_eq!((said.status, &said.json["turn"]), (200, &json!(2)), "{}", said.json);
    let mut text = String::new();
    while text.matches("\"turn_ended\"").count() < 2 {
        text.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    let seqs: Vec<u64> = read_events(&text).iter().map(|it| it["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs[0] == 1, "{seqs:?}");
    let response = server.ended(said.json["response"].as_str().unwrap()).await;
    assert!(text_of(&response).contains("go on"), "{response}");
}

#[tokio::test]
async fn a_fork_begins_with_what_was_said() {
    let server = Server::start("").await;
    let first = server.create(json!({ "model": "rehearsal", "input": "one" })).await;
    let body = json!({ "model": "rehearsal", "input": "two", "previous_response_id": first["id"] });
    server.create(body).await;
    let id = only_session(&server).await;
    let path = format!("/everstate/v1/sessions/{id}/fork");
    let fork = server.post(&path, json!({ "turn": 1 })).await;
    assert_eq!((fork.status, &fork.json["forked_from"]), (200, &json!(id)), "{}", fork.json);
    let fork_id = fork.json["id"].as_str().unwrap().to_owned();
    let items = server.get(&format!("/everstate/v1/sessions/{fork_id}/items")).await.json;
    assert_eq!(items["items"].as_array().unwrap().len(), 2);
    let said = server
        .post(&format!("/everstate/v1/sessions/{fork_id}/say"), json!({ "text": "three" }))
        .await;
    assert_eq!(said.status, 200, "{}", said.json);
    server.ended(said.json["response"].as_str().unwrap()).await;
    // The parent may go.
    assert_eq!(server.delete(&format!("/everstate/v1/sessions/{id}")).await.status, 200);
    assert_eq!(server.get(&format!("/everstate/v1/sessions/{id}")).await.status, 404);
    assert_eq!(
        server.get(&format!("/everstate/v1/sessions/{fork_id}")).await.json["state"],
        "idle"
    );
    assert_eq!(server.post(&path, json!({ "turn": 9 })).await.status, 404);
    for bad in [
        json!({ "at": 0 }),
        json!({ "at": 999 }),
        json!({ "at": 1, "turn": 1 }),
        json!({ "when": 1 }),
    ] {
        let path = format!("/everstate/v1/sessions/{fork_id}/fork");
        assert_eq!(server.post(&path, bad).await.status, 400);
    }
}

#[tokio::test]
async fn the_installation_describes_itself_without_secrets() {
    let config = "[providers.cloud]\nkind = \"openai\"\nbase_url = \"https://cloud.example/v1\"\nkey = \"env:CLOUD_KEY\"\n\
                  [[offers]]\nmodel = \"m\"\nprovider = \"cloud\"\nprice = { input = \"2.50\", output = \"10\" }\n";
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir, config, &[("CLOUD_KEY", "sk-0123456789")]).await;
    let mut all = String::new();
    for path in ["offers", "tools", "config", "doctor", "codes", "keys", "approvals", "effects"] {
        let answer = server.get(&format!("/everstate/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.json);
        all.push_str(&answer.json.to_string());
    }
    assert!(!all.contains("sk-0123456789") && !all.contains(crate::server::KEY), "{all}");
    let offers = server.get("/everstate/v1/offers").await.json;
    let offer =
        offers["items"].as_array().unwrap().iter().find(|it| it["model"] == "m").unwrap().clone();
    assert_eq!((&offer["price"]["input"], &offer["usable"]), (&json!(2_500_000), &json!(true)));
    let doctor = server.get("/everstate/v1/doctor").await.json;
    assert!(doctor["store"]["path"].as_str().unwrap().starts_with(server.dir().to_str().unwrap()));
}

#[tokio::test]
async fn a_found_provider_serves_models_by_their_name() {
    let first = Server::start("[[offers]]\nmodel = \"tale\"\nprovider = \"rehearsal\"\n").await;
    let upstream = format!("{}/v1", first.url);
    let env = [("OPENAI_API_KEY", crate::server::KEY), ("OPENAI_BASE_URL", upstream.as_str())];
    // A server whose upstream is another one.
    let second = Server::start_in(tempfile::tempdir().unwrap(), "", &env).await;
    let told = second.create(json!({ "model": "tale", "input": "hello" })).await;
    assert_eq!(
        (&told["model"], text_of(&told).contains("hello")),
        (&json!("tale"), true),
        "{told}"
    );
    let offers = second.get("/everstate/v1/offers").await.json;
    assert!(offers.to_string().contains("openai/global/tale"), "{offers}");
    // It is there after a restart.
    let second = Server::start_in(second.stop().await, "", &env).await;
    assert!(second.get("/v1/models").await.json.to_string().contains("tale"));
    let why = second.get("/everstate/v1/sessions/@/explain").await.json;
    assert_eq!(why["items"][0]["offer"], "openai/global/tale");
}
