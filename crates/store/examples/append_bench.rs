//! How many appends a second the log acknowledges, and how long one takes, beside what the raw store can do.
//! Prints Markdown. `append_bench [FOLDER]`; without a folder one is made and removed again.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program to be watched")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{Head, Log, NewRow, RowKind};
use everstate_store::open::{Settings, open};
use rusqlite::Connection;
use serde_json::{Value, json};

const BODY: usize = 1_024;
const LASTS: Duration = Duration::from_secs(3);

fn main() {
    let made = std::env::temp_dir().join(format!("append-bench-{}", std::process::id()));
    let given = std::env::args().nth(1);
    let folder = given.as_deref().map_or(made.as_path(), Path::new);
    std::fs::create_dir_all(folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let raw = raw(folder);
    let mut log = Vec::new();
    for sessions in [1, 16, 64, 512] {
        let path = folder.join(format!("log-{sessions}"));
        log.push(runtime.block_on(through_log(&path, sessions)));
    }
    print(&raw, &log);
    if given.is_none() {
        std::fs::remove_dir_all(&made).unwrap();
    }
}

/// Two tables: ours, beside the raw store at its best; and the raw store by itself.
fn print(raw: &[Value], log: &[Value]) {
    let rate = |it: &Value| it["appends_per_second"].as_f64().unwrap();
    let best = raw.iter().map(rate).fold(0.0, f64::max);
    println!("Bodies of {BODY} bytes, {} s each.\n", LASTS.as_secs());
    println!("| sessions | appends a second | beside the raw store | p50 | p99 | one flush |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: |");
    for it in log {
        let (rate, ms) = (rate(it), |name: &str| it[name].as_f64().unwrap());
        let (p50, p99, flush) = (ms("p50_ms"), ms("p99_ms"), ms("flush_ms"));
        let (sessions, ratio) = (&it["sessions"], rate / best);
        println!(
            "| {sessions} | {rate:.0} | {ratio:.2} | {p50:.2} ms | {p99:.2} ms | {flush:.3} ms |"
        );
    }
    println!("\n| raw store, rows a batch | rows a second |\n| ---: | ---: |");
    raw.iter().for_each(|it| println!("| {} | {:.0} |", it["batch"], rate(it)));
}

fn bodies() -> Vec<Bytes> {
    (0..1_024).map(body).collect()
}

/// Text as it is: half of it repeats.
fn body(n: u64) -> Bytes {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(BODY + 8);
    while out.len() < BODY {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        out.extend_from_slice(format!("{:x} the tool said ", x >> 24).as_bytes());
    }
    out.truncate(BODY);
    out.into()
}

async fn through_log(folder: &Path, sessions: u64) -> Value {
    let url = format!("sqlite:{}", folder.join("state.db").display());
    let store = open(&url, Settings::default()).await.unwrap();
    let end = Instant::now() + LASTS;
    let tasks: Vec<_> =
        (0..sessions).map(|n| tokio::spawn(appends(Arc::clone(&store.log), n, end))).collect();
    let start = Instant::now();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let per_second = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |part: f64| took[(took.len() as f64 * part) as usize].as_micros() as f64 / 1_000.0;
    let flush = store.upkeep.facts().await.unwrap().flush.unwrap();
    json!({
        "sessions": sessions,
        "appends_per_second": per_second.round(),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "flush_ms": flush.as_micros() as f64 / 1_000.0,
    })
}

async fn appends(
    log: Arc<dyn Log>,
    id: u64,
    bodies: Arc<Vec<Bytes>>,
    end: Instant,
) -> Vec<Duration> {
    let session = SessionId(u128::from(id) << 64 | 1);
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
            body: bodies[((id + seq) % 1_024) as usize].clone(),
            key: None,
            consumed: Vec::new(),
            projection: None,
        };
        let start = Instant::now();
        head = log.append(row).await.unwrap().head;
        took.push(start.elapsed());
    }
    took
}

/// The same rows by SQLite alone, one thread, at the batch that suits it best.
fn raw(folder: &Path) -> Vec<Value> {
    [1, 16, 64, 256, 1_024].into_iter().map(|batch| raw_at(folder, batch)).collect()
}

fn raw_at(folder: &Path, batch: u64) -> Value {
    let mut db = Connection::open(folder.join(format!("raw-{batch}.db"))).unwrap();
    db.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         CREATE TABLE event (pos INTEGER PRIMARY KEY, session INTEGER NOT NULL, \
         seq INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (session, seq));",
    )
    .unwrap();
    let bodies = bodies();
    let (start, mut n) = (Instant::now(), 0u64);
    while start.elapsed() < LASTS {
        let tx = db.transaction().unwrap();
        for _ in 0..batch {
            let sql = "INSERT INTO event (session, seq, body) VALUES (?1, ?2, ?3)";
            let mut insert = tx.prepare_cached(sql).unwrap();
            let (session, seq) = ((n % 64) as i64, (n / 64) as i64);
            insert.execute((session, seq, &bodies[(n % 1_024) as usize][..])).unwrap();
            n += 1;
        }
        tx.commit().unwrap();
    }
    let per_second = (n as f64 / start.elapsed().as_secs_f64()).round();
    json!({ "batch": batch, "appends_per_second": per_second })
}
