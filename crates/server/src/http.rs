//! What all doors share: who asks, the body as a whole, ids and parameters, answers as JSON or as a stream of events.
//!
//! What is asked for is left to the doors in `api`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use everstate_kernel::ids::{SessionId, base32};
use futures_util::FutureExt;
use futures_util::stream::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinError;

use crate::api;
use crate::app::App;
use crate::error::{ApiError, Result, codes};
use crate::keys::admission::admit;
use crate::keys::{Principal, random};
use crate::telemetry::Asking;
use crate::{meters, peers};

/// All doors, with everything that stands before them.
pub(crate) fn router(app: Arc<App>) -> Router {
    doors()
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(to_the_end))
        .layer(middleware::from_fn_with_state(app.clone(), admit))
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

/// All that is served.
pub(crate) fn doors() -> Router<Arc<App>> {
    Router::new()
        .merge(api::health::routes())
        .merge(api::internal::routes())
        .merge(api::responses::routes())
        .merge(api::agents::routes())
        .merge(api::models::routes())
        .merge(api::everstate::routes())
        .merge(api::later::routes())
}

async fn nowhere(request: Request) -> ApiError {
    let text = format!("there is nothing at {} {}", request.method(), request.uri().path());
    ApiError::new(&codes::UNKNOWN_URL, text)
}

async fn wrong_method(request: Request) -> ApiError {
    let text = format!("{} does not take {}", request.uri().path(), request.method());
    ApiError::new(&codes::METHOD_NOT_ALLOWED, text)
}

/// Every answer has a number that the log knows too, and is counted.
async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let id = format!("req_{}", base32(&random::<10>()));
    let started = std::time::Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut asking = asking(&app, &mut request);
    if !*app.started.borrow() && !answers_at_once(&path) {
        app.started.subscribe().wait_for(|it| *it).await.ok();
    }
    // The panic itself was told by the log already.
    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => ApiError::new(&codes::INTERNAL, "this request met a mistake of ours")
            .why(format!("the server's log says more, at the time of {id}"))
            .into_response(),
    };
    response
        .headers_mut()
        .insert("x-request-id", HeaderValue::from_str(&id).expect("plain letters"));
    let status = response.status().as_u16();
    meters::answered(&path, status, started.elapsed());
    if status >= 500 {
        tracing::warn!(%id, %method, path, status, "answered");
    } else {
        tracing::debug!(%id, %method, path, status, "answered");
    }
    if let Some(asking) = &mut asking {
        asking.answered(status);
    }
    match asking.filter(|_| is_stream(&response)) {
        Some(asking) => until_its_end(response, asking),
        None => response,
    }
}

/// Also before the sessions are set going.
fn answers_at_once(path: &str) -> bool {
    api::health::PATHS.contains(&path) || path == peers::HELLO
}

/// The span of a request, where there are traces. Probes are not traced.
fn asking(app: &App, request: &mut Request) -> Option<Asking> {
    let telemetry = app.telemetry.as_ref()?;
    let path = request.uri().path();
    if api::health::PATHS.contains(&path) || path.starts_with(api::internal::PREFIX) {
        return None;
    }
    let route = request.extensions().get::<MatchedPath>().map(|it| it.as_str().to_owned());
    let method = request.method().clone();
    Some(telemetry.request(&method, route.as_deref(), request.headers_mut()))
}

fn is_stream(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    kind.is_some_and(|it| it.starts_with(STREAM))
}

/// A stream has been answered when it has ended, or its reader has gone.
fn until_its_end(response: Response, asking: Asking) -> Response {
    response.map(|body| {
        let chunks = body.into_data_stream();
        Body::from_stream(chunks.inspect(move |_| {
            let _held = &asking;
        }))
    })
}

/// What changes something is done to its end, also if the caller has gone meanwhile: half of it would be neither done
/// nor not done. A new response sees to that itself, because there a caller that goes is news to its turn.
async fn to_the_end(request: Request, next: Next) -> Response {
    if request.method().is_safe() || request.uri().path() == api::responses::PATH {
        return next.run(request).await;
    }
    joined(tokio::spawn(next.run(request)).await)
}

/// What a task came to. Its panic goes on here.
pub(crate) fn joined<T>(ended: std::result::Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|err| match err.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(err) => panic!("nobody ends this task early: {err}"),
    })
}

/// The one who asks, as the door keeper found.
impl FromRequestParts<Arc<App>> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> Result<Principal> {
        parts.extensions.get::<Principal>().cloned().ok_or_else(|| {
            ApiError::new(&codes::INTERNAL, "this address was opened without asking who comes")
        })
    }
}

/// The whole body: within the limit, UTF-8, and not nested deeper than anybody can want.
#[derive(Debug)]
pub(crate) struct Whole(pub Bytes);

