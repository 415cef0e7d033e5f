//! Events as they are written, and their names.

use everstate_kernel::ids::{Seq, TurnNo};

use crate::Names;
use crate::json::Obj;

/// An event's place in the telling of a session: greater is later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// The row that it tells.
    pub seq: Seq,
    /// Counts what that row tells, from 0; there may be gaps.
    pub n: u32,
}

/// One event of a session's stream, ready to be written. `data` is one line of JSON, an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEvent {
    pub key: EventKey,
    pub event: &'static str,
    pub data: String,
}

/// Padded events come in steps of so many bytes.
const STEP: usize = 64;

impl AgentEvent {
    /// The data with `obfuscation`: padding that hides from whoever counts encrypted bytes how long the text in it is.
    /// It depends on nothing but the event.
    pub fn padded(&self) -> String {
        const FIELD: &str = r#","obfuscation":""}"#;
        const LETTERS: &[u8; 62] =
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let body = self.data.strip_suffix('}').expect("an event is an object");
        let n_letters = STEP - (body.len() + FIELD.len()) % STEP;
        let mut seed = self.key.seq << 32 ^ u64::from(self.key.n);
        let mut letter = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            char::from(LETTERS[((mixed >> 32) % 62) as usize])
        };
        let padding: String = (0..n_letters).map(|_| letter()).collect();
        format!(r#"{body},"obfuscation":"{padding}"}}"#)
    }
}

/// What one row tells.
pub(super) struct Row<'a> {
    names: &'a dyn Names,
    seq: Seq,
    /// The next event's number.
    n: u32,
    is_told: bool,
    /// Written once a row: the names of the session and of the turn that is told.
    session: Option<String>,
    turn: Option<(TurnNo, String)>,
    events: Vec<AgentEvent>,
}

impl<'a> Row<'a> {
    pub(super) fn new(names: &'a dyn Names, seq: Seq, is_told: bool) -> Row<'a> {
        Row { names, seq, n: 0, is_told, session: None, turn: None, events: Vec::new() }
    }

    /// What is not told is only listened to.
    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }

    pub(super) fn names(&self) -> &'a dyn Names {
        self.names
    }

    pub(super) fn into_events(self) -> Vec<AgentEvent> {
        self.events
    }

    /// Leaves a number out: what it stands for was told already.
    pub(super) fn skip(&mut self) {
        self.n += 1;
    }

    /// An event that holds its session whole.
    pub(super) fn say_session(&mut self, event: &'static str, fill: impl FnOnce(&mut Obj)) {
        let key = EventKey { seq: self.seq, n: self.n };
        self.n += 1;
        if self.is_told {
            let mut data = Obj::of_kind(event);
            data.str("event_id", &self.names.event(key.seq, key.n));
            fill(&mut data);
            self.events.push(AgentEvent { key, event, data: data.text() });
        }
    }

    /// An event in the session.
    pub(super) fn say(&mut self, event: &'static str, fill: impl FnOnce(&mut Obj)) {
        let names = self.names;
        let session = self.session.take().unwrap_or_else(|| names.session());
        self.say_session(event, |data| {
            data.str("session_id", &session);
            fill(data);
        });
        self.session = Some(session);
    }

    /// An event of a turn.
    pub(super) fn say_in(
        &mut self,
        turn: TurnNo,
        event: &'static str,
        fill: impl FnOnce(&mut Obj),
    ) {
        let names = self.names;
        let known = self.turn.take().filter(|(no, _)| *no == turn);
        let (no, name) = known.unwrap_or_else(|| (turn, names.session_turn(turn)));
        self.say(event, |data| {
            data.str("turn_id", &name);
            fill(data);
        });
        self.turn = Some((no, name));
    }
}
