//! PostgreSQL under faults: connections cut between a request and its answer, a server killed while it writes, one that
//! stands still. What was acknowledged is there, once; and nobody is refused who was not in anybody's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{AppendError, Head, Log, NewRow, Projection, RowKind};
use everstate_store::open::{Settings, open};
use everstate_test_history::recorder::History;
use everstate_test_history::storm::Storm;
use everstate_test_postgres::{Cluster, Proxy, cluster};

use crate::stores::{Owner, listing, settings, show, verified};

/// How many connections are cut, if not some hundreds.
const CUTS: &str = "EVERSTATE_TEST_CUTS";

/// Speaks to one session, input after input, each with its key. After an answer that says nothing it looks where the
/// log ends and says the same again.
struct Speaker {
    log: Arc<dyn Log>,
    ours: Owner,
    said: u64,
    /// Answers that said nothing.
    unknown: Arc<AtomicU64>,
}

impl Speaker {
    fn new(log: &Arc<dyn Log>, id: u128) -> Speaker {
        Speaker { log: Arc::clone(log), ours: Owner::new(id), said: 0, unknown: Arc::default() }
    }

    async fn speak(&mut self) {
        let key = format!("input {}", self.said);
        let mut in_doubt = false;
        loop {
            // Some with all that may belong to an append, some with nothing.
            let plain = self.said % 3 == 1;
            let kind = if plain { RowKind::Frame } else { RowKind::Events };
            let row = self.ours.row(kind, key.as_bytes());
            let with = |row: NewRow| NewRow {
                key: Some(key.clone()),
                projection: Some(Projection {
                    wake: Some(self.said + 1),
                    ready: true,
                    listing: listing("p", 1, &key),
                }),
                ..row
            };
            let row = if plain { row } else { with(row) };
            match self.log.append(row).await {
                Ok(landed) => {
                    self.ours.head = landed.head;
                    break;
                }
                // What came to nothing at first may land later: then it is in its own way, and there.
                Err(err) if in_doubt || matches!(err, AppendError::Down(_)) => {
                    in_doubt = true;
                    self.unknown.fetch_add(1, Ordering::SeqCst);
                    self.ours.head = self.end().await;
                    // Without a key, whether it landed is told by the log's end alone.
                    if self.ours.head.seq > self.said {
                        break;
                    }
                }
                Err(err) => panic!("{key} of {}: {err:?}", self.ours.session),
            }
        }
        self.said += 1;
        assert_eq!(self.ours.head.seq, self.said, "one row for each input");
    }

    /// Where the log ends, as soon as that can be found out.
    async fn end(&self) -> Head {
        loop {
            if let Ok(head) = self.log.head(self.ours.session).await {
                return head.unwrap_or_default();
            }
            tokio::task::yield_now().await;
        }
    }

    async fn check(&self) {
        let rows = self.log.read(self.ours.session, 0, usize::MAX).await.unwrap();
        let expected = |n: u64| {
            let mark = if n % 3 == 1 { "~" } else { "" };
            format!("{}{mark} input {n}\n", n + 1)
        };
        assert_eq!(show(&rows), (0..self.said).map(expected).collect::<String>());
        let said = verified(&*self.log, self.ours.session).await;
        assert!(!said.starts_with("broken"), "{said}");
        let listed = self.log.list("p", None, 100).await.unwrap();
        let summary = listed.iter().find(|it| it.session == self.ours.session).unwrap();
        let last = (0..self.said).rev().find(|it| it % 3 != 1).unwrap();
        assert_eq!(summary.summary, format!("input {last}"), "what belongs to the last append");
    }
}

/// All speak at once until they are told to stop.
async fn speak_until(
    (stop, said): (&Arc<AtomicBool>, &Arc<AtomicU64>),
    log: &Arc<dyn Log>,
    n: u128,
) -> Vec<Speaker> {
    let speakers = (0..n).map(|id| {
        let mut speaker = Speaker::new(log, id + 1);
        let (stop, said) = (Arc::clone(stop), Arc::clone(said));
        tokio::spawn(async move {
            while !stop.load(Ordering::SeqCst) || speaker.said < 3 {
                speaker.speak().await;
                said.fetch_add(1, Ordering::SeqCst);
            }
            speaker
        })
    });
    let mut done = Vec::new();
    for it in speakers.collect::<Vec<_>>() {
        done.push(it.await.unwrap());
    }
    done
}

#[test]
fn hundreds_of_cut_connections_leave_no_doubt() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let proxy = Arc::new(Proxy::to(cluster.port()));
    runtime.block_on(async {
        let url = proxy.before(&cluster.fresh_database());
        let store = open(&url, settings(folder.path())).await.unwrap();
        let (stop, cutting) = (Arc::new(AtomicBool::new(false)), Arc::clone(&proxy));
        proxy.cut_one_in(9);
        let cuts = std::env::var(CUTS).map_or(300, |it| it.parse().unwrap());
        let watch = Arc::clone(&stop);
        let watcher = std::thread::spawn(move || {
            while cutting.n_cut() < cuts {
                std::thread::yield_now();
            }
            cutting.cut_one_in(0);
            watch.store(true, Ordering::SeqCst);
        });
        let speakers = speak_until((&stop, &Arc::default()), &store.log, 8).await;
        watcher.join().unwrap();
        let (mut said, mut unknown) = (0, 0);
        for speaker in &speakers {
            speaker.check().await;
            (said, unknown) =
                (said + speaker.said, unknown + speaker.unknown.load(Ordering::SeqCst));
        }
        // The server was there all the time: whatever was cut, it was found out.
        assert_eq!(unknown, 0, "of {said} appends");
        assert!(said > cuts, "only {said} appends");
    });
}

