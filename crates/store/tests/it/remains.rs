//! What is left on disk of what was deleted or erased, read by somebody who holds the master key.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use everstate_runtime::ports::RowKind;
use everstate_store::open::{Store, open};
use everstate_test_postgres::Cluster;
use everstate_test_remains::Remains;

use crate::stores::{Owner, settings, shown, verified};

/// A store, and everything of it that lies on a disk.
struct Installation {
    store: Store,
    folder: tempfile::TempDir,
    server: Option<(Cluster, String)>,
}

impl Installation {
    async fn on_sqlite() -> Installation {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("state.db").display());
        let store = open(&url, settings(folder.path())).await.unwrap();
        Installation { store, folder, server: None }
    }

    /// With a server of its own, whose log is not kept for later. `None` if it is to be skipped.
    async fn on_postgres() -> Option<Installation> {
        everstate_test_postgres::cluster()?;
        let cluster = Cluster::with(&["wal_recycle=off"]);
        let folder = tempfile::tempdir().unwrap();
        let name = cluster.fresh_name();
        let store = open(&cluster.url(&name), settings(folder.path())).await.unwrap();
        Some(Installation { store, folder, server: Some((cluster, name)) })
    }

    async fn each(check: impl AsyncFn(&Installation)) {
        check(&Installation::on_sqlite().await).await;
        if let Some(on_postgres) = Installation::on_postgres().await {
            check(&on_postgres).await;
        }
    }

    /// All that a thief of the disk would have, and the master key.
    fn remains(&self) -> Remains {
        if let Some((cluster, name)) = &self.server {
            cluster.sql(name, "CHECKPOINT");
        }
        let data: Vec<PathBuf> = self.server.iter().map(|(it, _)| it.data()).collect();
        let mut folders: Vec<&Path> = data.iter().map(PathBuf::as_path).collect();
        folders.push(self.folder.path());
        Remains::below(&folders, &master(self.folder.path()))
    }

    /// What the store does by itself within the hour, and what only its server can do.
    async fn in_an_hour(&self) {
        self.store.upkeep.run().await.unwrap();
        if let Some((cluster, name)) = &self.server {
            cluster.sql(name, "SELECT pg_switch_wal()");
            cluster.sql(name, "CHECKPOINT");
        }
    }
}

fn master(folder: &Path) -> [u8; 32] {
    let text = std::fs::read_to_string(folder.join("master.key")).unwrap();
    let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(byte)
}

/// Text that hardly shrinks.
fn noise(seed: u64, len: usize) -> String {
    let mut state = seed + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 59) as u8)
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

const MARKER: &str = "swordfish";

