//! Money: what is reserved, spent and left of a project's limit, with many holders that die at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use everstate_kernel::event::{Append, End, Event};
use everstate_kernel::ids::SessionId;
use everstate_kernel::money::Micros;
use everstate_kernel::plan::Plan;
use everstate_kernel::slice::{Limit, Per};
use everstate_runtime::host::{Feed, FeedError, Host};
use everstate_runtime::ledger::{Ledger, Limits, Standing};
use everstate_runtime::settings::HostSettings;

use crate::log::{Faults, Rng};
use crate::world::{SESSION, World, begin, calls, create, say, terms, text};

/// What an answer costs here: 10 tokens in and 5 out, at 1 and 4 micro-USD.
const ANSWER: Micros = 30;
/// What is reserved for a step that may say as much as the cheaper offer lets it: 10,000 tokens, and its input.
const STEP: Micros = 40_000;

/// What is expected of a step that is lost: 500 tokens out at the dearer offer, and its input.
const LOST: Micros = 4_200;

fn total(amount: Micros) -> Limit {
    Limit { amount, per: Per::Total }
}

/// A host whose project `p` has this limit.
async fn started(
    world: &World,
    no: u32,
    limit: Limit,
    dead: Option<&Dead>,
) -> (Arc<Host>, Arc<Ledger>) {
    let host = world.host(no, HostSettings::default());
    let limits = Limits { own: [("p".to_owned(), limit)].into(), every: None };
    let clock = Arc::new(world.clock.clone());
    let ledger = Ledger::new(world.disk.of(no), world.disk.of(no), true, clock, limits);
    if let Some(dead) = dead {
        let dead = dead.clone();
        ledger.judge_by(Arc::new(move |epoch| !dead.lock().unwrap().contains(&epoch)));
    }
    host.keep_ledger(ledger.clone());
    while host.start().await.is_err() {}
    (host, ledger)
}

/// The epochs of hosts that were killed.
type Dead = Arc<Mutex<BTreeSet<u64>>>;

async fn standing(ledger: &Ledger) -> Standing {
    ledger.standing("p").await.unwrap().unwrap()
}

/// What the logs say was spent, and what is held for attempts under way.
fn logs(world: &World) -> (Micros, Micros) {
    let sessions: Vec<SessionId> = world.disk.stored().sessions.keys().copied().collect();
    let folded = sessions.iter().map(|it| world.disk.fold(*it));
    folded.fold((0, 0), |sum, it| (sum.0 + it.live.spent, sum.1 + it.live.reserved_total()))
}

fn plans(world: &World, session: SessionId) -> Vec<Plan> {
    let appends = world.disk.appends(session);
    let plan = |it: &Event| match it {
        Event::Placed { plan, .. } => Some(plan.clone()),
        _ => None,
    };
    appends.iter().flat_map(|it| it.events.iter().filter_map(plan)).collect()
}

fn ends(appends: &[Arc<Append>]) -> Vec<End> {
    let end = |it: &Event| match it {
        Event::TurnEnded { end, .. } => Some(end.clone()),
        _ => None,
    };
    appends.iter().flat_map(|it| it.events.iter().filter_map(end)).collect()
}

#[test]
fn what_is_spent_is_settled_and_the_rest_comes_back() {
    let world = World::new();
    world.run(async {
        let (host, ledger) = started(&world, 1, total(1_000_000), None).await;
        let turn = || async {
            host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
            world.quiet(&host).await;
        };
        host.feed(SESSION, vec![create(SESSION)], Feed::default()).await.unwrap();
        turn().await;
        let stands = standing(&ledger).await;
        assert_eq!(stands.here.unsettled, ANSWER);
        assert!(stands.slices.leased() >= STEP && stands.slices.leased() < 1_000_000 / 4);
        // A step is no write of its own.
        let n_written = |world: &World| {
            let stored = world.disk.stored();
            let document = &stored.documents[&("p".into(), "ledger".into(), "money".into())];
            document.revision
        };
        let before = n_written(&world);
        turn().await;
        turn().await;
        assert_eq!(n_written(&world), before);
        world.clock.pause(1_000).await;
        let stands = standing(&ledger).await;
        assert_eq!((stands.slices.spent(), stands.here.unsettled), (3 * ANSWER, 0));
        // Idle, it holds nothing, and writes nothing.
        world.clock.pause(20_000).await;
        let stands = standing(&ledger).await;
        assert_eq!((stands.slices.spent(), stands.slices.leased()), (3 * ANSWER, 0));
        let before = n_written(&world);
        world.clock.pause(600_000).await;
        assert_eq!(n_written(&world), before);
        turn().await;
        host.drain().await;
        let stands = standing(&ledger).await;
        assert_eq!((stands.slices.spent(), stands.slices.leased()), (4 * ANSWER, 0));
        assert_eq!(logs(&world), (4 * ANSWER, 0));
    });
}

