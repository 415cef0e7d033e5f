//! A seeded town of nodes: killed, stopped and continued, cut off from the store or from each other, joining and
//! leaving, while clients talk to whichever node they find. What is promised of one node is promised of all together.

use std::collections::BTreeMap;
use std::sync::Arc;

use everstate_kernel::event::Event;
use everstate_kernel::ids::{AttemptId, Millis, Seq, SessionId};
use everstate_runtime::host::Host;
use everstate_runtime::ports::Clock as _;
use everstate_runtime::tail::Told;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use crate::nodes::{Node, Nodes};
use crate::sim::{Sim, Sum};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const N_SESSIONS: u128 = 4;
const N_EVENTS: u64 = 10;
/// A client that hears nothing for so long asks another node.
const PATIENCE_MS: Millis = 12_000;
const DOZE_MS: Millis = 300;
/// Nobody who has lost a session shows pieces of it later than this.
const SLACK_MS: Millis = 50;

#[test]
fn what_was_promised_holds_in_a_faulty_town() {
    let number = |name: &str| std::env::var(name).ok().and_then(|it| it.parse::<u64>().ok());
    let only = number("EVERSTATE_SEED");
    let seeds = match only {
        Some(only) => only..=only,
        None => 1..=number("EVERSTATE_SEEDS").unwrap_or(20),
    };
    let mut sum = Sum::default();
    for seed in seeds {
        match std::panic::catch_unwind(|| simulate(seed)) {
            Ok(it) => sum.add(&it),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                panic!("EVERSTATE_SEED={seed}: {}", text.unwrap_or_default());
            }
        }
    }
    if only.is_none() {
        // A town in which nothing happens promises nothing.
        assert!(sum.n_acked > 0 && sum.n_frames > 0 && sum.n_shown > 0, "{sum:?}");
        assert!(sum.n_lost > 0 && sum.n_unknown > 0, "{sum:?}");
    }
}

fn simulate(seed: u64) -> Sum {
    let nodes = Nodes::new();
    let sim = Sim::new(&nodes.world, seed);
    nodes.world.clone().run(Town { nodes, sim, up: BTreeMap::new() }.live(seed))
}

struct Town {
    nodes: Nodes,
    sim: Sim,
    up: BTreeMap<&'static str, Up>,
}

/// A running process, and who speaks to it.
struct Up {
    node: Node,
    crowd: JoinSet<()>,
}

impl Town {
    async fn live(mut self, seed: u64) -> Sum {
        for name in &NAMES[..2] {
            self.start(name).await;
        }
        for _ in 0..N_EVENTS {
            self.sim.faults(seed + self.sim.draw(100), true);
            self.pause(self.sim.draw(4_000)).await;
            let name = NAMES[self.sim.draw(NAMES.len() as u64) as usize];
            self.happen(name).await;
        }
        // Peace.
        self.sim.faults(seed, false);
        for name in NAMES {
            self.nodes.keep_apart(name, false);
            if let Some(up) = self.up.get(name) {
                up.node.gate.cut(false);
                up.node.gate.go_on();
            }
        }
        if self.up.is_empty() {
            self.start(NAMES[0]).await;
        }
        self.pause(2_000).await;
        for up in self.up.values_mut() {
            hush(&mut up.crowd).await;
        }
        self.come_to_rest().await
    }

    async fn pause(&self, ms: Millis) {
        self.nodes.world.clock.pause(ms).await;
    }

    async fn happen(&mut self, name: &'static str) {
        let Some(up) = self.up.get_mut(name) else { return self.start(name).await };
        match self.sim.draw(10) {
            0..=1 => {
                let Some(mut up) = self.up.remove(name) else { return };
                hush(&mut up.crowd).await;
            }
            2 => {
                let Some(mut up) = self.up.remove(name) else { return };
                up.node.gate.go_on();
                up.node.host.drain().await;
                hush(&mut up.crowd).await;
            }
            3..=4 if !up.node.gate.is_stopped() => up.node.gate.stop(),
            3..=5 => up.node.gate.go_on(),
            6 => up.node.gate.cut(true),
            7 => up.node.gate.cut(false),
            8 => self.nodes.keep_apart(name, true),
            _ => self.nodes.keep_apart(name, false),
        }
    }

