//! A thousand lives of a session, each with its own misfortunes. `EVERSTATE_SEEDS` asks for more of them, and
//! `EVERSTATE_SEED` for a certain one.

use everstate_kernel::event::{Event, Try};
use everstate_kernel::item::Outcome;

use crate::promises;
use crate::world::World;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|it| it.parse().ok())
}

#[test]
fn simulate() {
    let seeds = match number("EVERSTATE_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("EVERSTATE_SEEDS").unwrap_or(1_000),
    };
    let mut seen = Seen::default();
    for seed in seeds.clone() {
        // Kept for the panic message, which names the promise but not the world.
        let run = std::panic::catch_unwind(|| live(seed));
        match run {
            Ok(world) => seen.count(&world),
            Err(_) => panic!("seed {seed}: run it alone with EVERSTATE_SEED={seed}"),
        }
    }
    println!("{} lives: {seen:?}", seeds.count());
    seen.everything(number("EVERSTATE_SEED").is_some());
}

fn live(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..250 {
        step(&mut world);
    }
    // The faults stop: whatever is under way comes to an end, or waits for somebody.
    world.faults = false;
    let mut n_ticks = 0;
    while world.session().live.turn.is_some() || world.session().live.parked.is_some() {
        n_ticks += 1;
        assert!(
            n_ticks < 20_000,
            "seed {seed}: the turn never ends\n{}",
            crate::story::tell(&world.log)
        );
        step(&mut world);
    }
    world
}

fn step(world: &mut World) {
    let before = world.moment();
    world.tick();
    if world.moment() != before {
        promises::check(world);
    }
}

/// A simulation that never meets a case does not test it.
#[derive(Debug, Default)]
struct Seen {
    turns: u64,
    events: u64,
    unknown: u64,
    learned: u64,
    restarts: u64,
    hedges: u64,
    fallbacks: u64,
    steered: u64,
    erased: u64,
    compacted: u64,
    expired: u64,
    parked: u64,
    sealed: u64,
    configured: u64,
    paused: u64,
    resumed: u64,
    reminded: u64,
    summed: u64,
    summed_in_vain: u64,
}

impl Seen {
    fn count(&mut self, world: &World) {
        for append in &world.log {
            let is_sum = |it: &&Event| matches!(it, Event::SummedUp { .. });
            let n_sums = append.events.iter().filter(is_sum).count() as u64;
            let is_kept = |it: &Event| matches!(it, Event::Compacted { .. });
            match append.events.iter().any(is_kept) {
                true => self.summed += n_sums,
                false => self.summed_in_vain += n_sums,
            }
        }
        for event in world.log.iter().flat_map(|it| &it.events) {
            self.events += 1;
            match event {
                Event::TurnEnded { .. } => self.turns += 1,
                Event::ToolFinished { outcome: Outcome::Unknown, .. } => self.unknown += 1,
                Event::OutcomeLearned { .. } => self.learned += 1,
                Event::AttemptOpened { why: Try::Restart, .. } => self.restarts += 1,
                Event::AttemptOpened { why: Try::Hedge, .. } => self.hedges += 1,
                Event::AttemptOpened { why: Try::Fallback, .. } => self.fallbacks += 1,
                Event::Steered { .. } => self.steered += 1,
                Event::ItemErased { .. } => self.erased += 1,
                Event::Compacted { .. } => self.compacted += 1,
                Event::ApprovalExpired { .. } => self.expired += 1,
                Event::Parked { .. } => self.parked += 1,
                Event::Sealed { .. } => self.sealed += 1,
                Event::Configured(_) => self.configured += 1,
                Event::Paused { .. } => self.paused += 1,
                Event::Resumed { .. } => self.resumed += 1,
                Event::Reminded { .. } => self.reminded += 1,
                _ => (),
            }
        }
    }

    fn everything(&self, one_seed: bool) {
        let counts = [
            self.turns,
            self.unknown,
            self.learned,
            self.restarts,
            self.hedges,
            self.fallbacks,
            self.steered,
            self.erased,
            self.compacted,
            self.expired,
            self.parked,
            self.sealed,
            self.configured,
            self.paused,
            self.resumed,
            self.reminded,
            self.summed,
            self.summed_in_vain,
        ];
        assert!(
            one_seed || counts.iter().all(|it| *it > 0),
            "the world never showed some case: {self:?}"
        );
    }
}
