//! Watching the others: whose beat has stopped, by one's own monotonic clock and by nobody's wall clock.
//!
//! Silence counts only while it is listened to. Whoever could not read for a while, because the store was away or it
//! was itself stopped, begins to listen anew: else all would declare each other dead after the same outage.

use std::collections::BTreeMap;

use everstate_kernel::ids::Millis;

#[derive(Debug)]
pub(crate) struct Watch {
    lease_ms: Millis,
    /// When the last look came back.
    looked_at: Option<Millis>,
    heard: BTreeMap<String, Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    beat: Beat,
    /// Since when nothing else was heard.
    since: Millis,
}

/// A sign of life. Any other one than the last will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) epoch: u64,
    pub(crate) beat: u64,
}

impl Watch {
    pub(crate) fn new(lease_ms: Millis) -> Watch {
        Watch { lease_ms, looked_at: None, heard: BTreeMap::new() }
    }

    /// What a look showed that began and came back at these times. Answers who has been silent for the whole lease.
    pub(crate) fn look(
        &mut self,
        began_at: Millis,
        back_at: Millis,
        beats: BTreeMap<String, Beat>,
    ) -> Vec<String> {
        let was_away = self.looked_at.is_none_or(|it| back_at - it > self.lease_ms / 2);
        self.looked_at = Some(back_at);
        self.heard.retain(|node, _| beats.contains_key(node));
        let mut silent = Vec::new();
        for (node, beat) in beats {
            let heard = self.heard.get(&node).filter(|it| it.beat == beat && !was_away);
            match heard {
                Some(heard) if began_at >= heard.since + self.lease_ms => silent.push(node),
                Some(_) => (),
                None => {
                    self.heard.insert(node, Heard { beat, since: back_at });
                }
            }
        }
        silent
    }

    /// When the next look is worth it, because somebody would have been silent for too long by then.
    pub(crate) fn next_at(&self) -> Option<Millis> {
        self.heard.values().map(|it| it.since + self.lease_ms).min()
    }

    /// For how long nothing new was heard of a node.
    pub(crate) fn age(&self, node: &str, now: Millis) -> Option<Millis> {
        self.heard.get(node).map(|it| now.saturating_sub(it.since))
    }
}

#[cfg(test)]
mod tests;
