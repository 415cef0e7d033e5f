//! A bucket for tests: an S3 server of its own, and a road to it that can be blocked.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use everstate_store::blobs::place::{BadPlace, Place};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// Ends with the test.
pub(crate) struct Bucket {
    server: Child,
    port: u16,
    key: String,
    secret: String,
}

/// What those who come find.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Traffic {
    Flows,
    /// Everybody is cut off.
    Cut,
    /// Nobody gets an answer.
    Stalls,
    /// Everybody is told to come back later.
    Busy,
}

/// Leads to a bucket, as long as it is kept.
pub(crate) struct Road {
    pub(crate) traffic: watch::Sender<Traffic>,
    turned_away: Arc<Notify>,
    port: u16,
}

/// The Python environment of the tests.
fn python() -> Option<PathBuf> {
    let skips = std::env::var("EVERSTATE_TEST_SKIP").unwrap_or_default();
    if skips.split(',').any(|it| it.trim() == "python") {
        return None;
    }
    let named = std::env::var_os("EVERSTATE_TEST_PYTHON").map(PathBuf::from);
    let installed =
        || root().join(std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from));
    let python = named.unwrap_or_else(|| installed().join("tools/venv/bin/python"));
    assert!(
        python.exists(),
        "python: {} is not there; `cargo xtask test` installs it, and \
         EVERSTATE_TEST_SKIP=python goes on without",
        python.display()
    );
    Some(python)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Bucket {
    /// It lets in only those with its key. `None`: whoever runs the tests does without Python.
    #[allow(clippy::print_stdout, reason = "the test command counts this line")]
    pub(crate) fn start() -> Option<Bucket> {
        let Some(python) = python() else {
            println!("skipped: blobs in S3: no Python");
            return None;
        };
        let mut server = Command::new(python)
            .arg(root().join("tests/s3/bucket.py"))
            .arg("strict")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the S3 server did not start; what it said is above");
        let told: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| told[name].as_str().unwrap().to_owned();
        let port = text("url").rsplit_once(':').unwrap().1.parse().unwrap();
        Some(Bucket { server, port, key: text("key"), secret: text("secret") })
    }

    pub(crate) fn place(&self, prefix: &str) -> Place {
        self.place_by(self.port, prefix, "").unwrap()
    }

    /// As by a road, with more options of a URL.
    pub(crate) fn by(&self, road: &Road, prefix: &str, options: &str) -> Place {
        self.place_by(road.port, prefix, options).unwrap()
    }

    fn place_by(&self, port: u16, prefix: &str, options: &str) -> Result<Place, BadPlace> {
        self.named(port, &format!("ours/{prefix}"), options, &self.secret)
    }

    pub(crate) fn with_secret(&self, secret: &str) -> Place {
        self.named(self.port, "ours/a", "", secret).unwrap()
    }

    pub(crate) fn missing(&self) -> Place {
        self.named(self.port, "theirs/a", "", &self.secret).unwrap()
    }

    fn named(&self, port: u16, path: &str, options: &str, secret: &str) -> Result<Place, BadPlace> {
        let url = format!("s3://{path}?endpoint=http://127.0.0.1:{port}&allow_http=true{options}");
        let env = |name: &str| match name {
            "AWS_ACCESS_KEY_ID" => Some(self.key.clone()),
            "AWS_SECRET_ACCESS_KEY" => Some(secret.to_owned()),
            _ => None,
        };
        Place::from_url(&url, Path::new("/"), &env)
    }

    pub(crate) async fn road(&self) -> Road {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (traffic, seen) = watch::channel(Traffic::Flows);
        let to = self.port;
        let turned_away = Arc::new(Notify::new());
        let tells = Arc::clone(&turned_away);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                let (seen, tells) = (seen.clone(), Arc::clone(&tells));
                tokio::spawn(async move {
                    let turns = *seen.borrow() != Traffic::Flows;
                    drive(from, to, seen).await;
                    if turns {
                        tells.notify_one();
                    }
                });
            }
        });
        Road { traffic, turned_away, port }
    }
}

impl Road {
    /// Until somebody was told no.
    pub(crate) async fn turned_away(&self) {
        self.turned_away.notified().await;
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

/// One connection: goes on as it began, until the traffic changes.
async fn drive(mut from: TcpStream, to: u16, mut traffic: watch::Receiver<Traffic>) {
    const BUSY: &str = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code>\
        <Message>Please reduce your request rate.</Message></Error>";
    let now = *traffic.borrow_and_update();
    let goes = async {
        match now {
            Traffic::Flows => {
                let Ok(mut to) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                copy_bidirectional(&mut from, &mut to).await.ok();
            }
            Traffic::Cut => {}
            Traffic::Stalls => std::future::pending().await,
            Traffic::Busy => {
                let mut seen = vec![0; 65_536];
                if from.read(&mut seen).await.is_err() {
                    return;
                }
                let answer = format!(
                    "HTTP/1.1 503 Slow Down\r\ncontent-type: application/xml\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n{BUSY}",
                    BUSY.len()
                );
                from.write_all(answer.as_bytes()).await.ok();
                // Whoever still writes reads the answer first.
                while from.read(&mut seen).await.is_ok_and(|it| it > 0) {}
            }
        }
    };
    tokio::select! {
        () = goes => {}
        _ = traffic.changed() => {}
    }
}
