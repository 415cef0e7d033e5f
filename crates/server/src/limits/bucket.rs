//! A bucket that fills evenly, a minute's worth at most. It can be owed to.

use everstate_kernel::ids::Millis;

const MINUTE_MS: i64 = 60_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// What is missing to the full, in parts of a minute: a limit of n a minute pays n of them back each millisecond.
    missing: i64,
    pub(super) at: Millis,
}

/// How a bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) amount: u64,
    /// Until one more is there.
    pub(super) again_ms: Millis,
    pub(super) full_ms: Millis,
}

impl Bucket {
    pub(super) fn new(now: Millis) -> Bucket {
        Bucket { missing: 0, at: now }
    }

    /// Takes so much, or says when it can be had.
    pub(super) fn take(&mut self, per_min: u64, amount: u64, now: Millis) -> Result<(), Millis> {
        self.fill(per_min, now);
        let full = whole(per_min);
        let wanted = self.missing.saturating_add(whole(amount));
        if wanted > full {
            return Err(ms_for(wanted - full, per_min));
        }
        self.missing = wanted;
        Ok(())
    }

    /// Takes so much, whether it is there or not: but never more than can be paid back in an hour.
    pub(super) fn owe(&mut self, per_min: u64, amount: u64, now: Millis) {
        self.fill(per_min, now);
        let most = whole(per_min).saturating_mul(60);
        self.missing = self.missing.saturating_add(whole(amount)).min(most);
    }

    pub(super) fn left(&mut self, per_min: u64, now: Millis) -> Left {
        self.fill(per_min, now);
        let there = whole(per_min) - self.missing;
        Left {
            amount: u64::try_from(there / MINUTE_MS).unwrap_or(0),
            again_ms: ms_for(MINUTE_MS - there, per_min),
            full_ms: ms_for(self.missing, per_min),
        }
    }

    fn fill(&mut self, per_min: u64, now: Millis) {
        let passed = i64::try_from(now.saturating_sub(self.at)).unwrap_or(i64::MAX);
        let paid = passed.saturating_mul(signed(per_min));
        self.missing = self.missing.saturating_sub(paid).max(0);
        self.at = self.at.max(now);
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

fn whole(amount: u64) -> i64 {
    signed(amount).saturating_mul(MINUTE_MS)
}

/// How long it takes to pay so much back.
fn ms_for(missing: i64, per_min: u64) -> Millis {
    let missing = u64::try_from(missing.max(0)).unwrap_or(0);
    missing.div_ceil(per_min.max(1))
}
