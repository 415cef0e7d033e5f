//! What is kept beside the log: timers, the ready list, listings, the inbox, snapshots.

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{ListKey, Listed, NewRow, PostOutcome, Projection, RowKind};

use crate::stores::{Owner, Place, listing, on_each, projection};

#[test]
fn sessions_wake_in_order() {
    on_each(async |place| {
        let log = place.log();
        let (mut a, mut b, mut c) = (Owner::new(1), Owner::new(2), Owner::new(3));
        a.project(log, projection(Some(300), false)).await;
        b.project(log, projection(Some(100), false)).await;
        c.project(log, projection(None, false)).await;
        assert_eq!(log.next_due(&Buckets::all()).await, Ok(Some(100)));
        assert_eq!(log.due(&Buckets::all(), 99, 9).await, Ok(vec![]));
        assert_eq!(
            log.due(&Buckets::all(), 300, 9).await,
            Ok(vec![(b.session, 100), (a.session, 300)])
        );
        assert_eq!(log.due(&Buckets::all(), 300, 1).await, Ok(vec![(b.session, 100)]));
        // A row without a projection leaves it as it is; the next one moves it.
        b.frame(log, "x").await;
        assert_eq!(log.next_due(&Buckets::all()).await, Ok(Some(100)));
        b.project(log, projection(Some(400), false)).await;
        assert_eq!(log.next_due(&Buckets::all()).await, Ok(Some(300)));
        a.project(log, projection(None, false)).await;
        log.delete(b.session).await.unwrap();
        assert_eq!(log.next_due(&Buckets::all()).await, Ok(None));
    });
}

#[test]
fn a_node_sees_its_own_buckets_only() {
    on_each(async |place| {
        let log = place.log();
        let ids = [1, 2, 3, 4];
        for id in ids {
            Owner::new(id).project(log, projection(Some(100 * id as u64), true)).await;
        }
        let mine: Buckets = [2, 4].map(|it| SessionId(it).bucket()).into_iter().collect();
        let (two, four) = (SessionId(2), SessionId(4));
        assert_eq!(log.ready(&mine, None, 9).await, Ok(vec![two, four]));
        assert_eq!(log.ready(&mine, Some(two), 1).await, Ok(vec![four]));
        assert_eq!(log.due(&mine, 900, 9).await, Ok(vec![(two, 200), (four, 400)]));
        assert_eq!(log.due(&mine, 900, 1).await, Ok(vec![(two, 200)]));
        assert_eq!(log.next_due(&mine).await, Ok(Some(200)));
        assert_eq!(log.next_due(&Buckets::none()).await, Ok(None));
    });
}

#[test]
fn the_ready_list_is_in_order_of_ids() {
    on_each(async |place| {
        let log = place.log();
        let ids = [5, u128::MAX, 1, 1 << 100];
        for id in ids {
            Owner::new(id).project(log, projection(None, true)).await;
        }
        let mut quiet = Owner::new(3);
        quiet.project(log, projection(None, true)).await;
        quiet.project(log, projection(None, false)).await;
        let ready = [1, 5, 1 << 100, u128::MAX].map(SessionId);
        assert_eq!(log.ready(&Buckets::all(), None, 9).await, Ok(ready.to_vec()));
        assert_eq!(log.ready(&Buckets::all(), Some(ready[1]), 1).await, Ok(vec![ready[2]]));
        assert_eq!(log.ready(&Buckets::all(), Some(ready[3]), 9).await, Ok(vec![]));
    });
}

#[test]
fn a_project_lists_its_sessions_newest_first() {
    on_each(async |place| {
        let log = place.log();
        for (id, at, project) in
            [(1, 10, "p"), (2, 30, "p"), (3, 20, "p"), (4, 20, "p"), (5, 40, "q")]
        {
            let first =
                Projection { listing: listing(project, at, "new"), ..projection(None, false) };
            Owner::new(id).project(log, first).await;
        }
        let list = async |before: Option<(u64, u128)>, limit| {
            let before =
                before.map(|(created_at, id)| ListKey { created_at, session: SessionId(id) });
            let listed = log.list("p", before, limit).await.unwrap();
            listed.iter().map(|it| it.session.0).collect::<Vec<_>>()
        };
        assert_eq!(list(None, 9).await, [2, 4, 3, 1]);
        assert_eq!(list(None, 2).await, [2, 4]);
        assert_eq!(list(Some((20, 4)), 9).await, [3, 1]);
        assert_eq!(log.list("r", None, 9).await, Ok(vec![]));
    });
}

#[test]
fn a_listing_keeps_its_place_and_changes_its_summary() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(1);
        ours.project(log, projection(None, true)).await;
        assert_eq!(log.list("p", None, 9).await, Ok(vec![]));
        for (project, at, summary) in [("p", 10, "new"), ("q", 99, "old")] {
            let next =
                Projection { listing: listing(project, at, summary), ..projection(None, false) };
            ours.project(log, next).await;
        }
        ours.project(log, projection(Some(5), false)).await;
        let listed = log.list("p", None, 9).await.unwrap();
        assert_eq!((listed[0].created_at, listed[0].summary.as_str()), (10, "old"));
        assert_eq!(log.list("q", None, 9).await, Ok(vec![]));
    });
}

