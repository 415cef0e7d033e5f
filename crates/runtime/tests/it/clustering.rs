//! Many nodes on one log: any of them serves, and what one leaves another takes up.

use std::collections::BTreeSet;
use std::sync::Arc;

use everstate_kernel::event::{End, Event, Why};
use everstate_kernel::ids::{Millis, SessionId};
use everstate_kernel::input::{Caller, Input, TurnTerms};
use everstate_kernel::item::Outcome;
use everstate_kernel::state::Rejection;
use everstate_runtime::host::{Feed, FeedError, Host};
use everstate_runtime::ports::{Clock as _, Down, Put, Registry as _, Tail};
use everstate_runtime::start::StartError;
use everstate_runtime::tail::Told;
use expect_test::expect;
use futures_util::StreamExt;

use crate::nodes::{Node, Nodes};
use crate::world::{begin, begin_with, calls, create, key, terms, text};

const LEASE_MS: Millis = 10_000;

fn foreground() -> TurnTerms {
    TurnTerms { caller: Caller::Attached, resumable: false, ..terms() }
}

async fn say(host: &Host, session: SessionId, terms: TurnTerms) -> Result<u64, FeedError> {
    let inputs = vec![create(session), begin(terms)];
    host.feed(session, inputs, Feed::default()).await.map(|it| it.seq)
}

/// Of the assignment, as each node sees it: a death makes a new one.
fn revisions(nodes: &[Node]) -> Vec<u64> {
    nodes.iter().flat_map(|it| it.host.nodes()).map(|it| it.revision).collect()
}

fn has_ended(nodes: &Nodes, session: SessionId) -> bool {
    nodes.world.disk.has(session, |it| matches!(it, Event::TurnEnded { .. }))
}

fn end_of(nodes: &Nodes, session: SessionId) -> Option<End> {
    let appends = nodes.world.disk.appends(session);
    appends.iter().flat_map(|it| &it.events).find_map(|it| match it {
        Event::TurnEnded { end, .. } => Some(end.clone()),
        _ => None,
    })
}

async fn ended(nodes: &Nodes, session: SessionId) {
    while !has_ended(nodes, session) {
        nodes.world.clock.pause(20).await;
    }
}

async fn hear(host: &Arc<Host>, session: SessionId) -> tokio::task::JoinHandle<String> {
    hear_tail(host.tail(session, 0))
}

/// What a tail tells until a turn ends or it fails: rows by their numbers, unpersisted pieces as `-`, an error as `!`.
fn hear_tail(mut tail: Tail) -> tokio::task::JoinHandle<String> {
    tokio::spawn(async move {
        let mut heard = Vec::new();
        while let Some(told) = tail.next().await {
            match told {
                Ok(Told::Append(append)) => {
                    heard.push(append.seq.to_string());
                    if append.events.iter().any(|it| matches!(it, Event::TurnEnded { .. })) {
                        break;
                    }
                }
                Ok(Told::Frame { seq, .. }) => heard.push(seq.to_string()),
                Ok(Told::Shown(_)) => heard.push("-".to_owned()),
                Err(_) => heard.push("!".to_owned()),
            }
        }
        heard.join(" ")
    })
}

fn of<'a>(nodes: &'a [Node], name: &str) -> &'a Node {
    nodes.iter().find(|it| it.name == name).unwrap()
}