#[test]
fn a_storm_over_cut_connections_is_still_one_story() {
    let Some(cluster) = cluster() else { return };
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (direct, proxy) = (cluster.fresh_database(), Proxy::to(cluster.port()));
        let one = open(&proxy.before(&direct), settings(folder.path())).await.unwrap();
        let other = open(&direct, settings(folder.path())).await.unwrap();
        proxy.cut_one_in(15);
        let history = History::new();
        let logs = [history.around(one.log.clone()), history.around(other.log.clone())];
        let storm = Storm { operations: 150, ..Storm::new(7) };
        storm.rage(&logs).await;
        proxy.cut_one_in(0);
        storm.look(&*logs[1]).await.unwrap();
        let checked = history.check().unwrap_or_else(|it| panic!("{it}"));
        assert!(checked.landed > 100 && checked.fenced > 10, "{checked:?}");
    });
}

#[test]
fn a_server_killed_again_and_again_loses_and_doubles_nothing() {
    if cluster().is_none() {
        return;
    }
    let cluster = Arc::new(Cluster::start());
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&cluster.fresh_database(), settings(folder.path())).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let landed = Arc::new(AtomicU64::new(0));
        let (killing, told) = (Arc::clone(&cluster), Arc::clone(&stop));
        let counting = Arc::clone(&landed);
        let killer = std::thread::spawn(move || {
            let mut random = 0x9e37_79b9_7f4a_7c15_u64;
            for kill in 0..12 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let until = counting.load(Ordering::SeqCst) + 5 + random % 60;
                while counting.load(Ordering::SeqCst) < until {
                    std::thread::yield_now();
                }
                match kill % 3 {
                    0 => killing.stop(),
                    _ => killing.kill(),
                }
                killing.go_on();
            }
            told.store(true, Ordering::SeqCst);
        });
        let speakers = speak_until((&stop, &landed), &store.log, 6).await;
        killer.join().unwrap();
        for speaker in &speakers {
            speaker.check().await;
        }
        let said: u64 = speakers.iter().map(|it| it.said).sum();
        assert!(said > 60, "only {said} appends");
    });
}

#[test]
fn while_the_server_is_gone_it_is_down_and_then_all_goes_on() {
    if cluster().is_none() {
        return;
    }
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&cluster.fresh_database(), settings(folder.path())).await.unwrap();
        let mut speaker = Speaker::new(&store.log, 7);
        speaker.speak().await;
        cluster.stop();
        let row = speaker.ours.row(RowKind::Events, b"nobody hears it");
        let down = store.log.append(row).await.unwrap_err();
        assert!(matches!(down, AppendError::Down(_)), "{down:?}");
        let read = store.log.read(SessionId(7), 0, 9).await.unwrap_err();
        assert!(read.0.contains("PostgreSQL database"), "{read}");
        cluster.go_on();
        speaker.speak().await;
        speaker.check().await;
    });
}

#[test]
fn while_it_stands_still_nobody_queues_for_it() {
    if cluster().is_none() {
        return;
    }
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let short = Settings { wait: Duration::from_secs(1), ..settings(folder.path()) };
        let store = open(&cluster.fresh_database(), short).await.unwrap();
        cluster.freeze();
        let reads = (0..200).map(|n| {
            let log = store.log.clone();
            tokio::spawn(async move { log.head(SessionId(n)).await })
        });
        for read in reads.collect::<Vec<_>>() {
            assert!(read.await.unwrap().is_err());
        }
        cluster.thaw();
        Speaker::new(&store.log, 7).speak().await;
    });
}

#[test]
fn what_a_frozen_server_does_later_is_done_once() {
    if cluster().is_none() {
        return;
    }
    let cluster = Arc::new(Cluster::start());
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let short = Settings { wait: Duration::from_secs(1), ..settings(folder.path()) };
        let store = open(&cluster.fresh_database(), short).await.unwrap();
        let mut speaker = Speaker::new(&store.log, 7);
        for _ in 0..4 {
            speaker.speak().await;
            let (unknown, frozen) = (Arc::clone(&speaker.unknown), Arc::clone(&cluster));
            let before = unknown.load(Ordering::SeqCst);
            cluster.freeze();
            // It goes on when somebody has given up on it.
            let thaw = std::thread::spawn(move || {
                while unknown.load(Ordering::SeqCst) == before {
                    std::thread::yield_now();
                }
                frozen.thaw();
            });
            speaker.speak().await;
            thaw.join().unwrap();
        }
        speaker.speak().await;
        speaker.check().await;
    });
}
