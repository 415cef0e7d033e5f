//! A fake bank on loopback. It keeps its own ledger, which is what the proof is read from, and it does a refund and then
//! keeps silent about it, as real ones sometimes do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;

#[derive(Debug)]
pub(crate) struct Bank {
    pub(crate) address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    /// Tells when a refund was done whose answer is being held back.
    pub(crate) held: mpsc::UnboundedReceiver<()>,
}

/// What really happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) refunds: Vec<Refund>,
    /// Keys of all requests for a refund, in order, repeats included.
    pub(crate) asked: Vec<String>,
    pub(crate) n_looked: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Refund {
    pub(crate) id: String,
    pub(crate) charge: String,
    key: String,
}

/// Held-back answers are never given: whoever asked is gone long before.
const HELD: Duration = Duration::from_secs(30);
const BODY_MAX: u64 = 64 << 10;

impl Bank {
    pub(crate) fn open() -> std::io::Result<Bank> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (hold, held) = mpsc::unbounded_channel();
        let shared = ledger.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (ledger, hold) = (shared.clone(), hold.clone());
                // Whoever does not get an answer notices by itself.
                std::thread::spawn(move || drop(serve(stream, &ledger, &hold)));
            }
        });
        Ok(Bank { address, ledger, held })
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    mut stream: TcpStream,
    ledger: &Mutex<Ledger>,
    hold: &mpsc::UnboundedSender<()>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut length, mut key) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "idempotency-key" => value.trim().clone_into(&mut key),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.take(length.min(BODY_MAX)).read_to_end(&mut body)?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let answer = {
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.answer(method, path, key, &body)
    };
    let (status, answer) = match answer {
        Answer::Given(status, answer) => (status, answer.to_string()),
        Answer::Held => {
            hold.send(()).ok();
            std::thread::sleep(HELD);
            return Ok(());
        }
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len(),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(answer.as_bytes())
}

enum Answer {
    Given(&'static str, Value),
    /// The money has moved, and nobody is told.
    Held,
}

impl Ledger {
    fn answer(&mut self, method: &str, path: &str, key: String, body: &[u8]) -> Answer {
        match (method, path) {
            ("GET", "/orders/1182/charges") => {
                self.n_looked += 1;
                let charge =
                    |id: &str, at: &str| json!({ "id": id, "amount": "49.00 EUR", "at": at });
                let charges = [
                    charge("ch_1", "2026-11-20T09:14:02Z"),
                    charge("ch_2", "2026-11-20T09:14:03Z"),
                ];
                Answer::Given("200 OK", json!({ "order": "1182", "charges": charges }))
            }
            ("POST", "/refunds") => {
                let asked: Value = serde_json::from_slice(body).unwrap_or_default();
                let charge = asked["charge"].as_str().unwrap_or("?").to_owned();
                self.asked.push(key.clone());
                if let Some(done) = self.refunds.iter().find(|it| it.key == key) {
                    let text = format!("already done, {}", done.id);
                    return Answer::Given("200 OK", json!({ "refund": done.id, "bank": text }));
                }
                let id = format!("re_{}", 77 + self.refunds.len());
                self.refunds.push(Refund { id, charge, key });
                Answer::Held
            }
            _ => {
                Answer::Given("404 Not Found", json!({ "error": "the bank knows nothing of this" }))
            }
        }
    }
}
