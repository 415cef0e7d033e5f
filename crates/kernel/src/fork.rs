//! Forking: a new session that begins with what another had said.
//!
//! A fork starts no inherited work and inherits no approval. Calls that we run and that were open at the cut are
//! closed: `unknown` if they had started, else `cancelled`. Calls a client runs stay open for the fork's first input.

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, Seq, SessionId, TurnNo};
use crate::item::Item;
use crate::plan::Warm;
use crate::state::{Call, Doubt};

/// What a fork begins with, copied: deleting the parent harms no fork.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inheritance {
    pub parent: SessionId,
    /// The parent's append after which it was cut.
    pub at: Seq,
    /// The fork counts its turns from here.
    pub turn_no: TurnNo,
    pub lineage: Vec<Lineage>,
    pub items: Vec<Item>,
    /// Calls that clients run, still open.
    pub open: Vec<(CallId, Call)>,
    /// Calls that we had started and whose outcome the fork does not know.
    pub doubts: Vec<(CallId, Doubt)>,
    pub warm: Option<Warm>,
}

/// Who minted the names of items and calls: `session` those of turns up to `through` (and after the entry before).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub session: SessionId,
    pub through: TurnNo,
}
