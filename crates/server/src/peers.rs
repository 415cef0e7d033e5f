//! What this node asks of others, over HTTP: the asking side of `api/internal`.

pub(crate) mod seal;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::Method;
use bytes::{Bytes, BytesMut};
use everstate_kernel::ids::{ItemId, SessionId};
use everstate_runtime::host::{Fed, FeedError};
use everstate_runtime::ports::{Down, Hello, Peer, Peers, Tail, TailAsk};
use everstate_runtime::tail::Told;
use futures_util::stream::{self, StreamExt};
use reqwest::{Client, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api::everstate::stop::{Stopped, Which};
use crate::error::{ApiError, Result, codes};
use seal::{Said, Seals};

pub(crate) const NUDGE: &str = "/internal/v1/nudge";
pub(crate) const TAIL: &str = "/internal/v1/tail";
pub(crate) const ERASE: &str = "/internal/v1/erase";
pub(crate) const DELETE: &str = "/internal/v1/delete";
pub(crate) const STOP: &str = "/internal/v1/stop";
pub(crate) const HELLO: &str = "/internal/v1/hello";

const CONNECT: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(5);
/// Rewriting a log takes as long as the log is.
const LATER: Duration = Duration::from_secs(60);
/// A tail says something at least this often, if only an empty line...
pub(crate) const PULSE: Duration = Duration::from_secs(2);
/// ...so whoever says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(6);
/// One piece of news: a row holds at most a request's body and what was said to it.
const LINE_MAX: usize = 256 << 20;

/// One line of a tail.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Told(Told),
    /// It cannot go on, and why.
    Down(Down),
    /// The session was deleted.
    Over,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Of {
    pub(crate) session: SessionId,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Erase {
    pub(crate) session: SessionId,
    pub(crate) items: Vec<ItemId>,
}

#[derive(Debug)]
pub(crate) struct HttpPeers {
    http: Client,
    seals: Arc<Seals>,
}

impl HttpPeers {
    pub(crate) fn new(seals: Arc<Seals>) -> Result<HttpPeers> {
        // Straight to the address a node has named, past no proxy and after no redirect. Each tail has a connection of
        // its own, so that none waits for another's reader.
        let http = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http1_only()
            .build()
            .map_err(|err| {
                ApiError::new(&codes::INTERNAL, format!("cannot speak HTTP to other nodes: {err}"))
            })?;
        Ok(HttpPeers { http, seals })
    }

    /// Has a node end turns of its own sessions, of which some are known to nobody else.
    pub(crate) async fn stop(
        &self,
        to: &Peer,
        which: &Which,
    ) -> std::result::Result<Stopped, Down> {
        self.ask(to, STOP, which, SOON).await
    }

    async fn send(
        &self,
        to: &Peer,
        path: &str,
        ask: &impl Serialize,
    ) -> std::result::Result<Response, Down> {
        let body = serde_json::to_vec(ask).expect("what nodes ask has a JSON form");
        let said = Said { method: &Method::POST, path, body: &body };
        let (headers, _) = self.seals.seal(said, Some(to.epoch));
        let url = format!("{}{path}", to.address.trim_end_matches('/'));
        let sent = self.http.post(url).headers(headers).body(body).send();
        let response = tokio::time::timeout(LATER, sent)
            .await
            .map_err(|_| lost(to, &"it did not answer in time"))?
            .map_err(|err| lost(to, &deepest(&err)))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(lost(to, &format!("it answered {}", response.status()))),
        }
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        to: &Peer,
        path: &str,
        ask: &impl Serialize,
        patience: Duration,
    ) -> std::result::Result<T, Down> {
        let asking = async {
            let response = self.send(to, path, ask).await?;
            let bytes = response.bytes().await.map_err(|err| lost(to, &deepest(&err)))?;
            serde_json::from_slice(&bytes).map_err(|err| lost(to, &err))
        };
        tokio::time::timeout(patience, asking)
            .await
            .unwrap_or_else(|_| Err(lost(to, &"it did not answer in time")))
    }
}

#[async_trait]
impl Peers for HttpPeers {
    async fn nudge(&self, to: &Peer, session: SessionId) -> std::result::Result<(), Down> {
        let said: std::result::Result<(), Down> =
            self.ask(to, NUDGE, &Of { session }, SOON).await?;
        said
    }

    async fn tail(&self, to: &Peer, ask: TailAsk) -> std::result::Result<Tail, Down> {
        let sent = tokio::time::timeout(SOON, self.send(to, TAIL, &ask)).await;
        let response = sent.unwrap_or_else(|_| Err(lost(to, &"it did not answer in time")))?;
        let reader = Reader { to: to.clone(), response, rest: BytesMut::new(), over: false };
        let told = stream::unfold(reader, |mut it| async { Some((it.next().await?, it)) });
        Ok(told.boxed())
    }

    async fn erase(
        &self,
        to: &Peer,
        session: SessionId,
        items: Vec<ItemId>,
    ) -> std::result::Result<Fed, FeedError> {
        let said: std::result::Result<Fed, FeedError> =
            self.ask(to, ERASE, &Erase { session, items }, LATER).await?;
        said
    }

    async fn delete(&self, to: &Peer, session: SessionId) -> std::result::Result<(), Down> {
        let said: std::result::Result<(), Down> =
            self.ask(to, DELETE, &Of { session }, LATER).await?;
        said
    }

    async fn hello(&self, address: &str) -> std::result::Result<Option<Hello>, Down> {
        let said = Said { method: &Method::GET, path: HELLO, body: b"" };
        let (headers, nonce) = self.seals.seal(said, None);
        let url = format!("{}{HELLO}", address.trim_end_matches('/'));
        let silent = |why: &dyn std::fmt::Display| {
            Down(format!("whether a node is at {address} cannot be told: {why}"))
        };
        let asking = async {
            let response = match self.http.get(url).headers(headers).send().await {
                Ok(response) => response,
                Err(err) if is_refused(&err) => return Ok(None),
                Err(err) => return Err(silent(&deepest(&err))),
            };
            let headers = response.headers().clone();
            // Something else may answer, and at any length.
            let body = head(response).await.map_err(|err| silent(&deepest(&err)))?;
            Ok(match self.seals.is_answer(&nonce, &body, &headers) {
                true => serde_json::from_slice(&body).ok(),
                false => None,
            })
        };
        tokio::time::timeout(SOON, asking)
            .await
            .unwrap_or_else(|_| Err(silent(&"it does not answer")))
    }
}

const HELLO_MAX: usize = 4 << 10;

async fn head(mut response: Response) -> reqwest::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > HELLO_MAX {
            break;
        }
    }
    Ok(bytes)
}

