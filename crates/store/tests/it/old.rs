//! Stores that earlier releases wrote: on SQLite a folder, its files packed, and on PostgreSQL a packed script. Each is
//! opened on every build, read to its end, and goes on: a change that reads one of them otherwise than before loses
//! somebody's state. Both tell the same.
//!
//! A release adds its own: `EVERSTATE_RECORD=0.2.0 cargo test -p everstate-store old`, then `UPDATE_EXPECT=1`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{ListKey, NewRow, PostOutcome, Put, RowKind};
use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, Store, open};
use everstate_test_postgres::{Cluster, cluster};
use expect_test::expect_file;

use crate::stores::{Owner, listing, projection, shown, verified};

/// The master key of all of them. It guards nothing.
const KEY: &str = "0000000000000000000000000000000000000000000000000000000000000001\n";
const NOW: u64 = 5_000;
/// Longer than what stays in a row.
const BIG: usize = 70_000;

const CHATTY: u128 = 0x1111_1111_1111_1111_1111_1111_1111_1111;
const ERASED: u128 = 0x2222_2222_2222_2222_2222_2222_2222_2222;
const PACKED: u128 = 0x3333_3333_3333_3333_3333_3333_3333_3333;
const DELETED: u128 = 0x4444_4444_4444_4444_4444_4444_4444_4444;
const AWAITED: u128 = 0x5555_5555_5555_5555_5555_5555_5555_5555;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/old")
}

#[tokio::test(flavor = "multi_thread")]
async fn old_stores_are_read_as_ever() {
    if let Ok(release) = std::env::var("EVERSTATE_RECORD") {
        record(&folder().join(release)).await;
    }
    let mut n_stores = 0;
    for packed in fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path()) {
        if !packed.is_dir() {
            continue;
        }
        n_stores += 1;
        let place = tempfile::tempdir().unwrap();
        copy(&packed, place.path(), &|it| zstd::decode_all(it).unwrap());
        let store = at(place.path()).await;
        let release = packed.file_name().unwrap().to_string_lossy().into_owned();
        expect_file![folder().join(format!("{release}.txt"))].assert_eq(&told(&store).await);
        goes_on(&store).await;
    }
    assert!(n_stores > 0, "there is a store of each release");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_databases_are_read_as_ever() {
    let Some(cluster) = cluster() else { return };
    if let Ok(release) = std::env::var("EVERSTATE_RECORD") {
        record_database(&cluster, &release).await;
    }
    let mut n_stores = 0;
    for packed in fs::read_dir(folder()).unwrap().map(|it| it.unwrap().path()) {
        let name = packed.file_name().unwrap().to_string_lossy().into_owned();
        let Some(release) = name.strip_suffix(SCRIPT) else { continue };
        n_stores += 1;
        let place = tempfile::tempdir().unwrap();
        let script = zstd::decode_all(&*fs::read(&packed).unwrap()).unwrap();
        let database = cluster.fresh_name();
        cluster.load(&database, &String::from_utf8(script).unwrap());
        let store = on(&cluster.url(&database), place.path()).await;
        expect_file![folder().join(format!("{release}.txt"))].assert_eq(&told(&store).await);
        goes_on(&store).await;
    }
    assert!(n_stores > 0, "there is a database of each release");
}

/// After the release's name.
const SCRIPT: &str = ".sql.zst";

async fn at(folder: &Path) -> Store {
    on(&format!("sqlite:{}", folder.join("state.db").display()), folder).await
}

async fn on(url: &str, folder: &Path) -> Store {
    let key = folder.join("master.key");
    fs::write(&key, KEY).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let now = std::sync::Arc::new(|| NOW);
    let settings = Settings { keys: Some(KeySource::File(key)), now, ..Settings::default() };
    open(url, settings).await.unwrap()
}

/// Everything that can be read of it.
async fn told(store: &Store) -> String {
    let mut out = String::new();
    for id in [CHATTY, ERASED, PACKED, DELETED, AWAITED] {
        let (log, session) = (&*store.log, SessionId(id));
        writeln!(out, "{session}: {}", verified(log, session).await).unwrap();
        out.push_str(&shown(log, session).await);
        for key in ["first", "second", "third"] {
            if let Some(seq) = log.seen(session, key).await.unwrap() {
                writeln!(out, "key {key}: {seq}").unwrap();
            }
            if let Some(outcome) = log.outcome(session, key).await.unwrap() {
                writeln!(out, "outcome of {key}: {outcome:?}").unwrap();
            }
        }
        for it in log.inbox(session).await.unwrap() {
            writeln!(out, "waiting: {} {}", it.key, String::from_utf8_lossy(&it.body)).unwrap();
        }
        if let Some((head, body)) = log.snapshot(session).await.unwrap() {
            let body = String::from_utf8_lossy(&body);
            writeln!(out, "snapshot at {}: {body}", head.seq).unwrap();
        }
    }
    let all = Buckets::all();
    let due = store.log.due(&all, 10_000, 9).await.unwrap();
    let due: Vec<String> = due.iter().map(|(it, at)| format!("{it} at {at}")).collect();
    writeln!(out, "due: {}", due.join(", ")).unwrap();
    let ready = store.log.ready(&all, None, 9).await.unwrap();
    let ready: Vec<String> = ready.iter().map(ToString::to_string).collect();
    writeln!(out, "ready: {}", ready.join(", ")).unwrap();
    for it in store.log.list("default", None, 9).await.unwrap() {
        let ListKey { created_at, session } =
            ListKey { created_at: it.created_at, session: it.session };
        writeln!(out, "listed: {session} of {created_at}: {}", it.summary).unwrap();
    }
    for it in store.registry.documents("default", "note", None, 9).await.unwrap() {
        let body = String::from_utf8_lossy(&it.body);
        writeln!(out, "document {} at {}, until {:?}: {body}", it.id, it.revision, it.expires_at)
            .unwrap();
    }
    out
}