#[test]
fn any_node_serves_any_request() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b c").await;
        let (a, b, c) = (of(&all, "a"), of(&all, "b"), of(&all, "c"));
        let session = b.own(1);
        assert_eq!(a.host.look(session).await, Err(FeedError::NotFound));
        let missing = a.host.feed(session, vec![begin(terms())], Feed::default()).await;
        assert_eq!(missing, Err(FeedError::NotFound));
        let heard = hear(&c.host, session).await;
        nodes.world.outside.says(text(&["one", " two", " three"]));
        let inputs = vec![create(session), begin(terms())];
        let fed = a.host.feed(session, inputs.clone(), key("k")).await.unwrap();
        assert_eq!(fed.seq, 1);
        assert_eq!(fed.events, nodes.world.disk.appends(session)[0].events);
        let busy = c.host.feed(session, vec![begin(terms())], Feed::default()).await;
        assert_eq!(busy, Err(FeedError::Rejected(Rejection::Busy { turn: 1 })));
        for node in &all {
            let again = node.host.feed(session, inputs.clone(), key("k")).await;
            assert_eq!(again, Err(FeedError::Seen(1)), "{}", node.name);
            let nothing =
                node.host.feed(session, vec![Input::Tick], Feed::default()).await.unwrap();
            assert_eq!(nothing.events, []);
        }
        assert_eq!(heard.await.unwrap(), "1 2 3 4");
        for node in &all {
            assert_eq!(*node.host.look(session).await.unwrap(), nodes.world.disk.fold(session));
            let rows = node.host.rows(session, 0, u64::MAX).await.unwrap();
            assert_eq!(rows.len(), 4);
        }
        // What is posted by anybody is read by its owner.
        nodes.world.outside.says(text(&["more"]));
        c.host.post(session, "p", &[begin_with("again", terms())]).await.unwrap();
        while nodes.world.disk.fold(session).live.turn_no < 2 {
            nodes.world.clock.pause(20).await;
        }
        assert!(a.host.nodes().iter().all(|it| it.is_alive && !it.is_leaving));
        assert!(all.iter().all(|it| it.host.mint(|| session.0) == session || it.name != "b"));
    });
}

#[test]
fn what_is_shown_elsewhere_is_heard_here() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (a, b) = (of(&all, "a"), of(&all, "b"));
        let session = b.own(1);
        nodes.world.outside.says(text(&["one", " two", " three"]));
        let heard = hear(&a.host, session).await;
        say(&a.host, session, foreground()).await.unwrap();
        assert_eq!(heard.await.unwrap(), "1 - - - - - 2");
        assert_eq!(end_of(&nodes, session), Some(End::Completed));
    });
}

/// A turn of `owner`'s that hangs, begun through a node.
async fn hang(nodes: &Nodes, owner: &Node, through: &Node) -> (SessionId, u64) {
    let session = owner.own(1);
    nodes.world.outside.tool("look", 60_000, Outcome::Ok);
    nodes.world.outside.says(calls(&["look"]));
    let began = say(&through.host, session, foreground()).await.unwrap();
    (session, began)
}

#[test]
fn callers_at_other_nodes_are_missed_when_the_last_one_goes() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b c").await;
        let (a, b, c) = (of(&all, "a"), of(&all, "b"), of(&all, "c"));
        let (session, began) = hang(&nodes, b, a).await;
        let mut callers = vec![
            b.host.attend(session, 1, began),
            a.host.attend(session, 1, began),
            c.host.attend(session, 1, began),
            a.host.attend(session, 1, began),
        ];
        nodes.world.clock.pause(1_000).await;
        while callers.len() > 1 {
            drop(callers.remove(0));
            nodes.world.clock.pause(11_000).await;
            assert!(!has_ended(&nodes, session), "{} callers wait", callers.len());
        }
        drop(callers);
        nodes.world.clock.pause(1_000).await;
        assert_eq!(end_of(&nodes, session), Some(End::Cancelled(Why::CallerLost)));
    });
}

#[test]
fn a_caller_whose_node_is_lost_is_expected_back() {
    for comes_back in [true, false] {
        let nodes = Nodes::new();
        nodes.world.run(async {
            let mut all = nodes.all("a b c").await;
            let (session, began) = hang(&nodes, of(&all, "b"), of(&all, "a")).await;
            let first = all[0].host.attend(session, 1, began);
            nodes.world.clock.pause(1_000).await;
            drop(all.remove(0));
            drop(first);
            nodes.world.clock.pause(5_000).await;
            assert!(!has_ended(&nodes, session));
            let again = comes_back.then(|| of(&all, "c").host.attend(session, 1, began));
            nodes.world.clock.pause(6_000).await;
            let end = (!comes_back).then_some(End::Cancelled(Why::CallerLost));
            assert_eq!(end_of(&nodes, session), end, "comes back: {comes_back}");
            drop(again);
            nodes.world.clock.pause(1_000).await;
            assert!(has_ended(&nodes, session));
        });
    }
}

