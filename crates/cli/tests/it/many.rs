//! Several `everstate serve` on one PostgreSQL, each a real process, with a bank whose payments are counted.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use everstate_test_postgres::{Cluster, cluster};
use reqwest::{Method, Response};
use serde_json::Value;
use tempfile::TempDir;

use crate::house::{KEY, everstate};

/// Short, so that a lost node is lost soon.
pub(crate) const LEASE: Duration = Duration::from_millis(2_000);
/// What the promise adds to it, for the others to take over.
pub(crate) const TAKE_OVER: Duration = Duration::from_secs(2);
/// No condition takes so long on a machine that works at all.
pub(crate) const AT_LAST: Duration = Duration::from_secs(60);

pub(crate) struct Many {
    pub(crate) database: Arc<Cluster>,
    pub(crate) store: String,
    pub(crate) dir: TempDir,
    pub(crate) http: reqwest::Client,
    env: Vec<(String, String)>,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) process: Child,
    http: reqwest::Client,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) again: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) json: Value,
}

impl Many {
    /// `None` if there is no PostgreSQL and that is all right.
    pub(crate) fn new(config: &str) -> Option<Many> {
        Some(Many::on(cluster()?, config))
    }

    pub(crate) fn on(database: Arc<Cluster>, config: &str) -> Many {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("everstate.toml"), config).unwrap();
        let store = database.fresh_database();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Many { database, store, dir, http, env: Vec::new() }
    }

    pub(crate) fn env(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn command(&self, name: &str, store: &str) -> Command {
        self.command_at(name, store, "127.0.0.1:0")
    }

    fn command_at(&self, name: &str, store: &str, listen: &str) -> Command {
        let mut command = everstate(self.dir.path());
        command
            .env("EVERSTATE_MASTER_KEY", "0".repeat(64))
            .env("EVERSTATE_LEASE_TTL_MS", LEASE.as_millis().to_string())
            .env("EVERSTATE_STORE", store)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .args(["--json", "serve", "--listen", listen, "--node-name", name]);
        command
    }

    pub(crate) fn start(&self, name: &str) -> Node {
        self.start_on(name, &self.store)
    }

    /// Where it was before it was killed.
    pub(crate) fn start_at(&self, name: &str, listen: &str) -> Node {
        self.start_with(name, &self.store, listen)
    }

    pub(crate) fn start_on(&self, name: &str, store: &str) -> Node {
        self.start_with(name, store, "127.0.0.1:0")
    }

    fn start_with(&self, name: &str, store: &str, listen: &str) -> Node {
        let log = self.dir.path().join(format!("{name}.log"));
        let log_file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut process = self
            .command_at(name, store, listen)
            .stdout(Stdio::piped())
            .stderr(log_file)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(url) = ready["url"].as_str() else {
            panic!("{name} did not start: {line}{}", std::fs::read_to_string(log).unwrap());
        };
        assert_eq!(ready["node"], name);
        let (name, url, http) = (name.to_owned(), url.to_owned(), self.http.clone());
        Node { name, url, process, http }
    }

    /// Two that share everything and know it.
    pub(crate) async fn two(&self) -> (Node, Node) {
        let (a, b) = (self.start("a"), self.start("b"));
        a.sees(2).await;
        b.sees(2).await;
        (a, b)
    }
}

