//! What is kept beside the log, what is taken out of it, and sessions that cannot go on.

use bytes::Bytes;
use everstate_kernel::ids::{ItemId, SessionId};
use everstate_kernel::input::{Calls, Input, TurnTerms};
use everstate_kernel::item::Body;
use everstate_kernel::state::Rejection;
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::ports::{Clock as _, Log as _, NewRow, Put, Registry as _, RowKind};
use everstate_runtime::settings::HostSettings;

use crate::world::{SESSION, World, begin, calls, create, say, terms, text};

#[test]
fn a_snapshot_saves_reading() {
    let world = World::new();
    world.run(async {
        let settings = HostSettings { snapshot_appends: 4, ..HostSettings::default() };
        let host = world.host(1, settings.clone());
        host.start().await.unwrap();
        say(&host, terms()).await.unwrap();
        for _ in 0..6 {
            world.quiet(&host).await;
            host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        }
        world.quiet(&host).await;
        let (at, _) = world.disk.stored().sessions[&SESSION].snapshot.clone().unwrap();
        assert!(at.seq > 1);
        drop(host);
        // What it covers is not read.
        let state = world.disk.fold(SESSION);
        world.disk.stored().sessions.get_mut(&SESSION).unwrap().rows[0].body = Bytes::from("?");
        let host = world.host(2, settings);
        host.start().await.unwrap();
        assert_eq!(*host.look(SESSION).await.unwrap(), state);
        // One that does not fit is not believed.
        world.disk.stored().sessions.get_mut(&SESSION).unwrap().snapshot =
            Some((at, Bytes::from("{}")));
        let broken = world.started(3).await.look(SESSION).await;
        assert!(matches!(broken, Err(FeedError::Rejected(Rejection::Parked(_)))), "{broken:?}");
    });
}

#[test]
fn old_history_is_packed_and_young_streams_are_not() {
    let world = World::new();
    world.run(async {
        let settings =
            HostSettings { roll_up_rows: 10, stream_kept_ms: 1_000_000, ..HostSettings::default() };
        let host = world.host(1, settings);
        host.start().await.unwrap();
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let first_end = world.disk.rows(SESSION).len() as u64;
        world.clock.pause(2_000_000).await;
        for _ in 0..4 {
            host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
            world.quiet(&host).await;
        }
        let rolled = world.disk.stored().sessions[&SESSION].rolled;
        assert_eq!(rolled, first_end);
        let told = host.rows(SESSION, 0, u64::MAX).await.unwrap();
        assert!(told.iter().filter_map(|it| it.seq()).is_sorted());
    });
}

#[test]
fn lists_tell_how_a_session_stands() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(calls(&["ask"]));
        say(&host, TurnTerms { calls: Calls::Hold, ..terms() }).await.unwrap();
        let summary = || {
            let stored = world.disk.stored();
            let projection = stored.sessions[&SESSION].projection.clone().unwrap();
            let summary: serde_json::Value =
                serde_json::from_str(&projection.listing.unwrap().summary).unwrap();
            assert_eq!(
                summary["model"], "m",
                "known from the first turn on, also when it has ended"
            );
            (projection.ready, summary["state"].as_str().unwrap().to_owned())
        };
        assert_eq!(summary(), (true, "running".to_owned()));
        world.quiet(&host).await;
        assert_eq!(summary(), (false, "waiting".to_owned()));
        host.feed(SESSION, vec![Input::Cancel { turn: 1 }], Feed::default()).await.unwrap();
        assert_eq!(summary(), (false, "idle".to_owned()));
    });
}

#[test]
fn erased_contents_are_gone_from_the_log() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(text(&["my secret is", " swordfish"]));
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let item = ItemId { turn: 1, idx: 1 };
        world.disk.stored().faults.is_down = true;
        assert!(host.erase(SESSION, vec![item]).await.is_err());
        world.disk.stored().faults.is_down = false;
        // The fact lands, the rewriting does not: the next start finishes what this one began.
        world.disk.stored().faults.cannot_erase = true;
        assert!(host.erase(SESSION, vec![item]).await.is_err());
        world.disk.stored().faults.cannot_erase = false;
        drop(host);
        let host = world.started(2).await;
        let rows = world.disk.rows(SESSION);
        let has = |row: &everstate_runtime::ports::Row| {
            String::from_utf8_lossy(&row.body).contains("swordfish")
        };
        assert!(!rows.iter().any(has));
        let state = host.look(SESSION).await.unwrap();
        let erased = state.transcript.entries.iter().find(|it| it.item.id == item).unwrap();
        assert_eq!(erased.item.body, Body::Erased);
        // A later owner, who folds what is left, sees the same.
        drop(host);
        assert_eq!(*world.started(3).await.look(SESSION).await.unwrap(), *state);
    });
}