#[test]
fn a_caller_whose_answer_was_cut_off_is_expected_back() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (session, began) = hang(&nodes, of(&all, "b"), of(&all, "a")).await;
        let (a, b) = (&of(&all, "a").host, &of(&all, "b").host);
        a.attend(session, 1, began).cut_off();
        nodes.world.clock.pause(5_000).await;
        let mut again = b.attend(session, 1, began);
        nodes.world.clock.pause(20_000).await;
        assert!(!has_ended(&nodes, session));
        nodes.world.clock.pause(60_000).await;
        assert_eq!(end_of(&nodes, session), Some(End::Completed));
        again.answered();
        drop(again);
    });
}

#[test]
fn a_killed_node_is_replaced_within_its_lease() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let mut all = nodes.all("a b c").await;
        let victim = all.remove(1);
        let (kept, shown) = (victim.own(1), victim.own(2));
        nodes.world.outside.tool("look", 600_000, Outcome::Ok);
        nodes.world.outside.tool("pay", 600_000, Outcome::Ok);
        nodes.world.outside.says(calls(&["look", "pay"]));
        say(&all[0].host, kept, terms()).await.unwrap();
        nodes.world.clock.pause(200).await;
        nodes.world.outside.says(text(&["x"; 2_000]));
        let heard_kept = hear(&all[0].host, kept).await;
        let heard_shown = hear(&all[0].host, shown).await;
        say(&all[1].host, shown, foreground()).await.unwrap();
        nodes.world.clock.pause(1_000).await;
        nodes.world.outside.tool("look", 10, Outcome::Ok);
        nodes.world.outside.says(text(&["done"]));
        let killed_at = nodes.world.clock.now();
        drop(victim);
        ended(&nodes, kept).await;
        ended(&nodes, shown).await;
        let took = nodes.world.clock.now() - killed_at;
        assert!(took <= LEASE_MS + 2_000, "it took {took} ms");
        let has = |what: fn(&Event) -> bool| nodes.world.disk.has(kept, what);
        assert!(has(|it| matches!(it, Event::ToolFinished { outcome: Outcome::Unknown, .. })));
        assert_eq!(end_of(&nodes, kept), Some(End::Completed));
        assert_eq!(end_of(&nodes, shown), Some(End::Cancelled(Why::CallerLost)));
        let n_rows = nodes.world.disk.rows(kept).len();
        let rows: Vec<String> = (1..=n_rows).map(|it| it.to_string()).collect();
        assert_eq!(heard_kept.await.unwrap(), rows.join(" "));
        let heard = heard_shown.await.unwrap();
        assert!(heard.starts_with("1 - -") && heard.ends_with("- 2"), "as its log says: {heard}");
        nodes.settled(&all).await;
    });
}

#[test]
fn a_node_that_was_stopped_shows_and_does_nothing_more() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (a, b) = (of(&all, "a"), of(&all, "b"));
        let (kept, shown) = (b.own(1), b.own(2));
        nodes.world.outside.tool("pay", 500, Outcome::Ok);
        nodes.world.outside.says(calls(&["pay"]));
        say(&b.host, kept, terms()).await.unwrap();
        nodes.world.clock.pause(200).await;
        nodes.world.outside.says(text(&["x"; 20_000]));
        let heard = hear(&b.host, shown).await;
        say(&b.host, shown, foreground()).await.unwrap();
        nodes.world.clock.pause(1_000).await;
        b.gate.stop();
        nodes.world.clock.pause(3 * LEASE_MS).await;
        // The other has them all.
        nodes.world.quiet(&a.host).await;
        assert_eq!(end_of(&nodes, kept), Some(End::Completed));
        assert_eq!(end_of(&nodes, shown), Some(End::Cancelled(Why::CallerLost)));
        let n_sent = nodes.world.outside.acts.lock().unwrap().sent.len();
        b.gate.go_on();
        nodes.world.clock.pause(100).await;
        assert_eq!(b.host.look(kept).await.map(|it| it.head), Ok(nodes.world.disk.fold(kept).head));
        assert_eq!(nodes.world.outside.acts.lock().unwrap().sent.len(), n_sent);
        let heard = heard.await.unwrap();
        assert!(heard.ends_with("- 2"), "{}", &heard[heard.len() - 20..]);
        // It comes back by itself.
        nodes.settled(&all).await;
        assert_eq!(nodes.world.outside.acts.lock().unwrap().ran.len(), 1);
        say(&a.host, b.own(9), terms()).await.unwrap();
    });
}

