//! A server that answers as it is told: well, or badly in one of the many ways that occur.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What it does with every request.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// A whole answer.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8> },
    /// A stream of events in these chunks, and what becomes of it after them.
    Stream { chunks: Vec<Vec<u8>>, then: Then },
    /// Takes the request and says nothing, not even a head.
    Silent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    Break,
    Hang,
    /// The last chunk again and again.
    Repeat,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Arrived {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) struct Upstream {
    pub(crate) base_url: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    /// Says so when a stream is let go by its reader.
    pub(crate) dropped: mpsc::UnboundedReceiver<()>,
}

#[derive(Clone)]
struct Desk {
    manner: Manner,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    dropped: mpsc::UnboundedSender<()>,
}

impl Upstream {
    pub(crate) async fn start(manner: Manner) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        let arrived = Arc::default();
        let (dropped, seen) = mpsc::unbounded_channel();
        let desk = Desk { manner, arrived: Arc::clone(&arrived), dropped };
        let router = Router::new().fallback(answer).with_state(desk);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Upstream { base_url, arrived, dropped: seen }
    }

    /// Nobody listens there: the port was free a moment ago.
    pub(crate) async fn nobody() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    }

    /// Takes a connection, reads a little and drops it, without a word of HTTP.
    pub(crate) async fn rude() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 16]).await;
            }
        });
        base_url
    }

    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }
}

async fn answer(State(desk): State<Desk>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let header = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    desk.arrived.lock().unwrap().push(Arrived {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers.iter().map(header).collect(),
        body,
    });
    match desk.manner {
        Manner::Silent => std::future::pending().await,
        Manner::Answer { status, headers, body } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
        Manner::Stream { chunks, then } => {
            let body = Body::from_stream(chunked(chunks, then, Dropped(desk.dropped)));
            Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }
    }
}

struct Dropped(mpsc::UnboundedSender<()>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn chunked(
    chunks: Vec<Vec<u8>>,
    then: Then,
    dropped: Dropped,
) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    let last = Bytes::from(chunks.last().cloned().unwrap_or_default());
    let whole = stream::iter(chunks.into_iter().map(|it| Ok(Bytes::from(it))));
    let rest = match then {
        Then::Close => stream::empty().boxed(),
        Then::Hang => stream::pending().boxed(),
        Then::Break => stream::iter([Err(std::io::Error::other("broken on purpose"))]).boxed(),
        Then::Repeat => stream::repeat_with(move || Ok(last.clone())).boxed(),
    };
    // A pause after each chunk, so that they do not leave as one.
    let paced = whole.chain(rest).then(|it| async move {
        // tidy allows sleep: it is the upstream that is slow, not the test
        tokio::time::sleep(Duration::from_millis(2)).await;
        it
    });
    paced
        .inspect(move |_| {
            let _ = &dropped;
        })
        .boxed()
}

/// One event of a stream.
pub(crate) fn event(data: &str) -> Vec<u8> {
    format!("data: {data}\n\n").into_bytes()
}

/// "Hello there", then a call `pay({"n":42})`, as a stream of this dialect. The last chunk is its end.
pub(crate) fn hello(dialect: &str) -> Vec<Vec<u8>> {
    let events: &[&str] = match dialect {
        "responses" => &[
            r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","model":"model-1","output":[]}}"#,
            r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"type":"message","id":"msg_1","status":"in_progress","role":"assistant","content":[]}}"#,
            r#"{"type":"response.content_part.added","sequence_number":2,"output_index":0,"item_id":"msg_1","content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
            r#"{"type":"response.output_text.delta","sequence_number":3,"output_index":0,"item_id":"msg_1","content_index":0,"delta":"Hello "}"#,
            r#"{"type":"response.output_text.delta","sequence_number":4,"output_index":0,"item_id":"msg_1","content_index":0,"delta":"there"}"#,
            r#"{"type":"response.output_text.done","sequence_number":5,"output_index":0,"item_id":"msg_1","content_index":0,"text":"Hello there"}"#,
            r#"{"type":"response.content_part.done","sequence_number":6,"output_index":0,"item_id":"msg_1","content_index":0,"part":{"type":"output_text","text":"Hello there","annotations":[]}}"#,
            r#"{"type":"response.output_item.done","sequence_number":7,"output_index":0,"item":{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello there","annotations":[]}]}}"#,
            r#"{"type":"response.output_item.added","sequence_number":8,"output_index":1,"item":{"type":"function_call","id":"fc_1","status":"in_progress","call_id":"c1","name":"pay","arguments":""}}"#,
            r#"{"type":"response.function_call_arguments.delta","sequence_number":9,"output_index":1,"item_id":"fc_1","delta":"{\"n\":42}"}"#,
            r#"{"type":"response.function_call_arguments.done","sequence_number":10,"output_index":1,"item_id":"fc_1","name":"pay","arguments":"{\"n\":42}"}"#,
            r#"{"type":"response.output_item.done","sequence_number":11,"output_index":1,"item":{"type":"function_call","id":"fc_1","status":"completed","call_id":"c1","name":"pay","arguments":"{\"n\":42}"}}"#,
            r#"{"type":"response.completed","sequence_number":12,"response":{"id":"resp_1","object":"response","status":"completed","model":"model-1","output":[],"usage":{"input_tokens":11,"input_tokens_details":{"cached_tokens":3},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":18}}}"#,
        ],
        "chat" => &[
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"model-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"model-1","choices":[{"index":0,"delta":{"content":"Hello "},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"model-1","choices":[{"index":0,"delta":{"content":"there"},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"model-1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"pay","arguments":"{\"n\":42}"}}]},"finish_reason":null}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"model-1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18,"prompt_tokens_details":{"cached_tokens":3}}}"#,
            "[DONE]",
        ],
        other => panic!("no stream of dialect {other} is at hand"),
    };
    events.iter().map(|it| event(it)).collect()
}

/// As [`hello`], but its end never comes: what says "this is all" is left out.
pub(crate) fn hello_without_end(dialect: &str) -> Vec<Vec<u8>> {
    let mut chunks = hello(dialect);
    let n_end = if dialect == "chat" { 2 } else { 1 };
    chunks.truncate(chunks.len() - n_end);
    chunks
}
