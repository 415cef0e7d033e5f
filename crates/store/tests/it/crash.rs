//! A process that appends is killed, a hundred times. What it was told has landed is there, once.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{AppendError, Log, NewRow, RowKind};
use everstate_store::open::{Flush, Settings, Store, open};

use crate::stores::verified;

const FOLDER: &str = "EVERSTATE_TEST_CHILD";
const INPUTS: &str = "EVERSTATE_TEST_CHILD_INPUTS";
const FLUSH: &str = "EVERSTATE_TEST_CHILD_FLUSH";
const SESSIONS: u128 = 6;

/// What the other tests start as a process of its own. By itself it does nothing.
#[test]
fn as_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let inputs = std::env::var(INPUTS).map_or(u64::MAX, |it| it.parse().unwrap());
    let flush = if std::env::var_os(FLUSH).is_some() { Flush::Never } else { Flush::Always };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(appends(PathBuf::from(folder), inputs, flush));
    // It ends as if it were killed: nothing is closed.
    std::process::exit(0);
}

/// A child that appends `inputs` to each session, or until it is killed.
pub(crate) fn child(folder: &Path, inputs: Option<u64>, flush: Flush) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::as_child", "--nocapture"]).env(FOLDER, folder);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(inputs) = inputs {
        command.env(INPUTS, inputs.to_string());
    }
    if flush == Flush::Never {
        command.env(FLUSH, "never");
    }
    command
}

async fn appends(folder: PathBuf, inputs: u64, flush: Flush) {
    let url = format!("sqlite:{}", folder.join("state.db").display());
    let store = open(&url, Settings { flush, ..Settings::default() }).await.unwrap();
    let acked = acks(&fs::read(folder.join("acks")).unwrap_or_default());
    let acks = OpenOptions::new().create(true).append(true).open(folder.join("acks"));
    let acks = Arc::new(acks.unwrap());
    let tasks: Vec<_> = (0..SESSIONS)
        .map(|n| {
            let first = acked.get(&n).map_or(0, |it| it.len() as u64);
            let (log, acks) = (Arc::clone(&store.log), Arc::clone(&acks));
            tokio::spawn(speak(log, acks, n, first, inputs))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Sends inputs in order. The first may have landed before the last crash: it has its key.
async fn speak(log: Arc<dyn Log>, acks: Arc<File>, id: u128, first: u64, inputs: u64) {
    let session = SessionId(id);
    let mut head = log.head(session).await.unwrap().unwrap_or_default();
    for input in (first..).take(inputs.try_into().unwrap_or(usize::MAX)) {
        let row = NewRow {
            session,
            seq: head.seq + 1,
            kind: kind_of(input),
            at: input,
            prev: head.hash,
            body: body_of(id, input),
            key: Some(input.to_string()),
            consumed: Vec::new(),
            projection: None,
        };
        let seq = match log.append(row).await {
            Ok(landed) => {
                head = landed.head;
                head.seq
            }
            Err(AppendError::Seen(seq)) => seq,
            Err(err) => panic!("{err:?}"),
        };
        // One write: a line is there whole, or not at all.
        (&*acks).write_all(format!("{id} {input} {seq}\n").as_bytes()).unwrap();
        // Whoever watches hears of it.
        std::io::stdout().write_all(b"acknowledged\n").unwrap();
    }
}

fn kind_of(input: u64) -> RowKind {
    if input.is_multiple_of(3) { RowKind::Events } else { RowKind::Frame }
}

fn body_of(id: u128, input: u64) -> Bytes {
    let times = if input % 50 == 7 { 9_000 } else { 60 };
    format!("{id}/{input} ").repeat(times).into()
}

/// What was acknowledged: session -> position of each input.
pub(crate) fn acks(file: &[u8]) -> BTreeMap<u128, Vec<Seq>> {
    let mut acks: BTreeMap<u128, Vec<Seq>> = BTreeMap::new();
    for line in String::from_utf8_lossy(file).lines() {
        let numbers: Vec<u64> = line.split(' ').map(|it| it.parse().unwrap()).collect();
        let [id, input, seq] = numbers[..] else { panic!("{line}") };
        let ours = acks.entry(u128::from(id)).or_default();
        assert_eq!(ours.len() as u64, input, "inputs are acknowledged in order");
        ours.push(seq);
    }
    acks
}

/// Is everything there that was acknowledged, once and as it was written?
pub(crate) async fn check(store: &Store, acks: &BTreeMap<u128, Vec<Seq>>) -> Result<(), String> {
    for (&id, seqs) in acks {
        let session = SessionId(id);
        let rows = store.log.read(session, 0, usize::MAX).await.map_err(|it| it.0)?;
        for (n, row) in rows.iter().enumerate() {
            // Each row is an input: in order, none twice, and at most one more than was acknowledged.
            let input = n as u64;
            let right = (input + 1, kind_of(input), body_of(id, input));
            if (row.seq, row.kind, row.body.clone()) != right {
                return Err(format!("row {} of {id} is not input {input}", row.seq));
            }
        }
        if rows.len() < seqs.len() {
            return Err(format!(
                "of {} acknowledged rows of {id} {} are there",
                seqs.len(),
                rows.len()
            ));
        }
        if rows.len() > seqs.len() + 1 {
            return Err(format!("{id} has rows that nobody sent"));
        }
        let said = verified(&*store.log, session).await;
        if said.starts_with("broken") {
            return Err(format!("{id} is {said}"));
        }
    }
    Ok(())
}

fn lines(from: ChildStdout) -> Receiver<()> {
    let (told, heard) = channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from).lines().map_while(Result::ok);
        while lines.next().is_some() && told.send(()).is_ok() {}
    });
    heard
}

#[test]
fn a_hundred_kills_lose_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let check_all = || {
        let acks = acks(&fs::read(folder.path().join("acks")).unwrap_or_default());
        runtime.block_on(async {
            let url = format!("sqlite:{}", folder.path().join("state.db").display());
            let store = open(&url, Settings::default()).await.unwrap();
            check(&store, &acks).await.unwrap();
        });
        acks.values().map(Vec::len).sum::<usize>()
    };
    let mut acked = 0;
    for kill in 1..=100 {
        let mut child = child(folder.path(), None, Flush::Always).spawn().unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let said = lines(child.stdout.take().unwrap());
        // Half of them are killed at any moment, also while they open the store, half while they append.
        let patience = Duration::from_secs(60);
        if kill % 2 == 0 {
            let end = Instant::now() + Duration::from_millis(random % 60);
            while said.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        } else {
            (0..20 + random % 60).for_each(|_| said.recv_timeout(patience).expect("it appends"));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if kill % 20 == 0 {
            acked = check_all();
        }
    }
    assert!(acked > 1_000, "only {acked} appends were acknowledged");
}