#[test]
fn a_short_stop_changes_nothing() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let b = of(&all, "b");
        let session = b.own(1);
        nodes.world.outside.says(text(&["x"; 2_000]));
        let heard = hear(&b.host, session).await;
        say(&b.host, session, foreground()).await.unwrap();
        nodes.world.clock.pause(1_000).await;
        b.gate.stop();
        nodes.world.clock.pause(LEASE_MS / 2).await;
        b.gate.go_on();
        let heard = heard.await.unwrap();
        assert!(heard.ends_with("- 2"), "{}", &heard[heard.len() - 20..]);
        assert_eq!(end_of(&nodes, session), Some(End::Completed));
    });
}

#[test]
fn a_node_cut_from_the_store_falls_silent() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (a, b) = (of(&all, "a"), of(&all, "b"));
        let session = b.own(1);
        nodes.world.outside.says(text(&["x"; 20_000]));
        let heard = hear(&b.host, session).await;
        say(&b.host, session, foreground()).await.unwrap();
        b.gate.cut(true);
        nodes.world.clock.pause(LEASE_MS).await;
        let gone = b.host.look(session).await;
        assert!(matches!(gone, Err(FeedError::Down(_))), "{gone:?}");
        nodes.world.clock.pause(LEASE_MS).await;
        assert_eq!(end_of(&nodes, session), Some(End::Cancelled(Why::CallerLost)));
        b.gate.cut(false);
        let heard = heard.await.unwrap();
        assert!(heard.ends_with("- 2"), "{}", &heard[heard.len() - 20..]);
        nodes.settled(&all).await;
        say(&a.host, b.own(3), terms()).await.unwrap();
    });
}

#[test]
fn a_store_that_was_away_kills_nobody() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b c").await;
        let revisions = revisions(&all);
        let session = all[1].own(1);
        nodes.world.outside.says(text(&["x"; 4_000]));
        let heard = hear(&all[1].host, session).await;
        let far = hear(&all[0].host, session).await;
        say(&all[1].host, session, terms()).await.unwrap();
        nodes.world.clock.pause(1_000).await;
        nodes.world.disk.stored().faults.is_down = true;
        nodes.world.clock.pause(LEASE_MS + 5_000).await;
        assert!(all[0].host.look(session).await.is_err());
        nodes.world.disk.stored().faults.is_down = false;
        ended(&nodes, session).await;
        assert_eq!(revisions, self::revisions(&all), "nobody was held dead");
        let rows = nodes.world.disk.rows(session).len();
        let rows: Vec<String> = (1..=rows).map(|it| it.to_string()).collect();
        assert_eq!(heard.await.unwrap(), rows.join(" "));
        assert_eq!(far.await.unwrap(), rows.join(" "));
    });
}

#[test]
fn nodes_that_cannot_hear_each_other_share_the_log_still() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (a, b) = (of(&all, "a"), of(&all, "b"));
        nodes.keep_apart("a", true);
        let session = b.own(1);
        nodes.world.outside.says(text(&["one", " two"]));
        let heard = hear(&a.host, session).await;
        say(&a.host, session, terms()).await.unwrap();
        assert_eq!(heard.await.unwrap(), "1 2 3 4");
        let shown = b.own(2);
        let heard = hear(&a.host, shown).await;
        say(&a.host, shown, foreground()).await.unwrap();
        assert_eq!(heard.await.unwrap(), "1 2", "what is not on the log cannot be had");
        assert_eq!(b.host.nodes().iter().filter(|it| it.is_alive).count(), 2);
    });
}

#[test]
fn joining_takes_a_share_and_leaving_gives_it_back() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let mut all = nodes.all("a").await;
        let sessions: Vec<SessionId> = (0..40).map(|it| all[0].own(it)).collect();
        let heard =
            futures_util::future::join_all(sessions.iter().map(|it| hear(&all[0].host, *it))).await;
        for session in &sessions[..20] {
            nodes.world.outside.says(text(&["x"; 300]));
            say(&all[0].host, *session, foreground()).await.unwrap();
        }
        for session in &sessions[20..] {
            nodes.world.outside.says(text(&["x"; 300]));
            say(&all[0].host, *session, terms()).await.unwrap();
        }
        all.push(nodes.start("b").await.unwrap());
        nodes.settled(&all).await;
        assert!(all[1].host.nodes().iter().all(|it| it.n_buckets == 512));
        for (session, heard) in sessions.iter().zip(heard) {
            ended(&nodes, *session).await;
            assert_eq!(end_of(&nodes, *session), Some(End::Completed));
            let heard = heard.await.unwrap();
            assert!(!heard.contains('!'), "{heard}");
        }
        let first = all.remove(0);
        first.host.drain().await;
        drop(first);
        nodes.settled(&all).await;
        assert_eq!(all[0].host.nodes().len(), 1, "it is off the list");
        for session in sessions {
            let fed = all[0].host.feed(session, vec![begin(terms())], Feed::default()).await;
            assert!(fed.is_ok(), "{fed:?}");
        }
    });
}

