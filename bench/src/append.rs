//! How many appends a second are acknowledged, and how long one takes: through the runtime, through the log alone,
//! and by SQLite alone at the batch that suits it best. In two processes, one of them with slower flushes.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everstate_kernel::input::Input;
use everstate_runtime::host::{Feed, Host};
use everstate_runtime::ports::{Head, Log, NewRow, RowKind};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::figures::{Took, count, ms, table};
use crate::world::{self, Hands, Runner, Says, text};
use crate::{Around, process};

/// What an append holds, encoded.
const BODY: usize = 1_024;
/// After so many, a worker goes on with a new session.
const APPENDS_PER_SESSION: u64 = 128;
const SESSIONS: [u64; 4] = [1, 16, 64, 512];

pub(crate) fn run(around: &Around) -> String {
    let library = process::slow_flush(&around.folder);
    let mut out = String::from(
        "An append is one fact of 1 KiB (something said to a running turn), fed to a session that nobody is working on \
         and acknowledged after the flush. *Host* is all of it: load or find the session, decide, encode, seal, chain, \
         write, flush, project, tell; a session is left for a new one after 128 appends. *Log* is the store alone. \
         *Raw* is SQLite with one thread that inserts 1 KiB rows into an indexed table, nothing else.\n\n",
    );
    for slow in [false, true] {
        let folder = around.folder.join(if slow { "slow" } else { "plain" });
        std::fs::create_dir_all(&folder).unwrap();
        let lasts = if around.quick { "100" } else { "3000" };
        let mut errand = process::errand("append", &[folder.to_str().unwrap(), lasts]);
        if slow {
            errand.env("LD_PRELOAD", &library);
        }
        let report: Value = serde_json::from_str(&process::output(&mut errand)).unwrap();
        out.push_str(&tell(slow, &report));
    }
    out
}

fn tell(slow: bool, report: &Value) -> String {
    let number = |it: &Value| it.as_f64().unwrap();
    let raw = report["raw"].as_array().unwrap();
    let best = raw
        .iter()
        .max_by(|a, b| number(&a["per_second"]).total_cmp(&number(&b["per_second"])))
        .unwrap();
    let rows = report["sessions"].as_array().unwrap().iter().map(|it| {
        let host = number(&it["host"]["per_second"]);
        vec![
            it["n"].to_string(),
            count(host),
            it["host"]["p50_ms"].as_str().unwrap().to_owned(),
            it["host"]["p99_ms"].as_str().unwrap().to_owned(),
            count(number(&it["log"]["per_second"])),
            it["log"]["p50_ms"].as_str().unwrap().to_owned(),
            it["log"]["p99_ms"].as_str().unwrap().to_owned(),
            format!("{:.2}", host / number(&best["per_second"])),
        ]
    });
    let head = [
        "sessions",
        "host, a second",
        "p50 ms",
        "p99 ms",
        "log, a second",
        "p50 ms",
        "p99 ms",
        "host / raw",
    ];
    let words = if slow { "Each flush a millisecond longer" } else { "The machine's own disk" };
    let others: Vec<String> = raw
        .iter()
        .map(|it| format!("{} at {}", count(number(&it["per_second"])), it["batch"]))
        .collect();
    format!(
        "{words} (one flush: {} ms). Raw, rows a second at a batch of so many: {}.\n\n{}\n",
        report["flush_ms"].as_str().unwrap(),
        others.join(", "),
        table(&head, &rows.collect::<Vec<_>>()),
    )
}

/// `append FOLDER MILLISECONDS`: prints the figures as JSON.
pub(crate) fn errand(arguments: &[String]) {
    let [folder, lasts] = arguments else { panic!("append FOLDER MILLISECONDS") };
    let (folder, lasts) = (Path::new(folder), Duration::from_millis(lasts.parse().unwrap()));
    let runtime = crate::runtime();
    let raw: Vec<Value> =
        [1, 16, 64, 256, 1_024].into_iter().map(|it| raw_at(folder, it, lasts)).collect();
    let mut sessions = Vec::new();
    let mut flush = Duration::ZERO;
    for n in SESSIONS {
        let (host, log, took) = runtime.block_on(async {
            let at = |what: &str| folder.join(format!("{what}-{n}"));
            let store = world::store(&at("log")).await;
            let log = through_log(&store.log, 0..n, lasts).await;
            let store = world::store(&at("host")).await;
            let flush = store.upkeep.facts().await.unwrap().flush.unwrap();
            let models = [("model", Says::Call)];
            let host = world::host(&store, &models, Arc::new(Hands::default())).await;
            (through_host(&host, n, lasts).await, log, flush)
        });
        flush = took;
        sessions.push(json!({ "n": n, "host": shown(host), "log": shown(log) }));
    }
    println!("{}", json!({ "raw": raw, "sessions": sessions, "flush_ms": ms(flush) }));
}

