//! Vaults and credentials: what is told, what rotates, what is listed; and that no secret is anywhere but in its seal.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ::tracing::field::{Field, Visit};
use ::tracing::span::{Attributes, Id, Record};
use ::tracing::{Event, Metadata, Subscriber};
use bytes::Bytes;
use everstate_runtime::ports::Put;
use everstate_store::open::{Settings, Store, open};
use serde_json::{Value, json};

use crate::agents::{PATH, session};
use crate::server::{KEY, Server};

/// Stands in every secret of these tests.
const SECRET: &str = "xyzzy-hunter2";

fn secret(n: u32) -> String {
    format!("{SECRET}-{n}")
}

fn bearer(token: &str) -> Value {
    json!({ "type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": token })
}

fn oauth() -> Value {
    json!({
        "type": "mcp_oauth",
        "mcp_server_url": "https://mcp.example",
        "access_token": secret(1),
        "expires_at": "2027-01-01T00:00:00Z",
        "refresh": {
            "client_id": "me",
            "refresh_token": secret(2),
            "token_endpoint": "https://auth.example/token",
            "token_endpoint_auth": { "type": "client_secret_post", "client_secret": secret(3) },
        },
    })
}

fn variable() -> Value {
    json!({
        "type": "environment_variable",
        "secret_name": "SERVICE_API_KEY",
        "secret_value": secret(4),
        "networking": { "type": "limited", "allowed_hosts": ["API.example"] },
    })
}

fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

async fn vault(server: &Server, body: Value) -> String {
    let made = server.post("/v1/vaults", body).await;
    assert_eq!(made.status, 200, "{}", made.json);
    id(&made.json).to_owned()
}

async fn credential(server: &Server, vault: &str, name: &str, auth: Value) -> Value {
    let path = format!("/v1/vaults/{vault}/credentials");
    let made = server.post(&path, json!({ "name": name, "auth": auth })).await;
    assert_eq!(made.status, 200, "{}", made.json);
    made.json
}

