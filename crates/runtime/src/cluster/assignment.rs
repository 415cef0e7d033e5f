//! Who owns which buckets, and how that changes when nodes come and go. Pure: everybody computes the same.

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::ids::BUCKETS;
use serde::{Deserialize, Serialize};

use crate::buckets::Buckets;

/// All buckets and their owners. It changes only when a node joins, leaves or dies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Paper", into = "Paper")]
pub(crate) struct Assignment {
    /// Grows by one with every change; 0 before the first.
    pub(crate) revision: u64,
    /// The version rows are written at: every member reads it.
    pub(crate) version: u16,
    /// The nodes it was computed for.
    pub(crate) members: BTreeSet<String>,
    /// Of every bucket, in order; empty before the first.
    seats: Vec<Seat>,
}

/// A bucket's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    pub(crate) owner: String,
    /// The revision that gave it to its owner.
    pub(crate) since: u64,
    /// Who may still hold it: the owner waits until each of them has followed `since` and let go of it, or is dead.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) from: BTreeSet<String>,
}

impl Assignment {
    pub(crate) fn seat(&self, bucket: u16) -> Option<&Seat> {
        self.seats.get(usize::from(bucket))
    }

    pub(crate) fn of(&self, node: &str) -> Buckets {
        (0..BUCKETS).filter(|it| self.seat(*it).is_some_and(|it| it.owner == node)).collect()
    }

    /// The assignment after this one, for these nodes: balanced within one bucket, with as few moves as that takes.
    /// Without nodes it stays as it is.
    pub(crate) fn next(
        &self,
        members: &BTreeSet<String>,
        version: u16,
        seen: &impl Seen,
    ) -> Assignment {
        if members.is_empty() {
            return self.clone();
        }
        let revision = self.revision + 1;
        let mut held: BTreeMap<&str, Vec<u16>> =
            members.iter().map(|it| (it.as_str(), Vec::new())).collect();
        let mut free: BTreeSet<u16> = BTreeSet::new();
        for bucket in 0..BUCKETS {
            let owner = self.seat(bucket).and_then(|it| held.get_mut(it.owner.as_str()));
            match owner {
                Some(buckets) => buckets.push(bucket),
                None => {
                    free.insert(bucket);
                }
            }
        }
        // Whoever has most keeps the odd ones.
        let (n_each, n_odd) =
            (usize::from(BUCKETS) / members.len(), usize::from(BUCKETS) % members.len());
        let mut richest: Vec<&str> = held.keys().copied().collect();
        richest.sort_by_key(|it| (usize::MAX - held[it].len(), *it));
        let share: BTreeMap<&str, usize> = richest
            .iter()
            .enumerate()
            .map(|(n, it)| (*it, n_each + usize::from(n < n_odd)))
            .collect();
        for (node, buckets) in &mut held {
            free.extend(buckets.drain(share[node].min(buckets.len())..));
        }
        let mut seats: Vec<Option<Seat>> = (0..BUCKETS).map(|it| self.seat(it).cloned()).collect();
        for (node, buckets) in &held {
            for _ in buckets.len()..share[node] {
                let bucket = free.pop_first().expect("what is free is what is wanted");
                let mut from = self.holders(bucket, seen);
                from.remove(*node);
                let seat = Seat { owner: (*node).to_owned(), since: revision, from };
                seats[usize::from(bucket)] = Some(seat);
            }
        }
        let seats = seats.into_iter().map(|it| it.expect("every bucket was given")).collect();
        Assignment { revision, version, members: members.clone(), seats }
    }

    /// Who may be at work in a bucket: its owner, and those before it of whom nobody knows better.
    fn holders(&self, bucket: u16, seen: &impl Seen) -> BTreeSet<String> {
        let Some(seat) = self.seat(bucket) else { return BTreeSet::new() };
        let owner = Some(&seat.owner).filter(|it| !seen.is_gone(it));
        let earlier = seat.from.iter().filter(|it| !seen.has_let_go(it, bucket, seat.since));
        earlier.chain(owner).cloned().collect()
    }
}

/// What was seen of the nodes.
pub(crate) trait Seen {
    /// It is dead, or was never there.
    fn is_gone(&self, node: &str) -> bool;
    /// It is gone, or follows the revision that took the bucket from it and holds it no more.
    fn has_let_go(&self, node: &str, bucket: u16, since: u64) -> bool;
}

/// As it is written down: neighbours with the same place are one line.
#[derive(Serialize, Deserialize)]
struct Paper {
    revision: u64,
    version: u16,
    members: BTreeSet<String>,
    seats: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    n: u16,
    #[serde(flatten)]
    seat: Seat,
}

impl From<Assignment> for Paper {
    fn from(it: Assignment) -> Paper {
        let mut seats: Vec<Row> = Vec::new();
        for seat in it.seats {
            match seats.last_mut() {
                Some(row) if row.seat == seat => row.n += 1,
                _ => seats.push(Row { n: 1, seat }),
            }
        }
        Paper { revision: it.revision, version: it.version, members: it.members, seats }
    }
}

impl From<Paper> for Assignment {
    fn from(it: Paper) -> Assignment {
        let all = it.seats.into_iter().flat_map(|row| std::iter::repeat_n(row.seat, row.n.into()));
        let seats = all.take(usize::from(BUCKETS)).collect();
        Assignment { revision: it.revision, version: it.version, members: it.members, seats }
    }
}

#[cfg(test)]
mod tests;