#[test]
fn the_last_money_caps_an_answer_and_then_nothing_is_sent() {
    let world = World::new();
    world.run(async {
        // Two answers and a bit, and some input.
        let (host, ledger) = started(&world, 1, total(400), None).await;
        world.outside.says(calls(&["look"]));
        world.outside.says(calls(&["look"]));
        let turn = say(&host, terms()).await.unwrap();
        assert!(turn.seq > 0);
        world.quiet(&host).await;
        let mut session = SESSION;
        for n in 1..20 {
            if matches!(ends(&world.disk.appends(session)).last(), Some(End::Failed { .. })) {
                break;
            }
            session = SessionId(SESSION.0 + n);
            let inputs = vec![create(session), begin(terms())];
            host.feed(session, inputs, Feed::default()).await.unwrap();
            world.quiet(&host).await;
        }
        let first = &plans(&world, SESSION)[0];
        assert!(first.max_output_tokens.is_some_and(|it| it < 100), "{first:?}");
        assert_eq!(first.project_budget, Some(400));
        assert!(first.reserved <= 400);
        let end = ends(&world.disk.appends(session)).pop().unwrap();
        let End::Failed { code, message } = end else { panic!("{end:?}") };
        assert_eq!(code, "insufficient_quota");
        assert!(message.contains("the budget of project `p`"), "{message}");
        let spent = logs(&world).0;
        assert!(spent <= 400 && spent > 300, "{spent}");
        world.clock.pause(4_000).await;
        let stands = standing(&ledger).await;
        // The last money is not kept from others.
        assert_eq!((stands.slices.spent(), stands.slices.leased()), (spent, 0));
    });
}

#[test]
fn a_step_that_only_waits_for_what_others_hold_is_placed_later() {
    let world = World::new();
    world.run(async {
        let (host, _) = started(&world, 1, total(3_000), None).await;
        let slow = text(&["a", "b", "c", "d"]).into_iter().map(|it| (100, it.1)).collect();
        world.outside.says(slow);
        let other = SessionId(8);
        say(&host, terms()).await.unwrap();
        let inputs = vec![create(other), begin(terms())];
        host.feed(other, inputs, Feed::default()).await.unwrap();
        world.quiet(&host).await;
        assert_eq!(ends(&world.disk.appends(other)), [End::Completed]);
        assert_eq!(logs(&world), (2 * ANSWER, 0));
    });
}

#[test]
fn steps_at_the_same_time_share_what_is_left() {
    let world = World::new();
    world.run(async {
        let limit = 100_000;
        let (host, ledger) = started(&world, 1, total(limit), None).await;
        for n in 0..8 {
            let slow = text(&["a", "b"]).into_iter().map(|it| (1_000, it.1)).collect();
            world.outside.says(slow);
            let session = SessionId(100 + n);
            let inputs = vec![create(session), begin(terms())];
            host.feed(session, inputs, Feed::default()).await.unwrap();
        }
        // All are under way at once, and none waits.
        let plans: Vec<Plan> = (0..8).flat_map(|n| plans(&world, SessionId(100 + n))).collect();
        let caps: Vec<u64> = plans.iter().map(|it| it.max_output_tokens.unwrap_or(0)).collect();
        assert_eq!(caps[..2], [0, 0], "what fits is not capped");
        assert!(caps[2..].is_sorted_by(|a, b| a > b) && caps.len() == 8, "{caps:?}");
        assert!(logs(&world).1 <= limit);
        world.quiet(&host).await;
        host.drain().await;
        assert_eq!(standing(&ledger).await.slices.spent(), 8 * ANSWER);
        assert_eq!(logs(&world), (8 * ANSWER, 0));
    });
}