/// What is followed while its session goes to another node.
#[test]
fn a_hand_over_cuts_nobody_off() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let mut all = nodes.all("a").await;
        let a = &all[0].host;
        let sessions: Vec<SessionId> = (0..30).map(|it| all[0].own(it)).collect();
        for session in &sessions {
            nodes.world.outside.says(text(&["one"]));
            say(a, *session, foreground()).await.unwrap();
            ended(&nodes, *session).await;
        }
        // Reading from the log takes longer than the hand-over.
        let tails: Vec<_> = sessions.iter().map(|it| a.tail_kept(*it, 0)).collect();
        let reads = tails.into_iter().map(|tail| tail.take(2).collect::<Vec<_>>());
        let reads = tokio::spawn(futures_util::future::join_all(reads));
        // These wait for what comes, wherever that is begun.
        let waits: Vec<_> = sessions.iter().map(|it| hear_tail(a.tail(*it, 2))).collect();
        nodes.world.disk.stored().faults.before_ms = 700;
        let joining = nodes.start("b");
        all.push(joining.await.unwrap());
        nodes.world.disk.stored().faults.before_ms = 0;
        for read in reads.await.unwrap() {
            let heard: Vec<_> = read.into_iter().map(|it| it.map(|it| it.seq())).collect();
            assert_eq!(heard, [Ok(Some(1)), Ok(Some(2))]);
        }
        nodes.settled(&all).await;
        for session in &sessions {
            nodes.world.outside.says(text(&["two"]));
            let fed = all[1].host.feed(*session, vec![begin(foreground())], Feed::default()).await;
            fed.unwrap();
        }
        let mut heard = BTreeSet::new();
        for wait in waits {
            heard.insert(wait.await.unwrap());
        }
        // Some are told here, some at the other node, and begin with a fact that says so.
        expect!["3 - - - 4|3 4 - - - 5"]
            .assert_eq(&heard.into_iter().collect::<Vec<_>>().join("|"));
    });
}

#[test]
fn one_that_leaves_passes_on_what_it_is_asked_and_waits_for_those_it_answers() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (a, b) = (&all[0], &all[1]);
        let sessions: Vec<SessionId> = (0..20).map(|it| a.own(it)).collect();
        nodes.world.outside.says(text(&["x"; 300]));
        say(&a.host, sessions[0], foreground()).await.unwrap();
        let leaving = Arc::clone(&a.host);
        let left = tokio::spawn(async move { leaving.drain().await });
        nodes.world.clock.pause(100).await;
        // A turn of the other's, for a caller of this one's.
        let held = a.host.hold();
        nodes.world.outside.says(text(&["y"; 1_000]));
        let began = say(&a.host, sessions[1], foreground()).await.unwrap();
        let mut attendance = a.host.attend(sessions[1], 1, began);
        let heard = hear(&a.host, sessions[1]).await;
        for session in &sessions[2..] {
            nodes.world.outside.says(text(&["z"]));
            say(&a.host, *session, terms()).await.unwrap();
        }
        let heard = heard.await.unwrap();
        assert!(heard.ends_with('2') && !heard.contains('!'), "{heard}");
        attendance.answered();
        drop((attendance, held));
        left.await.unwrap();
        for session in &sessions {
            ended(&nodes, *session).await;
            assert_eq!(end_of(&nodes, *session), Some(End::Completed));
        }
        while b.host.nodes().len() > 1 {
            nodes.world.clock.pause(50).await;
        }
    });
}