/// A session in every form in which contents are kept. `word` is in all of them, or in none if it is empty.
async fn furnish(store: &Store, id: u128, word: &str) -> Owner {
    let log = &*store.log;
    let mut ours = Owner::new(id);
    ours.events(log, &format!("packed {word}")).await;
    ours.frame(log, &format!("a frame of {word}")).await;
    ours.events(log, &format!("packed and big {word} {}", noise(1, 100_000))).await;
    log.roll_up(ours.session, 3).await.unwrap();
    ours.events(log, &format!("short {word}")).await;
    ours.events(log, &format!("longer {word} {}", "and so on ".repeat(100))).await;
    ours.events(log, &format!("over many pages {word} {}", noise(2, 60_000))).await;
    ours.events(log, &format!("big {word} {}", noise(3, 100_000))).await;
    ours.frame(log, &format!("a big frame of {word} {}", noise(4, 100_000))).await;
    let snapshot = Bytes::from(format!("all about {word}"));
    log.put_snapshot(ours.session, ours.head, snapshot).await.unwrap();
    log.post(ours.session, "p", Bytes::from(format!("[waiting for {word}]"))).await.unwrap();
    ours
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_deleted_session_nothing_is_left() {
    Installation::each(async |it| {
        let ours = furnish(&it.store, 7, MARKER).await;
        let other = furnish(&it.store, 8, "").await;
        let before = it.remains();
        // Each of them in its own form: packed rows, rows, blobs, a snapshot, a post.
        let found = before.find(MARKER);
        assert!(found.len() >= 4 && before.n_texts() >= 14, "{found:#?} of {before:?}");
        it.store.log.delete(ours.session).await.unwrap();
        it.in_an_hour().await;
        let after = it.remains();
        assert_eq!(after.traces(MARKER, &before), Vec::<String>::new());
        assert_eq!(before.n_keys() - after.n_keys(), 1, "{before:?} {after:?}");
        assert_eq!(verified(&*it.store.log, other.session).await, "rows 7, erased 0, head 8");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_was_erased_nothing_is_left_and_the_rest_stays() {
    Installation::each(async |it| {
        let log = &*it.store.log;
        let mut ours = furnish(&it.store, 7, MARKER).await;
        ours.events(log, "halibut").await;
        let before = it.remains();
        assert!(!before.find("halibut").is_empty(), "{before:?}");
        let redact = |_: RowKind, _, body: &[u8]| {
            let text = String::from_utf8_lossy(body);
            text.contains(MARKER).then(|| text.replace(MARKER, "___").into_bytes())
        };
        // What waits in the inbox is no item yet.
        let outcome = everstate_runtime::ports::PostOutcome::Landed(9);
        log.settle(ours.session, "p", outcome).await.unwrap();
        log.erase(ours.session, Box::new(redact)).await.unwrap();
        it.in_an_hour().await;
        let after = it.remains();
        let left = after.traces(MARKER, &before);
        assert_eq!(left, Vec::<String>::new());
        assert!(!after.find("halibut").is_empty(), "{after:?}");
        assert!(shown(log, ours.session).await.ends_with("9 halibut\n"));
    })
    .await;
}

/// Whatever the order in which keys come and go, and however its pages are split and joined: no file keeps one that was
/// destroyed.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_store_keeps_no_key_that_was_destroyed() {
    Installation::each(async |it| {
        let log = &*it.store.log;
        for id in 0..300 {
            Owner::new(id).events(log, MARKER).await;
        }
        let mut before = it.remains();
        assert!(before.n_keys() >= 300, "{before:?}");
        let mut left: Vec<u128> = (0..300).collect();
        let mut n = 0_usize;
        while !left.is_empty() {
            let round = left.len().min(100);
            for _ in 0..round {
                n = (n * 31 + 17) % left.len();
                log.delete(Owner::new(left.swap_remove(n)).session).await.unwrap();
            }
            // New ones take the place of old ones.
            Owner::new(1_000 + n as u128).events(log, "another").await;
            it.store.upkeep.destroy_doomed().await.unwrap();
            if it.server.is_none() {
                let after = it.remains();
                assert_eq!(before.n_keys() - after.n_keys(), round, "{before:?} {after:?}");
                assert_eq!(after.find(MARKER).is_empty(), left.is_empty());
                before = after;
            }
        }
        let first = before;
        it.in_an_hour().await;
        let after = it.remains();
        if it.server.is_some() {
            assert_eq!(first.n_keys() - after.n_keys(), 300, "{first:?} {after:?}");
            assert_eq!(after.traces(MARKER, &first), Vec::<String>::new());
        }
    })
    .await;
}

/// A blob whose append never landed is nobody's. Its key goes before it does, so that no older version of it can be
/// read either.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_nobody_names_is_not_readable_by_a_key_that_nobody_knows() {
    Installation::each(async |it| {
        let log = &*it.store.log;
        let mut ours = Owner::new(7);
        // The same place twice: the second comes too late, with its blob already there.
        let first = ours.row(RowKind::Events, b"first");
        let late = ours.row(RowKind::Events, format!("{MARKER} {}", noise(5, 100_000)).as_bytes());
        let (first, late) = tokio::join!(log.append(first), log.append(late));
        let (won, lost) = if first.is_ok() { (first, late) } else { (late, first) };
        ours.head = won.unwrap().head;
        assert!(lost.is_err());
        log.delete(ours.session).await.unwrap();
        it.in_an_hour().await;
        let before = it.remains();
        it.store.upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap();
        it.in_an_hour().await;
        let after = it.remains();
        assert_eq!(after.traces(MARKER, &before), Vec::<String>::new());
    })
    .await;
}
