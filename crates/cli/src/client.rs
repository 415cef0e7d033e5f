//! Talks to a server over HTTP. What comes back is JSON, or a stream of events; what goes wrong is a [`Fault`].

use std::convert::Infallible;
use std::fmt::Display;

use bytes::Bytes;
use futures_util::stream;
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::fault::{Fault, codes};
use crate::key::Found;
use crate::sse::Events;

#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) key: Option<Found>,
}

impl Client {
    pub(crate) fn new(url: &str, key: Option<Found>) -> Result<Client, Fault> {
        let url = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let parsed = reqwest::Url::parse(&url).ok().filter(|it| it.scheme().starts_with("http"));
        if parsed.is_none() {
            return Err(Fault::new(&codes::USAGE, format!("`{url}` is no address of a server"))
                .attempt("--server http://127.0.0.1:7070"));
        }
        // The key goes to the address that was named, past no proxy and after no redirect.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tcp_nodelay(true)
            .build()
            .map_err(|err| Fault::new(&codes::INTERNAL, format!("cannot speak HTTP: {err}")))?;
        Ok(Client { http, url, key })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, Fault> {
        self.answer(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, Fault> {
        self.answer(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, Fault> {
        self.answer(Method::DELETE, path, None).await
    }

    /// A page of a list, and where the next one begins.
    pub(crate) async fn items(&self, path: &str) -> Result<Vec<Value>, Fault> {
        let mut page = self.get(path).await?;
        match page["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Err(self.nonsense(&"a list without items")),
        }
    }

    pub(crate) async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Events, Fault> {
        let response = self.send(method, path, body).await?;
        Ok(Events::new(response))
    }

    /// The bytes as they come.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes, Fault> {
        let response = self.send(Method::GET, path, None).await?;
        response.bytes().await.map_err(|err| self.lost(&err))
    }

    /// A body that is taken piece by piece.
    pub(crate) async fn download(&self, path: &str) -> Result<Download, Fault> {
        let response = self.send(Method::GET, path, None).await?;
        Ok(Download { client: self.clone(), response })
    }

    /// Sends a body piece by piece, as it becomes ready.
    pub(crate) async fn upload(
        &self,
        path: &str,
        pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Value, Fault> {
        let pieces = stream::unfold(pieces, |mut it| async {
            let piece = it.recv().await?;
            Some((Ok::<_, Infallible>(piece), it))
        });
        let request = self.request(Method::POST, path).body(Body::wrap_stream(pieces));
        let bytes = self.sent(request).await?.bytes().await.map_err(|err| self.lost(&err))?;
        serde_json::from_slice(&bytes).map_err(|err| self.nonsense(&err))
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Fault> {
        let bytes: Bytes =
            self.send(method, path, body).await?.bytes().await.map_err(|err| self.lost(&err))?;
        serde_json::from_slice(&bytes).map_err(|err| self.nonsense(&err))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, Fault> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        self.sent(request).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(&key.text),
            None => request,
        }
    }

    async fn sent(&self, request: RequestBuilder) -> Result<Response, Fault> {
        let response = request.send().await.map_err(|err| self.lost(&err))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|err| self.lost(&err))?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if status == StatusCode::UNAUTHORIZED && self.key.is_none() {
            return Err(Fault::new(&codes::NO_KEY, format!("{} wants a key", self.url))
                .why("EVERSTATE_KEY and EVERSTATE_ADMIN_KEY are not set, and no .everstate/key is here or above")
                .attempt("export EVERSTATE_KEY=...   (where `everstate dev` runs, its directory has one)"));
        }
        let fault = Fault::of_answer(status.as_u16(), &body);
        Err(fault.unwrap_or_else(|| self.nonsense(&format!("status {status}"))))
    }

    fn lost(&self, err: &reqwest::Error) -> Fault {
        let cause = deepest(err);
        Fault::new(&codes::UNREACHABLE, format!("no server answers at {}", self.url))
            .why(cause)
            .attempt("everstate dev     or, for another address,   --server URL")
    }

    fn nonsense(&self, what: &dyn Display) -> Fault {
        let text = format!("what answers at {} is no Everstate server", self.url);
        Fault::new(&codes::NONSENSE, text).why(what.to_string())
    }
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Download {
    client: Client,
    response: Response,
}

impl Download {
    /// Empty if the answer does not have it.
    pub(crate) fn header(&self, name: &str) -> String {
        let value = self.response.headers().get(name).and_then(|it| it.to_str().ok());
        value.unwrap_or_default().to_owned()
    }

    /// `None` at its end. One that is broken off before is an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.response.chunk().await.map_err(|err| self.client.lost(&err))
    }
}

/// The last of the causes: the first ones only repeat what was tried.
pub(crate) fn deepest(err: &dyn std::error::Error) -> String {
    let mut cause = err;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Somebody's words as one segment of a path. What cannot be a name is no path either.
pub(crate) fn segment(text: &str) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    text.chars().map(|it| if plain(it) { it.to_string() } else { "%3F".to_owned() }).collect()
}
