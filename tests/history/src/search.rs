//! Looks for an order in which a plain log would have answered the same (Wing and Gong's search, with a memory of what
//! was tried).
//!
//! Two things keep it fast. What changes nothing and may happen now, does: putting it off would help nobody. And of all
//! that may happen now, only appends at the next position lead on; there are seldom two.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::Hash;

use crate::model::{Model, Step};
use crate::operation::{Answer, Ask, Content, Moment, Operation};

/// A story that no log can have: how far it could be told, and what did not fit then.
#[derive(Clone, Debug, PartialEq)]
pub struct Illegal {
    pub session: Option<SessionId>,
    /// So many rows had landed where the search got farthest.
    pub rows: Seq,
    /// What could have come next there, and fits nowhere.
    pub stuck: Vec<Operation>,
}

/// Could a log have done this? The operations of one session, in the order in which they were asked.
pub fn check(operations: &[Operation]) -> Result<(), Illegal> {
    Search::new(operations).run()
}

/// Of what was asked until `settled`, only what says where something landed: not what was read, nor that it came late.
pub fn what_landed(operations: &[Operation], settled: Moment) -> Vec<Operation> {
    let counts = |it: &&Operation| match &it.answered {
        Some((_, Answer::Landed(_) | Answer::Seen(_))) | None => true,
        Some((_, Answer::Fenced | Answer::Rows(_) | Answer::Head(_))) => it.asked > settled,
    };
    operations.iter().filter(counts).cloned().collect()
}

struct Search<'a> {
    /// Those that were answered, as asked.
    told: Vec<Told<'a>>,
    /// Appends of which nobody knows, by their position.
    open: BTreeMap<Seq, Vec<Open<'a>>>,
    model: Model,
    done: Vec<bool>,
    /// All before it are done.
    first: usize,
    n_done: usize,
    tried: HashSet<(u64, u64)>,
    /// Of the set of those that are done, kept up to date.
    done_trace: u64,
    farthest: (usize, Illegal),
}

struct Told<'a> {
    operation: &'a Operation,
    asked: Moment,
    answered: Moment,
    answer: &'a Answer,
}

struct Open<'a> {
    ask: &'a Ask,
    asked: Moment,
    /// What it would make the tip, if somebody read it.
    tip: Option<Hash>,
    used: bool,
}

/// An append that lands now.
#[derive(Clone, Copy)]
enum Way {
    Told(usize, Option<Hash>),
    Open(Seq, usize),
}

/// One moment of the search: what was done to come here, and what is yet to be tried.
struct Place {
    came_by: Option<Way>,
    /// What told something here, without changing anything.
    told: Vec<usize>,
    ways: Vec<Way>,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Search<'a> {
        let tips = tips(operations);
        let mut open: BTreeMap<Seq, Vec<Open<'a>>> = BTreeMap::new();
        let mut told = Vec::new();
        for it in operations {
            match (&it.answered, &it.ask) {
                (Some((answered, answer)), _) => {
                    let (asked, answered) = (it.asked, *answered);
                    told.push(Told { operation: it, asked, answered, answer });
                }
                (None, Ask::Append { seq, content, .. }) => {
                    let tip = tips.get(&(*seq, *content)).copied().flatten();
                    let append = Open { ask: &it.ask, asked: it.asked, tip, used: false };
                    open.entry(*seq).or_default().push(append);
                }
                // Nobody heard what it read.
                (None, Ask::Read { .. } | Ask::Head) => {}
            }
        }
        told.sort_by_key(|it| it.asked);
        let nowhere = Illegal { session: None, rows: 0, stuck: Vec::new() };
        Search {
            done: vec![false; told.len()],
            told,
            open,
            model: Model::default(),
            first: 0,
            n_done: 0,
            tried: HashSet::new(),
            done_trace: 0,
            farthest: (0, nowhere),
        }
    }

    fn run(mut self) -> Result<(), Illegal> {
        let mut path = vec![self.arrive(None)];
        while let Some(place) = path.last_mut() {
            if self.n_done == self.told.len() {
                return Ok(());
            }
            match place.ways.pop() {
                Some(way) => {
                    self.go(way);
                    if self.tried.insert((self.model.trace(), self.done_trace)) {
                        let next = self.arrive(Some(way));
                        path.push(next);
                    } else {
                        self.come_back(way);
                    }
                }
                None => {
                    let place = path.pop().expect("it was there");
                    for n in place.told.into_iter().rev() {
                        self.mark(n, false);
                    }
                    if let Some(way) = place.came_by {
                        self.come_back(way);
                    }
                }
            }
        }
        Err(self.farthest.1)
    }

    /// Does at once whatever changes nothing, and finds what may land.
    fn arrive(&mut self, came_by: Option<Way>) -> Place {
        let mut told = Vec::new();
        let mut ways = Vec::new();
        // What has told something lets others be next.
        loop {
            ways.clear();
            let (now, deadline) = self.now();
            let n_told = told.len();
            for n in now {
                let it = &self.told[n];
                match self.model.step(&it.operation.ask, it.answer) {
                    Step::Impossible => {}
                    Step::Lands(tip) => ways.push(Way::Told(n, tip)),
                    Step::Tells => {
                        self.mark(n, true);
                        told.push(n);
                    }
                }
            }
            if told.len() > n_told {
                continue;
            }
            let next = self.model.len() + 1;
            for (n, it) in self.open.get(&next).into_iter().flatten().enumerate() {
                if !it.used && it.asked < deadline && self.model.may_land(it.ask) {
                    ways.push(Way::Open(next, n));
                }
            }
            break;
        }
        if self.n_done >= self.farthest.0 {
            let stuck = self.now().0.into_iter().map(|n| self.told[n].operation.clone()).collect();
            let illegal = Illegal { session: None, rows: self.model.len(), stuck };
            self.farthest = (self.n_done, illegal);
        }
        // The last is tried first: what is known to have landed before what may have.
        ways.reverse();
        Place { came_by, told, ways }
    }

    /// What may happen now: everything that was asked before the first answer among what is left. And when that is.
    fn now(&self) -> (Vec<usize>, Moment) {
        let mut deadline = Moment::MAX;
        let mut now = Vec::new();
        for n in self.first..self.told.len() {
            let it = &self.told[n];
            if it.asked > deadline {
                break;
            }
            if !self.done[n] {
                deadline = deadline.min(it.answered);
                now.push(n);
            }
        }
        (now, deadline)
    }

    fn go(&mut self, way: Way) {
        match way {
            Way::Told(n, tip) => {
                self.model.land(&self.told[n].operation.ask, tip);
                self.mark(n, true);
            }
            Way::Open(seq, n) => {
                let it = self.open.get_mut(&seq).and_then(|it| it.get_mut(n)).expect("it is there");
                it.used = true;
                self.model.land(it.ask, it.tip);
            }
        }
    }

    fn come_back(&mut self, way: Way) {
        self.model.take_back();
        match way {
            Way::Told(n, _) => self.mark(n, false),
            Way::Open(seq, n) => {
                let it = self.open.get_mut(&seq).and_then(|it| it.get_mut(n));
                it.expect("it is there").used = false;
            }
        }
    }

    fn mark(&mut self, n: usize, done: bool) {
        self.done[n] = done;
        self.done_trace ^= spread(n as u64 + 1);
        if done {
            self.n_done += 1;
            while self.done.get(self.first) == Some(&true) {
                self.first += 1;
            }
        } else {
            self.n_done -= 1;
            self.first = self.first.min(n);
        }
    }
}

