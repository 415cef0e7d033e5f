//! Erasing and rolling up: contents go or are packed, the chain holds.

use bytes::Bytes;
use everstate_runtime::ports::{Redact, RowKind};
use expect_test::expect;

use crate::stores::{Owner, Place, on_each, show, shown, verified};

/// Takes a word out wherever it stands.
fn without(word: &'static str) -> Redact {
    Box::new(move |_, _, body| {
        let text = String::from_utf8_lossy(body);
        text.contains(word).then(|| text.replace(word, "___").into_bytes())
    })
}

#[test]
fn what_is_erased_is_gone_and_the_chain_holds() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        ours.events(log, "my name is Ada").await;
        ours.frame(log, "hello A").await;
        ours.frame(log, "da").await;
        ours.events(log, "replied: hello Ada").await;
        ours.events(log, "bye").await;
        log.put_snapshot(ours.session, ours.head, Bytes::from("all about Ada")).await.unwrap();
        log.post(ours.session, "p", Bytes::from("waiting")).await.unwrap();
        let head = ours.head;

        log.erase(ours.session, without("Ada")).await.unwrap();
        let expected = expect![[r#"
            1! my name is ___
            2~ hello A
            3~ da
            4! replied: hello ___
            5 bye
        "#]];
        for _ in 0..2 {
            expected.assert_eq(&shown(log, ours.session).await);
            assert_eq!(verified(log, ours.session).await, "rows 5, erased 2, head 5");
            assert_eq!(log.head(ours.session).await, Ok(Some(head)));
            assert_eq!(log.snapshot(ours.session).await, Ok(None));
            assert_eq!(log.inbox(ours.session).await.unwrap()[0].body, "waiting");
            place.store.upkeep.flush_erasures().await.unwrap();
        }
        ours.events(log, "Ada again").await;
        log.erase(ours.session, without("again")).await.unwrap();
        place.store.upkeep.flush_erasures().await.unwrap();
        assert_eq!(verified(log, ours.session).await, "rows 6, erased 3, head 6");
    });
}

#[test]
fn packed_history_reads_the_same() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        ours.frame(log, "early").await;
        for n in 0..4 {
            ours.events(log, &format!("event {n}")).await;
            ours.frame(log, &format!("frame {n}")).await;
        }
        let head = ours.head;
        log.roll_up(ours.session, 5).await.unwrap();
        let expected = expect![[r#"
            2 event 0
            4 event 1
            6 event 2
            7~ frame 2
            8 event 3
            9~ frame 3
        "#]];
        expected.assert_eq(&shown(log, ours.session).await);
        assert_eq!(verified(log, ours.session).await, "rows 6, erased 0, head 9");
        assert_eq!(show(&log.read(ours.session, 2, 2).await.unwrap()), "4 event 1\n6 event 2\n");
        assert_eq!(show(&log.read(ours.session, 0, 1).await.unwrap()), "2 event 0\n");
        // Packing again what is packed changes nothing.
        log.roll_up(ours.session, 5).await.unwrap();
        expected.assert_eq(&shown(log, ours.session).await);
        // All of it, and the session goes on.
        log.roll_up(ours.session, 99).await.unwrap();
        assert_eq!(log.head(ours.session).await, Ok(Some(head)));
        assert_eq!(log.read(ours.session, 8, 9).await, Ok(Vec::new()));
        ours.events(log, "on").await;
        assert_eq!(verified(log, ours.session).await, "rows 5, erased 0, head 10");
        // A stale owner is still fenced.
        Owner::new(7).try_append(log, Owner::new(7).row(RowKind::Events, b"x")).await.unwrap_err();
    });
}

#[test]
fn long_history_is_packed_in_pieces() {
    on_each(async |place| long_history(place).await);
}

pub(crate) async fn long_history(place: &Place) {
    let log = place.log();
    let mut ours = Owner::new(7);
    // Some five megabytes: more than one piece holds.
    for n in 0..90 {
        ours.events(log, &format!("{n} ").repeat(20_000)).await;
    }
    let before = log.read(ours.session, 0, 99).await.unwrap();
    log.roll_up(ours.session, 85).await.unwrap();
    assert!(log.read(ours.session, 0, 99).await.unwrap() == before);
    assert_eq!(verified(log, ours.session).await, "rows 90, erased 0, head 90");
    let mut paged = Vec::new();
    while let rows = log.read(ours.session, paged.len() as u64, 40).await.unwrap()
        && !rows.is_empty()
    {
        paged.extend(rows);
    }
    assert!(paged == before);
}

