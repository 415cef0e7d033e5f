//! What a caller asked of one session's log, and what it heard.

use std::hash::{DefaultHasher, Hash as _, Hasher};

use everstate_kernel::ids::Seq;
use everstate_runtime::ports::{Hash, Head, RowKind};

/// A moment: how many questions and answers came before.
pub type Moment = u64;

#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    pub asked: Moment,
    pub ask: Ask,
    /// `None`: nobody knows what became of it.
    pub answered: Option<(Moment, Answer)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    Append { seq: Seq, prev: Hash, content: Content, key: Option<String> },
    Read { after: Seq, limit: usize },
    Head,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Landed(Head),
    Fenced,
    Seen(Seq),
    Rows(Vec<ReadRow>),
    Head(Option<Head>),
}

/// A row's kind and body; of the body only a short hash, so that a history stays small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    pub is_frame: bool,
    pub body: u64,
}

impl Content {
    pub fn of(kind: RowKind, body: &[u8]) -> Content {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Content { is_frame: kind == RowKind::Frame, body: hasher.finish() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadRow {
    pub seq: Seq,
    pub content: Content,
    /// Of the newest `Events` row up to here.
    pub hash: Hash,
}
