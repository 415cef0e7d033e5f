//! A server in this process, on a port of its own, over a store in a directory of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use everstate_server::config::{Flags, load};
use everstate_server::error::ApiError;
use everstate_server::serve::{Ready, serve_until};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const KEY: &str = "test-admin-key";

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    key: String,
    dir: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ApiError>>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry: Option<String>,
    pub(crate) json: Value,
}

impl Server {
    pub(crate) async fn start(config: &str) -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), config, &[]).await
    }

    pub(crate) async fn start_in(dir: TempDir, config: &str, env: &[(&str, &str)]) -> Server {
        Server::start_on("sqlite:state.db", dir, config, env).await
    }

    pub(crate) async fn start_on(
        store: &str,
        dir: TempDir,
        config: &str,
        env: &[(&str, &str)],
    ) -> Server {
        std::fs::write(dir.path().join("everstate.toml"), config).unwrap();
        let mut vars: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        vars.entry("EVERSTATE_ADMIN_KEY".to_owned()).or_insert_with(|| KEY.to_owned());
        let flags = Flags {
            listen: Some("127.0.0.1:0".to_owned()),
            store: Some(store.to_owned()),
            ..Flags::default()
        };
        let look = |vars: &BTreeMap<String, String>, name: &str| vars.get(name).cloned();
        let settings = load(&flags, &|name| look(&vars, name), dir.path()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, ready) = oneshot::channel::<Ready>();
        let serving = tokio::spawn(async move {
            let env = |name: &str| vars.get(name).cloned();
            let until = async {
                stopped.await.ok();
            };
            serve_until(settings, &env, |ready| drop(tell.send(ready)), until).await
        });
        let ready = match ready.await {
            Ok(ready) => ready,
            Err(_) => panic!("did not start: {:?}", serving.await),
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let key = KEY.to_owned();
        Server { url: ready.url, client, key, dir: Some(dir), stop: Some(stop), serving }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.as_ref().unwrap().path().to_owned()
    }

    /// Closes in good order, and gives back the directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.serving.await.unwrap().unwrap();
        self.dir.take().unwrap()
    }

    /// The same server, asked with another key.
    pub(crate) fn with_key(&mut self, key: &str) -> String {
        std::mem::replace(&mut self.key, key.to_owned())
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.ask(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        read(self.ask(Method::DELETE, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        body: Value,
        headers: &[(&str, &str)],
    ) -> Answer {
        read(self.send(path, body, headers).await).await
    }

    pub(crate) async fn send(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Response {
        let mut request = self.ask(Method::POST, path).body(body.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// Creates a response and expects it to work.
    pub(crate) async fn create(&self, body: Value) -> Value {
        let answer = self.post("/v1/responses", body).await;
        assert_eq!(answer.status, 200, "{}", answer.json);
        answer.json
    }

    /// Waits for a response in the background to end.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        loop {
            let answer = self.get(&format!("/v1/responses/{id}")).await;
            assert_eq!(answer.status, 200, "{}", answer.json);
            if !["queued", "in_progress"].contains(&answer.json["status"].as_str().unwrap()) {
                return answer.json;
            }
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) async fn read(response: Response) -> Answer {
    let status = response.status().as_u16();
    let header = response.headers().get("x-should-retry");
    let retry = header.map(|it| it.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, retry, json }
}

/// The events of a stream, read to its end; the last has to be `[DONE]`.
pub(crate) async fn events(response: Response) -> Vec<Value> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let text = response.text().await.unwrap();
    let mut events = read_events(&text);
    assert_eq!(events.pop(), Some(Value::String("[DONE]".to_owned())), "{text}");
    events
}

pub(crate) fn read_events(text: &str) -> Vec<Value> {
    let block = |block: &str| {
        let data = block.lines().find_map(|it| it.strip_prefix("data: "))?;
        if data == "[DONE]" {
            return Some(Value::String(data.to_owned()));
        }
        let value: Value = serde_json::from_str(data).unwrap();
        if let Some(event) = block.lines().find_map(|it| it.strip_prefix("event: ")) {
            assert_eq!(value["type"], event);
        }
        Some(value)
    };
    text.split("\n\n").filter_map(block).collect()
}

/// All texts of a response's output, one after the other.
pub(crate) fn text_of(response: &Value) -> String {
    let items = response["output"].as_array().unwrap().iter();
    let parts = items.filter_map(|it| it["content"].as_array()).flatten();
    parts.filter_map(|it| it["text"].as_str()).collect()
}

/// The first output item of this type.
pub(crate) fn item<'a>(response: &'a Value, kind: &str) -> &'a Value {
    let items = response["output"].as_array().unwrap();
    items.iter().find(|it| it["type"] == kind).unwrap_or_else(|| panic!("no {kind} in {response}"))
}
