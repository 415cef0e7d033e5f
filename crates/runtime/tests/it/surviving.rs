//! What crashes, full stops and falling stores leave behind.

use everstate_kernel::delta::{Delta, Opening, Piece};
use everstate_kernel::event::Event;
use everstate_kernel::input::{Approval, Caller, Calls, FailureClass, Input, TurnTerms};
use everstate_kernel::item::Outcome;
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::ports::Clock as _;
use everstate_runtime::settings::HostSettings;
use everstate_runtime::tail::Told;
use expect_test::{Expect, expect};
use futures_util::StreamExt as _;

use crate::world::{Line, SESSION, World, begin, calls, fails, failure, open, say, terms, text};

/// Runs a turn, kills the host after some time, starts another, and waits until it is quiet.
fn check(terms: TurnTerms, lines: Vec<Line>, after_ms: u64, story: Expect) {
    let world = World::new();
    world.run(async {
        lines.into_iter().for_each(|it| world.outside.says(it));
        world.outside.tool("pay", 1_000, Outcome::Ok);
        world.outside.tool("book", 1_000, Outcome::Ok);
        let host = world.started(1).await;
        say(&host, terms).await.unwrap();
        world.clock.pause(after_ms).await;
        drop(host);
        let host = world.started(2).await;
        assert_eq!(host.epoch(), 2);
        world.quiet(&host).await;
        story.assert_eq(&world.disk.story(SESSION));
        assert_eq!(*host.look(SESSION).await.unwrap(), world.disk.fold(SESSION));
    });
}

#[test]
fn a_crash_is_survived() {
    // In the middle of an answer that was shown.
    check(
        terms(),
        vec![text(&["a", "b", "c", "d"]), text(&["again"])],
        22,
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 frame of 1.1#1, 1 deltas
        3 owned attempt_lost sealed attempt_opened placed
        4 frame of 1.1#2, 1 deltas
        5 frame of 1.1#2, 2 deltas
        6 replied turn_ended
    "#]],
    );
    // Before the first word.
    check(
        terms(),
        vec![text(&["a"]), text(&["again"])],
        2,
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 owned attempt_lost attempt_opened placed
        3 frame of 1.1#2, 1 deltas
        4 frame of 1.1#2, 2 deltas
        5 replied turn_ended
    "#]],
    );
    // While tools run: one is repeated, of the other nobody knows.
    check(
        terms(),
        vec![calls(&["book", "pay"]), text(&["done"])],
        100,
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 frame of 1.1#1, 1 deltas
        3 frame of 1.1#1, 5 deltas
        4 replied tool_started tool_started
        5 owned tool_finished
        6 tool_finished step_started attempt_opened placed
        7 frame of 1.2#1, 1 deltas
        8 frame of 1.2#1, 2 deltas
        9 replied turn_ended
    "#]],
    );
    // Its caller went down with it.
    let attached = TurnTerms { caller: Caller::Attached, ..terms() };
    check(
        attached,
        vec![text(&["a", "b"])],
        12,
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 frame of 1.1#1, 1 deltas
        3 owned attempt_lost sealed turn_ended
    "#]],
    );
}

#[test]
fn an_approval_waits_in_the_log_alone() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(calls(&["ask"]));
        say(&host, TurnTerms { calls: Calls::Hold, ..terms() }).await.unwrap();
        world.quiet(&host).await;
        let state = host.look(SESSION).await.unwrap();
        drop(host);
        let host = world.started(2).await;
        world.clock.pause(3_600_000).await;
        assert_eq!(host.n_live(), 0);
        let n_rows = world.disk.rows(SESSION).len();
        let (&call, _) = state.live.calls.first_key_value().unwrap();
        let by = "somebody".to_owned();
        let approve = Input::Approve(Approval { call, approve: true, by, reason: None });
        let fed = host.feed(SESSION, vec![approve], Feed::default()).await.unwrap();
        assert_eq!(fed.seq as usize, n_rows + 2, "adopted at the first touch");
        world.quiet(&host).await;
        let story = world.disk.story(SESSION);
        assert!(story.ends_with("turn_ended\n"), "{story}");
    });
}

