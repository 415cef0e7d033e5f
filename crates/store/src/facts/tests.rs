use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::ids::{Millis, SessionId};
use everstate_runtime::ports::{NewRow, RowKind};
use tokio::sync::Notify;

use super::*;
use crate::open::{Settings, open};

/// A clock whose sleepers wake when it is told to go on.
#[derive(Debug, Default)]
struct Hands {
    now: AtomicU64,
    moved: Notify,
    sleeping: Notify,
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Millis {
        self.now.load(Ordering::SeqCst)
    }

    async fn sleep_until(&self, at: Millis) {
        self.sleeping.notify_one();
        self.moved.notified().await;
        self.now.store(at, Ordering::SeqCst);
    }

    fn monotonic(&self) -> Millis {
        self.now()
    }

    async fn pause(&self, ms: Millis) {
        self.sleep_until(self.now() + ms).await;
    }
}

fn first_row() -> NewRow {
    NewRow {
        session: SessionId(7),
        seq: 1,
        kind: RowKind::Events,
        at: 1,
        prev: [0; 32],
        body: Bytes::from("my name"),
        key: None,
        consumed: Vec::new(),
        projection: None,
    }
}

#[tokio::test]
async fn what_was_erased_is_destroyed_at_once() {
    let store = open("memory:", Settings::default()).await.expect("in memory");
    let session = SessionId(7);
    store.log.append(first_row()).await.expect("it lands");
    let shelf = Arc::clone(&store.upkeep.log.shelf);
    let old = shelf.data_key(session).await.expect("in memory").expect("it has one");
    store.log.erase(session, Box::new(|_, _, _| Some(Vec::new()))).await.expect("in memory");
    assert_eq!(shelf.doomed().await, Ok(vec![old]));

    let hands = Arc::new(Hands::default());
    let clock: Arc<dyn Clock> = Arc::clone(&hands) as Arc<dyn Clock>;
    let task = tokio::spawn(keep(Arc::downgrade(&store.upkeep), clock));
    // What an earlier process left comes first.
    hands.sleeping.notified().await;
    assert_eq!(shelf.doomed().await, Ok(vec![]));
    assert!(store.upkeep.log.keys.find(old).await.expect("in memory").is_none());
    let next = shelf.data_key(session).await.expect("in memory").expect("it has one");
    store.log.delete(session).await.expect("in memory");
    assert_eq!(shelf.doomed().await, Ok(vec![next]));
    // It was rung for, and gathers what else is deleted.
    hands.moved.notify_one();
    hands.sleeping.notified().await;
    assert!(hands.now() <= 1_000);
    assert_eq!(shelf.doomed().await, Ok(vec![]));
    assert!(store.upkeep.log.keys.find(next).await.expect("in memory").is_none());
    // It ends with the store.
    drop(store);
    hands.moved.notify_one();
    task.await.expect("it ends");
}

#[tokio::test]
async fn keys_are_destroyed_also_when_blobs_cannot_be_collected() {
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let store = open(&format!("sqlite:{}", path.display()), Settings::default()).await;
    let store = store.expect("a fresh store");
    store.log.append(first_row()).await.expect("it lands");
    store.log.delete(SessionId(7)).await.expect("it is there");
    // A name that the blob store cannot read.
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
    std::fs::write(path.with_extension("blobs").join(odd), "?").expect("a file");
    let run = store.upkeep.run().await;
    assert!(run.is_err(), "{run:?}");
    assert_eq!(store.upkeep.log.shelf.doomed().await, Ok(vec![]));
}