/// What is old can be added to, erased in, packed and deleted as if it were new.
async fn goes_on(store: &Store) {
    let log = &*store.log;
    for id in [CHATTY, ERASED, PACKED, AWAITED] {
        let session = SessionId(id);
        let head = log.head(session).await.unwrap().unwrap_or_default();
        let mut owner = Owner { session, head };
        owner.events(log, "the new release was here").await;
        log.roll_up(session, owner.head.seq).await.unwrap();
        log.erase(session, Box::new(|_, _, body| (body == b"bye").then(Vec::new))).await.unwrap();
        assert!(!verified(log, session).await.starts_with("broken"));
        log.delete(session).await.unwrap();
        assert_eq!(log.head(session).await, Ok(None));
    }
    store.upkeep.run().await.unwrap();
}

// ---- recording ---------------------------------------------------------------------------

async fn record(to: &Path) {
    let place = tempfile::tempdir().unwrap();
    let store = at(place.path()).await;
    fill(&store).await;
    store.upkeep.close().await.unwrap();
    drop(store);
    fs::remove_file(place.path().join("master.key")).unwrap();
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    copy(place.path(), to, &|it| zstd::encode_all(it, 19).unwrap());
}

async fn record_database(cluster: &Cluster, release: &str) {
    let place = tempfile::tempdir().unwrap();
    let database = cluster.fresh_name();
    let store = on(&cluster.url(&database), place.path()).await;
    fill(&store).await;
    store.upkeep.close().await.unwrap();
    drop(store);
    let steps = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/postgres/schema");
    let script = cluster.dump(&database, &steps);
    let packed = zstd::encode_all(script.as_bytes(), 19).unwrap();
    fs::write(folder().join(format!("{release}{SCRIPT}")), packed).unwrap();
}

async fn fill(store: &Store) {
    let log = &*store.log;
    let mut chatty = Owner::new(CHATTY);
    let created = listing("default", 1_000, r#"{"state":"idle"}"#);
    let wakes =
        everstate_runtime::ports::Projection { listing: created, ..projection(Some(7_000), true) };
    chatty.project(log, wakes).await;
    chatty.frame(log, "hel").await;
    chatty.frame(log, "lo").await;
    let row = chatty.row(RowKind::Events, b"replied: hello");
    chatty.try_append(log, NewRow { key: Some("first".to_owned()), ..row }).await.unwrap();
    log.put_snapshot(chatty.session, chatty.head, Bytes::from("all that was said")).await.unwrap();
    chatty.events(log, &"big ".repeat(BIG / 4)).await;
    for key in ["first", "second", "third"] {
        log.post(chatty.session, key, Bytes::from(format!("posted as {key}"))).await.unwrap();
    }
    let row = chatty.row(RowKind::Events, b"took in what was posted");
    let row = NewRow { consumed: vec!["first".to_owned()], ..row };
    chatty.try_append(log, row).await.unwrap();
    let refused = PostOutcome::Refused("it came too late".to_owned());
    log.settle(chatty.session, "second", refused).await.unwrap();

    let mut erased = Owner::new(ERASED);
    for body in ["my name is Ada", "hello Ada", "bye"] {
        erased.events(log, body).await;
    }
    let ada = |body: &[u8]| String::from_utf8_lossy(body).replace("Ada", "___").into_bytes();
    let redact = move |_, _, body: &[u8]| Some(ada(body)).filter(|it| it != body);
    log.erase(erased.session, Box::new(redact)).await.unwrap();

    let mut packed = Owner::new(PACKED);
    for n in 0..5 {
        packed.frame(log, &format!("piece {n}")).await;
        packed.events(log, &format!("whole {n}")).await;
    }
    packed.events(log, &"vast ".repeat(BIG / 5)).await;
    log.roll_up(packed.session, packed.head.seq - 3).await.unwrap();

    let mut deleted = Owner::new(DELETED);
    deleted.events(log, "nobody may know").await;
    log.delete(deleted.session).await.unwrap();

    // Something was posted before the session began.
    log.post(SessionId(AWAITED), "first", Bytes::from("come soon")).await.unwrap();

    for (id, expires_at) in [("lasting", None), ("passing", Some(9_000)), ("past", Some(2_000))] {
        let put = |expect, body: &'static str| Put {
            project: "default".to_owned(),
            kind: "note".to_owned(),
            id: id.to_owned(),
            expect,
            body: Bytes::from(body),
            now: 1_000,
            expires_at,
        };
        let revision = store.registry.put(put(None, "first words")).await.unwrap();
        store.registry.put(put(Some(revision), "last words")).await.unwrap();
    }
}

/// Copies a folder's files, each changed on the way.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&[u8]) -> Vec<u8>) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target, change);
        } else if !entry.file_name().to_string_lossy().ends_with(".lock") {
            fs::write(target, change(&fs::read(path).unwrap())).unwrap();
        }
    }
}