    async fn start(&mut self, name: &'static str) {
        let node = self.nodes.process(name, self.sim.settings());
        let mut started = false;
        for _ in 0..5 {
            started = node.host.start().await.is_ok();
            if started {
                break;
            }
            self.pause(50).await;
        }
        if !started {
            return;
        }
        let mut crowd = JoinSet::new();
        for session in (1..=N_SESSIONS).map(SessionId) {
            crowd.spawn(client(self.sim.clone(), Arc::clone(&node.host), session));
            crowd.spawn(reader(self.sim.clone(), Arc::clone(&node.host), session));
        }
        self.up.insert(name, Up { node, crowd });
    }

    /// Faults have stopped: the nodes agree, everything under way comes to an end, and the books are checked.
    async fn come_to_rest(self) -> Sum {
        let sessions: Vec<SessionId> = (1..=N_SESSIONS).map(SessionId).collect();
        let until = self.sim.world.clock.now() + 600_000;
        loop {
            self.pause(500).await;
            let n_buckets = self.up.values().map(|up| {
                let facts = up.node.host.nodes();
                let mine = facts.iter().find(|it| it.is_self && it.is_alive && it.n_moving == 0);
                mine.map_or(0, |it| it.n_buckets)
            });
            let is_whole = n_buckets.sum::<usize>() == 1_024;
            if is_whole && sessions.iter().all(|it| self.sim.is_at_rest(*it)) {
                break;
            }
            if self.sim.world.clock.now() > until {
                let facts: Vec<_> = self.up.values().map(|it| it.node.host.nodes()).collect();
                let wanted: Vec<_> = sessions
                    .iter()
                    .map(|it| (it, self.sim.world.disk.fold(*it).effects()))
                    .collect();
                panic!("never at rest: {wanted:?} {facts:?}");
            }
        }
        for up in self.up.values() {
            self.sim.world.quiet(&up.node.host).await;
        }
        let mut sum = Sum::default();
        for up in self.up.values() {
            sum = self.sim.close_the_books(0, &up.node.host, &sessions).await;
        }
        sum
    }
}

async fn client(sim: Sim, host: Arc<Host>, session: SessionId) {
    loop {
        sim.world.clock.pause(sim.draw(2_000)).await;
        tokio::select! {
            biased;
            () = sim.act(&host, session) => (),
            () = sim.world.clock.pause(PATIENCE_MS) => (),
        }
    }
}

async fn reader(sim: Sim, host: Arc<Host>, session: SessionId) {
    let mut last: Seq = 0;
    // What waits for a reader that dozes was told in time.
    let mut dozed_at = 0;
    loop {
        let mut tail = host.tail(session, last);
        let mut n_pieces: BTreeMap<AttemptId, u64> = BTreeMap::new();
        while let Some(Ok(told)) = tail.next().await {
            if let Told::Shown(piece) = &told {
                let attempt = piece.frame.attempt;
                let n = n_pieces.entry(attempt).or_default();
                assert_eq!(piece.n, *n, "a piece of {attempt} of {session} is missing");
                *n += 1;
            }
            if let Told::Shown(piece) = &told
                && sim.world.clock.now() > dozed_at + DOZE_MS
            {
                let of = piece.frame.attempt;
                let gone_at = lost_at(
                    &sim,
                    session,
                    |it| matches!(it, Event::Placed { attempt, .. } if *attempt == of),
                );
                let now = sim.world.clock.now();
                assert!(
                    gone_at.is_none_or(|it| now <= it + SLACK_MS),
                    "{of} of {session} is shown at {now}, and its owner lost it at {gone_at:?}"
                );
            }
            sim.heard(0, session, &mut last, &told, false);
            if sim.draw(10) == 0 {
                sim.world.clock.pause(sim.draw(DOZE_MS)).await;
                dozed_at = sim.world.clock.now();
            }
            if sim.draw(60) == 0 {
                break;
            }
        }
        drop(tail);
        sim.world.clock.pause(1 + sim.draw(200)).await;
    }
}

/// When another took the session over after this had happened.
fn lost_at(sim: &Sim, session: SessionId, what: impl Fn(&Event) -> bool) -> Option<Millis> {
    let appends = sim.world.disk.appends(session);
    let began = appends.iter().position(|it| it.events.iter().any(&what))?;
    let mut later = appends[began + 1..].iter();
    later.find(|it| it.events.iter().any(|it| matches!(it, Event::Owned { .. }))).map(|it| it.at)
}

/// Sends the crowd away.
async fn hush(crowd: &mut JoinSet<()>) {
    crowd.abort_all();
    while let Some(ended) = crowd.join_next().await {
        if let Err(err) = ended
            && err.is_panic()
        {
            std::panic::resume_unwind(err.into_panic());
        }
    }
}