fn names(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_vault_is_made_changed_listed_and_deleted() {
    let server = Server::start("").await;
    let a = vault(&server, json!({ "name": " a ", "metadata": { "team": "x" } })).await;
    let made = server.get(&format!("/v1/vaults/{a}")).await.json;
    assert_eq!(
        (&made["object"], &made["name"], &made["metadata"]),
        (&json!("vault"), &json!("a"), &json!({ "team": "x" }))
    );
    let nameless = vault(&server, json!({})).await;
    assert_eq!(server.get(&format!("/v1/vaults/{nameless}")).await.json["name"], Value::Null);
    let b = vault(&server, json!({ "name": "b", "metadata": { "team": "x", "y": "z" } })).await;
    server.delete(&format!("/v1/vaults/{nameless}")).await;
    for (query, found) in [
        ("", vec!["b", "a"]),
        ("?order=asc", vec!["a", "b"]),
        ("?limit=1", vec!["b"]),
        ("?metadata%5Bteam%5D=x&metadata[y]=z", vec!["b"]),
        ("?metadata[team]=y", vec![]),
        ("?status=active", vec!["b", "a"]),
        ("?status=archived", vec![]),
        ("?status[]=active&status[]=archived&order=asc", vec!["a", "b"]),
    ] {
        let page = server.get(&format!("/v1/vaults{query}")).await;
        assert_eq!(names(&page.json), found, "{query}");
    }
    let after = server.get(&format!("/v1/vaults?after={b}")).await.json;
    assert_eq!((names(&after), &after["has_more"]), (vec!["a"], &json!(false)));
    assert_eq!(server.get("/v1/vaults?status=gone").await.status, 400);

    let path = format!("/v1/vaults/{a}");
    let renamed = server.post(&path, json!({ "name": "c" })).await.json;
    assert_eq!((&renamed["name"], &renamed["metadata"]), (&json!("c"), &json!({ "team": "x" })));
    let cleared = server.post(&path, json!({ "name": null, "metadata": {} })).await.json;
    assert_eq!((&cleared["name"], &cleared["metadata"]), (&Value::Null, &json!({})));
    assert_eq!(server.post(&path, json!({ "name": "  " })).await.status, 400);
    assert_eq!(server.post(&path, json!({ "nam": "x" })).await.status, 400);

    let deleted = server.delete(&path).await.json;
    assert_eq!(deleted, json!({ "id": a, "object": "vault.deleted", "deleted": true }));
    assert_eq!(server.delete(&path).await.status, 404);
    assert_eq!(server.post(&path, json!({})).await.status, 404);
}

#[tokio::test]
async fn credentials_are_told_rotated_and_deleted() {
    let server = Server::start("").await;
    let vault = vault(&server, json!({})).await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let made = credential(&server, &vault, " mine ", oauth()).await;
    assert_eq!(
        (&made["object"], &made["vault_id"], &made["name"], &made["metadata"]),
        (&json!("vault.credential"), &json!(vault), &json!("mine"), &json!({}))
    );
    assert_eq!(
        made["auth"]["refresh"]["token_endpoint_auth"],
        json!({ "type": "client_secret_post" })
    );
    let one = format!("{path}/{}", id(&made));
    assert_eq!(server.get(&one).await.json, made);
    let rotated = json!({ "auth": { "type": "mcp_oauth", "access_token": secret(9) } });
    let rotated = server.post(&one, rotated).await;
    assert_eq!((rotated.status, &rotated.json["auth"]["expires_at"]), (200, &Value::Null));
    let described = server.post(&one, json!({ "metadata": { "k": "v" } })).await.json;
    assert_eq!(described["metadata"], json!({ "k": "v" }));
    let wrong =
        server.post(&one, json!({ "auth": { "type": "static_bearer", "token": "x" } })).await;
    assert_eq!((wrong.status, &wrong.json["error"]["param"]), (400, &json!("auth.type")));

    credential(&server, &vault, "two", bearer(&secret(5))).await;
    credential(&server, &vault, "three", variable()).await;
    for (query, found) in [
        ("?order=asc", vec!["mine", "two", "three"]),
        ("?limit=2", vec!["three", "two"]),
        ("?metadata[k]=v", vec!["mine"]),
        ("?status=archived", vec![]),
    ] {
        let page = server.get(&format!("{path}{query}")).await.json;
        assert_eq!(names(&page), found, "{query}");
    }
    // What is read elsewhere is sealed, and opens again after a restart.
    let server = Server::start_in(server.stop().await, "", &[]).await;
    assert_eq!(server.get(&path).await.json["data"].as_array().unwrap().len(), 3);
    let deleted = server.delete(&one).await.json;
    let answer = json!({ "id": made["id"], "object": "vault.credential.deleted", "deleted": true });
    assert_eq!(deleted, answer);
    assert_eq!(server.delete(&one).await.status, 404);
    assert_eq!(server.get(&one).await.status, 404);
    assert_eq!(server.post(&one, json!({})).await.status, 404);
}

#[tokio::test]
async fn a_repeat_makes_no_second_credential() {
    let server = Server::start("").await;
    let again = [("x-stainless-retry-count", "1")];
    let body = json!({ "name": "v" });
    let one = server.post("/v1/vaults", body.clone()).await.json;
    assert_eq!(server.post_with("/v1/vaults", body, &again).await.json, one);
    let path = format!("/v1/vaults/{}/credentials", id(&one));
    let body = json!({ "name": "c", "auth": bearer(&secret(1)) });
    let made = server.post(&path, body.clone()).await.json;
    assert_eq!(server.post_with(&path, body, &again).await.json, made);
    assert_eq!(server.get(&path).await.json["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_of_another_project_exists() {
    let mut server = Server::start("").await;
    let vault = vault(&server, json!({})).await;
    let made = credential(&server, &vault, "c", bearer(&secret(1))).await;
    let other = server.post("/v1/vaults", json!({})).await.json;
    let inside = format!("/v1/vaults/{vault}/credentials/{}", id(&made));
    // Not in another vault either.
    let elsewhere = format!("/v1/vaults/{}/credentials/{}", id(&other), id(&made));
    assert_eq!(server.get(&elsewhere).await.status, 404);
    server.post("/everstate/v1/projects", json!({ "name": "other" })).await;
    let key = server.post("/everstate/v1/keys", json!({ "project": "other", "name": "k" })).await;
    server.with_key(key.json["key"].as_str().unwrap());
    let (own, all) = (format!("/v1/vaults/{vault}"), format!("/v1/vaults/{vault}/credentials"));
    assert_eq!(server.get("/v1/vaults").await.json["data"], json!([]));
    for (path, body) in [
        (&own, json!({ "name": "x" })),
        (&all, json!({ "name": "x", "auth": bearer("t") })),
        (&inside, json!({ "metadata": {} })),
    ] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
        assert_eq!(server.post(path, body).await.status, 404, "{path}");
    }
    for path in [&own, &inside] {
        assert_eq!(server.delete(path).await.status, 404, "{path}");
    }
    server.with_key(KEY);
    assert_eq!(server.get(&inside).await.json, made);
}

// ---- secrets -----------------------------------------------------------------------------

/// Hears all that is logged on its thread.
struct Ear(Arc<Mutex<String>>);

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Ear {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Words(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&mut self.0.lock().unwrap()));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Words(&mut self.0.lock().unwrap()));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn finds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return finds(&path, bytes);
        }
        std::fs::read(path).unwrap().windows(bytes.len()).any(|it| it == bytes)
    })
}

