//! A limit that many spend from without asking each other: each holder leases a slice of it, spends that alone, and
//! settles now and then what it spent.
//!
//! These are the rules over one document per limit, which is written by compare-and-set. What is out on lease counts as
//! spent until it comes back, so holders together never get more than the limit. Amounts are whole units of whatever is
//! limited; of money, micro-USD. Who holds, who is dead, and what a log says is left to the runtime.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::calendar::{DAY_MS, Month};
use crate::ids::Millis;
use crate::item::is_default;

/// So much, and then no more until the period is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub amount: u64,
    pub per: Per,
}

/// Periods begin at midnight UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    Day,
    Month,
    /// Never begins anew.
    #[default]
    Total,
}

/// A limit's document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slices {
    pub per: Per,
    /// When the period began that is counted here.
    pub since: Millis,
    /// Spent in it and told by logs, as far as it was settled.
    pub spent: u64,
    /// Spent in it, and no log tells: of sessions that are not stored.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unlogged: u64,
    /// Up to and including this time the logs were read when the counting began: it is all in `spent`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub counted_to: Millis,
    /// What is out, by holder.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub out: BTreeMap<String, Slice>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// What its holder may spend, and has not settled.
    pub left: u64,
    /// All that its holder spent up to and including this time is settled.
    pub settled_to: Millis,
    /// Its holder's spending stands in no log.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unlogged: bool,
    /// Its holder is gone, and there is nothing more to be found in logs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub closed: bool,
}

/// Something was spent at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub at: Millis,
    pub amount: u64,
}

/// A closed slice is remembered for so long, so that one who was taken for dead finds how far it was settled without him.
const REMEMBERED_MS: Millis = 3_600_000;
/// A lease is this part of what is free...
const PART: u64 = 20;
/// ...or so many times what is needed at once, if that is more.
const STEPS: u64 = 4;

/// How much to lease for a holder that needs `need` at once: enough for a few steps, and little enough that others find
/// something.
pub fn portion(free: u64, need: u64) -> u64 {
    need.saturating_mul(STEPS).max(free / PART).min(free)
}

impl Slices {
    /// Counting begins: the logs say that this was spent in the period of `now`, up to and including `counted_to`.
    pub fn begin(per: Per, now: Millis, spent: u64, counted_to: Millis) -> Slices {
        Slices { per, since: per.since(now), spent, counted_to, ..Slices::default() }
    }

    /// Counts anew, from the logs. What is out stays out, and what no log tells stays counted.
    pub fn recount(&mut self, per: Per, now: Millis, spent: u64, counted_to: Millis) {
        let since = per.since(now);
        if since > self.since {
            self.unlogged = 0;
        }
        (self.per, self.since, self.spent, self.counted_to) = (per, since, spent, counted_to);
    }

    /// Lets time pass. A new period begins with nothing spent; what is out stays out.
    pub fn pass(&mut self, now: Millis) {
        let since = self.per.since(now);
        // A clock that is behind does not bring an old period back.
        if since > self.since {
            (self.since, self.spent, self.unlogged) = (since, 0, 0);
        }
        self.out.retain(|_, it| !it.closed || it.settled_to.saturating_add(REMEMBERED_MS) > now);
    }

    /// All that was spent in the period and is settled.
    pub fn spent(&self) -> u64 {
        self.spent.saturating_add(self.unlogged)
    }

    /// All that is out.
    pub fn leased(&self) -> u64 {
        self.out.values().fold(0, |sum, it| sum.saturating_add(it.left))
    }

    /// What nobody has.
    pub fn free(&self, limit: u64) -> u64 {
        limit.saturating_sub(self.spent()).saturating_sub(self.leased())
    }

    /// Hands out up to `want`, and says how much it was. A holder settles before it leases.
    pub fn lease(&mut self, limit: u64, holder: &str, want: u64) -> u64 {
        let granted = want.min(self.free(limit));
        let slice = self.out.entry(holder.to_owned()).or_default();
        slice.left = slice.left.saturating_add(granted);
        granted
    }

    /// Takes note of what a holder spent up to and including `through`. Whoever is going to spend says so once before,
    /// with nothing, so that it can be found in its logs if it dies.
    pub fn settle(&mut self, holder: &str, spent: &[Spent], through: Millis, unlogged: bool) {
        let slice = self.out.entry(holder.to_owned()).or_default();
        (slice.unlogged, slice.closed) = (unlogged, false);
        let settled_to = slice.settled_to;
        for it in spent.iter().filter(|it| it.at > settled_to) {
            slice.left = slice.left.saturating_sub(it.amount);
            // What was spent before the period is none of its own; what was read from the logs is in it.
            if it.at < self.since {
                continue;
            }
            match unlogged {
                true => self.unlogged = self.unlogged.saturating_add(it.amount),
                false if it.at <= self.counted_to => (),
                false => self.spent = self.spent.saturating_add(it.amount),
            }
        }
        slice.settled_to = settled_to.max(through);
    }

    /// A holder keeps at most `keep`; the rest is free.
    pub fn give_back(&mut self, holder: &str, keep: u64) {
        if let Some(slice) = self.out.get_mut(holder) {
            slice.left = slice.left.min(keep);
        }
    }

    /// A dead holder's slice comes back. `spent` is what its logs tell since it last settled, `under_way` what is held in
    /// them for attempts that nobody has taken over yet: that much stays out until they are.
    pub fn reclaim(&mut self, holder: &str, spent: &[Spent], under_way: u64) {
        let Some(slice) = self.out.get(holder) else { return };
        let through = spent.iter().map(|it| it.at).max().unwrap_or(slice.settled_to);
        self.settle(holder, spent, through, false);
        self.give_back(holder, under_way);
        self.close(holder);
    }

    /// A holder goes. What it still has under way is taken back later.
    pub fn close(&mut self, holder: &str) {
        if let Some(slice) = self.out.get_mut(holder) {
            slice.closed = slice.left == 0;
        }
    }

    /// A dead holder's slice counts as spent: no log tells how much of it was.
    pub fn forfeit(&mut self, holder: &str) {
        if let Some(slice) = self.out.remove(holder) {
            self.unlogged = self.unlogged.saturating_add(slice.left);
        }
    }
}

impl Per {
    /// When the period of this time began.
    pub fn since(self, now: Millis) -> Millis {
        match self {
            Per::Day => now - now % DAY_MS,
            Per::Month => month(now).0,
            Per::Total => 0,
        }
    }

    /// When the next period begins, if ever.
    pub fn until(self, now: Millis) -> Option<Millis> {
        match self {
            Per::Day => Some(self.since(now).saturating_add(DAY_MS)),
            Per::Month => Some(month(now).1),
            Per::Total => None,
        }
    }
}

/// Where the month of this time begins and ends.
fn month(now: Millis) -> (Millis, Millis) {
    let month = Month::of(now / DAY_MS);
    (month.first * DAY_MS, (month.first + month.length).saturating_mul(DAY_MS))
}
