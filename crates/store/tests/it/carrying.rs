//! Chains that travel: kept with a session's first append, they verify, are erased and go with it.

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::SessionId;
use everstate_kernel::import::{Chain, Origin};
use everstate_runtime::ports::{Redact, RowKind, Verdict};
use everstate_store::archive::{Archive, KeptRow, hex};
use everstate_store::chain::{ChainRow, Walk};

use crate::stores::{Owner, Place, on_each, verified};

async fn rows(archive: &Archive, session: SessionId) -> Vec<ChainRow> {
    let mut all: Vec<ChainRow> = Vec::new();
    loop {
        let after = all.last().map_or(0, |it| it.seq);
        let page = archive.rows(session, after, 3).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// A log with frames, a packed part and a big row.
async fn written(place: &Place) -> Owner {
    let log = place.log();
    let mut ours = Owner::new(7);
    for n in 0..6 {
        ours.events(log, &format!("apple {n}")).await;
        for _ in 0..5 {
            ours.frame(log, "frame").await;
        }
    }
    ours.events(log, &"big ".repeat(40_000)).await;
    log.roll_up(ours.session, 15).await.unwrap();
    ours.frame(log, "last").await;
    ours
}

pub(crate) fn walked(of: SessionId, rows: &[ChainRow]) -> Walk {
    let mut walk = Walk::new(of);
    rows.iter().for_each(|it| walk.step(it).unwrap());
    walk
}

/// The first append of a session that came from there.
pub(crate) fn first(session: SessionId, walk: &Walk) -> String {
    let chain = Chain { session: walk.session, seq: walk.head.seq, hash: hex(&walk.head.hash) };
    let origin = Origin {
        session: walk.session,
        project: "p".into(),
        release: "0".into(),
        exported_at: 0,
        chains: vec![chain],
        renamed: Vec::new(),
        left_behind: Vec::new(),
    };
    let created = Event::Owned { epoch: session.0 as u64 };
    let append = Append { seq: 1, at: 1, events: vec![Event::Imported { origin }, created] };
    String::from_utf8(append.encode()).unwrap()
}

async fn keep(archive: &Archive, session: SessionId, of: SessionId, rows: &[ChainRow]) {
    for piece in rows.chunks(2) {
        let piece: Vec<KeptRow> = piece.iter().map(|it| (of, it.clone())).collect();
        archive.keep(session, &piece).await.unwrap();
    }
}

async fn kept(archive: &Archive, session: SessionId) -> Verdict {
    let mut chains = archive.verify(session).await.unwrap();
    assert_eq!(chains.len(), 1);
    chains.remove(0).verdict
}

fn without(word: &'static str) -> Redact {
    Box::new(move |kind, _, body| {
        assert_eq!(kind, RowKind::Events);
        let text = String::from_utf8_lossy(body);
        text.contains(word).then(|| text.replace(word, "___").into_bytes())
    })
}

#[test]
fn a_chain_is_read_and_kept_and_erased_and_gone() {
    on_each(async |place| {
        let (log, archive) = (place.log(), &place.store.archive);
        let ours = written(place).await;
        let all = rows(archive, ours.session).await;
        let walk = walked(ours.session, &all);
        assert_eq!((walk.rows, walk.head.hash), (7, ours.head.hash));
        assert_eq!(archive.verify(ours.session).await.unwrap(), [], "it began here");

        let mut theirs = Owner::new(8);
        keep(archive, theirs.session, ours.session, &all).await;
        assert_eq!(log.head(theirs.session).await, Ok(None), "nothing is there before its append");
        theirs.events(log, &first(theirs.session, &walk)).await;
        theirs.events(log, "goes on").await;
        for _ in 0..2 {
            let verdict = kept(archive, theirs.session).await;
            assert_eq!((verdict.rows, verdict.erased, verdict.broken), (7, 0, None));
            assert_eq!(verdict.head.hash, ours.head.hash);
            let mut again = Vec::new();
            for piece in archive.pieces(theirs.session).await.unwrap() {
                again.extend(archive.piece(theirs.session, piece).await.unwrap());
            }
            assert!(again.iter().map(|it| &it.1).eq(&all));
            // Packed, it is the same.
            log.roll_up(theirs.session, 2).await.unwrap();
        }
        // What nothing else names is not collected, as the append names it.
        let gone = place.store.upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap();
        assert_eq!((gone, kept(archive, theirs.session).await.broken), (0, None));
        let late = archive.keep(theirs.session, &[]).await;
        assert!(late.is_err(), "a session that is there keeps no more");

        log.erase(theirs.session, without("apple 3")).await.unwrap();
        place.store.upkeep.flush_erasures().await.unwrap();
        let verdict = kept(archive, theirs.session).await;
        assert_eq!((verdict.rows, verdict.erased, verdict.broken), (7, 1, None));
        assert_eq!(verified(log, theirs.session).await, "rows 2, erased 0, head 2");
        let again = rows(archive, ours.session).await;
        assert_eq!(again, all, "where it came from nothing is erased");

        log.delete(theirs.session).await.unwrap();
        place.store.upkeep.flush_erasures().await.unwrap();
        assert_eq!(archive.pieces(theirs.session).await.unwrap(), []);
    });
}

#[test]
fn a_kept_chain_that_is_not_what_the_first_append_says_is_broken() {
    on_each(async |place| {
        let (log, archive) = (place.log(), &place.store.archive);
        let ours = written(place).await;
        let all = rows(archive, ours.session).await;
        let walk = walked(ours.session, &all);
        let mut changed = all.clone();
        changed[2].body = b"pear".to_vec();
        let cases: [(&[ChainRow], &str); 4] = [
            (&all[..6], "does not end at row"),
            (&all[1..], "does not follow"),
            (&changed, "says something else"),
            (&[], "it is missing"),
        ];
        for (n, (rows, why)) in (10..).zip(cases) {
            let mut theirs = Owner::new(n);
            keep(archive, theirs.session, ours.session, rows).await;
            theirs.events(log, &first(theirs.session, &walk)).await;
            let broken = kept(archive, theirs.session).await.broken.unwrap();
            assert!(broken.contains(why), "{broken}");
        }
        let mut extra = Owner::new(20);
        keep(archive, extra.session, ours.session, &all).await;
        extra.events(log, r#"{"at":1,"events":[]}"#).await;
        let broken = kept(archive, extra.session).await.broken.unwrap();
        assert!(broken.contains("nothing says that it belongs"), "{broken}");
    });
}

#[test]
fn what_is_let_go_leaves_nothing() {
    on_each(async |place| {
        let (log, archive) = (place.log(), &place.store.archive);
        let ours = written(place).await;
        let all = rows(archive, ours.session).await;
        let theirs = Owner::new(8);
        keep(archive, theirs.session, ours.session, &all).await;
        let upkeep = &place.store.upkeep;
        let gone = upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap();
        assert_eq!(gone, 0, "what waits for its append is left alone");
        archive.let_go(theirs.session).await.unwrap();
        archive.let_go(theirs.session).await.unwrap();
        let gone = upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap();
        assert_eq!(gone, 0, "nothing is left to collect");
        // The name is free, and nothing clings to it.
        let mut theirs = Owner::new(8);
        theirs.events(log, "new").await;
        assert_eq!(archive.pieces(theirs.session).await.unwrap(), []);
    });
}