/// What rows made the tip, from those who read them; `None` where two were read of the same content.
fn tips(operations: &[Operation]) -> BTreeMap<(Seq, Content), Option<Hash>> {
    let mut tips: BTreeMap<(Seq, Content), Option<Hash>> = BTreeMap::new();
    for it in operations {
        let Some((_, Answer::Rows(rows))) = &it.answered else { continue };
        for row in rows.iter().filter(|it| !it.content.is_frame) {
            let tip = tips.entry((row.seq, row.content)).or_insert(Some(row.hash));
            if *tip != Some(row.hash) {
                *tip = None;
            }
        }
    }
    tips
}

fn spread(n: u64) -> u64 {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Illegal {
    pub(crate) fn of(self, session: SessionId) -> Illegal {
        Illegal { session: Some(session), ..self }
    }
}

impl fmt::Display for Illegal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(session) = self.session {
            write!(f, "{session}: ")?;
        }
        writeln!(f, "no log can have answered this. After {} rows nothing fits of", self.rows)?;
        for Operation { asked, ask, answered } in &self.stuck {
            write!(f, "  at {asked} {}", Shown(ask))?;
            match answered {
                Some((at, answer)) => writeln!(f, " -> at {at} {}", ShownAnswer(answer))?,
                None => writeln!(f, " -> nobody knows")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Illegal {}

struct Shown<'a>(&'a Ask);
struct ShownAnswer<'a>(&'a Answer);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ask::Append { seq, prev, content, key } => {
                let kind = if content.is_frame { "frame" } else { "events" };
                write!(f, "append {kind} {:x} at {seq} after {}", content.body, short(prev))?;
                key.as_ref().map_or(Ok(()), |it| write!(f, " with key {it}"))
            }
            Ask::Read { after, limit } => write!(f, "read after {after}, at most {limit}"),
            Ask::Head => f.write_str("head"),
        }
    }
}

impl fmt::Display for ShownAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Answer::Landed(head) => write!(f, "landed, {} at {}", short(&head.hash), head.seq),
            Answer::Fenced => f.write_str("fenced"),
            Answer::Seen(seq) => write!(f, "seen at {seq}"),
            Answer::Rows(rows) => {
                write!(f, "{} rows", rows.len())?;
                rows.last().map_or(Ok(()), |it| {
                    write!(f, ", the last {:x} at {}", it.content.body, it.seq)
                })
            }
            Answer::Head(None) => f.write_str("no session"),
            Answer::Head(Some(head)) => write!(f, "{} at {}", short(&head.hash), head.seq),
        }
    }
}

/// The beginning of a hash.
fn short(hash: &Hash) -> String {
    hash.iter().take(4).map(|it| format!("{it:02x}")).collect()
}