#[test]
fn a_sleeping_session_is_woken_in_time() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(calls(&["ask"]));
        let mut terms = terms();
        terms.limits.approval_ms_max = 600_000;
        say(&host, terms).await.unwrap();
        world.quiet(&host).await;
        let wake = world.disk.stored().sessions[&SESSION].projection.clone().unwrap().wake.unwrap();
        while !world.disk.has(SESSION, |it| matches!(it, Event::ApprovalExpired { .. })) {
            world.clock.pause(100).await;
        }
        assert!(world.clock.now() < wake + 1_000, "{} ms late", world.clock.now() - wake);
    });
}

#[test]
fn outcomes_wait_for_a_store_that_is_down() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(calls(&["pay"]));
        world.outside.tool("pay", 100, Outcome::Ok);
        say(&host, terms()).await.unwrap();
        world.clock.pause(60).await;
        world.disk.stored().faults.is_down = true;
        world.clock.pause(30_000).await;
        let down = host.feed(SESSION, vec![begin(terms())], Feed::default()).await;
        assert!(matches!(down, Err(FeedError::Rejected(_))), "{down:?}");
        let cancel = host.feed(SESSION, vec![Input::Cancel { turn: 1 }], Feed::default()).await;
        assert!(matches!(cancel, Err(FeedError::Down(_))), "{cancel:?}");
        world.disk.stored().faults.is_down = false;
        world.quiet(&host).await;
        let is_paid = |it: &Event| matches!(it, Event::ToolFinished { outcome: Outcome::Ok, .. });
        assert!(world.disk.has(SESSION, is_paid));
        assert_eq!(world.outside.acts.lock().unwrap().ran.len(), 1);
        assert!(world.disk.story(SESSION).ends_with("turn_ended\n"));
    });
}

#[test]
fn what_landed_unheard_goes_on_and_is_told() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let head = host.look(SESSION).await.unwrap().head;
        let mut tail = host.tail(SESSION, head);
        world.outside.says(text(&["after", "all"]));
        world.disk.stored().faults.unheard = 1;
        // Whoever asked does not ask again.
        let asked_at = world.clock.now();
        let down = host.feed(SESSION, vec![begin(terms())], Feed::default()).await;
        assert!(matches!(down, Err(FeedError::Down(_))), "{down:?}");
        let is_end = |it: &Event| matches!(it, Event::TurnEnded { turn: 2, .. });
        loop {
            let told = tail.next().await.unwrap().unwrap();
            if let Told::Append(append) = told
                && append.events.iter().any(is_end)
            {
                break;
            }
        }
        assert!(world.clock.now() < asked_at + 2_000, "it was left to its alarm clock");
        assert_eq!(*host.look(SESSION).await.unwrap(), world.disk.fold(SESSION));
    });
}

#[test]
fn an_answer_that_cannot_be_kept_is_given_up() {
    let word = "x".repeat(10_000);
    let mut answer = vec![(0, Ok(open(0, Opening::Message)))];
    let delta = || Ok(Piece::Delta(Delta::Text { item: 0, text: word.clone() }));
    answer.extend((0..60).map(|_| (10, delta())));
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(answer);
        say(&host, terms()).await.unwrap();
        world.clock.pause(50).await;
        world.disk.stored().faults.is_down = true;
        world.clock.pause(20_000).await;
        world.disk.stored().faults.is_down = false;
        world.quiet(&host).await;
        let is_stalled = |it: &Event| match it {
            Event::AttemptFailed { failure, .. } => {
                failure.class == FailureClass::Broken && failure.message.contains("store stalled")
            }
            _ => false,
        };
        assert!(world.disk.has(SESSION, is_stalled), "{}", world.disk.story(SESSION));
        assert!(world.disk.has(SESSION, |it| matches!(it, Event::Sealed { .. })));
    });
}

#[test]
fn rate_limits_are_remembered_for_the_next_session() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        let mut limited = failure(FailureClass::RateLimited);
        limited.retry_after_ms = Some(60_000);
        world.outside.says(vec![(5, Err(limited))]);
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        world.quiet(&host).await;
        let sent = world.outside.acts.lock().unwrap().sent.clone();
        let offers: Vec<&str> = sent.iter().map(|it| it.1.as_str()).collect();
        assert_eq!(offers, ["one/global/m", "two/global/m", "two/global/m"]);
    });
}