pub(crate) fn shown(mut took: Took) -> Value {
    json!({ "per_second": took.per_second(), "p50_ms": ms(took.at(0.5)), "p99_ms": ms(took.at(0.99)) })
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>) -> Took {
    let began = Instant::now();
    let mut took = Took::default();
    for task in tasks {
        took.each.extend(task.await.unwrap());
    }
    took.all = began.elapsed();
    took
}

// ---- through the runtime -----------------------------------------------------------------

async fn through_host(host: &Arc<Host>, workers: u64, lasts: Duration) -> Took {
    let mut first = Vec::new();
    for worker in 0..workers {
        first.push(open_turn(host, worker << 32).await);
    }
    world::quiet(host).await;
    let end = Instant::now() + lasts;
    let work = |(worker, first)| {
        let host = Arc::clone(host);
        tokio::spawn(async move { feeds(&host, worker, first, end).await })
    };
    gather((0..workers).zip(first).map(work).collect()).await
}

/// A session with a turn that waits for its client's tool.
async fn open_turn(host: &Host, n: u64) -> everstate_kernel::ids::SessionId {
    let id = world::session(n);
    let begin = world::begin("model", "begin".to_owned(), Runner::Client, false);
    world::feed(host, id, vec![world::create(id), Input::Begin(begin)]).await;
    while host.look(id).await.unwrap().live.calls.is_empty() {
        tokio::task::yield_now().await;
    }
    id
}

async fn feeds(
    host: &Host,
    worker: u64,
    first: everstate_kernel::ids::SessionId,
    end: Instant,
) -> Vec<Duration> {
    let mut id = first;
    let mut took = Vec::new();
    while Instant::now() < end {
        let n = took.len() as u64;
        if n > 0 && n.is_multiple_of(APPENDS_PER_SESSION) {
            id = open_turn(host, worker << 32 | n).await;
        }
        // With what is around it in the row, 1 KiB.
        let said = text(worker << 32 | n, BODY - 200);
        let begin = world::begin("model", said, Runner::Client, false);
        let began = Instant::now();
        host.feed(id, vec![Input::Begin(begin)], Feed::default()).await.unwrap();
        took.push(began.elapsed());
    }
    took
}

// ---- through the log ---------------------------------------------------------------------

pub(crate) async fn through_log(log: &Arc<dyn Log>, sessions: Range<u64>, lasts: Duration) -> Took {
    let end = Instant::now() + lasts;
    let work = |n| tokio::spawn(appends(Arc::clone(log), n, end));
    gather(sessions.map(work).collect()).await
}

async fn appends(log: Arc<dyn Log>, worker: u64, end: Instant) -> Vec<Duration> {
    let session = world::session(worker);
    let mut head = Head::default();
    let mut took = Vec::new();
    while Instant::now() < end {
        let seq = head.seq + 1;
        let row = NewRow {
            session,
            seq,
            kind: RowKind::Events,
            at: seq,
            prev: head.hash,
            body: Bytes::from(text(worker << 32 | seq, BODY)),
            key: None,
            consumed: Vec::new(),
            projection: None,
        };
        let began = Instant::now();
        head = log.append(row).await.unwrap().head;
        took.push(began.elapsed());
    }
    took
}

// ---- SQLite alone ------------------------------------------------------------------------

fn raw_at(folder: &Path, batch: u64, lasts: Duration) -> Value {
    let mut db = Connection::open(folder.join(format!("raw-{batch}.db"))).unwrap();
    db.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         CREATE TABLE event (pos INTEGER PRIMARY KEY, session INTEGER NOT NULL, \
         seq INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (session, seq));",
    )
    .unwrap();
    let bodies: Vec<String> = (0..1_024).map(|it| text(it, BODY)).collect();
    let (began, mut n) = (Instant::now(), 0u64);
    while began.elapsed() < lasts {
        let tx = db.transaction().unwrap();
        for _ in 0..batch {
            let sql = "INSERT INTO event (session, seq, body) VALUES (?1, ?2, ?3)";
            let mut insert = tx.prepare_cached(sql).unwrap();
            let (session, seq) = ((n % 64) as i64, (n / 64) as i64);
            insert.execute((session, seq, bodies[(n % 1_024) as usize].as_bytes())).unwrap();
            n += 1;
        }
        tx.commit().unwrap();
    }
    json!({ "batch": batch, "per_second": n as f64 / began.elapsed().as_secs_f64() })
}