/// Nobody listens there, for certain.
fn is_refused(err: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(err);
    while let Some(err) = cause {
        if let Some(io) = err.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        cause = err.source();
    }
    false
}

fn lost(to: &Peer, why: &dyn std::fmt::Display) -> Down {
    Down(format!("node {} at {}: {why}", to.name, to.address))
}

/// The last of the causes: the first ones only repeat what was tried.
fn deepest(err: &dyn std::error::Error) -> String {
    let mut cause = err;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

struct Reader {
    to: Peer,
    response: Response,
    rest: BytesMut,
    over: bool,
}

impl Reader {
    /// `None` after the session was deleted, or after an error.
    async fn next(&mut self) -> Option<std::result::Result<Told, Down>> {
        if self.over {
            return None;
        }
        let said = loop {
            match self.line().await {
                Err(down) => break Err(down),
                Ok(line) if line.is_empty() => {}
                Ok(line) => match serde_json::from_slice(&line) {
                    Ok(Line::Told(told)) => break Ok(told),
                    Ok(Line::Down(down)) => break Err(down),
                    Ok(Line::Over) => {
                        self.over = true;
                        return None;
                    }
                    Err(err) => break Err(lost(&self.to, &err)),
                },
            }
        };
        self.over = said.is_err();
        Some(said)
    }

    /// The next line, without its end.
    async fn line(&mut self) -> std::result::Result<Bytes, Down> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr(&self.rest[looked..]) {
                let line = self.rest.split_to(looked + at + 1).freeze();
                return Ok(line.slice(..line.len() - 1));
            }
            looked = self.rest.len();
            if looked > LINE_MAX {
                return Err(lost(&self.to, &"it said too much at once"));
            }
            match tokio::time::timeout(SILENCE, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => self.rest.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Err(lost(&self.to, &"its tail broke off")),
                Ok(Err(err)) => return Err(lost(&self.to, &deepest(&err))),
                Err(_) => return Err(lost(&self.to, &"it fell silent")),
            }
        }
    }
}

fn memchr(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|it| *it == b'\n')
}

#[cfg(test)]
mod tests;
