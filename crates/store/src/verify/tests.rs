//! What somebody could do who has the data keys, and what only they could: the log still says what was written.

use std::sync::Arc;

use bytes::Bytes;
use everstate_runtime::ports::{Log, NewRow};

use super::*;
use crate::blobs::Blobs;
use crate::keys::Keys;
use crate::memory::MemoryShelf;
use crate::seal::Content;
use crate::shelf::{Change, Rewrite};

const SESSION: SessionId = SessionId(7);

async fn log_of_three() -> SealedLog {
    let shelf = Arc::new(MemoryShelf::default());
    let log = SealedLog::new(shelf, Arc::new(Keys::in_memory()), Blobs::in_memory());
    let mut head = Head::default();
    for n in 0..3 {
        let row = NewRow {
            session: SESSION,
            seq: head.seq + 1,
            kind: RowKind::Events,
            at: 1,
            prev: head.hash,
            body: Bytes::from(format!("event {n}")),
            key: None,
            consumed: Vec::new(),
            projection: None,
        };
        head = log.append(row).await.expect("it lands").head;
    }
    log
}

/// Seals other content in the second row's place, with its own keys.
async fn after(change: impl Fn(Content) -> Content) -> String {
    let log = log_of_three().await;
    let mut kept = everything(&log, SESSION).await.expect("in memory");
    let sealed = kept.rows.remove(1);
    let data_key = sealed.data_key;
    let header = sealed.header.clone();
    let opened = log.open_row(SESSION, sealed).await.expect("it is whole");
    let changed = change(opened.content);
    let key = log.keys.find(data_key).await.expect("in memory").expect("it is there");
    let text = changed.text();
    let rewrite = Rewrite {
        session: SESSION,
        was: None,
        packed: Vec::new(),
        data_key,
        rows: vec![(2, key.seal(&header.hash(SESSION), &text))],
        segments: Vec::new(),
        inbox: Vec::new(),
        blobs: Vec::new(),
    };
    log.done(Change::Rewrite(Box::new(rewrite)), None).await.expect("in memory");
    let verdict = log.verify(SESSION).await.expect("in memory");
    verdict.broken.unwrap_or(format!("whole, {} erased", verdict.erased))
}

#[tokio::test]
async fn a_content_may_only_change_by_an_erasure() {
    let said = after(|it| it).await;
    assert_eq!(said, "whole, 0 erased");
    let said = after(|it| Content { body: b"other".to_vec(), ..it }).await;
    assert_eq!(said, "row 2 says something else than was written");
    let said = after(|it| Content { salt: Some([1; 32]), ..it }).await;
    assert_eq!(said, "row 2 says something else than was written");
    // It says aloud that something is missing, and has lost what could prove a guess.
    let said = after(|it| Content { salt: None, body: b"".to_vec(), ..it }).await;
    assert_eq!(said, "whole, 1 erased");
}

#[tokio::test]
async fn a_row_whose_key_is_gone_is_broken() {
    let log = log_of_three().await;
    let key = log.shelf.data_key(SESSION).await.expect("in memory").expect("it has one");
    log.keys.destroy(vec![key]).await.expect("in memory");
    log.forget(SESSION);
    let verdict = log.verify(SESSION).await.expect("in memory");
    assert!(verdict.broken.expect("it cannot be read").contains("is gone"));
}