#[test]
fn what_is_under_way_is_found_among_what_is_not() {
    on_each(async |place| {
        let log = place.log();
        let told = |state: &str| format!("{{\"state\":\"{state}\",\"turns\":1}}");
        let mut owners: Vec<Owner> = (1..=6).map(Owner::new).collect();
        let states = ["running", "idle", "waiting", "parked", "running", "a word of tomorrow"];
        for (n, (owner, state)) in owners.iter_mut().zip(states).enumerate() {
            let project = if n == 4 { "q" } else { "p" };
            let listing = listing(project, 10 + n as u64, &told(state));
            owner.project(log, Projection { listing, ..projection(None, false) }).await;
        }
        let ids: Vec<SessionId> = owners.iter().map(|it| it.session).collect();
        let found = async |project: &str, before: Option<(u64, usize)>, limit: usize| {
            let before = before.map(|(at, n)| ListKey { created_at: at, session: ids[n] });
            let listed = log.under_way(project, before, limit).await.unwrap();
            let place = |it: &Listed| ids.iter().position(|id| *id == it.session).unwrap();
            listed.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(found("p", None, 9).await, [5, 2, 0]);
        assert_eq!(found("p", None, 2).await, [5, 2]);
        assert_eq!(found("p", Some((12, 2)), 9).await, [0]);
        assert_eq!(found("q", None, 9).await, [4]);
        assert!(found("r", None, 9).await.is_empty());
        // It follows what happens: one ends, one begins, one is only written to, one goes.
        for (n, state) in [(0, Some("idle")), (1, Some("running")), (2, None)] {
            let listing = state.and_then(|it| listing("p", 99, &told(it)));
            owners[n].project(log, Projection { listing, ..projection(None, true) }).await;
        }
        log.delete(ids[5]).await.unwrap();
        assert_eq!(found("p", None, 9).await, [2, 1]);
    });
}

#[test]
fn a_post_is_consumed_once() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(1);
        ours.events(log, "created").await;
        let id = ours.session;
        for (key, body) in [("b", "first"), ("a", "second"), ("b", "first again"), ("c", "third")] {
            log.post(id, key, Bytes::from(body)).await.unwrap();
        }
        assert_eq!(waiting(place, id).await, "b: first\na: second\nc: third\n");
        assert_eq!(log.outcome(id, "b").await, Ok(None));

        let row = NewRow { consumed: vec!["b".to_owned()], ..ours.row(RowKind::Events, b"heard") };
        ours.try_append(log, row).await.unwrap();
        assert_eq!(waiting(place, id).await, "a: second\nc: third\n");
        assert_eq!(log.outcome(id, "b").await, Ok(Some(PostOutcome::Landed(2))));

        let refused = PostOutcome::Refused("busy".to_owned());
        log.settle(id, "a", refused.clone()).await.unwrap();
        log.post(id, "a", Bytes::from("once more")).await.unwrap();
        assert_eq!(log.outcome(id, "a").await, Ok(Some(refused)));
        assert_eq!(waiting(place, id).await, "c: third\n");
        assert_eq!(log.outcome(id, "never posted").await, Ok(None));
    });
}

#[test]
fn a_post_may_come_before_the_session() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(1);
        log.post(ours.session, "early", Bytes::from("hello")).await.unwrap();
        assert_eq!(log.head(ours.session).await, Ok(None));
        let row = NewRow { consumed: vec!["early".to_owned()], ..ours.row(RowKind::Events, b"x") };
        ours.try_append(log, row).await.unwrap();
        assert_eq!(log.outcome(ours.session, "early").await, Ok(Some(PostOutcome::Landed(1))));
    });
}

#[test]
fn an_append_that_did_not_land_consumes_nothing() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(1);
        ours.events(log, "created").await;
        log.post(ours.session, "p", Bytes::from("hello")).await.unwrap();
        let mut stale = Owner::new(1);
        let row = NewRow {
            consumed: vec!["p".to_owned()],
            key: Some("k".to_owned()),
            projection: Some(projection(Some(1), true)),
            ..stale.row(RowKind::Events, b"theirs")
        };
        stale.try_append(log, row).await.unwrap_err();
        assert_eq!(waiting(place, ours.session).await, "p: hello\n");
        assert_eq!(log.seen(ours.session, "k").await, Ok(None));
        assert_eq!(log.next_due(&Buckets::all()).await, Ok(None));
        assert_eq!(log.ready(&Buckets::all(), None, 9).await, Ok(vec![]));
    });
}

#[test]
fn the_last_snapshot_is_kept() {
    on_each(async |place| {
        let log = place.log();
        let mut ours = Owner::new(1);
        // Of a session that is not there nothing is kept.
        log.put_snapshot(ours.session, ours.head, Bytes::from("early")).await.unwrap();
        assert_eq!(log.snapshot(ours.session).await, Ok(None));
        for n in 0..3 {
            ours.events(log, "x").await;
            let body = Bytes::from(format!("fold {n} ").repeat(100));
            log.put_snapshot(ours.session, ours.head, body.clone()).await.unwrap();
            assert_eq!(log.snapshot(ours.session).await, Ok(Some((ours.head, body))));
        }
        log.delete(ours.session).await.unwrap();
        assert_eq!(log.snapshot(ours.session).await, Ok(None));
    });
}

async fn waiting(place: &Place, session: SessionId) -> String {
    let posted = place.log().inbox(session).await.unwrap();
    let line = |key: &str, body: &[u8]| format!("{key}: {}\n", String::from_utf8_lossy(body));
    posted.iter().map(|it| line(&it.key, &it.body)).collect()
}
