//! What other nodes of the cluster ask of this one: the answering side of `peers`. No API key opens this door, and its
//! seal opens no other.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use everstate_runtime::host::{Fed, FeedError};
use everstate_runtime::ports::{Down, Tail, TailAsk};
use futures_util::stream::{self, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::everstate::stop::{self, Which};
use crate::app::App;
use crate::error::{ApiError, Result, codes};
use crate::http::Answer;
use crate::peers::seal::Said;
use crate::peers::{self, Erase, Line, Of, PULSE};

/// Nothing that nodes ask is longer: an erasure names its items.
const BODY_MAX: usize = 16 << 20;

/// All of it is below this.
pub(crate) const PREFIX: &str = "/internal/";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(peers::HELLO, get(hello))
        .route(peers::NUDGE, post(nudge))
        .route(peers::TAIL, post(tail))
        .route(peers::ERASE, post(erase))
        .route(peers::DELETE, post(delete))
        .route(peers::STOP, post(stop_here))
}

/// What one of us said to this process. To anybody else there is nothing here.
struct Sealed {
    body: Bytes,
    nonce: String,
}

impl FromRequest<Arc<App>> for Sealed {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Sealed> {
        let text = format!("there is nothing at {}", request.uri().path());
        let stranger = ApiError::new(&codes::UNKNOWN_URL, text);
        let Some(seals) = &app.seals else { return Err(stranger) };
        let (parts, body) = request.into_parts();
        let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else { return Err(stranger) };
        let said = Said { method: &parts.method, path: parts.uri.path(), body: &body };
        match seals.admit(said, &parts.headers, app.durable.host.epoch()) {
            Some(nonce) => Ok(Sealed { body, nonce }),
            None => Err(stranger),
        }
    }
}

impl Sealed {
    fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|err| {
            let text = format!("what another node asks cannot be read: {err}");
            ApiError::new(&codes::INVALID_VALUE, text)
                .why("nodes of two releases that do not know each other")
        })
    }
}

fn said<T: Serialize, E: Serialize>(said: &std::result::Result<T, E>) -> Answer {
    Answer(serde_json::to_string(said).expect("what nodes answer has a JSON form"))
}

async fn hello(State(app): State<Arc<App>>, sealed: Sealed) -> Result<Response> {
    let missing = || ApiError::new(&codes::NOT_FOUND, "this server is none of many");
    let hello = app.durable.host.hello().ok_or_else(missing)?;
    let seals = app.seals.as_ref().ok_or_else(missing)?;
    let body = serde_json::to_string(&hello).expect("a name has a JSON form");
    let (name, value) = seals.seal_answer(&sealed.nonce, body.as_bytes());
    let mut response = Answer(body).into_response();
    response.headers_mut().insert(name, value);
    Ok(response)
}

async fn nudge(State(app): State<Arc<App>>, sealed: Sealed) -> Result<Answer> {
    let Of { session } = sealed.read()?;
    // What was posted may ask for a model that was named over there a moment ago.
    if let Err(down) = app.stall.refresh().await {
        tracing::debug!(%down, "models that other nodes have named are learned later");
    }
    Ok(said::<(), Down>(&app.durable.host.nudged(session).await))
}

async fn erase(State(app): State<Arc<App>>, sealed: Sealed) -> Result<Answer> {
    let Erase { session, items } = sealed.read()?;
    Ok(said::<Fed, FeedError>(&app.durable.host.erase_for(session, items).await))
}

async fn delete(State(app): State<Arc<App>>, sealed: Sealed) -> Result<Answer> {
    let Of { session } = sealed.read()?;
    Ok(said::<(), Down>(&app.durable.host.delete_for(session).await))
}

async fn stop_here(State(app): State<Arc<App>>, sealed: Sealed) -> Result<Answer> {
    let which: Which = sealed.read()?;
    let stopped = stop::here(&app, &which).await;
    Ok(Answer(serde_json::to_string(&stopped).expect("what nodes answer has a JSON form")))
}

/// Lines of JSON, and an empty one now and then, by which each side knows that the other is there.
async fn tail(State(app): State<Arc<App>>, sealed: Sealed) -> Result<Response> {
    let ask: TailAsk = sealed.read()?;
    let tail = match app.durable.host.tail_for(ask).await {
        Ok(tail) => tail,
        Err(down) => stream::iter([Err(down)]).boxed(),
    };
    let mut response = Response::new(Body::from_stream(lines(tail)));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn lines(tail: Tail) -> impl stream::Stream<Item = std::io::Result<Bytes>> {
    stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        let (line, rest) = match tokio::time::timeout(PULSE, tail.next()).await {
            Err(_) => return Some((Ok(Bytes::from_static(b"\n")), Some(tail))),
            Ok(Some(Ok(told))) => (Line::Told(told), Some(tail)),
            Ok(Some(Err(down))) => (Line::Down(down), None),
            Ok(None) => (Line::Over, None),
        };
        let mut text = serde_json::to_vec(&line).expect("news have a JSON form");
        text.push(b'\n');
        Some((Ok(Bytes::from(text)), rest))
    })
}
