//! Who may do what: every operation that is served is tried by a key of another project, by a key without its scope,
//! and by nobody. The list is the router's own.

use std::collections::BTreeMap;

use everstate_server::keys::routes::{Route, routes};
use everstate_server::keys::scope::{Asks, Scope};
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Server, read};

/// Every project hears the same.
const SHARED: [&str; 1] = ["/v1/models/{*id}"];
/// Of this release nobody has any; a name is made up.
const NEVER: [&str; 7] =
    ["subagents", "environments", "automations", "invocations", "artifacts", "templates", "files"];

struct Trial {
    server: Server,
    /// What follows a word in a path: the names of our things.
    names: BTreeMap<&'static str, String>,
}

impl Trial {
    /// Project `default` has one of everything.
    async fn new() -> Trial {
        let money = "[projects.\"*\"]\nmoney = { usd = \"5\", per = \"day\" }\n";
        let server = Server::start(money).await;
        let mut names = BTreeMap::new();
        let made = server.create(json!({ "model": "rehearsal", "input": "secret" })).await;
        names.insert("responses", id(&made));
        let sessions = server.get("/everstate/v1/sessions").await.json;
        names.insert("/everstate/v1/sessions", id(&sessions["items"][0]));
        names.insert("versions", "1".to_owned());
        names.insert("budgets", "default".to_owned());
        names.insert("nodes", "n1".to_owned());
        let key = server.post("/everstate/v1/keys", json!({ "name": "ours" })).await.json;
        names.insert("keys", id(&key));
        let mut make = async |word: &'static str, path: String, body: Value| {
            let made = server.post(&path, body).await;
            let name = match made.status {
                200 | 201 => id(&made.json),
                404 | 501 => format!("{word}_nobody"),
                _ => panic!("cannot make one of {word}: {}", made.json),
            };
            names.insert(word, name.clone());
            name
        };
        let agent = json!({ "model": "rehearsal", "name": "ours" });
        make("agents", "/v1/agents".to_owned(), agent).await;
        let agent = json!({ "model": "rehearsal" });
        let session =
            json!({ "agent": agent, "environment": { "type": "none" }, "input": "secret" });
        make("/v1/agents/sessions", "/v1/agents/sessions".to_owned(), session).await;
        let vault = make("vaults", "/v1/vaults".to_owned(), json!({ "name": "ours" })).await;
        let credential = json!({ "name": "T", "auth": { "type": "static_bearer", "mcp_server_url": "https://mcp.example/mcp", "token": "secret" } });
        make("credentials", format!("/v1/vaults/{vault}/credentials"), credential).await;
        // Nothing changes by itself any more.
        while server.get("/everstate/v1/sessions?running=true").await.json["items"] != json!([]) {
            tokio::task::yield_now().await;
        }
        Trial { server, names }
    }

    /// The path with our names in it.
    async fn path(&mut self, route: &Route) -> String {
        let mut path = String::new();
        let mut word = "";
        for segment in route.path.split('/').skip(1) {
            let name = match segment.starts_with('{') {
                false => segment.to_owned(),
                true if segment == "{*rest}" => "anything".to_owned(),
                true => self.name(&path, word).await,
            };
            word = segment;
            path = format!("{path}/{name}");
        }
        if path.ends_with("/export") {
            path.push_str("?plain=true");
        }
        path
    }

    async fn name(&mut self, path: &str, word: &str) -> String {
        if let Some(name) = self.names.get(path).or_else(|| self.names.get(word)) {
            return name.clone();
        }
        if NEVER.contains(&word) {
            return format!("{word}_nobody");
        }
        // One of a list that the path itself leads to.
        let list = self.server.get(path).await;
        match list.status {
            200 => id(list.json["data"]
                .as_array()
                .or(list.json["items"].as_array())
                .unwrap()
                .first()
                .unwrap_or_else(|| panic!("{path} has none"))),
            501 => format!("{word}_nobody"),
            _ => panic!("say in this test what follows `{word}` in {path}: {}", list.json),
        }
    }

    async fn send(&self, route: &Route, path: &str) -> reqwest::Response {
        let method: Method = route.method.parse().unwrap();
        let body = match (route.method.as_str(), route.path.rsplit('/').next().unwrap()) {
            ("POST", "say") => json!({ "text": "foreign" }),
            ("POST", "events") => json!({ "events": [{ "type": "agent.session.input.message",
                "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "foreign" }] }] }] }),
            ("POST", "credentials") => json!({ "name": "X", "auth": { "type": "static_bearer",
                "mcp_server_url": "https://mcp.example/mcp", "token": "foreign" } }),
            _ => json!({}),
        };
        let request = self.server.ask(method, path).header("openai-beta", "agents=v1");
        match route.method.as_str() {
            "GET" | "DELETE" => request.send().await.unwrap(),
            _ => request.body(body.to_string()).send().await.unwrap(),
        }
    }

    /// Everything that can be read of our things.
    async fn standing(&mut self, ours: &[Route]) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for route in ours.iter().filter(|it| it.method == "GET") {
            let path = self.path(route).await;
            let response = self.send(route, &path).await;
            let made_up = NEVER.iter().any(|it| path.contains(&format!("{it}_nobody")));
            let status = response.status().as_u16();
            // Only what was imported has one.
            let none = made_up || path.ends_with("/origin");
            assert!(status == 200 || status == 501 || (none && status == 404), "{path}: {status}");
            let kind =
                response.headers().get("content-type").map(|it| it.to_str().unwrap().to_owned());
            // A stream of what happens says nothing while nothing happens.
            if kind.is_some_and(|it| it.starts_with("application/json")) {
                all.insert(path, read(response).await.json);
            }
        }
        all
    }
}

fn id(thing: &Value) -> String {
    thing["id"].as_str().unwrap_or_else(|| panic!("no id: {thing}")).to_owned()
}

fn scope_of(route: &Route) -> Option<Scope> {
    match route.asks() {
        Some(Asks::Scope(scope)) => Some(scope),
        Some(Asks::Nothing | Asks::Seal) => None,
        None => panic!("{} {} asks for nothing", route.method, route.path),
    }
}

#[tokio::test]
async fn another_projects_names_open_nothing() {
    let mut trial = Trial::new().await;
    assert_eq!(
        trial.server.post("/everstate/v1/projects", json!({ "name": "other" })).await.status,
        200
    );
    let body = json!({ "project": "other", "name": "all", "role": "owner" });
    let key = trial.server.post("/everstate/v1/keys", body).await.json;
    let ours: Vec<Route> = routes()
        .into_iter()
        .filter(|it| it.path.contains('{') && !SHARED.contains(&it.path.as_str()))
        .filter(|it| scope_of(it).is_some_and(|it| it != Scope::Admin))
        .collect();
    let before = trial.standing(&ours).await;
    assert!(before.len() > 8, "{:?}", before.keys());
    let mut wrong = Vec::new();
    for route in &ours {
        let path = trial.path(route).await;
        let admin = trial.server.with_key(key["key"].as_str().unwrap());
        let response = trial.send(route, &path).await;
        let status = response.status().as_u16();
        if !(status == 404 || status == 501) {
            wrong.push(format!("{} {path}: {status}", route.method));
        }
        trial.server.with_key(&admin);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(trial.standing(&ours).await, before);
}

#[tokio::test]
async fn without_its_scope_a_key_opens_no_route_and_nobody_opens_any() {
    let mut trial = Trial::new().await;
    let mut weak: BTreeMap<Scope, String> = BTreeMap::new();
    for lacks in Scope::ALL {
        let rest = Scope::ALL.iter().filter(|it| ![*lacks, Scope::Admin].contains(it));
        let words: Vec<&str> = rest.map(|it| it.word()).collect();
        let key =
            trial.server.post("/everstate/v1/keys", json!({ "name": "weak", "scopes": words }));
        weak.insert(*lacks, key.await.json["key"].as_str().unwrap().to_owned());
    }
    let routes = routes();
    for route in &routes {
        let Some(scope) = scope_of(route) else { continue };
        let path = trial.path(route).await;
        let admin = trial.server.with_key(&weak[&scope]);
        let answer = read(trial.send(route, &path).await).await;
        let word = if scope == Scope::Admin { "admin_only" } else { "missing_scope" };
        let told = (answer.status, answer.json["error"]["code"].as_str());
        assert_eq!(told, (403, Some(word)), "{} {path}", route.method);
        assert!(answer.json["error"]["message"].as_str().unwrap().contains(match scope {
            Scope::Admin => "admin",
            scope => scope.word(),
        }));
        trial.server.with_key("");
        let answer = read(trial.send(route, &path).await).await;
        assert_eq!(answer.status, 401, "{} {path}", route.method);
        trial.server.with_key(&admin);
    }
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_gives_no_more() {
    let mut server = Server::start("").await;
    let made = server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    let path = format!("/v1/responses/{}", id(&made));
    server.post("/everstate/v1/projects", json!({ "name": "other" })).await;
    let key = async |body: Value| server.post("/everstate/v1/keys", body).await;
    let reader = key(json!({ "name": "r", "role": "reader" })).await.json;
    let owner = key(json!({ "name": "o", "role": "owner" })).await.json;
    let ruler = key(json!({ "name": "a", "admin": true })).await.json;
    for (bad, param) in [
        (json!({ "name": "x", "role": "king" }), "role"),
        (json!({ "name": "x", "scopes": ["sessions:fly"] }), "scopes"),
        (json!({ "name": "x", "scopes": [] }), "scopes"),
        (json!({ "name": "x", "role": "owner", "scopes": ["keys:read"] }), "scopes"),
        (json!({ "name": "x", "role": "owner", "admin": true }), "role"),
        (json!({ "name": "x", "expires": "soon" }), "expires"),
        (json!({ "name": "x", "expires": "9999999999d" }), "expires"),
        (json!({ "name": "x", "expires_at": 1 }), "expires_at"),
        (json!({ "name": "" }), "name"),
    ] {
        let answer = key(bad.clone()).await;
        let told = (answer.status, &answer.json["error"]["param"]);
        assert_eq!(told, (400, &json!(param)), "{bad}: {}", answer.json);
    }

    server.with_key(reader["key"].as_str().unwrap());
    assert_eq!(server.get(&path).await.status, 200);
    let no = server.delete(&path).await;
    assert_eq!((no.status, no.retry.as_deref()), (403, Some("false")));
    assert!(no.json["error"]["why"].to_string().contains("responses:read"), "{}", no.json);
    assert!(no.json["error"]["try"].as_str().unwrap().starts_with("everstate key create"));

    server.with_key(owner["key"].as_str().unwrap());
    let member = server.post("/everstate/v1/keys", json!({ "name": "m", "expires": "30d" })).await;
    assert_eq!((member.status, &member.json["role"]), (200, &json!("member")), "{}", member.json);
    let listed = server.get("/everstate/v1/keys").await.json;
    let names: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(!listed.to_string().contains(member.json["key"].as_str().unwrap()));
    // Of its own project, and no more than it has.
    let admin = json!({ "name": "x", "admin": true });
    assert_eq!(server.post("/everstate/v1/keys", admin).await.status, 403);
    let foreign = json!({ "name": "x", "project": "other" });
    assert_eq!(server.post("/everstate/v1/keys", foreign).await.status, 404);
    let ruler = format!("/everstate/v1/keys/{}", id(&ruler));
    assert_eq!(server.delete(&ruler).await.status, 403);
    assert_eq!(server.post(&format!("{ruler}/rotate"), json!({})).await.status, 403);

    // Another text, and then none.
    let path = format!("/everstate/v1/keys/{}", id(&member.json));
    let turned = server.post(&format!("{path}/rotate"), json!({ "grace": "0s" })).await;
    assert_eq!(turned.status, 200, "{}", turned.json);
    let owner = server.with_key(member.json["key"].as_str().unwrap());
    let old = server.get("/v1/models").await;
    assert!(old.status == 401 && old.json.to_string().contains("replaced"), "{}", old.json);
    server.with_key(turned.json["key"].as_str().unwrap());
    assert_eq!(server.get("/v1/models").await.status, 200);
    server.with_key(&owner);
    // When it was used is written down soon after.
    loop {
        let listed = server.get("/everstate/v1/keys").await.json;
        let items = listed["items"].as_array().unwrap();
        let ours = items.iter().find(|it| it["id"] == member.json["id"]).unwrap();
        if ours["last_used_at"].is_u64() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(server.delete(&path).await.status, 200);
    assert_eq!(server.post(&format!("{path}/rotate"), json!({})).await.status, 409);
    server.with_key(turned.json["key"].as_str().unwrap());
    let gone = server.get("/v1/models").await;
    assert!(gone.status == 401 && gone.json.to_string().contains("was revoked"), "{}", gone.json);
}