#[test]
fn no_snapshot_brings_back_what_was_erased() {
    let world = World::new();
    world.run(async {
        let settings = HostSettings { snapshot_appends: 2, ..HostSettings::default() };
        let host = world.host(1, settings);
        host.start().await.unwrap();
        world.disk.stored().faults.snapshot_ms = 500;
        world.outside.says(text(&["my secret is", " swordfish"]));
        say(&host, terms()).await.unwrap();
        while !world.disk.story(SESSION).contains("turn_ended") {
            world.clock.pause(10).await;
        }
        host.erase(SESSION, vec![ItemId { turn: 1, idx: 1 }]).await.unwrap();
        world.clock.pause(5_000).await;
        let snapshot = world.disk.stored().sessions[&SESSION].snapshot.clone();
        let body = snapshot.map_or(Bytes::new(), |it| it.1);
        assert!(!String::from_utf8_lossy(&body).contains("swordfish"));
    });
}

#[test]
fn an_erasure_that_was_decided_is_finished_beside_a_running_turn() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(text(&["my secret is", " swordfish"]));
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        world.disk.stored().faults.cannot_erase = true;
        assert!(host.erase(SESSION, vec![ItemId { turn: 1, idx: 1 }]).await.is_err());
        world.disk.stored().faults.cannot_erase = false;
        world.outside.says(calls(&["book"]));
        world.outside.tool("book", 60_000, everstate_kernel::item::Outcome::Ok);
        host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        world.clock.pause(1_000).await;
        drop(host);
        let host = world.started(2).await;
        assert!(host.look(SESSION).await.unwrap().live.turn.is_some(), "it runs");
        let has = |row: &everstate_runtime::ports::Row| {
            String::from_utf8_lossy(&row.body).contains("swordfish")
        };
        assert!(!world.disk.rows(SESSION).iter().any(has));
        assert!(!world.disk.stored().documents.keys().any(|it| it.1 == "erasing"), "it is done");
        world.quiet(&host).await;
        assert!(world.disk.story(SESSION).ends_with("turn_ended\n"));
    });
}

#[test]
fn an_erasure_that_was_noted_outlasts_a_running_turn_and_a_store_that_is_down() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(text(&["my secret is", " swordfish"]));
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        // It was noted and not decided when the power failed, and the session was put to work first.
        let note = serde_json::json!({ "session": SESSION, "items": [{ "turn": 1, "idx": 1 }] });
        let put = Put {
            project: String::new(),
            kind: "erasing".to_owned(),
            id: "it".to_owned(),
            expect: None,
            body: Bytes::from(note.to_string()),
            now: world.clock.now(),
            expires_at: None,
        };
        world.disk.of(1).put(put).await.unwrap();
        world.outside.says(calls(&["book"]));
        world.outside.tool("book", 60_000, everstate_kernel::item::Outcome::Ok);
        host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        world.clock.pause(1_000).await;
        drop(host);
        let host = world.started(2).await;
        world.quiet(&host).await;
        world.disk.stored().faults.cannot_erase = true;
        world.clock.pause(200_000).await;
        assert!(world.disk.stored().documents.keys().any(|it| it.1 == "erasing"));
        world.disk.stored().faults.cannot_erase = false;
        world.clock.pause(200_000).await;
        assert!(!world.disk.stored().documents.keys().any(|it| it.1 == "erasing"));
        let has = |row: &everstate_runtime::ports::Row| {
            String::from_utf8_lossy(&row.body).contains("swordfish")
        };
        assert!(!world.disk.rows(SESSION).iter().any(has));
    });
}