impl FromRequest<Arc<App>> for Whole {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Whole> {
        let max = usize::try_from(app.settings.body_max_bytes.value).unwrap_or(usize::MAX);
        let mut body = request.into_body().into_data_stream();
        let mut bytes = Vec::new();
        let mut n_bytes = 0usize;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|err| {
                ApiError::new(&codes::INVALID_VALUE, format!("the body did not arrive: {err}"))
            })?;
            n_bytes = n_bytes.saturating_add(chunk.len());
            if n_bytes <= max {
                bytes.extend_from_slice(&chunk);
            } else if n_bytes > max.saturating_mul(2) {
                break;
            }
            // Beyond the limit it is read a while longer and dropped, so that a client that sends its whole body
            // before it reads gets to see the answer.
        }
        if n_bytes > max {
            let text = format!("the body is larger than {max} bytes");
            return Err(ApiError::new(&codes::BODY_TOO_LARGE, text)
                .why("`server.body_max_bytes` sets the limit")
                .attempt("send large files by URL, or raise the limit in everstate.toml"));
        }
        check_text(&bytes)?;
        Ok(Whole(bytes.into()))
    }
}

impl Whole {
    /// Reads a body of our own API.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        let bytes: &[u8] = if self.0.is_empty() { b"{}" } else { &self.0 };
        serde_json::from_slice(bytes).map_err(|err| match err.classify() {
            serde_json::error::Category::Data => {
                ApiError::new(&codes::INVALID_VALUE, format!("the body does not fit: {err}"))
            }
            _ => ApiError::new(&codes::INVALID_JSON, format!("the body is not valid JSON: {err}")),
        })
    }
}

const DEPTH_MAX: usize = 64;

/// Readers further in may recurse, so depth is bounded here, once, without recursion.
fn check_text(bytes: &[u8]) -> Result<()> {
    if let Err(err) = std::str::from_utf8(bytes) {
        let text = format!("the body is not UTF-8: byte {} is wrong", err.valid_up_to());
        return Err(ApiError::new(&codes::INVALID_JSON, text));
    }
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            let text = format!("the body is nested deeper than {DEPTH_MAX} levels");
            return Err(ApiError::new(&codes::INVALID_JSON, text));
        }
    }
    Ok(())
}

/// One segment of the path that names something.
#[derive(Debug)]
pub(crate) struct Id(pub String);

impl FromRequestParts<Arc<App>> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Id> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(id)) => Ok(Id(id)),
            Err(_) => Err(ApiError::new(&codes::NOT_FOUND, "the address is not UTF-8").param("id")),
        }
    }
}

/// Several such segments, in their order.
#[derive(Debug)]
pub(crate) struct Ids<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Ids<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Ids<T>> {
        match Path::<T>::from_request_parts(parts, app).await {
            Ok(Path(ids)) => Ok(Ids(ids)),
            Err(_) => Err(ApiError::new(&codes::NOT_FOUND, "the address is not UTF-8").param("id")),
        }
    }
}

/// Parameters after the question mark. Unknown ones are left alone: clients add their own.
#[derive(Debug)]
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Params<T>> {
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(params)) => Ok(Params(params)),
            Err(err) => {
                let text = format!("the query does not fit: {}", err.body_text());
                Err(ApiError::new(&codes::INVALID_VALUE, text))
            }
        }
    }
}

/// Names the session that an answer is about, for callers who know it only by names of another API.
pub(crate) fn of_session(response: impl IntoResponse, session: SessionId) -> Response {
    let mut response = response.into_response();
    let name =
        HeaderValue::from_str(&session.to_string()).expect("a session's id is plain letters");
    response.headers_mut().insert(SESSION, name);
    response
}

const SESSION: &str = "x-everstate-session";

/// An answer in JSON.
#[derive(Debug)]
pub(crate) struct Answer(pub String);

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer(value.to_string())
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// It is on disk, and will be done.
pub(crate) fn accepted() -> Response {
    StatusCode::ACCEPTED.into_response()
}

/// Nothing is said for so long: then a comment is, so that nobody on the way takes the connection for dead.
const PING: Duration = Duration::from_secs(10);

/// A stream of server-sent events. Each event is one chunk: some clients lose one that is cut. A stream that cannot
/// go on is broken off, never ended as if it were complete.
pub(crate) fn events(
    events: impl Stream<Item = std::result::Result<String, ApiError>> + Send + 'static,
) -> Response {
    let pinged = futures_util::stream::unfold(events.boxed(), |mut events| async {
        match tokio::time::timeout(PING, events.next()).await {
            Ok(None) => None,
            Ok(Some(event)) => Some((event.map(Bytes::from), events)),
            Err(_) => Some((Ok(Bytes::from_static(b": ping\n\n")), events)),
        }
    });
    let mut response = Response::new(Body::from_stream(pinged));
    *response.status_mut() = StatusCode::OK;
    set_stream_headers(response.headers_mut());
    response
}

const STREAM: &str = "text/event-stream; charset=utf-8";

fn set_stream_headers(headers: &mut HeaderMap) {
    let plain = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, plain(STREAM));
    headers.insert(header::CACHE_CONTROL, plain("no-cache"));
    headers.insert("x-accel-buffering", plain("no"));
}