#[test]
fn a_node_that_leaves_waits_for_nobody() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let mut all = nodes.all("a b").await;
        let first = all.remove(0);
        let session = first.own(1);
        nodes.world.outside.tool("look", 3_000, Outcome::Ok);
        nodes.world.outside.says(calls(&["look"]));
        say(&first.host, session, terms()).await.unwrap();
        nodes.world.clock.pause(500).await;
        let began_at = nodes.world.clock.now();
        first.host.drain().await;
        drop(first);
        ended(&nodes, session).await;
        let took = nodes.world.clock.now() - began_at;
        assert!(took < 6_000, "it took {took} ms");
        assert_eq!(nodes.world.outside.acts.lock().unwrap().ran.len(), 1);
        nodes.settled(&all).await;
    });
}

#[test]
fn two_nodes_cannot_have_one_name() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let mut all = nodes.all("a b").await;
        let refused = nodes.start("b").await.unwrap_err();
        assert!(
            matches!(&refused, StartError::Refused(why) if why.contains("`b` is running")),
            "{refused:?}"
        );
        // One that cannot be asked is watched.
        nodes.keep_apart("b", true);
        let refused = nodes.start("b").await.unwrap_err();
        assert!(matches!(refused, StartError::Refused(_)), "{refused:?}");
        nodes.keep_apart("b", false);
        // One that was killed and comes again has its own back at once.
        let session = all[1].own(1);
        nodes.world.outside.says(calls(&["look"]));
        nodes.world.outside.tool("look", 600_000, Outcome::Ok);
        say(&all[0].host, session, terms()).await.unwrap();
        nodes.world.clock.pause(500).await;
        drop(all.pop());
        nodes.world.outside.tool("look", 10, Outcome::Ok);
        let began_at = nodes.world.clock.now();
        all.push(nodes.start("b").await.unwrap());
        ended(&nodes, session).await;
        let took = nodes.world.clock.now() - began_at;
        assert!(took < 1_000, "it took {took} ms");
        nodes.settled(&all).await;
    });
}

#[test]
fn a_wrong_clock_costs_nobody_a_lease() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b c").await;
        let revisions = revisions(&all);
        all[0].gate.skew(-7_200_000);
        all[1].gate.skew(7_200_000);
        nodes.world.clock.pause(60_000).await;
        assert_eq!(revisions, self::revisions(&all), "nobody was held dead");
        assert!(all.iter().all(|it| it.host.nodes().iter().all(|it| it.is_alive)));
    });
}

#[test]
fn what_is_too_old_to_read_the_rows_stays_out() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let assignment = r#"{"revision":7,"version":2,"members":["z"],"seats":[]}"#;
        let put = Put {
            project: String::new(),
            kind: "cluster".to_owned(),
            id: "assignment".to_owned(),
            expect: None,
            body: assignment.into(),
            now: 1,
            expires_at: None,
        };
        nodes.world.disk.of(0).put(put).await.unwrap();
        let refused = nodes.start("a").await.unwrap_err();
        assert!(
            matches!(&refused, StartError::Refused(why) if why.contains("version 2")),
            "{refused:?}"
        );
    });
}

#[test]
fn erasing_and_deleting_reach_the_owner() {
    let nodes = Nodes::new();
    nodes.world.run(async {
        let all = nodes.all("a b").await;
        let (a, b) = (of(&all, "a"), of(&all, "b"));
        let session = b.own(1);
        say(&a.host, session, terms()).await.unwrap();
        ended(&nodes, session).await;
        let item = a.host.look(session).await.unwrap().transcript.entries[0].item.id;
        let fed = a.host.erase(session, vec![item]).await.unwrap();
        assert!(matches!(&fed.events[..], [Event::ItemErased { .. }]));
        assert!(nodes.world.disk.rows(session)[0].erased);
        // One that cannot be told now is finished by the owner later.
        nodes.keep_apart("a", true);
        say(&b.host, b.own(2), terms()).await.unwrap();
        ended(&nodes, b.own(2)).await;
        let down = a.host.erase(b.own(2), vec![item]).await;
        assert!(matches!(down, Err(FeedError::Down(_))), "{down:?}");
        nodes.world.clock.pause(31_000).await;
        assert!(nodes.world.disk.rows(b.own(2))[0].erased);
        nodes.keep_apart("a", false);
        let tail = a.host.tail(session, fed.seq);
        a.host.delete(session).await.unwrap();
        assert_eq!(tail.collect::<Vec<Result<Told, Down>>>().await, []);
        assert_eq!(a.host.look(session).await, Err(FeedError::NotFound));
    });
}
