//! Saved agents: their object, their versions, their lists; nothing twice, and nothing of another project.

use serde_json::{Value, json};

use crate::server::{KEY, Server};
use crate::vaults::store;

async fn make(server: &Server, body: Value) -> Value {
    let made = server.post("/v1/agents", body).await;
    assert_eq!(made.status, 200, "{}", made.json);
    made.json
}

fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

fn ids(page: &Value) -> Vec<String> {
    page["data"].as_array().unwrap().iter().map(|it| id(it).to_owned()).collect()
}

#[tokio::test]
async fn an_agent_is_told_with_its_defaults() {
    let server = Server::start("").await;
    let made = make(&server, json!({ "model": "rehearsal" })).await;
    assert!(
        id(&made).starts_with("agent_") && made["created_at"].as_u64().unwrap() > 1_700_000_000
    );
    let mut told = made.clone();
    for field in ["id", "created_at", "updated_at"] {
        told.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(
        told,
        json!({
            "object": "agent",
            "model": "rehearsal",
            "name": null,
            "instructions": null,
            "metadata": {},
            "tools": [],
            "reasoning": { "effort": null, "summary": null },
            "text": { "format": { "type": "text" }, "verbosity": "medium" },
            "service_tier": "auto",
            "multi_agent": { "enabled": false, "max_concurrent_subagents": null },
            "compaction": { "async": false },
            "experimental": { "time_awareness": false },
        })
    );
    assert_eq!(server.get(&format!("/v1/agents/{}", id(&made))).await.json, made);

    let whole = make(
        &server,
        json!({
            "model": "rehearsal",
            "name": "clerk",
            "instructions": "Be brief.",
            "metadata": { "team": "a" },
            "tools": [{ "type": "function", "name": "f", "description": "d", "parameters": { "type": "object" } }],
            "reasoning": { "effort": "low", "summary": "auto" },
            "text": { "format": { "type": "json_schema", "schema": { "type": "object" } }, "verbosity": "low" },
            "service_tier": "flex",
            "multi_agent": { "enabled": true },
            "compaction": { "async": true },
            "experimental": { "time_awareness": true },
        }),
    )
    .await;
    assert_eq!(
        whole["text"]["format"],
        json!({ "type": "json_schema", "schema": { "type": "object" } })
    );
    assert_eq!(whole["multi_agent"], json!({ "enabled": true, "max_concurrent_subagents": 6 }));
    assert_eq!(whole["tools"][0]["name"], "f");
    // After a restart too.
    let server = Server::start_in(server.stop().await, "", &[]).await;
    assert_eq!(server.get(&format!("/v1/agents/{}", id(&whole))).await.json, whole);
}

#[tokio::test]
async fn every_version_is_kept() {
    let server = Server::start("").await;
    let made = make(&server, json!({ "model": "rehearsal", "name": "one" })).await;
    let (path, twin) =
        (format!("/v1/agents/{}", id(&made)), format!("/everstate/v1/agents/{}", id(&made)));
    assert_eq!(server.get(&twin).await.json["version"], 1);
    for (change, name, version) in [
        (json!({ "name": "two" }), "two", 2),
        // Nothing is changed by what is the same, or by nothing.
        (json!({ "name": "two", "reasoning": null }), "two", 2),
        (json!({}), "two", 2),
        (json!({ "name": "three", "metadata": { "k": "v" } }), "three", 3),
    ] {
        let changed = server.post(&path, change.clone()).await;
        assert_eq!((changed.status, &changed.json["name"]), (200, &json!(name)), "{change}");
        assert_eq!(server.get(&path).await.json, changed.json);
        assert_eq!(server.get(&twin).await.json["version"], version, "{change}");
    }
    let versions = server.get(&format!("{twin}/versions?order=asc")).await.json;
    let told = versions["data"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|it| (it["version"].clone(), it["name"].clone())).collect();
    let expected = [(1, "one"), (2, "two"), (3, "three")];
    assert_eq!(told, expected.map(|(n, name)| (json!(n), json!(name))));
    let newest = server.get(&format!("{twin}/versions?limit=1")).await.json;
    assert_eq!((&newest["last_id"], &newest["has_more"]), (&json!("3"), &json!(true)));
    let next = server.get(&format!("{twin}/versions?limit=2&after=3")).await.json;
    assert_eq!((&next["data"][0]["version"], &next["has_more"]), (&json!(2), &json!(false)));
    assert_eq!(server.get(&format!("{twin}/versions/1")).await.json["name"], "one");
    for none in ["0", "4", "x"] {
        assert_eq!(server.get(&format!("{twin}/versions/{none}")).await.status, 404, "{none}");
    }
    let wrong = server.post(&path, json!({ "model": 7 })).await;
    assert_eq!((wrong.status, &wrong.json["error"]["param"]), (400, &json!("model")));

    // Deleted, it is gone with all it ever was.
    let deleted = server.delete(&path).await;
    let answer = json!({ "id": made["id"], "object": "agent.deleted", "deleted": true });
    assert_eq!((deleted.status, deleted.json), (200, answer));
    for gone in [&path, &twin, &format!("{twin}/versions"), &format!("{twin}/versions/1")] {
        assert_eq!(server.get(gone).await.status, 404, "{gone}");
    }
    assert_eq!(server.delete(&path).await.status, 404);
    assert_eq!(server.post(&path, json!({ "name": "x" })).await.status, 404);
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_versions() {
    let server = Server::start("").await;
    let made = make(&server, json!({ "model": "rehearsal" })).await;
    let path = format!("/v1/agents/{}", id(&made));
    let change = async |n: usize| {
        let field = if n.is_multiple_of(2) { "name" } else { "instructions" };
        let changed = server.post(&path, json!({ field: n.to_string() })).await;
        assert_eq!(changed.status, 200, "{}", changed.json);
    };
    futures_util::future::join_all((0..12).map(change)).await;
    let versions = server.get(&format!("/everstate{path}/versions?order=asc")).await.json;
    let versions = versions["data"].as_array().unwrap();
    assert_eq!(versions.len(), 13);
    for pair in versions.windows(2) {
        let fields = ["name", "instructions"];
        let changed = fields.iter().filter(|it| pair[0][**it] != pair[1][**it]).count();
        assert_eq!(changed, 1, "each version is one change to the one before: {pair:?}");
    }
}

#[tokio::test]
async fn a_repeat_makes_no_second_agent() {
    let server = Server::start("").await;
    let (first, again) = (("x-stainless-retry-count", "0"), ("x-stainless-retry-count", "1"));
    let body = json!({ "model": "rehearsal", "name": "once" });
    let made = server.post_with("/v1/agents", body.clone(), &[first]).await.json;
    let repeat = server.post_with("/v1/agents", body.clone(), &[again]).await;
    assert_eq!((repeat.status, &repeat.json), (200, &made));
    // Asked anew, it is another; and another body is no repeat.
    assert_ne!(id(&server.post_with("/v1/agents", body.clone(), &[first]).await.json), id(&made));
    let other = json!({ "model": "rehearsal", "name": "twice" });
    assert_ne!(id(&server.post_with("/v1/agents", other.clone(), &[again]).await.json), id(&made));
    // A key of the caller's own does the same, for longer, and for one request.
    let key = [("idempotency-key", "agent 1")];
    let (one, two) = tokio::join!(
        server.post_with("/v1/agents", body.clone(), &key),
        server.post_with("/v1/agents", body.clone(), &key),
    );
    assert_eq!(one.json, two.json);
    let reused = server.post_with("/v1/agents", other, &key).await;
    assert_eq!(reused.json["error"]["code"], "idempotency_key_reused");
    // Also where it was used for something else.
    let response = json!({ "model": "rehearsal", "input": "hi" });
    assert_eq!(server.post_with("/v1/responses", response, &key).await.status, 422);
    assert_eq!(ids(&server.get("/v1/agents?limit=100").await.json).len(), 4);
}

#[tokio::test]
async fn a_claim_is_made_good_after_a_crash() {
    let server = Server::start("").await;
    let again = [("x-stainless-retry-count", "1")];
    let body = json!({ "model": "rehearsal", "name": "once" });
    let made = make(&server, body.clone()).await;
    let dir = server.stop().await;
    // The process dies between its claim and the document.
    let kept = store(dir.path()).await;
    kept.registry.remove("default", "agent", id(&made)).await.unwrap();
    drop(kept);
    let server = Server::start_in(dir, "", &[]).await;
    let repeat = server.post_with("/v1/agents", body, &again).await.json;
    assert_eq!((&repeat["id"], &repeat["created_at"]), (&made["id"], &made["created_at"]));
    assert_eq!(ids(&server.get("/v1/agents").await.json), [id(&made)]);
}

#[tokio::test]
async fn agents_are_listed_page_by_page() {
    let server = Server::start("").await;
    let empty = server.get("/v1/agents").await.json;
    let none = json!({ "object": "list", "data": [], "first_id": null, "last_id": null, "has_more": false });
    assert_eq!(empty, none);
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(
            id(&make(&server, json!({ "model": "m", "name": n.to_string() })).await).to_owned(),
        );
    }
    // Those of the same millisecond stand in the order of their names.
    let all = ids(&server.get("/v1/agents?order=asc").await.json);
    let mut sorted = made.clone();
    sorted.sort();
    assert_eq!((all.len(), &all), (5, &sorted));
    let newest = ids(&server.get("/v1/agents").await.json);
    assert!(newest.iter().rev().eq(&all));

    for order in ["asc", "desc"] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = server.get(&format!("/v1/agents?limit=2&order={order}{after}")).await.json;
            seen.extend(ids(&page));
            assert_eq!(page["last_id"].as_str(), seen.last().map(String::as_str));
            // What is deleted on the way does not stop it.
            server.delete(&format!("/v1/agents/{}", seen.last().unwrap())).await;
            if page["has_more"] == false {
                break;
            }
            after = format!("&after={}", seen.last().unwrap());
        }
        let expected = if order == "asc" { 5 } else { 2 };
        assert_eq!(seen.len(), expected, "{order}: {seen:?}");
    }
    for (query, status, param) in [
        ("limit=0", 400, "limit"),
        ("limit=101", 400, "limit"),
        ("limit=x", 400, "limit"),
        ("order=up", 400, "order"),
        ("after=agent_zzz", 404, "after"),
        ("after=vault_1", 404, "after"),
    ] {
        let answer = server.get(&format!("/v1/agents?{query}")).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["param"]),
            (status, &json!(param)),
            "{query}"
        );
    }
}