#[tokio::test]
async fn a_secret_is_nowhere() {
    let logged = Arc::new(Mutex::new(String::new()));
    let _hearing = ::tracing::subscriber::set_default(Ear(logged.clone()));
    let server = Server::start("").await;
    let vault = vault(&server, json!({ "name": "v" })).await;
    let path = format!("/v1/vaults/{vault}/credentials");
    let mut answers = String::new();
    let mut made = Vec::new();
    for (n, auth) in [oauth(), bearer(&secret(5)), variable()].into_iter().enumerate() {
        let told = credential(&server, &vault, &n.to_string(), auth).await;
        answers.push_str(&told.to_string());
        made.push(format!("{path}/{}", id(&told)));
    }
    for get in
        made.iter().chain([&path, &"/v1/vaults".to_owned(), &"/everstate/v1/config".to_owned()])
    {
        answers.push_str(&server.get(get).await.json.to_string());
    }
    let refresh = json!({ "refresh_token": secret(6), "token_endpoint_auth": { "type": "client_secret_post", "client_secret": secret(7) } });
    let rotation =
        json!({ "auth": { "type": "mcp_oauth", "access_token": secret(8), "refresh": refresh } });
    answers.push_str(&server.post(&made[0], rotation).await.json.to_string());

    // Whatever is wrong with a request, it is not repeated.
    let mut refused = 0;
    let wrong = |auth: Value| json!({ "name": "x", "auth": auth });
    for body in [
        wrong(json!(secret(1))),
        wrong(json!([secret(1)])),
        wrong(json!({ "type": secret(1) })),
        wrong(
            json!({ "type": "static_bearer", "token": [secret(1)], "mcp_server_url": "https://a.example" }),
        ),
        wrong(
            json!({ "type": "static_bearer", "token": { (secret(1)): secret(2) }, "mcp_server_url": "https://a.example" }),
        ),
        wrong(
            json!({ "type": "static_bearer", "token": secret(1), "mcp_server_url": format!("https://me:{}@a.example", secret(1)) }),
        ),
        wrong(json!({ "type": "static_bearer", "token": secret(1), "mcp_server_url": secret(1) })),
        wrong(
            json!({ "type": "static_bearer", "token": format!("{}\r\n", secret(1)), "mcp_server_url": "https://a.example" }),
        ),
        wrong(
            json!({ "type": "mcp_oauth", "access_token": secret(1), "expires_at": secret(2), "mcp_server_url": "https://a.example" }),
        ),
        wrong(
            json!({ "type": "environment_variable", "secret_name": secret(1), "secret_value": secret(1), "networking": secret(1) }),
        ),
        wrong(
            json!({ "type": "environment_variable", "secret_name": "A", "secret_value": secret(1), "networking": { "type": secret(1) } }),
        ),
        wrong(
            json!({ "type": "environment_variable", "secret_name": "A", "secret_value": secret(1), "networking": { "type": "limited", "allowed_hosts": [secret(1) + "!"] } }),
        ),
        json!([secret(1)]),
        json!(secret(1)),
    ] {
        for path in [&path, &made[0]] {
            let answer = server.post(path, body.clone()).await;
            assert_eq!(answer.status, 400, "{body}");
            answers.push_str(&answer.json.to_string());
            refused += 1;
        }
    }
    assert_eq!(refused, 28);
    for text in [format!("{{\"token\": \"{}", secret(1)), format!("{}}}", secret(1))] {
        let cut = server.ask(reqwest::Method::POST, &path).body(text).send().await.unwrap();
        assert_eq!(cut.status(), 400);
        answers.push_str(&cut.text().await.unwrap());
    }
    answers.push_str(&server.delete(&made[1]).await.json.to_string());

    assert!(answers.len() > 5_000 && !answers.contains(SECRET), "{answers}");
    let dir = server.dir();
    assert!(!finds(&dir, SECRET.as_bytes()), "while it runs");
    let dir = server.stop().await;
    assert!(!finds(dir.path(), SECRET.as_bytes()), "when it is closed");
    let logged = logged.lock().unwrap();
    assert!(logged.contains("answered"), "the log was not heard");
    assert!(!logged.contains(SECRET), "{logged}");
}

