//! What lies on disk: who may open it, who may read it, how big it is, and what is left after an erasure.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use everstate_runtime::ports::RowKind;
use everstate_store::keys::source::KeySource;
use everstate_store::open::{OpenError, Settings, Store, open};
use expect_test::expect;
use rusqlite::Connection;

use crate::stores::{Owner, shown, verified};

async fn at(folder: &Path) -> Result<Store, OpenError> {
    let url = format!("sqlite:{}", folder.join("state.db").display());
    open(&url, Settings { address: "127.0.0.1:7070".to_owned(), ..Settings::default() }).await
}

/// Every file below a folder, whole.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

pub(crate) fn finds(folder: &Path, bytes: &[u8]) -> bool {
    files(folder).values().any(|it| it.windows(bytes.len()).any(|part| part == bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut ours = Owner::new(7);
    for n in 0..3 {
        let store = at(folder.path()).await.unwrap();
        ours.events(&*store.log, &format!("event {n}")).await;
        if n == 1 {
            store.upkeep.close().await.unwrap();
        }
    }
    let store = at(folder.path()).await.unwrap();
    assert_eq!(shown(&*store.log, ours.session).await, "1 event 0\n2 event 1\n3 event 2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_owns_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = at(folder.path()).await.unwrap();
    let second = at(folder.path()).await.unwrap_err();
    let OpenError::Locked { pid, address, .. } = &second else { panic!("{second}") };
    assert_eq!((*pid, address.as_str()), (Some(std::process::id()), "127.0.0.1:7070"));
    drop(first);
    at(folder.path()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_file_is_refused_and_not_touched() {
    for (file, what) in [("state.db", "state"), ("keys.db", "keys")] {
        let folder = tempfile::tempdir().unwrap();
        let store = at(folder.path()).await.unwrap();
        Owner::new(7).events(&*store.log, "created").await;
        store.upkeep.close().await.unwrap();
        drop(store);
        let db = Connection::open(folder.path().join(file)).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        drop(db);

        let before = files(folder.path());
        let refused = at(folder.path()).await.unwrap_err();
        let OpenError::Newer { found: 99, known, .. } = refused else {
            panic!("{what}: {refused}")
        };
        assert!(known < 99);
        let after = files(folder.path());
        assert!(before == after, "{what}: {:?} {:?}", before.keys(), after.keys());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strange_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("state.db"), "a letter to my aunt").unwrap();
    let refused = at(folder.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused}");
    assert_eq!(fs::read(folder.path().join("state.db")).unwrap(), b"a letter to my aunt");
    for url in ["sqlite:", "mysql://x", "postgres:x", "state.db", "memory:x"] {
        let refused = open(url, Settings::default()).await.unwrap_err();
        assert!(matches!(refused, OpenError::BadUrl(_)), "{url}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_its_owner_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path()).await.unwrap();
    let mut ours = Owner::new(7);
    ours.events(&*store.log, "the secret word").await;
    assert!(!finds(folder.path(), b"secret word"));
    for (path, _) in files(folder.path()) {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_it_stays_shut() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path()).await.unwrap();
    Owner::new(7).events(&*store.log, "created").await;
    drop(store);
    let other = tempfile::tempdir().unwrap();
    let source = KeySource::File(other.path().join("master.key"));
    drop(
        open(
            &format!("sqlite:{}", other.path().join("state.db").display()),
            Settings { keys: Some(source.clone()), ..Settings::default() },
        )
        .await
        .unwrap(),
    );
    let url = format!("sqlite:{}", folder.path().join("state.db").display());
    let refused = open(&url, Settings { keys: Some(source), ..Settings::default() }).await;
    let refused = refused.unwrap_err();
    assert!(refused.to_string().contains("is not the one that was used before"), "{refused}");
    let nowhere = Some(KeySource::Env("EVERSTATE_TEST_NO_SUCH_KEY".to_owned()));
    let refused = open(&url, Settings { keys: nowhere, ..Settings::default() }).await.unwrap_err();
    expect![
        "the environment variable EVERSTATE_TEST_NO_SUCH_KEY is not set; it holds the master key"
    ]
    .assert_eq(&refused.to_string());
    fs::remove_file(folder.path().join("keys.db")).unwrap();
    let refused = open(&url, Settings::default()).await.unwrap_err().to_string();
    assert!(refused.contains("keys.db, are missing"), "{refused}");
    assert!(!folder.path().join("keys.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_erased_is_in_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path()).await.unwrap();
    let log = &*store.log;
    let mut ours = Owner::new(7);
    for n in 0..20 {
        ours.events(log, &format!("{n}: my name is Ada, {}", "and so on ".repeat(50))).await;
    }
    let mut other = Owner::new(8);
    other.events(log, "stays").await;
    // What is looked for: every sealed body, and the wrapped key. They are there before.
    let db = Connection::open(folder.path().join("state.db")).unwrap();
    let sealed = bodies(&db, ours.session);
    let key: i64 = db.query_row("SELECT data_key FROM event LIMIT 1", [], |it| it.get(0)).unwrap();
    drop(db);
    let keys = Connection::open(folder.path().join("keys.db")).unwrap();
    let wrapped: Vec<u8> = keys
        .query_row("SELECT wrapped FROM data_key WHERE id = ?1", [key], |it| it.get(0))
        .unwrap();
    drop(keys);
    assert!(sealed.iter().chain([&wrapped]).all(|it| finds(folder.path(), it)));

    log.erase(ours.session, Box::new(|_, _, _| Some(b"gone".to_vec()))).await.unwrap();
    store.upkeep.flush_erasures().await.unwrap();
    for (n, it) in sealed.iter().chain([&wrapped]).enumerate() {
        assert!(!finds(folder.path(), it), "text {n} is still there");
    }
    assert_eq!(verified(log, ours.session).await, "rows 20, erased 20, head 20");

    let sealed = bodies(&Connection::open(folder.path().join("state.db")).unwrap(), ours.session);
    log.delete(ours.session).await.unwrap();
    store.upkeep.flush_erasures().await.unwrap();
    assert!(sealed.iter().all(|it| !finds(folder.path(), it)));
    assert_eq!(shown(log, other.session).await, "1 stays\n");
}

fn bodies(db: &Connection, session: everstate_kernel::ids::SessionId) -> Vec<Vec<u8>> {
    let mut bodies = db.prepare("SELECT body FROM event WHERE session = ?1").unwrap();
    let bodies = bodies.query_map([session.0.to_be_bytes()], |it| it.get(0)).unwrap();
    bodies.map(Result::unwrap).collect()
}

/// Bytes that nothing makes smaller.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_session_takes_at_most_twice_its_payload() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path()).await.unwrap();
    let empty: usize = files(folder.path()).values().map(Vec::len).sum();
    let mut ours = Owner::new(7);
    let mut payload = 0;
    for n in 0..401 {
        let body = noise(n, 1_024);
        payload += body.len();
        let row = ours.row(RowKind::Events, &body);
        ours.try_append(&*store.log, row).await.unwrap();
    }
    store.log.roll_up(ours.session, 401).await.unwrap();
    store.upkeep.compact().await.unwrap();
    let sizes: BTreeMap<PathBuf, usize> =
        files(folder.path()).into_iter().map(|(path, it)| (path, it.len())).collect();
    let total: usize = sizes.values().sum();
    assert!(total <= 2 * payload, "{total} bytes for {payload}, {empty} before: {sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_hears_the_facts() {
    let folder = tempfile::tempdir().unwrap();
    let store = at(folder.path()).await.unwrap();
    let facts = store.upkeep.facts().await.unwrap();
    assert_eq!(facts.path, Some(folder.path().join("state.db")));
    assert!(facts.schema == 2 && facts.bytes > 0 && facts.flush.is_some(), "{facts:?}");
    let said = facts.keys.replace(folder.path().to_str().unwrap(), "FOLDER");
    expect!["master key in the file FOLDER/master.key; data keys in FOLDER/keys.db"]
        .assert_eq(&said);
}
