//! Appending, reading, the fence, and keys that keep an input from being taken twice.

use everstate_kernel::event::VERSION;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{AppendError, Head, NewRow, RowKind};
use expect_test::expect;

use crate::stores::{Owner, on_each, show, shown, verified};

#[test]
fn rows_come_back_in_order() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        assert_eq!(log.head(ours.session).await, Ok(None));
        assert_eq!(log.read(ours.session, 0, 9).await, Ok(Vec::new()));
        ours.events(log, "created").await;
        ours.frame(log, "hel").await;
        ours.frame(log, "lo").await;
        ours.events(log, "replied hello").await;
        Owner::new(8).events(log, "another's").await;

        expect![[r#"
            1 created
            2~ hel
            3~ lo
            4 replied hello
        "#]]
        .assert_eq(&shown(log, ours.session).await);
        assert_eq!(show(&log.read(ours.session, 1, 2).await.unwrap()), "2~ hel\n3~ lo\n");
        assert_eq!(log.read(ours.session, 4, 9).await, Ok(Vec::new()));
        assert_eq!(log.head(ours.session).await, Ok(Some(ours.head)));
        let first = &log.read(ours.session, 0, 1).await.unwrap()[0];
        assert_eq!((first.at, first.version), (1_001, VERSION));
        assert_eq!(verified(log, ours.session).await, "rows 4, erased 0, head 4");
    });
}

#[test]
fn the_chain_skips_frames() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        ours.events(log, "created").await;
        let hash = ours.head.hash;
        ours.frame(log, "hel").await;
        assert_eq!(ours.head, Head { seq: 2, hash });
        assert_eq!(log.head(ours.session).await, Ok(Some(ours.head)));
        ours.events(log, "replied").await;
        assert_ne!(ours.head.hash, hash);
        let rows = log.read(ours.session, 0, 9).await.unwrap();
        assert_eq!(rows[0].hash, hash);
        assert_eq!(rows[2].hash, ours.head.hash);
    });
}

#[test]
fn who_comes_second_is_fenced_alone() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        ours.events(log, "created").await;
        let mut stale = ours.clone();
        ours.events(log, "ours").await;
        for (why, row) in [
            ("taken", stale.row(RowKind::Events, b"theirs")),
            ("a gap", NewRow { seq: 4, ..ours.row(RowKind::Events, b"theirs") }),
            ("another chain", NewRow { prev: [1; 32], ..ours.row(RowKind::Events, b"theirs") }),
            ("the beginning", Owner::new(7).row(RowKind::Frame, b"theirs")),
        ] {
            let fenced = stale.try_append(log, row).await;
            assert_eq!(fenced, Err(AppendError::Fenced), "{why}");
        }
        assert_eq!(shown(log, ours.session).await, "1 created\n2 ours\n");
        ours.events(log, "still ours").await;
    });
}

#[test]
fn of_two_owners_at_once_exactly_one_lands() {
    on_each(async |place| {
        for n in 0..20 {
            let row = |who: &str| Owner::new(100 + n).row(RowKind::Events, who.as_bytes());
            let (log, other) = (place.store.log.clone(), place.store.log.clone());
            let (a, b) = (row("a"), row("b"));
            let a = tokio::spawn(async move { log.append(a).await });
            let b = tokio::spawn(async move { other.append(b).await });
            let (a, b) = (a.await.unwrap(), b.await.unwrap());
            assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
            let rows = place.log().read(SessionId(100 + n), 0, 9).await.unwrap();
            assert_eq!(show(&rows), if a.is_ok() { "1 a\n" } else { "1 b\n" });
        }
    });
}

#[test]
fn a_key_is_taken_once() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        ours.events(log, "created").await;
        let with_key = |owner: &Owner| NewRow {
            key: Some("k1".to_owned()),
            ..owner.row(RowKind::Events, b"input")
        };
        assert_eq!(log.seen(ours.session, "k1").await, Ok(None));
        let row = with_key(&ours);
        assert_eq!(ours.try_append(log, row).await, Ok(2));
        assert_eq!(log.seen(ours.session, "k1").await, Ok(Some(2)));
        let row = with_key(&ours);
        assert_eq!(ours.try_append(log, row).await, Err(AppendError::Seen(2)));
        // Also when the position is wrong: the input is what matters.
        let row = with_key(&Owner::new(7));
        assert_eq!(ours.try_append(log, row).await, Err(AppendError::Seen(2)));
        // A key belongs to its session.
        let mut other = Owner::new(8);
        let row = with_key(&other);
        assert_eq!(other.try_append(log, row).await, Ok(1));
        assert_eq!(shown(log, ours.session).await, "1 created\n2 input\n");
    });
}

#[test]
fn bodies_of_any_size() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        let sizes = [0, 1, 127, 128, 1_024, 65_536, 65_537, 3_000_000];
        let body = |size: usize| -> Vec<u8> { (0..size).map(|n| (n * n / 7) as u8).collect() };
        for size in sizes {
            let row = ours.row(RowKind::Events, &body(size));
            ours.try_append(log, row).await.unwrap();
        }
        let rows = log.read(ours.session, 0, 99).await.unwrap();
        for (row, size) in rows.iter().zip(sizes) {
            assert!(row.body == body(size), "{size} bytes came back as {}", row.body.len());
        }
        assert_eq!(verified(log, ours.session).await, "rows 8, erased 0, head 8");
    });
}

#[test]
fn many_sessions_at_once() {
    on_each(async |place| {
        let tasks: Vec<_> = (0..64u128)
            .map(|n| {
                let log = place.store.log.clone();
                tokio::spawn(async move {
                    let mut ours = Owner::new(n);
                    for turn in 0..10 {
                        ours.events(&*log, &format!("{n} says {turn}")).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        for n in 0..64 {
            let rows = place.log().read(SessionId(n), 0, 99).await.unwrap();
            let expected: String =
                (0..10).map(|turn| format!("{} {n} says {turn}\n", turn + 1)).collect();
            assert_eq!(show(&rows), expected);
        }
    });
}

#[test]
fn a_deleted_session_is_gone() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(7);
        let row = ours.row(RowKind::Events, b"created");
        ours.try_append(log, NewRow { key: Some("k".to_owned()), ..row }).await.unwrap();
        ours.frame(log, "x").await;
        log.delete(ours.session).await.unwrap();
        log.delete(ours.session).await.unwrap();
        assert_eq!(log.head(ours.session).await, Ok(None));
        assert_eq!(log.read(ours.session, 0, 9).await, Ok(Vec::new()));
        assert_eq!(log.seen(ours.session, "k").await, Ok(None));
        assert_eq!(verified(log, ours.session).await, "rows 0, erased 0, head 0");
        place.store.upkeep.flush_erasures().await.unwrap();
        // Its id may begin anew.
        Owner::new(7).events(log, "again").await;
        assert_eq!(shown(log, ours.session).await, "1 again\n");
    });
}
