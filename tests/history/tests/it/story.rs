//! Stories that really happened to a log: callers ask one, it takes effect at some moment, and they hear of it, or not.

use std::collections::BTreeMap;

use everstate_kernel::ids::Seq;
use everstate_runtime::ports::{Hash, Head, RowKind};
use everstate_test_history::operation::{Answer, Ask, Content, Moment, Operation, ReadRow};

/// A log without any art: written apart from the model that the checker uses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plain {
    pub(crate) rows: Vec<ReadRow>,
    pub(crate) keys: BTreeMap<String, Seq>,
    hashes: u64,
}

impl Plain {
    pub(crate) fn head(&self) -> Head {
        self.rows.last().map_or_else(Head::default, |it| Head { seq: it.seq, hash: it.hash })
    }

    pub(crate) fn ask(&mut self, ask: &Ask) -> Answer {
        match ask {
            Ask::Append { seq, prev, content, key } => {
                if let Some(seq) = key.as_ref().and_then(|it| self.keys.get(it)) {
                    return Answer::Seen(*seq);
                }
                let head = self.head();
                if *seq != head.seq + 1 || *prev != head.hash {
                    return Answer::Fenced;
                }
                self.hashes += 1;
                let hash = if content.is_frame { head.hash } else { hash(self.hashes) };
                self.rows.push(ReadRow { seq: *seq, content: *content, hash });
                if let Some(key) = key {
                    self.keys.insert(key.clone(), *seq);
                }
                Answer::Landed(Head { seq: *seq, hash })
            }
            Ask::Read { after, limit } => {
                let rows = self.rows.iter().filter(|it| it.seq > *after).take(*limit);
                Answer::Rows(rows.copied().collect())
            }
            Ask::Head => Answer::Head((!self.rows.is_empty()).then(|| self.head())),
        }
    }
}

pub(crate) fn hash(n: u64) -> Hash {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&n.to_be_bytes());
    hash
}

pub(crate) fn content(kind: RowKind, n: u64) -> Content {
    Content::of(kind, &n.to_be_bytes())
}

/// What happens to one caller at its turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Turn {
    pub(crate) caller: usize,
    /// What it asks, if it has nothing open: a number to choose by.
    pub(crate) choice: u64,
    /// Something goes wrong with the answer, of every so many.
    pub(crate) trouble: bool,
}

/// A caller that has asked something.
#[derive(Clone, Debug)]
struct Waiting {
    operation: usize,
    answer: Option<Answer>,
}

/// Plays the turns: asking, taking effect and hearing of it are three turns of a caller, and anything may happen in
/// between. Trouble makes a caller give up, and what it asked may take effect much later, or never.
pub(crate) fn play(turns: &[Turn], callers: usize) -> (Vec<Operation>, Plain) {
    let mut log = Plain::default();
    let mut story: Vec<Operation> = Vec::new();
    let mut waiting: Vec<Option<Waiting>> = vec![None; callers];
    let mut heads: Vec<Head> = vec![Head::default(); callers];
    let mut lost: Vec<usize> = Vec::new();
    for (now, turn) in (1..).zip(turns) {
        let now: Moment = now;
        // Something that nobody waits for any more takes effect.
        if turn.choice.is_multiple_of(7) && !lost.is_empty() {
            let n = lost.remove((turn.choice / 7) as usize % lost.len());
            log.ask(&story[n].ask.clone());
            continue;
        }
        let caller = turn.caller % callers;
        match waiting[caller].take() {
            None => {
                let ask = wish(turn.choice, heads[caller], story.len() as u64);
                story.push(Operation { asked: now, ask, answered: None });
                waiting[caller] = Some(Waiting { operation: story.len() - 1, answer: None });
            }
            Some(it) if turn.trouble => {
                // It gives up, before or after the log did what it was asked.
                if it.answer.is_none() && !matches!(story[it.operation].ask, Ask::Head) {
                    lost.push(it.operation);
                }
                heads[caller] = log.head();
            }
            Some(Waiting { operation, answer: None }) => {
                let answer = log.ask(&story[operation].ask.clone());
                waiting[caller] = Some(Waiting { operation, answer: Some(answer) });
            }
            Some(Waiting { operation, answer: Some(answer) }) => {
                match &answer {
                    Answer::Landed(head) | Answer::Head(Some(head)) => heads[caller] = *head,
                    Answer::Fenced | Answer::Seen(_) => heads[caller] = log.head(),
                    Answer::Rows(_) | Answer::Head(None) => {}
                }
                story[operation].answered = Some((now, answer));
            }
        }
    }
    (story, log)
}

fn wish(choice: u64, head: Head, n: u64) -> Ask {
    let kind = if choice.is_multiple_of(3) { RowKind::Frame } else { RowKind::Events };
    match choice % 11 {
        0 => Ask::Head,
        1 => Ask::Read { after: choice / 11 % 4, limit: 5 },
        2 => Ask::Read { after: 0, limit: usize::MAX },
        _ => Ask::Append {
            seq: head.seq + 1,
            prev: head.hash,
            // Bodies come again: that of another may be the same.
            content: content(kind, if choice.is_multiple_of(5) { 0 } else { n }),
            key: choice.is_multiple_of(4).then(|| (choice / 4 % 6).to_string()),
        },
    }
}

/// Somebody reads everything at the end, when nothing is under way any more.
pub(crate) fn with_last_look(mut story: Vec<Operation>, log: &mut Plain) -> Vec<Operation> {
    let at = story.iter().map(last_moment).max().unwrap_or(0) + 1;
    let ask = Ask::Read { after: 0, limit: usize::MAX };
    let answer = log.ask(&ask);
    story.push(Operation { asked: at, ask, answered: Some((at + 1, answer)) });
    story
}

fn last_moment(it: &Operation) -> Moment {
    it.answered.as_ref().map_or(it.asked, |(at, _)| *at)
}
