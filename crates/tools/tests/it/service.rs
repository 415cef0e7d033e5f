//! A service on this machine that remembers what it was asked, and answers as a test says.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use tokio::net::TcpListener;

pub(crate) struct Service {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /path?query`
    pub(crate) line: String,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().expect("tests send text"))
    }
}

/// Gets the number of the request, from 0.
pub(crate) trait Answer: Fn(usize, Asked) -> Response<Body> + Send + Sync + 'static {}

impl<F: Fn(usize, Asked) -> Response<Body> + Send + Sync + 'static> Answer for F {}

impl Service {
    pub(crate) async fn start(answer: impl Answer) -> Service {
        Service::serve(Some(Arc::new(answer))).await
    }

    /// Takes every request and never answers.
    pub(crate) async fn silent() -> Service {
        Service::serve(None).await
    }

    async fn serve(answer: Option<Arc<dyn Answer>>) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let memory = asked.clone();
        let router = Router::new().fallback(move |request: Request<Body>| {
            let (memory, answer) = (memory.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.expect("tests send whole bodies");
                let asked = Asked {
                    line: format!("{} {}", parts.method, parts.uri),
                    headers: parts.headers,
                    body: String::from_utf8(body.to_vec()).expect("tests send text"),
                };
                let n = {
                    let mut memory = memory.lock().expect("nobody panicked holding it");
                    memory.push(asked.clone());
                    memory.len() - 1
                };
                match answer {
                    Some(answer) => answer(n, asked),
                    None => std::future::pending().await,
                }
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Service { url, asked }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked holding it").clone()
    }
}

pub(crate) fn answer(status: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).expect("a valid answer")
}

pub(crate) fn redirect(status: u16, to: &str) -> Response<Body> {
    let builder = Response::builder().status(status).header("location", to);
    builder.body(Body::empty()).expect("a valid answer")
}

/// An answer that begins, and then breaks off.
pub(crate) fn broken(status: u16) -> Response<Body> {
    let chunks = [Ok("half an "), Err(std::io::Error::other("broken on purpose"))];
    answer(status, Body::from_stream(futures_util::stream::iter(chunks)))
}

/// A port where nobody listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

/// A connection that takes what is sent and is closed without an answer.
pub(crate) async fn closes() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            socket.readable().await.expect("the request comes");
            let _ = socket.try_read(&mut [0; 4096]);
        }
    });
    url
}
