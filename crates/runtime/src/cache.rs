//! Folded sessions nobody is working on, kept for the next touch: bounded by number, by bytes and by age.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_kernel::state::Session;

use crate::ports::Head;

/// A session as it was left.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) state: Arc<Session>,
    pub(crate) head: Head,
    /// Up to where history was packed, as far as this process knows.
    pub(crate) rolled: Seq,
    pub(crate) since_snapshot: u64,
    /// About how much memory it takes: what the rows it was folded from took.
    pub(crate) bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Cache {
    kept: HashMap<SessionId, (Kept, Use)>,
    /// The same, the longest untouched first.
    order: BTreeMap<Use, SessionId>,
    bytes: u64,
    uses: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    at: Millis,
    n: u64,
}

impl Cache {
    pub(crate) fn take(&mut self, session: SessionId) -> Option<Kept> {
        let (kept, last) = self.kept.remove(&session)?;
        self.order.remove(&last);
        self.bytes -= weight(&kept);
        Some(kept)
    }

    pub(crate) fn get(&self, session: SessionId) -> Option<&Kept> {
        self.kept.get(&session).map(|(kept, _)| kept)
    }

    pub(crate) fn put(
        &mut self,
        session: SessionId,
        kept: Kept,
        now: Millis,
        n_max: usize,
        bytes_max: u64,
    ) {
        self.take(session);
        self.uses += 1;
        let last = Use { at: now, n: self.uses };
        self.bytes += weight(&kept);
        self.kept.insert(session, (kept, last));
        self.order.insert(last, session);
        while self.kept.len() > n_max || self.bytes > bytes_max {
            if !self.drop_oldest() {
                break;
            }
        }
    }

    /// Lets go of what was last touched at `before` or earlier.
    pub(crate) fn prune(&mut self, before: Millis) {
        while self.order.first_key_value().is_some_and(|(last, _)| last.at <= before) {
            self.drop_oldest();
        }
    }

    /// Lets go of sessions that are not this host's any more, or that may have been another's meanwhile.
    pub(crate) fn forget(&mut self, which: impl Fn(SessionId) -> bool) {
        let gone: Vec<SessionId> = self.kept.keys().copied().filter(|it| which(*it)).collect();
        for session in gone {
            self.take(session);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, session)) = self.order.pop_first() else { return false };
        if let Some((kept, _)) = self.kept.remove(&session) {
            self.bytes -= weight(&kept);
        }
        true
    }
}

fn weight(kept: &Kept) -> u64 {
    kept.bytes + 2_000
}