#[test]
fn a_shutdown_lets_callers_finish_and_leaves_the_rest() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(text(&["a", "b", "c"]));
        say(&host, TurnTerms { caller: Caller::Attached, ..terms() }).await.unwrap();
        world.clock.pause(8).await;
        let tail = host.tail(SESSION, world.disk.rows(SESSION).len() as u64);
        host.drain().await;
        assert!(world.disk.story(SESSION).ends_with("replied turn_ended\n"));
        let heard: Vec<_> = futures_util::StreamExt::collect(tail).await;
        assert!(heard.len() > 1 && heard.last().unwrap().is_err(), "{heard:?}");
        let late = host.feed(SESSION, vec![begin(terms())], Feed::default()).await;
        assert_eq!(late, Err(FeedError::Draining));
        host.post(SESSION, "late", &[begin(terms())]).await.unwrap();
        drop(host);

        // What was posted is taken by the next owner; its tool comes back during a shutdown, and lands.
        let host = world.started(2).await;
        world.outside.says(calls(&["pay"]));
        world.outside.tool("pay", 500, Outcome::Ok);
        host.feed(SESSION, vec![Input::Tick], Feed::default()).await.unwrap();
        assert!(world.disk.stored().inbox[&SESSION].is_empty(), "consumed by the append itself");
        world.clock.pause(100).await;
        host.drain().await;
        let is_paid = |it: &Event| matches!(it, Event::ToolFinished { outcome: Outcome::Ok, .. });
        assert!(world.disk.has(SESSION, is_paid), "{}", world.disk.story(SESSION));
        assert!(world.disk.fold(SESSION).live.turn.is_some(), "the rest is the next owner's");
        drop(host);
        let host = world.started(3).await;
        world.quiet(&host).await;
        assert!(world.disk.fold(SESSION).live.turn.is_none());
        assert!(world.disk.stored().inbox[&SESSION].is_empty());
    });
}

#[test]
fn what_is_said_to_have_started_is_started_also_during_a_shutdown() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(calls(&["pay"]));
        say(&host, terms()).await.unwrap();
        world.clock.pause(8).await;
        host.drain().await;
        drop(host);
        let host = world.started(2).await;
        world.quiet(&host).await;
        let is_paid = |it: &Event| matches!(it, Event::ToolFinished { outcome: Outcome::Ok, .. });
        assert!(world.disk.has(SESSION, is_paid), "{}", world.disk.story(SESSION));
        assert_eq!(world.outside.acts.lock().unwrap().ran.len(), 1);
    });
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.outside.says(vec![(3_600_000, Err(failure(FailureClass::Timeout)))]);
        say(&host, TurnTerms { caller: Caller::Attached, ..terms() }).await.unwrap();
        let began = world.clock.now();
        host.drain().await;
        assert!(world.clock.now() - began <= 32_000);
        let story = world.disk.story(SESSION);
        assert!(story.ends_with("turn_ended\n"), "{story}");
    });
}

#[test]
fn starts_are_paced() {
    let world = World::new();
    world.run(async {
        let settings = HostSettings { starts_per_offer: 4, ..HostSettings::default() };
        let host = world.host(1, settings.clone());
        host.start().await.unwrap();
        for session in 1..=40 {
            let session = everstate_kernel::ids::SessionId(session);
            let inputs = vec![crate::world::create(session), begin(terms())];
            host.feed(session, inputs, Feed::default()).await.unwrap();
        }
        drop(host);
        let host = world.host(2, settings);
        host.start().await.unwrap();
        world.quiet(&host).await;
        assert!(world.outside.acts.lock().unwrap().n_sending_max <= 8);
        let all_ended = (1..=40)
            .all(|it| world.disk.fold(everstate_kernel::ids::SessionId(it)).live.turn.is_none());
        assert!(all_ended);
    });
}

#[test]
fn a_hedge_shows_one_answer() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        let mut slow = text(&["slow"]);
        slow[0].0 = 10_000;
        world.outside.says(slow);
        world.outside.says(text(&["fast"]));
        let mut terms = terms();
        terms.limits.hedge_after_ms = Some(200);
        say(&host, terms).await.unwrap();
        world.quiet(&host).await;
        let story = world.disk.story(SESSION);
        assert!(story.contains("attempt_chosen attempt_dropped"), "{story}");
        assert!(story.contains("frame of 1.1#2") && !story.contains("frame of 1.1#1"), "{story}");
    });
}

#[test]
fn failing_everywhere_ends_the_turn() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        (0..9).for_each(|_| world.outside.says(fails(FailureClass::Overloaded)));
        say(&host, terms()).await.unwrap();
        while world.disk.fold(SESSION).live.turn.is_some() {
            world.clock.pause(100).await;
        }
        assert_eq!(world.outside.acts.lock().unwrap().sent.len(), 6);
    });
}