impl Node {
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(KEY);
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.send(Method::GET, path, None, &[]).await.unwrap()).await
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
        read(self.send(Method::POST, path, Some(&body), headers).await.unwrap()).await
    }

    pub(crate) async fn create(&self, body: Value) -> Answer {
        let answer = self.post("/v1/responses", body).await;
        assert_eq!(answer.status, 200, "{}: {}", self.name, answer.json);
        answer
    }

    /// A response begun in the background, when it has ended.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        let path = format!("/v1/responses/{id}");
        until(async || {
            let answer = self.get(&path).await;
            let status = answer.json["status"].as_str().unwrap_or_default().to_owned();
            let over =
                answer.status == 200 && !["queued", "in_progress"].contains(&status.as_str());
            over.then_some(answer.json)
        })
        .await
    }

    /// Waits until so many nodes share all buckets, and nothing is on the move.
    pub(crate) async fn sees(&self, n: usize) {
        until(async || {
            let nodes = self.get("/everstate/v1/nodes").await.json["items"].as_array().cloned();
            let nodes: Vec<Value> = nodes.unwrap_or_default();
            let alive: Vec<&Value> = nodes.iter().filter(|it| it["state"] == "alive").collect();
            let calm = |it: &&Value| it["buckets_moving"] == 0 && it["lag"] == 0;
            let n_buckets: u64 = alive.iter().filter_map(|it| it["buckets"].as_u64()).sum();
            let done = alive.len() == n && n_buckets == 1024 && alive.iter().all(calm);
            done.then_some(())
        })
        .await;
    }

    pub(crate) async fn http_text(&self, path: &str) -> String {
        self.send(Method::GET, path, None, &[]).await.unwrap().text().await.unwrap()
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Also one that was stopped hears this.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) async fn read(response: Response) -> Answer {
    let status = response.status().as_u16();
    let header =
        |name: &str| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
    let (again, session) = (header("x-should-retry"), header("x-everstate-session"));
    let text = response.text().await.unwrap_or_default();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, again, session, json }
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(it) = ask().await {
            return it;
        }
        assert!(began.elapsed() < AT_LAST, "it never came to that");
        tokio::task::yield_now().await;
    }
}

/// Takes payments, and counts them by the key they came with. It answers when it is allowed to.
pub(crate) struct Bank {
    pub(crate) url: String,
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    open: Mutex<bool>,
    opened: Condvar,
    n: AtomicUsize,
    keys: Mutex<BTreeSet<String>>,
}

impl Bank {
    pub(crate) fn open() -> Bank {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner: Arc<Inner> = Arc::default();
        let bank = Bank { url, inner: inner.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, inner) = (stream.unwrap(), inner.clone());
                std::thread::spawn(move || {
                    let mut head = [0; 4096];
                    let n_read = stream.read(&mut head).unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..n_read]).to_lowercase();
                    let Some((_, key)) = head.split_once("idempotency-key: ") else { return };
                    let key = key.lines().next().unwrap().to_owned();
                    inner.keys.lock().unwrap().insert(key);
                    inner.n.fetch_add(1, Ordering::SeqCst);
                    let mut open = inner.open.lock().unwrap();
                    while !*open {
                        open = inner.opened.wait(open).unwrap();
                    }
                    let body = r#"{"receipt":"re_77"}"#;
                    let text = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(text.as_bytes()).ok();
                });
            }
        });
        bank
    }

    pub(crate) fn answer(&self) {
        *self.inner.open.lock().unwrap() = true;
        self.inner.opened.notify_all();
    }

    /// How often it was asked, and for how many different payments.
    pub(crate) fn asked(&self) -> (usize, usize) {
        (self.paid(), self.inner.keys.lock().unwrap().len())
    }

    pub(crate) fn paid(&self) -> usize {
        self.inner.n.load(Ordering::SeqCst)
    }

    pub(crate) fn tool(&self, safety: &str) -> String {
        format!(
            "[[tools]]\nname = \"pay\"\ndescription = \"Pays.\"\nmethod = \"POST\"\nurl = \"{}/pay\"\n\
             safety = \"{safety}\"\nallow_private = true\n",
            self.url
        )
    }
}

/// Takes what it is sent, as a collector of traces does.
pub(crate) struct Collector {
    pub(crate) url: String,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    pub(crate) fn open() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
        let taking = bytes.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, bytes) = (stream.unwrap(), taking.clone());
                std::thread::spawn(move || take(stream, &bytes));
            }
        });
        Collector { url, bytes }
    }

    /// Was all of this among it?
    pub(crate) fn got(&self, parts: &[&[u8]]) -> bool {
        let bytes = self.bytes.lock().unwrap();
        parts.iter().all(|part| bytes.windows(part.len()).any(|it| it == *part))
    }
}

fn take(stream: TcpStream, taken: &Mutex<Vec<u8>>) {
    let mut reader = BufReader::new(stream);
    let mut n_bytes = 0;
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
        if let Some(n) = line.to_lowercase().strip_prefix("content-length: ") {
            n_bytes = n.trim().parse().unwrap();
        }
        if line == "\r\n" {
            let mut body = vec![0; n_bytes];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            taken.lock().unwrap().extend(body);
            reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok();
        }
        line.clear();
    }
}

/// Nobody listens there just now.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
