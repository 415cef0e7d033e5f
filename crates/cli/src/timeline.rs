//! A session's log as people read it: one line for each thing that happened, idle time folded, money at the end of
//! the line. Pure: facts in, lines out. How wide and how coloured a line is, is `paint`'s business.

mod paint;
mod tell;
pub(crate) mod words;

use std::collections::BTreeMap;

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{CallId, Millis, Seq, StepNo, TurnNo};
use everstate_kernel::input::Failure;
use everstate_kernel::money::Micros;
use everstate_kernel::state::{CallState, Session};
use everstate_kernel::tool::{Runs, Safety};

pub(crate) use paint::Look;

/// Tells a log append by append; what was told is never taken back, so it can be followed live.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    session: Session,
    calls: BTreeMap<CallId, Called>,
    /// Names of the calls whose outcome may still be learned.
    doubts: BTreeMap<CallId, String>,
    /// Failures of the current step, newest last.
    failures: Vec<(String, Failure)>,
    /// Where the last answer came from.
    last_offer: Option<String>,
    placed: BTreeMap<(TurnNo, StepNo, u32), (Millis, String)>,
    step_told: Option<(TurnNo, StepNo)>,
    seq_told: Seq,
    tally: Tally,
    /// Somebody who saw it said that the node was stopped; the log itself can only guess.
    stop_told: bool,
    n_events: u64,
}

/// A tool call, as far as it got.
#[derive(Debug, Clone)]
struct Called {
    name: String,
    arguments: String,
    runs: Option<Runs>,
    asked_at: Option<Millis>,
    started_at: Option<Millis>,
}

impl Called {
    fn new(name: &str, arguments: &str) -> Called {
        Called {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            runs: None,
            asked_at: None,
            started_at: None,
        }
    }
}

/// Of the turn that runs.
#[derive(Debug, Default)]
struct Tally {
    steps: u32,
    tools: u32,
    approvals: u32,
    last_text: String,
}

/// One line, before it is fitted to a width.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    pub(crate) seq: Option<Seq>,
    pub(crate) at: Option<Millis>,
    /// `1` for a turn, `1.2` for a step, once each.
    pub(crate) step: String,
    /// One word: the carrier of the meaning, never the colour alone.
    pub(crate) word: &'static str,
    pub(crate) text: String,
    /// Follows the text; where there is no room the text is cut, not this.
    pub(crate) tail: String,
    /// Money, and whether it is only an estimate.
    pub(crate) cost: Option<(Micros, bool)>,
    pub(crate) shape: Shape,
    pub(crate) tone: Tone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    #[default]
    Row,
    /// Time in which nothing happened.
    Fold,
    /// The process ended here.
    Divider,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Dim,
    Good,
    Bad,
    /// Wants a person's eye.
    Loud,
}

impl Line {
    fn row(word: &'static str, text: impl Into<String>) -> Line {
        Line {
            seq: None,
            at: None,
            step: String::new(),
            word,
            text: text.into(),
            tail: String::new(),
            cost: None,
            shape: Shape::Row,
            tone: Tone::Plain,
        }
    }

    fn fold(text: impl Into<String>) -> Line {
        Line { shape: Shape::Fold, tone: Tone::Dim, ..Line::row("", text) }
    }

    fn tone(mut self, tone: Tone) -> Line {
        self.tone = tone;
        self
    }

    fn tail(mut self, tail: impl Into<String>) -> Line {
        self.tail = tail.into();
        self
    }

    fn step(mut self, step: impl Into<String>) -> Line {
        self.step = step.into();
        self
    }

    fn cost(mut self, micros: Micros, estimated: bool) -> Line {
        self.cost = (micros > 0).then_some((micros, estimated));
        self
    }
}

impl Timeline {
    /// The lines one append adds.
    pub(crate) fn hear(&mut self, append: &Append) -> Vec<Line> {
        let mut lines = Vec::new();
        let before = (self.session.live.last_at, self.at_work(), self.session.live.epoch);
        for event in &append.events {
            self.n_events += 1;
            self.tell(event, append, before, &mut lines);
        }
        self.session.apply(append);
        if append.events.iter().any(|it| matches!(it, Event::Owned { .. })) && before.2 > 0 {
            self.tell_repeats(&mut lines);
        }
        // The events of one row may come one by one: its number is told once.
        let mut seq = (append.seq != self.seq_told).then_some(append.seq);
        for line in lines.iter_mut().filter(|it| it.shape == Shape::Row) {
            self.seq_told = append.seq;
            line.seq = seq.take();
            line.at = Some(append.at);
        }
        lines
    }

    /// A line across: somebody saw the process end.
    pub(crate) fn stopped(&mut self, at: Millis, how: &str) -> Line {
        self.stop_told = true;
        Line { at: Some(at), shape: Shape::Divider, tone: Tone::Bad, ..Line::row("", how) }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Calls that wait for a person.
    pub(crate) fn waiting(&self) -> Vec<CallId> {
        let waits = |it: &CallState| matches!(it, CallState::AwaitingApproval { .. });
        let calls = self.session.live.calls.iter();
        calls.filter(|(_, it)| waits(&it.state)).map(|(id, _)| *id).collect()
    }

    /// Is something of it under way right now, as far as the log tells?
    fn at_work(&self) -> bool {
        let live = &self.session.live;
        let attempts = live.turn.as_ref().is_some_and(|it| it.under_way().next().is_some());
        attempts || live.calls.values().any(|it| it.state == CallState::Started)
    }

    /// What a new owner runs again without a fact of its own: the call's start was told before.
    fn tell_repeats(&mut self, lines: &mut Vec<Line>) {
        for (id, call) in &self.session.live.calls {
            let Runs::Server(server) = &call.runs else { continue };
            if call.state != CallState::Started {
                continue;
            }
            let again = match server.safety {
                Safety::ReadOnly => "run again (read-only)",
                Safety::Idempotent => "same key sent again (the tool is idempotent)",
                Safety::Neither => continue,
            };
            lines.push(Line::row("tool", format!("{}  {again}, key .../{id}", call.name)));
        }
    }

    /// What stands above the lines: who it is, what it cost, how it stands.
    pub(crate) fn header(&self) -> String {
        let Some(about) = &self.session.about else {
            return "an empty log".to_owned();
        };
        let live = &self.session.live;
        let spent = words::money(live.spent);
        let turns = live.turn.as_ref().and_then(|it| it.terms.limits.cost_max);
        let limit = live.spend_max.or(turns);
        let limit = limit.map(|it| format!(" of {}", words::money(it))).unwrap_or_default();
        format!(
            "{}   project {}   spent {spent}{limit}   {}, {}, {}",
            about.id,
            about.project,
            self.standing(),
            words::count(self.session.transcript.turns.len() as u64, "turn"),
            words::count(self.n_events, "event"),
        )
    }

    /// One word for how the session stands.
    pub(crate) fn standing(&self) -> &'static str {
        let live = &self.session.live;
        if live.parked.is_some() {
            "parked"
        } else if !self.waiting().is_empty() {
            "waiting for a person"
        } else if live.turn.as_ref().is_some_and(|it| it.paused.is_some()) {
            "paused"
        } else if live.turn.is_some() {
            "running"
        } else if !live.calls.is_empty() {
            "waiting for its client"
        } else {
            "idle"
        }
    }
}

#[cfg(test)]
mod tests;
