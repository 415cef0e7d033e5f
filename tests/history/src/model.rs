//! A session's log as a plain sequential thing: what may be answered at a moment, and what it becomes by that.

use std::collections::BTreeMap;

use everstate_kernel::ids::Seq;
use everstate_runtime::ports::{Hash, Head};

use crate::operation::{Answer, Ask, Content, ReadRow};

/// The rows that have landed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    rows: Vec<Landed>,
    keys: BTreeMap<String, Seq>,
}

#[derive(Clone, Debug)]
struct Landed {
    content: Content,
    /// Of the newest `Events` row up to here. `None`: nobody was told, so it may be any.
    tip: Option<Hash>,
    /// With the rows before it, in one number.
    trace: u64,
    key: Option<String>,
}

/// What an operation does to the log at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It cannot have happened now.
    Impossible,
    /// Its answer is right, and changes nothing.
    Tells,
    /// It lands here; the tip it makes, as far as it is known.
    Lands(Option<Hash>),
}

impl Model {
    pub(crate) fn len(&self) -> Seq {
        self.rows.len() as Seq
    }

    /// Of all that has landed, in its order.
    pub(crate) fn trace(&self) -> u64 {
        self.rows.last().map_or(0, |it| it.trace)
    }

    pub(crate) fn step(&self, ask: &Ask, answer: &Answer) -> Step {
        match (ask, answer) {
            (Ask::Append { seq, prev, content, key }, Answer::Landed(head)) => {
                let lands = self.may_be_next(*seq, prev) && !self.has(key.as_deref());
                let keeps = !content.is_frame || head.hash == *prev;
                if lands && keeps && head.seq == *seq {
                    Step::Lands(Some(head.hash))
                } else {
                    Step::Impossible
                }
            }
            (Ask::Append { seq, prev, key, .. }, Answer::Fenced) => {
                // With a key that was seen, either answer would do.
                let is_next = self.is_next(*seq, prev) && !self.has(key.as_deref());
                if is_next { Step::Impossible } else { Step::Tells }
            }
            (Ask::Append { key, .. }, Answer::Seen(seq)) => {
                let there = key.as_ref().and_then(|it| self.keys.get(it));
                tells(there == Some(seq))
            }
            (Ask::Read { after, limit }, Answer::Rows(rows)) => {
                tells(self.reads(*after, *limit, rows))
            }
            (Ask::Head, Answer::Head(head)) => tells(self.ends(*head)),
            // An answer to something else.
            (Ask::Append { .. }, Answer::Rows(_) | Answer::Head(_))
            | (Ask::Read { .. }, Answer::Landed(_) | Answer::Fenced | Answer::Seen(_))
            | (Ask::Read { .. }, Answer::Head(_))
            | (Ask::Head, Answer::Landed(_) | Answer::Fenced | Answer::Seen(_))
            | (Ask::Head, Answer::Rows(_)) => Step::Impossible,
        }
    }

    /// May an append of which nobody knows have landed now?
    pub(crate) fn may_land(&self, ask: &Ask) -> bool {
        match ask {
            Ask::Append { seq, prev, key, .. } => {
                self.may_be_next(*seq, prev) && !self.has(key.as_deref())
            }
            Ask::Read { .. } | Ask::Head => false,
        }
    }

    pub(crate) fn land(&mut self, ask: &Ask, tip: Option<Hash>) {
        let Ask::Append { content, prev, key, .. } = ask else { return };
        // A frame leaves the chain as it was.
        let tip = if content.is_frame { Some(*prev) } else { tip };
        let trace = mix(self.trace(), content, tip.as_ref(), key.as_deref());
        let seq = self.len() + 1;
        if let Some(key) = key {
            self.keys.insert(key.clone(), seq);
        }
        self.rows.push(Landed { content: *content, tip, trace, key: key.clone() });
    }

    /// As if the last one had not landed.
    pub(crate) fn take_back(&mut self) {
        let last = self.rows.pop().expect("something has landed");
        if let Some(key) = last.key {
            self.keys.remove(&key);
        }
    }

    fn has(&self, key: Option<&str>) -> bool {
        key.is_some_and(|it| self.keys.contains_key(it))
    }

    fn tip(&self) -> Option<Hash> {
        self.rows.last().map_or(Some(Hash::default()), |it| it.tip)
    }

    fn may_be_next(&self, seq: Seq, prev: &Hash) -> bool {
        seq == self.len() + 1 && self.tip().is_none_or(|it| it == *prev)
    }

    fn is_next(&self, seq: Seq, prev: &Hash) -> bool {
        seq == self.len() + 1 && self.tip() == Some(*prev)
    }

    fn ends(&self, head: Option<Head>) -> bool {
        match head {
            None => self.rows.is_empty(),
            Some(head) => {
                head.seq > 0
                    && head.seq == self.len()
                    && self.tip().is_none_or(|it| it == head.hash)
            }
        }
    }

    fn reads(&self, after: Seq, limit: usize, rows: &[ReadRow]) -> bool {
        let there = (1..).zip(&self.rows).skip(after.try_into().unwrap_or(usize::MAX)).take(limit);
        let mut n_there = 0;
        for (seq, row) in there {
            let right = rows.get(n_there).is_some_and(|it| {
                let same_tip = row.tip.is_none_or(|tip| tip == it.hash);
                it.seq == seq && it.content == row.content && same_tip
            });
            if !right {
                return false;
            }
            n_there += 1;
        }
        n_there == rows.len()
    }
}

fn tells(right: bool) -> Step {
    if right { Step::Tells } else { Step::Impossible }
}

fn mix(before: u64, content: &Content, tip: Option<&Hash>, key: Option<&str>) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher};
    let mut hasher = DefaultHasher::new();
    (before, content, tip, key).hash(&mut hasher);
    hasher.finish()
}
