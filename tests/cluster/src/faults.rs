//! What is done to whoever leads, and how it is undone.

use std::time::Duration;

use crate::ensemble::Ensemble;
use crate::processes::{Signal, pause, signal};

#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Harms the ensemble, waits, and puts right what does not put itself right.
    pub(crate) happens: fn(&mut Ensemble, leader: usize),
}

/// Longer than the leader's key lives.
const LONG: Duration = Duration::from_secs(14);

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "PostgreSQL killed",
        happens: |ensemble, leader| kill_postgres(ensemble, leader),
    },
    Fault {
        name: "PostgreSQL and Patroni killed",
        happens: |ensemble, leader| {
            // Patroni first: it would start PostgreSQL again.
            signal(&[ensemble.members[leader].patroni()], Signal::Kill);
            kill_postgres(ensemble, leader);
            pause(LONG);
            ensemble.members[leader].restart_patroni();
        },
    },
    Fault {
        // Its PostgreSQL goes on as if nothing were, while another one is made the leader.
        name: "Patroni killed",
        happens: |ensemble, leader| {
            signal(&[ensemble.members[leader].patroni()], Signal::Kill);
            pause(LONG);
            ensemble.members[leader].restart_patroni();
        },
    },
    Fault {
        name: "the leader's machine stopped for 14 s, then continued",
        happens: |ensemble, leader| {
            let all = ensemble.members[leader].everything();
            signal(&all, Signal::Stop);
            pause(LONG);
            signal(&all, Signal::Continue);
        },
    },
    Fault {
        // Strict: nothing is acknowledged until another one follows.
        name: "the synchronous standby killed",
        happens: |ensemble, _| {
            let Some(standby) = ensemble.synchronous() else { return };
            kill_postgres(ensemble, standby);
        },
    },
    Fault {
        // What is acknowledged meanwhile, if anything is, is on the leader alone.
        name: "both standbys stopped for 2 s, then the leader killed, then they go on",
        happens: |ensemble, leader| {
            let others = (0..ensemble.members.len()).filter(|it| *it != leader);
            let others: Vec<u32> = others
                .filter_map(|it| ensemble.members[it].postgres())
                .flat_map(crate::processes::family)
                .collect();
            signal(&others, Signal::Stop);
            pause(Duration::from_secs(2));
            signal(&[ensemble.members[leader].patroni()], Signal::Kill);
            kill_postgres(ensemble, leader);
            signal(&others, Signal::Continue);
            pause(LONG);
            ensemble.members[leader].restart_patroni();
        },
    },
    Fault {
        name: "a connection's process killed: PostgreSQL starts itself again",
        happens: |ensemble, leader| {
            let postgres = ensemble.members[leader].postgres();
            let backend = postgres.and_then(|it| crate::processes::family(it).last().copied());
            signal(backend.as_slice(), Signal::Kill);
        },
    },
];

fn kill_postgres(ensemble: &Ensemble, member: usize) {
    let all = ensemble.members[member].postgres().map(crate::processes::family);
    signal(&all.unwrap_or_default(), Signal::Kill);
}
