//! One slice in memory: what is reserved, what was spent and is not settled, and which appends are on their way.

use std::collections::BTreeMap;

use everstate_kernel::ids::{AttemptId, Millis, SessionId};
use everstate_kernel::money::Micros;
use everstate_kernel::slice::{Slice, Spent};

use super::Here;

/// A slice that nobody used for so long is given back...
const IDLE_MS: Millis = 10_000;
/// ...or for so long, where it is the last money.
const SCARCE_MS: Millis = 1_000;

#[derive(Debug, Default)]
pub(super) struct Purse {
    /// What the document leaves us to spend.
    held: Micros,
    /// Spent and not settled, by the time of the append that says so.
    spent: BTreeMap<Millis, Micros>,
    spent_sum: Micros,
    reserved: BTreeMap<(SessionId, AttemptId), Micros>,
    reserved_sum: Micros,
    /// Appends on their way, by their time.
    flying: BTreeMap<Millis, usize>,
    /// Appends from here on have this time or a later one: what is earlier may be settled.
    floor: Millis,
    used_at: Millis,
    /// What the largest step needed of late.
    need: Micros,
    /// There is more to be had than this slice.
    has_more: bool,
    /// Others have slices, of which something may come back.
    pub(super) others_hold: bool,
}

impl Purse {
    pub(super) fn free(&self) -> Micros {
        self.held.saturating_sub(self.spent_sum).saturating_sub(self.reserved_sum)
    }

    pub(super) fn here(&self) -> Here {
        Here { leased: self.held, reserved: self.reserved_sum, unsettled: self.spent_sum }
    }

    pub(super) fn fly(&mut self, now: Millis) -> Millis {
        let at = now.max(self.floor);
        *self.flying.entry(at).or_default() += 1;
        self.used_at = at;
        at
    }

    pub(super) fn land(&mut self, at: Millis) {
        if let Some(n) = self.flying.get_mut(&at) {
            *n -= 1;
            if *n == 0 {
                self.flying.remove(&at);
            }
        }
    }

    /// All of it or nothing.
    pub(super) fn reserve(
        &mut self,
        session: SessionId,
        placed: impl Iterator<Item = (AttemptId, Micros)> + Clone,
    ) -> bool {
        let sum = placed.clone().fold(0, |sum: Micros, (_, it)| sum.saturating_add(it));
        if sum > self.free() {
            return false;
        }
        if sum > 0 {
            // Falls slowly, so that one small step does not make it forget the large ones.
            self.need = sum.max(self.need - self.need / 8);
        }
        for (attempt, amount) in placed {
            self.reserved.insert((session, attempt), amount);
            self.reserved_sum += amount;
        }
        true
    }

    pub(super) fn release(&mut self, session: SessionId, attempt: AttemptId) {
        if let Some(amount) = self.reserved.remove(&(session, attempt)) {
            self.reserved_sum -= amount;
        }
    }

    pub(super) fn forget(&mut self, session: SessionId) {
        let gone: Vec<AttemptId> =
            self.reserved.keys().filter(|it| it.0 == session).map(|it| it.1).collect();
        gone.into_iter().for_each(|it| self.release(session, it));
    }

    /// An attempt ended at this cost, whether or not anything was reserved for it here.
    pub(super) fn settle(
        &mut self,
        session: SessionId,
        attempt: AttemptId,
        at: Millis,
        cost: Micros,
    ) {
        self.release(session, attempt);
        if cost > 0 {
            let spent = self.spent.entry(at).or_default();
            *spent = spent.saturating_add(cost);
            self.spent_sum = self.spent_sum.saturating_add(cost);
        }
    }

    /// What can be settled: everything up to a time that no append under way has, and none will have.
    pub(super) fn cut(&mut self, now: Millis) -> (Millis, Vec<Spent>) {
        let last = self.spent.last_key_value().map_or(now, |(at, _)| now.max(*at));
        let through = self.flying.first_key_value().map_or(last, |(at, _)| at.saturating_sub(1));
        self.floor = self.floor.max(through.saturating_add(1));
        let spent = self.spent.range(..=through);
        (through, spent.map(|(&at, &amount)| Spent { at, amount }).collect())
    }

    /// What is not in use is given away before the document says so, so that nobody uses it meanwhile.
    pub(super) fn empty(&mut self) {
        self.held = self.held.min(self.spent_sum.saturating_add(self.reserved_sum));
        self.need = 0;
    }

    /// As the document has it.
    pub(super) fn know(&mut self, slice: Slice, has_more: bool, others_hold: bool) {
        let later = self.spent.split_off(&slice.settled_to.saturating_add(1));
        self.spent = later;
        self.spent_sum = self.spent.values().sum();
        self.held = slice.left;
        (self.has_more, self.others_hold) = (has_more, others_hold);
    }

    /// What must stay leased when the rest is given back, if all up to `through` is settled.
    pub(super) fn in_use(&self, through: Millis) -> Micros {
        let unsettled: Micros = self.spent.range(through.saturating_add(1)..).map(|it| it.1).sum();
        unsettled.saturating_add(self.reserved_sum)
    }

    /// How much is needed so that a step of this size has it; 0 if it is there.
    pub(super) fn lacks(&self, need: Micros) -> Micros {
        need.saturating_sub(self.free())
    }

    pub(super) fn need(&self) -> Micros {
        self.need
    }

    /// A few steps more, and it is empty, and there is more to be had.
    pub(super) fn is_low(&self) -> bool {
        self.has_more && self.free() < self.need.saturating_mul(2)
    }

    pub(super) fn has_unsettled(&self) -> bool {
        self.spent_sum > 0
    }

    /// Holds something that nobody has used for a while: a short one, if there is nothing else for others to have.
    pub(super) fn is_idle(&self, now: Millis) -> bool {
        let patience = if self.has_more { IDLE_MS } else { SCARCE_MS };
        let rests = self.used_at.saturating_add(patience) < now;
        self.flying.is_empty() && rests && self.held > self.reserved_sum
    }

    pub(super) fn used_at(&self) -> Millis {
        self.used_at
    }
}