pub(crate) async fn store(dir: &Path) -> Store {
    let url = format!("sqlite:{}", dir.join("state.db").display());
    open(&url, Settings::default()).await.unwrap()
}

async fn n_credentials(store: &Store, vault: &str) -> usize {
    let kind = format!("sealed/credential/{vault}");
    store.registry.documents("default", &kind, None, 100).await.unwrap().len()
}

#[tokio::test]
async fn a_vault_goes_with_all_that_is_in_it() {
    let server = Server::start("").await;
    let (one, two) = (vault(&server, json!({})).await, vault(&server, json!({})).await);
    for name in ["a", "b"] {
        credential(&server, &one, name, bearer(&secret(1))).await;
        credential(&server, &two, name, bearer(&secret(1))).await;
    }
    server.delete(&format!("/v1/vaults/{one}")).await;
    assert_eq!(server.get(&format!("/v1/vaults/{one}/credentials")).await.status, 404);
    let dir = server.stop().await;
    let kept = store(dir.path()).await;
    assert_eq!((n_credentials(&kept, &one).await, n_credentials(&kept, &two).await), (0, 2));
    // The process dies when it has noted that a vault is to go, and done nothing yet.
    let note = Put {
        project: "-".to_owned(),
        kind: "vault.leaving".to_owned(),
        id: format!("default/{two}"),
        expect: None,
        body: Bytes::from_static(b"{}"),
        now: 1,
        expires_at: None,
    };
    kept.registry.put(note).await.unwrap();
    drop(kept);
    // Who comes next finishes it; perhaps not the first one, if that one is stopped at once.
    let mut dir = dir;
    for n in 0.. {
        let server = Server::start_in(dir, "", &[]).await;
        while server.get(&format!("/v1/vaults/{two}")).await.status == 200 {
            tokio::task::yield_now().await;
        }
        // Whatever writes meanwhile takes turns with who finishes it.
        for _ in 0..4 {
            let other = vault(&server, json!({})).await;
            credential(&server, &other, "a", bearer(&secret(1))).await;
            server.delete(&format!("/v1/vaults/{other}")).await;
        }
        dir = server.stop().await;
        let kept = store(dir.path()).await;
        if n_credentials(&kept, &two).await == 0 {
            break;
        }
        assert!(n < 20, "it is never finished");
    }
}

#[tokio::test]
async fn a_session_names_vaults_that_are_there() {
    let server = Server::start("").await;
    let ours = vault(&server, json!({})).await;
    let mut body = session("hello");
    body["vault_ids"] = json!([ours]);
    let made = server.idle(body.clone()).await;
    assert_eq!(made["vault_ids"], json!([ours]));
    body["vault_ids"] = json!([ours, "vault_1"]);
    let refused = server.post(PATH, body).await;
    assert_eq!((refused.status, &refused.json["error"]["param"]), (404, &json!("vault_ids")));
}