#[test]
fn packed_history_that_stays_big_is_kept_apart() {
    on_each(async |place| big_segments(place).await);
}

/// Of bodies that hardly shrink, and that are small enough for their rows.
pub(crate) async fn big_segments(place: &Place) {
    let log = place.log();
    let mut ours = Owner::new(7);
    let noise = |n: u64| -> String {
        let hash = |it: u64| (it ^ n << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        (0..2_000).map(|it| format!("{:016x} ", hash(hash(it)))).collect()
    };
    for n in 0..8 {
        ours.events(log, &format!("Ada {}", noise(n))).await;
    }
    let collect = async || {
        place.store.upkeep.flush_erasures().await.unwrap();
        place.store.upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap()
    };
    let before = log.read(ours.session, 0, 99).await.unwrap();
    log.roll_up(ours.session, 6).await.unwrap();
    // It is named: nothing is to be collected.
    assert_eq!(collect().await, 0);
    assert!(log.read(ours.session, 0, 99).await.unwrap() == before);
    assert!(log.read(ours.session, 4, 3).await.unwrap() == before[4..7]);
    assert_eq!(verified(log, ours.session).await, "rows 8, erased 0, head 8");

    log.erase(ours.session, without("Ada")).await.unwrap();
    assert_eq!(collect().await, 1);
    assert_eq!(verified(log, ours.session).await, "rows 8, erased 8, head 8");
    let rows = log.read(ours.session, 0, 99).await.unwrap();
    assert!(rows.iter().all(|it| it.body.starts_with(b"___ ")));
    log.delete(ours.session).await.unwrap();
    assert_eq!(collect().await, 1);
}

#[test]
fn packed_history_and_blobs_are_erased_too() {
    on_each(async |place| packed_and_blobs(place).await);
}

pub(crate) async fn packed_and_blobs(place: &Place) {
    let log = place.log();
    let mut ours = Owner::new(7);
    ours.events(log, &format!("Ada {}", "x".repeat(100_000))).await;
    ours.events(log, "Ada was here").await;
    ours.events(log, &format!("no one {}", "y".repeat(100_000))).await;
    ours.events(log, &format!("late Ada {}", "z".repeat(100_000))).await;
    log.roll_up(ours.session, 3).await.unwrap();
    log.erase(ours.session, without("Ada")).await.unwrap();
    place.store.upkeep.flush_erasures().await.unwrap();
    let gone = place.store.upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(gone, 3);
    expect![[r#"
        1! 100004 bytes
        2! ___ was here
        3 100007 bytes
        4! 100009 bytes
    "#]]
    .assert_eq(&shown(log, ours.session).await);
    let rows = log.read(ours.session, 0, 9).await.unwrap();
    assert!(rows[0].body.starts_with(b"___ xxx") && rows[3].body.starts_with(b"late ___ zzz"));
    assert_eq!(verified(log, ours.session).await, "rows 4, erased 3, head 4");
    log.delete(ours.session).await.unwrap();
    let gone = place.store.upkeep.collect_blobs(std::time::Duration::ZERO).await.unwrap();
    assert_eq!(gone, 3);
}

#[test]
fn appends_beside_an_erasure_are_kept() {
    on_each(async |place| {
        let mut ours = Owner::new(7);
        ours.events(place.log(), "Ada").await;
        let log = place.store.log.clone();
        let session = ours.session;
        let appends = tokio::spawn(async move {
            for n in 0..200 {
                ours.events(&*log, &format!("Ada {n}")).await;
            }
        });
        for _ in 0..20 {
            place.log().erase(session, without("Ada")).await.unwrap();
            place.store.upkeep.flush_erasures().await.unwrap();
        }
        appends.await.unwrap();
        place.log().erase(session, without("Ada")).await.unwrap();
        place.store.upkeep.flush_erasures().await.unwrap();
        assert_eq!(verified(place.log(), session).await, "rows 201, erased 201, head 201");
        assert!(!shown(place.log(), session).await.contains("Ada"));
    });
}