#[test]
fn a_session_that_cannot_be_read_keeps_no_host_from_starting_and_can_be_deleted() {
    let world = World::new();
    world.run(async {
        let (other, host) = (SessionId(8), world.started(1).await);
        for session in [SESSION, other] {
            world.outside.says(calls(&["book"]));
            world.outside.tool("book", 60_000, everstate_kernel::item::Outcome::Ok);
            let inputs = vec![create(session), begin(terms())];
            host.feed(session, inputs, Feed::default()).await.unwrap();
            world.clock.pause(1_000).await;
        }
        drop(host);
        world.disk.stored().faults.damaged = Some(SESSION);
        let host = world.host(2, HostSettings::default());
        host.start().await.unwrap();
        world.clock.pause(100_000).await;
        assert!(world.disk.story(other).ends_with("turn_ended\n"));

        // When it can be read again, it goes on by itself.
        world.disk.stored().faults.damaged = None;
        world.clock.pause(300_000).await;
        assert!(world.disk.story(SESSION).ends_with("turn_ended\n"));

        world.disk.stored().faults.damaged = Some(SESSION);
        drop(host);
        let host = world.started(3).await;
        let looked = host.look(SESSION).await;
        assert!(matches!(looked, Err(FeedError::Down(_))), "{looked:?}");
        host.delete(SESSION).await.unwrap();
        assert!(world.disk.rows(SESSION).is_empty());
    });
}

#[test]
fn a_log_of_a_later_release_is_left_alone_and_its_neighbours_live_on() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        drop(host);
        let log = world.disk.of(1);
        let head = log.head(SESSION).await.unwrap().unwrap();
        let body = r#"{"at":1,"events":[{"teleported":{"where":"moon"}}]}"#;
        let row = NewRow {
            session: SESSION,
            seq: head.seq + 1,
            kind: RowKind::Events,
            at: world.clock.now(),
            prev: head.hash,
            body: Bytes::from(body),
            key: None,
            consumed: Vec::new(),
            projection: None,
        };
        log.append(row).await.unwrap();
        let host = world.started(2).await;
        let fed = host.feed(SESSION, vec![begin(terms())], Feed::default()).await;
        let Err(FeedError::Rejected(Rejection::Parked(reason))) = fed else { panic!("{fed:?}") };
        assert!(reason.contains("teleported") && reason.contains("later"), "{reason}");
        assert_eq!(world.disk.rows(SESSION).len() as u64, head.seq + 1, "nothing is added to it");
        let other = SessionId(8);
        host.feed(other, vec![create(other), begin(terms())], Feed::default()).await.unwrap();
        world.quiet(&host).await;
        assert!(world.disk.story(other).ends_with("turn_ended\n"));
    });
}

#[test]
fn a_panic_parks_one_session_until_it_is_asked_to_go_on() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.acts.lock().unwrap().panics = true;
        let fed = say(&host, terms()).await;
        assert!(matches!(fed, Err(FeedError::Rejected(Rejection::Parked(_)))), "{fed:?}");
        world.outside.acts.lock().unwrap().panics = false;
        let fed = host.feed(SESSION, vec![create(SESSION)], Feed::default()).await;
        assert!(matches!(fed, Err(FeedError::Rejected(Rejection::Parked(_)))), "{fed:?}");
        let fed = host.feed(SESSION, vec![Input::Unpark], Feed::default()).await;
        assert_eq!(fed, Err(FeedError::NotFound), "it had not begun");
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;

        // In the middle of a turn it is said on the log.
        world.outside.says(calls(&["pay"]));
        world.outside.tool("pay", 1_000, everstate_kernel::item::Outcome::Ok);
        host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        world.clock.pause(100).await;
        world.outside.acts.lock().unwrap().panics = true;
        world.quiet(&host).await;
        world.outside.acts.lock().unwrap().panics = false;
        let story = world.disk.story(SESSION);
        assert!(story.ends_with("parked\n"), "{story}");
        host.feed(SESSION, vec![Input::Unpark], Feed::default()).await.unwrap();
        world.quiet(&host).await;
        let story = world.disk.story(SESSION);
        assert!(story.ends_with("turn_ended\n"), "{story}");
        assert_eq!(world.outside.acts.lock().unwrap().ran.len(), 1);
    });
}

#[test]
fn idle_sessions_leave_memory() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let n_reads = || world.disk.stored().n_reads;
        let before = n_reads();
        host.look(SESSION).await.unwrap();
        assert_eq!(n_reads(), before, "it is still in memory");
        world.clock.pause(120_000).await;
        host.look(SESSION).await.unwrap();
        assert_eq!(n_reads(), before + 1, "it is not in memory any more");
    });
}
