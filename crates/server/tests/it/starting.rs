//! What can be wrong before anything is served: said with a word, a reason, and without harm.

use everstate_server::config::{Flags, load};
use everstate_server::error::ApiError;
use everstate_server::serve::{Ready, serve_until};
use serde_json::json;

use crate::server::{Server, read};

/// Starts, and stops at once. What was made known, or what went wrong.
async fn check(
    dir: &std::path::Path,
    listen: &str,
    env: &[(&str, &str)],
) -> Result<Ready, ApiError> {
    let vars: Vec<(String, String)> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let env = |name: &str| {
        let found = vars.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let flags = Flags {
        listen: Some(listen.to_owned()),
        store: Some("sqlite:state.db".to_owned()),
        ..Flags::default()
    };
    let settings = load(&flags, &env, dir)?;
    let mut known = None;
    serve_until(settings, &env, |ready| known = Some(ready), std::future::ready(())).await?;
    Ok(known.unwrap())
}

#[tokio::test]
async fn a_taken_port_or_store_is_told_by_its_holder() {
    let server = Server::start("").await;
    let elsewhere = tempfile::tempdir().unwrap();
    let address = server.url.strip_prefix("http://").unwrap();
    let taken = check(elsewhere.path(), address, &[]).await.unwrap_err();
    assert_eq!(taken.code().word, "port_in_use");
    assert!(taken.reasons()[0].contains(&std::process::id().to_string()), "{:?}", taken.reasons());
    let locked = check(&server.dir(), "127.0.0.1:0", &[]).await.unwrap_err();
    assert_eq!(locked.code().word, "store_locked");
    assert!(locked.to_string().contains(&server.url), "{locked}");
}

#[tokio::test]
async fn a_key_is_made_once_and_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let first = check(dir.path(), "127.0.0.1:0", &[]).await.unwrap();
    let key = first.new_key.unwrap();
    assert!(key.starts_with("es_") && key.len() > 30);
    assert_eq!(check(dir.path(), "127.0.0.1:0", &[]).await.unwrap().new_key, None);
    let mut server = Server::start_in(dir, "", &[]).await;
    server.with_key(&key);
    assert_eq!(server.get("/v1/models").await.status, 200);
    // Nothing that is kept holds the key itself.
    let dir = server.stop().await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(key.len()).any(|it| it == key.as_bytes()), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_server_is_never_its_own_upstream() {
    let dir = tempfile::tempdir().unwrap();
    let (address, url, ready) = loop {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (address, url) = (free.to_string(), format!("http://{free}/v1"));
        let env = [("OPENAI_API_KEY", "sk-x"), ("OPENAI_BASE_URL", url.as_str())];
        match check(dir.path(), &address, &env).await {
            Ok(ready) => break (address, url, ready),
            // Somebody else was faster.
            Err(err) if err.code().word == "port_in_use" => {}
            Err(err) => panic!("{err}"),
        }
    };
    let openai = ready.sources.iter().find(|it| it.provider == "openai").unwrap();
    assert!(!openai.usable && openai.credentials.contains("this server itself"), "{openai:?}");
    let config = format!(
        "[providers.me]\nkind = \"openai\"\nbase_url = \"{url}\"\nkey = \"env:OPENAI_API_KEY\"\n"
    );
    std::fs::write(dir.path().join("everstate.toml"), config).unwrap();
    let key = [("OPENAI_API_KEY", "sk-x")];
    let error = check(dir.path(), &address, &key).await.unwrap_err();
    assert!(["config_invalid", "port_in_use"].contains(&error.code().word), "{error}");
}

#[tokio::test]
async fn names_outlive_a_restart() {
    let server = Server::start("").await;
    let made = server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    let path = format!("/v1/responses/{}", made["id"].as_str().unwrap());
    let server = Server::start_in(server.stop().await, "", &[]).await;
    assert_eq!(server.get(&path).await.json, made);
    // Also over HTTP/2 without TLS.
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let url = format!("{}{path}", server.url);
    let answer = client.get(url).bearer_auth(crate::server::KEY).send().await.unwrap();
    assert_eq!(read(answer).await.json, made);
}

#[tokio::test]
async fn a_server_alone_is_no_node_and_has_no_inner_door() {
    let server = Server::start("").await;
    let nodes = server.get("/everstate/v1/nodes").await;
    assert_eq!((nodes.status, &nodes.json["items"]), (200, &json!([])));
    let named = server.get("/everstate/v1/nodes/n1").await;
    assert_eq!((named.status, &named.json["error"]["code"]), (404, &json!("not_found")));
    for path in ["nudge", "tail", "erase", "delete"] {
        let answer = server.post(&format!("/internal/v1/{path}"), json!({})).await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (404, &json!("unknown_url")));
    }
    assert_eq!(server.get("/internal/v1/hello").await.status, 404);
}