#[test]
fn two_hosts_share_the_last_money_and_pass_no_limit() {
    let world = World::new();
    world.run(async {
        let limit = 12_000;
        let dead = Dead::default();
        let (one, ledger) = started(&world, 1, total(limit), Some(&dead)).await;
        let (two, _) = started(&world, 2, total(limit), Some(&dead)).await;
        // Answers of two offers, tool calls, failures.
        world.outside.acts.lock().unwrap().muse = Some(Rng::new(7));
        let mut said = 0;
        for n in 0..400_u32 {
            let host = if n % 2 == 0 { &one } else { &two };
            let session = SessionId(100 + u128::from(n));
            let inputs = vec![create(session), begin(terms())];
            host.feed(session, inputs, Feed::default()).await.unwrap();
            world.clock.pause(u64::from(n % 5) * 20).await;
            let (spent, reserved) = logs(&world);
            assert!(spent + reserved <= limit, "{spent} + {reserved} of {limit}");
            said += 1;
            if spent + 200 > limit {
                break;
            }
        }
        assert!(said > 50, "most of it can be spent: {:?} after {said}", logs(&world));
        world.quiet(&one).await;
        world.quiet(&two).await;
        world.clock.pause(15_000).await;
        let (spent, reserved) = logs(&world);
        let stands = standing(&ledger).await;
        assert_eq!((stands.slices.spent(), stands.slices.leased(), reserved), (spent, 0, 0));
        assert!(spent <= limit && spent > limit / 2, "{spent}");
    });
}

#[test]
fn a_deleted_session_keeps_counting() {
    let world = World::new();
    world.run(async {
        let (host, _) = started(&world, 1, total(1_000_000), None).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        host.delete(SESSION).await.unwrap();
        // Killed at once.
        drop(host);
        let (host, ledger) = started(&world, 2, total(1_000_000), None).await;
        // One that goes while a model speaks counts with what was expected.
        let slow = text(&["a", "b"]).into_iter().map(|it| (1_000, it.1)).collect();
        world.outside.says(slow);
        let other = SessionId(8);
        host.feed(other, vec![create(other), begin(terms())], Feed::default()).await.unwrap();
        let expected = plans(&world, other)[0].expected;
        host.delete(other).await.unwrap();
        host.drain().await;
        assert_eq!(standing(&ledger).await.slices.spent(), ANSWER + expected);
    });
}

#[test]
fn what_is_not_stored_counts_as_spent_when_its_process_dies() {
    let world = World::new();
    world.run(async {
        let (host, _) = started(&world, 1, total(1_000_000), None).await;
        // Its log is another, and gone with it.
        let memory = world.beside();
        let fleeting = memory.host(1, HostSettings::default());
        let limits = Limits { own: BTreeMap::new(), every: Some(total(1_000_000)) };
        let (registry, log) = (world.disk.of(1), world.disk.of(1));
        let unstored = Ledger::new(registry, log, false, Arc::new(world.clock.clone()), limits);
        unstored.begin(host.epoch());
        fleeting.keep_ledger(unstored.clone());
        fleeting.start().await.unwrap();
        say(&fleeting, terms()).await.unwrap();
        memory.quiet(&fleeting).await;
        world.clock.pause(2_000).await;
        let stands = standing(&unstored).await;
        assert_eq!((stands.slices.unlogged, stands.here.unsettled), (ANSWER, 0));
        let held = stands.here.leased;
        drop((host, fleeting));
        let (host, ledger) = started(&world, 2, total(1_000_000), None).await;
        world.clock.pause(2_000).await;
        let stands = standing(&ledger).await;
        assert_eq!((stands.slices.spent(), stands.slices.leased()), (ANSWER + held, 0));
        drop(host);
    });
}

#[test]
fn a_start_after_a_crash_counts_what_the_logs_say() {
    let world = World::new();
    world.run(async {
        let limit = total(1_000_000);
        let (host, _) = started(&world, 1, limit, None).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let slow = text(&["a", "b", "c", "d"]).into_iter().map(|it| (1_000, it.1)).collect();
        world.outside.says(slow);
        let other = SessionId(8);
        host.feed(other, vec![create(other), begin(terms())], Feed::default()).await.unwrap();
        world.clock.pause(50).await;
        // Killed with 30 unsettled and one answer under way.
        assert!(logs(&world).1 >= STEP);
        drop(host);
        let (host, ledger) = started(&world, 2, limit, None).await;
        world.quiet(&host).await;
        world.clock.pause(2_000).await;
        let stands = standing(&ledger).await;
        let (spent, reserved) = logs(&world);
        assert!(spent > 2 * ANSWER, "the lost answer counts as what was expected of it");
        assert_eq!((stands.slices.spent(), reserved), (spent, 0));
        // Only its own slice is out.
        assert_eq!(stands.slices.leased(), stands.here.leased);
        host.drain().await;
        assert_eq!(standing(&ledger).await.slices.leased(), 0);
    });
}

