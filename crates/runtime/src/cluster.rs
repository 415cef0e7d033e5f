//! Many equal nodes on one store: who they are, and what they ask of each other.

mod answering;

use std::sync::Arc;

use everstate_kernel::ids::{Millis, SessionId, TurnNo};

use crate::host::Host;

/// What is known of a node: of oneself from memory, of the others from what they last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    pub address: String,
    /// Its release.
    pub version: String,
    pub epoch: u64,
    /// Does it hold its lease, as far as this node can tell?
    pub is_alive: bool,
    /// Is it giving its sessions back, to stop?
    pub is_leaving: bool,
    pub is_self: bool,
    /// Buckets that are assigned to it.
    pub n_buckets: usize,
    /// Buckets it has still to let go of, or has been given and cannot take over yet.
    pub n_moving: usize,
    /// Sessions with something under way.
    pub n_live: usize,
    /// Sessions it has yet to adopt.
    pub n_ready: usize,
    /// How long ago it last said that it lives, as seen from here.
    pub beat_age_ms: Millis,
    /// The revision of the assignment it follows, and how many revisions that is behind.
    pub revision: u64,
    pub lag: u64,
}

impl Host {
    /// The nodes of the cluster by name; none if this host is alone on its store.
    pub fn nodes(&self) -> Vec<NodeFacts> {
        Vec::new()
    }

    /// A name for a new session, drawn until it falls to this node: most of what a client does with it is then done
    /// here. `draw` gives random numbers.
    pub fn mint(&self, mut draw: impl FnMut() -> u128) -> SessionId {
        SessionId(draw())
    }

    /// Says to the owner of a turn, for as long as the answer of this call is kept, that the turn's caller waits at
    /// this node: should this node die, the turn ends as one whose caller is gone. Costs nothing where the session is
    /// served here: then both die together.
    pub fn attend(self: &Arc<Host>, _session: SessionId, _turn: TurnNo) -> Attendance {
        Attendance {}
    }
}

/// A caller waits here. See [`Host::attend`].
#[derive(Debug)]
#[must_use = "the caller is there as long as this is"]
pub struct Attendance {}