#[tokio::test]
async fn an_agent_of_another_project_does_not_exist() {
    let mut server = Server::start("").await;
    let made = make(&server, json!({ "model": "m" })).await;
    let path = format!("/v1/agents/{}", id(&made));
    server.post(&path, json!({ "name": "n" })).await;
    server.post("/everstate/v1/projects", json!({ "name": "other" })).await;
    let key = server.post("/everstate/v1/keys", json!({ "project": "other", "name": "k" })).await;
    server.with_key(key.json["key"].as_str().unwrap());
    assert_eq!(server.get("/v1/agents").await.json["data"], json!([]));
    let twin = format!("/everstate{path}");
    for path in [&path, &twin, &format!("{twin}/versions"), &format!("{twin}/versions/1")] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.post(&path, json!({ "name": "theirs" })).await.status, 404);
    assert_eq!(server.delete(&path).await.status, 404);
    server.with_key(KEY);
    assert_eq!(server.get(&path).await.json["name"], "n");
    server.with_key("es_wrong");
    assert_eq!(server.get(&path).await.status, 401);
}

#[tokio::test]
async fn a_session_goes_on_with_the_version_it_began_with() {
    let server = Server::start("").await;
    let made =
        make(&server, json!({ "model": "rehearsal", "name": "one", "metadata": { "k": "v" } }))
            .await;
    let path = format!("/v1/agents/{}", id(&made));
    let body =
        json!({ "environment": { "type": "none" }, "agent_id": made["id"], "input": "hello" });
    let session = server.idle(body.clone()).await;
    assert_eq!((&session["agent"]["id"], &session["agent"]["name"]), (&made["id"], &json!("one")));
    server.post(&path, json!({ "name": "two" })).await;
    assert_eq!(server.idle(body.clone()).await["agent"]["name"], "two");
    let of_agent = format!("/v1/agents/sessions?agent_id={}", id(&made));
    assert_eq!(ids(&server.get(&of_agent).await.json).len(), 2);

    server.delete(&path).await;
    assert_eq!(server.post("/v1/agents/sessions", body).await.status, 404);
    let more = json!([crate::agents::message("more")]);
    assert_eq!(server.tell(&session, more).await.status, 202);
    let after = server.until(&session, "idle").await;
    assert_eq!(after["agent"]["name"], "one");
    let turns = server.get(&format!("/v1/agents/sessions/{}/turns", id(&session))).await.json;
    assert_eq!(turns["data"].as_array().unwrap().len(), 2);
}