#[test]
fn counting_begins_with_what_the_logs_say() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        drop(host);
        let month = Limit { amount: 1_000_000, per: Per::Month };
        let (host, ledger) = started(&world, 2, month, None).await;
        host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        world.quiet(&host).await;
        host.drain().await;
        assert_eq!(standing(&ledger).await.slices.spent(), 2 * ANSWER);
        // Another period is another question, and the logs answer it.
        let (host, ledger) = started(&world, 3, total(1_000_000), None).await;
        host.feed(SESSION, vec![begin(terms())], Feed::default()).await.unwrap();
        world.quiet(&host).await;
        host.drain().await;
        assert_eq!(standing(&ledger).await.slices.spent(), 3 * ANSWER);
        assert_eq!(standing(&ledger).await.slices.per, Per::Total);
    });
}

/// Three holders on one store, which stumbles; one after the other they die without a word and are started again.
fn crashes(seed: u64) {
    let world = World::new();
    world.outside.acts.lock().unwrap().muse = Some(Rng::new(seed));
    let mut rng = Rng::new(seed ^ 0x5eed);
    // From one that is soon reached to one that never is.
    let limit = [5_000, 20_000, 60_000, 300_000][rng.below(4) as usize];
    world.run(async {
        let dead = Dead::default();
        let mut hosts = BTreeMap::new();
        let mut no = 0;
        for _ in 0..3 {
            no += 1;
            hosts.insert(no, started(&world, no, total(limit), Some(&dead)).await);
        }
        world.disk.stored().faults = Faults {
            rng: Rng::new(seed),
            down_percent: 3,
            before_ms: 8,
            after_ms: 8,
            ..Faults::default()
        };
        for n in 0..60_u64 {
            let which = *hosts.keys().nth(rng.below(3) as usize).unwrap();
            if rng.percent(12) {
                let (host, _) = hosts.remove(&which).unwrap();
                dead.lock().unwrap().insert(host.epoch());
                drop(host);
                no += 1;
                hosts.insert(no, started(&world, no, total(limit), Some(&dead)).await);
            }
            let which = *hosts.keys().nth(rng.below(3) as usize).unwrap();
            let session = SessionId((100 + rng.below(20) + 1_000 * (n / 20)).into());
            let host = &hosts[&which].0;
            let said = match world.disk.rows(session).is_empty() {
                true => vec![create(session), begin(terms())],
                false => vec![begin(terms())],
            };
            let fed = host.feed(session, said, Feed::default()).await;
            assert!(!matches!(fed, Err(FeedError::Seen(_) | FeedError::Draining)), "{fed:?}");
            world.clock.pause(rng.below(400)).await;
            let (spent, reserved) = logs(&world);
            // A process that starts takes over all that works, also what others are still at: over the limit is at most
            // what was expected of those steps.
            let bound = limit + lost(&world) * LOST;
            assert!(spent + reserved <= bound, "seed {seed}: {spent} + {reserved} of {limit}");
        }
        world.disk.stored().faults = Faults::default();
        for (host, _) in hosts.values() {
            world.quiet(host).await;
        }
        // What the dead held is taken back.
        world.clock.pause(40_000).await;
        let ledger = hosts.values().next().unwrap().1.clone();
        for (host, _) in hosts.values() {
            host.drain().await;
        }
        let (spent, reserved) = logs(&world);
        let stands = standing(&ledger).await;
        assert_eq!(reserved, 0, "seed {seed}");
        assert_eq!(stands.slices.spent(), spent, "seed {seed}: {:?}", stands.slices);
        assert_eq!(stands.slices.leased(), 0, "seed {seed}: {:?}", stands.slices);
    });
}

/// How many answers were given up.
fn lost(world: &World) -> u64 {
    let sessions: Vec<SessionId> = world.disk.stored().sessions.keys().copied().collect();
    let appends = sessions.iter().flat_map(|it| world.disk.appends(*it));
    let is_lost = |it: &&Event| matches!(it, Event::AttemptLost { .. });
    appends.map(|it| it.events.iter().filter(is_lost).count() as u64).sum()
}

#[test]
fn no_crash_loses_or_doubles_money() {
    let seeds = std::env::var("EVERSTATE_SEEDS").ok().and_then(|it| it.parse().ok());
    (1..=seeds.unwrap_or(16)).for_each(crashes);
}
