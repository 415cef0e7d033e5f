//! As much HTTP/1.1 as loopback needs: a client that keeps its connection, and a tool server that answers the same to
//! everybody. Small, because it shares the processor with what it measures.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream as BlockingStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::process::authorization;

/// Asks once and waits.
pub(crate) fn ask_once(
    port: u16,
    method: &str,
    path: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = BlockingStream::connect(("127.0.0.1", port))?;
    stream.write_all(&request(method, path, body, "close"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    Ok((status, text))
}

fn request(method: &str, path: &str, body: &str, connection: &str) -> Vec<u8> {
    let (auth, n) = (authorization(), body.len());
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{auth}Content-Type: application/json\r\n\
         Connection: {connection}\r\nContent-Length: {n}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// One connection, asked again and again.
#[derive(Debug)]
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) async fn connect(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client(BufReader::new(stream))
    }

    /// Reads the answer to its end, also when it is a stream.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> (u16, Vec<u8>) {
        self.0.get_mut().write_all(&request("POST", path, body, "keep-alive")).await.unwrap();
        let head = Head::read(&mut self.0).await.expect("an answer");
        let status = head.first.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.body(&mut self.0).await)
    }
}

/// A first line, and the two headers that matter here.
struct Head {
    first: String,
    length: Option<usize>,
    key: String,
}

impl Head {
    async fn read(from: &mut BufReader<TcpStream>) -> Option<Head> {
        let mut head = Head { first: String::new(), length: None, key: String::new() };
        from.read_line(&mut head.first).await.ok().filter(|n| *n > 0)?;
        loop {
            let mut line = String::new();
            from.read_line(&mut line).await.ok().filter(|n| *n > 0)?;
            let Some((name, value)) = line.split_once(':') else { return Some(head) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().ok(),
                "idempotency-key" => head.key = value.trim().to_owned(),
                _ => {}
            }
        }
    }

    /// Without a length it comes in chunks.
    async fn body(&self, from: &mut BufReader<TcpStream>) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(length) = self.length {
            body.resize(length, 0);
            from.read_exact(&mut body).await.unwrap();
            return body;
        }
        loop {
            let mut line = String::new();
            from.read_line(&mut line).await.unwrap();
            let n = usize::from_str_radix(line.trim(), 16).expect("the length of a chunk");
            let at = body.len();
            body.resize(at + n + 2, 0);
            from.read_exact(&mut body[at..]).await.unwrap();
            body.truncate(at + n);
            if n == 0 {
                return body;
            }
        }
    }
}

// ---- the tool server ---------------------------------------------------------------------

/// When which call came in.
#[derive(Clone, Debug)]
pub(crate) struct ToolServer {
    pub(crate) port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    calls: u64,
    /// The last call of each turn.
    last: HashMap<String, Instant>,
    /// From one call of a turn to its next: one step.
    steps: Vec<Duration>,
    /// No call is answered that comes in now.
    holds: bool,
}

impl ToolServer {
    /// Answers every call at once with so many bytes.
    pub(crate) async fn start(answer_bytes: usize) -> ToolServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            ToolServer { port: listener.local_addr().unwrap().port(), seen: Arc::default() };
        let body = format!("{{\"said\":\"{}\"}}", crate::world::text(7, answer_bytes));
        let answer: Arc<str> = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into();
        let seen = Arc::clone(&server.seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&seen)));
            }
        });
        server
    }

    pub(crate) fn calls(&self) -> u64 {
        self.seen.lock().unwrap().calls
    }

    /// From here on calls are left without an answer, or answered at once again. What was left stays so.
    pub(crate) fn hold(&self, holds: bool) {
        self.seen.lock().unwrap().holds = holds;
    }

    /// How long after `since` each turn's last call came in, of those that called since.
    pub(crate) fn called_after(&self, since: Instant) -> Vec<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.last.values().filter_map(|it| it.checked_duration_since(since)).collect()
    }

    /// How many turns have called.
    pub(crate) fn turns(&self) -> usize {
        self.seen.lock().unwrap().last.len()
    }

    /// Forgets what was seen, and says how long each step took.
    pub(crate) fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.seen.lock().unwrap()).steps
    }
}

async fn serve(stream: TcpStream, answer: Arc<str>, seen: Arc<Mutex<Seen>>) {
    stream.set_nodelay(true).ok();
    let mut stream = BufReader::new(stream);
    while let Some(mut head) = Head::read(&mut stream).await {
        head.length.get_or_insert(0);
        head.body(&mut stream).await;
        let holds = {
            let mut seen = seen.lock().unwrap();
            seen.calls += 1;
            let now = Instant::now();
            // The key is `session/turn/call`.
            let turn = head.key.rsplit_once('/').map_or("", |it| it.0).to_owned();
            if let Some(last) = seen.last.insert(turn, now) {
                seen.steps.push(now - last);
            }
            seen.holds
        };
        if holds {
            std::future::pending::<()>().await;
        }
        if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
