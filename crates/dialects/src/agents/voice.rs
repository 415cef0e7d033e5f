//! A session as a client of the Agents API hears it: events of the session, of its turns and of their items.
//!
//! A pure fold of a session's log: facts and shown frames in, events out. Told again from the same rows it says the
//! same, under the same names, so a stream can be resumed on another machine. What is said of old rows never changes
//! under one [`REVISION`].
//!
//! An event is named by its row and its number in the row. A fact's events are numbered as if no frame had been shown
//! before; those that frames told already are left out. So an event keeps its name when the frames are gone, and what
//! the frames had told is told at the fact. Where an item stands in its turn's output, and what it is called, is known
//! when its first fragment is shown: the kernel numbers a turn's items consecutively.
//!
//! `tell` is what is said of one answer, `speaking` what fragments have shown of it. When a stream ends, and what keeps
//! it alive meanwhile, is the door's business.

mod event;
mod speaking;
mod tell;

use std::collections::BTreeMap;

use everstate_kernel::delta::Frame;
use everstate_kernel::event::{Append, End, Event};
use everstate_kernel::ids::{CallId, ItemId, Seq, TurnNo};
use everstate_kernel::item::{Body, Item, Outcome, Part};
use everstate_kernel::state::{Session, Transcript};
use everstate_kernel::tool::Runs;

use crate::Names;
use crate::agents::error::Trouble;
use crate::agents::object::item::{Called, Stage, function_call, function_output, server_call};
use crate::agents::object::{self, Status};
use crate::agents::voice::event::Row;
pub use crate::agents::voice::event::{AgentEvent, EventKey};
use crate::agents::voice::speaking::Speaking;

/// Dialect and revision of this encoder, as turns record it.
pub const REVISION: &str = "agents/1";

/// Tells a session, from one of its rows on.
#[derive(Clone, Debug)]
pub struct SessionVoice {
    /// What is true, without what was said: that is not needed, and may be long.
    session: Session,
    /// Rows up to this one are listened to, and not told.
    since: Seq,
    /// That it was created is told when the append has made it whole.
    created: bool,
    turn: Option<Telling>,
    /// How the session was last told to stand.
    status: Status,
}

/// The running turn, as far as it was told.
#[derive(Clone, Debug)]
struct Telling {
    no: TurnNo,
    /// Work has begun.
    begun: bool,
    /// What the next item will be called.
    next_idx: u32,
    /// Where the next item of the output will stand.
    next_place: u64,
    speaking: Option<Speaking>,
    /// Calls that were shown and have no result.
    calls: BTreeMap<CallId, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    item: ItemId,
    place: u64,
    name: String,
    arguments: String,
    /// The tool server that runs it, if we do.
    server: Option<String>,
}

impl Default for SessionVoice {
    fn default() -> SessionVoice {
        SessionVoice::new()
    }
}

impl SessionVoice {
    /// Tells a session from its first row on.
    pub fn new() -> SessionVoice {
        SessionVoice::of(&Session::default())
    }

    /// Tells what happens after the last fact that is folded in `session`. It has to hear the rows after
    /// [`SessionVoice::hears_after`].
    pub fn of(session: &Session) -> SessionVoice {
        let running = session.live.turn.as_ref().map(|it| it.no);
        let turns = running.and_then(|no| session.transcript.turns.get_key_value(&no));
        let transcript = Transcript {
            turns: turns.into_iter().map(|(no, past)| (*no, past.clone())).collect(),
            served: session.transcript.served.clone(),
            ..Transcript::default()
        };
        SessionVoice {
            session: Session {
                head: session.head,
                about: session.about.clone(),
                transcript,
                live: session.live.clone(),
            },
            since: session.head,
            created: false,
            turn: None,
            status: Status::of(session),
        }
    }

    /// The row after which to begin: a turn that is running is listened to from before its first fact.
    pub fn hears_after(&self) -> Seq {
        let running = self.session.live.turn.as_ref().filter(|_| self.turn.is_none());
        let started = running.and_then(|it| self.session.transcript.turns.get(&it.no));
        started.map_or(self.session.head, |it| it.started.saturating_sub(1).min(self.session.head))
    }

    /// How the session stands after what was heard.
    pub fn status(&self) -> Status {
        Status::of(&self.session)
    }

    /// Is a turn running, after what was heard?
    pub fn is_busy(&self) -> bool {
        self.session.live.turn.is_some()
    }

    pub fn hear_append(&mut self, names: &dyn Names, append: &Append) -> Vec<AgentEvent> {
        let mut row = Row::new(names, append.seq, append.seq > self.since);
        for (i, event) in append.events.iter().enumerate() {
            if matches!(event, Event::TurnStarted { .. }) {
                self.tell_created(&mut row);
            }
            if row.is_told() {
                self.session.apply_event(append.seq, append.at, event);
            }
            self.hear(event, &append.events[i + 1..], &mut row);
            self.session.transcript.entries.clear();
            self.session.transcript.waiting.clear();
        }
        if row.is_told() {
            self.tell_created(&mut row);
            self.tell_changes(&mut row);
        }
        self.created = false;
        row.into_events()
    }

    /// `seq` is the frame's own row. Frames that have none are not heard: what they showed is told with the fact.
    pub fn hear_frame(&mut self, names: &dyn Names, seq: Seq, frame: &Frame) -> Vec<AgentEvent> {
        let mut row = Row::new(names, seq, seq > self.since);
        if let Some(turn) = self.turn.as_mut().filter(|it| it.no == frame.attempt.turn) {
            turn.listen(frame, &mut row);
        }
        row.into_events()
    }

    /// `rest` is what follows in the same append.
    fn hear(&mut self, event: &Event, rest: &[Event], row: &mut Row<'_>) {
        match event {
            Event::Created { .. } => self.created = true,
            Event::TurnStarted { turn, items, .. } => {
                let mut telling = Telling::new(*turn);
                telling.count(items);
                self.turn = Some(telling);
                self.tell_turn("agent.session.turn.created", *turn, row);
                self.tell_heard(*turn, items, row);
            }
            Event::Steered { turn, items } => self.tell_heard(*turn, items, row),
            Event::StepStarted { turn, .. } => self.tell_begun(*turn, row),
            // What was said may have to be summed up first.
            Event::AttemptOpened { attempt, .. } => self.tell_begun(attempt.turn, row),
            Event::Replied { attempt, items, .. } => {
                if let Some(turn) = self.turn.as_mut().filter(|it| it.no == attempt.turn) {
                    turn.settle(*attempt, items, row);
                    self.tell_calls(items, rest, row);
                }
            }
            Event::Sealed { attempt, items } => {
                if let Some(turn) = self.turn.as_mut().filter(|it| it.no == attempt.turn) {
                    turn.settle(*attempt, items, row);
                }
            }
            Event::ToolFinished { call, item, outcome, output } => {
                self.tell_result(*call, *item, *outcome, output, row);
            }
            Event::TurnEnded { turn, end } => self.tell_end(*turn, end, row),
            Event::Parked { reason } => {
                let trouble = Trouble::of_parking(reason);
                row.say("error", |data| _ = data.raw("error", &trouble.event_json()));
            }
            Event::Imported { .. }
            | Event::Configured(_)
            | Event::Owned { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Reminded { .. }
            | Event::Placed { .. }
            | Event::NotPlaced { .. }
            | Event::AttemptChosen { .. }
            | Event::AttemptFailed { .. }
            | Event::AttemptLost { .. }
            | Event::AttemptDropped { .. }
            | Event::RetryScheduled { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalAnswered(_)
            | Event::ApprovalExpired { .. }
            | Event::ToolStarted { .. }
            | Event::OutcomeLearned { .. }
            | Event::SummedUp { .. }
            | Event::Compacted { .. }
            | Event::ItemErased { .. }
            | Event::Unparked
            | Event::Foreign(_) => {}
        }
    }

    // ---- the session -------------------------------------------------------------------------

    fn tell_created(&mut self, row: &mut Row<'_>) {
        if std::mem::take(&mut self.created) {
            self.tell_session("agent.session.created", row);
        }
    }

    /// What the append changed of how the session stands. In the middle of it that is true for nobody.
    fn tell_changes(&mut self, row: &mut Row<'_>) {
        if Status::of(&self.session) != self.status {
            self.tell_status(row);
        }
    }

    fn tell_status(&mut self, row: &mut Row<'_>) {
        self.status = Status::of(&self.session);
        let event = match self.status {
            Status::Idle => "agent.session.idle",
            Status::InProgress => "agent.session.in_progress",
            Status::RequiresAction => "agent.session.requires_action",
            Status::Failed => "agent.session.failed",
            Status::BudgetReached => "agent.session.budget_reached",
        };
        self.tell_session(event, row);
    }

    fn tell_session(&self, event: &'static str, row: &mut Row<'_>) {
        let names = row.names();
        row.say_session(event, |data| {
            if let Some(session) = object::session(names, &self.session) {
                data.raw("session", session.text());
            }
        });
    }

    // ---- turns -------------------------------------------------------------------------------

    fn tell_turn(&self, event: &'static str, no: TurnNo, row: &mut Row<'_>) {
        let names = row.names();
        row.say_in(no, event, |data| {
            if let Some(turn) = object::turn(names, &self.session, no) {
                data.raw("turn", turn.text());
            }
        });
    }

    fn tell_begun(&mut self, no: TurnNo, row: &mut Row<'_>) {
        if let Some(turn) = self.turn.as_mut().filter(|it| it.no == no)
            && !std::mem::replace(&mut turn.begun, true)
        {
            self.tell_turn("agent.session.turn.in_progress", no, row);
        }
    }

    /// What a user said belongs to the turn, and is no output of it.
    fn tell_heard(&mut self, no: TurnNo, items: &[Item], row: &mut Row<'_>) {
        for item in items {
            let names = row.names();
            if let Some(json) = object::item::user_message(names, item) {
                row.say_in(no, "agent.session.turn.item.added", |data| _ = data.raw("item", &json));
            }
        }
    }

    fn tell_end(&mut self, no: TurnNo, end: &End, row: &mut Row<'_>) {
        let Some(turn) = self.turn.take_if(|it| it.no == no) else { return };
        // A turn may leave calls to the next one. To whoever follows this one they are done.
        for (call, known) in &turn.calls {
            known.done(no, *call, Stage::Completed, None, row);
        }
        if let Some(trouble) = Trouble::of_end(end) {
            row.say("error", |data| _ = data.raw("error", &trouble.event_json()));
        }
        let event = match end {
            End::Completed => "agent.session.turn.completed",
            End::Failed { .. } | End::Incomplete(_) => "agent.session.turn.failed",
            End::Cancelled(_) | End::Steered => "agent.session.turn.cancelled",
        };
        let names = row.names();
        row.say_in(no, event, |data| {
            if let Some(turn) = object::turn(names, &self.session, no) {
                data.raw("turn", turn.text());
            }
            if let Some(past) = self.session.transcript.turns.get(&no) {
                data.raw("usage", &object::usage(&past.usage));
            }
        });
        if row.is_told() {
            self.session.transcript.turns.clear();
            // Clients wait for this after the end of a turn, whatever was said before.
            self.tell_status(row);
        }
    }

    // ---- calls -------------------------------------------------------------------------------

    /// Calls are shown when they can be answered. One that has its answer already is not put before the client's tools.
    fn tell_calls(&mut self, items: &[Item], rest: &[Event], row: &mut Row<'_>) {
        let Some(turn) = &mut self.turn else { return };
        let places = turn.places_of(items);
        for (item, place) in items.iter().zip(places) {
            let Body::Call { call, name, arguments } = &item.body else { continue };
            let runs = self.session.live.calls.get(call).map(|it| &it.runs);
            let server = match runs {
                Some(Runs::Server(server)) => Some(server.label.clone()),
                Some(Runs::Client | Runs::Provider { .. }) | None => None,
            };
            let (name, arguments) = (name.clone(), arguments.clone());
            let known = Known { item: item.id, place, name, arguments, server };
            let finished =
                |it: &Event| matches!(it, Event::ToolFinished { call: it, .. } if it == call);
            if known.server.is_some() || !rest.iter().any(finished) {
                known.added(turn.no, *call, row);
            }
            turn.calls.insert(*call, known);
        }
    }

    fn tell_result(
        &mut self,
        call: CallId,
        item: ItemId,
        outcome: Outcome,
        output: &[Part],
        row: &mut Row<'_>,
    ) {
        let Some(turn) = self.turn.as_mut().filter(|it| it.no == item.turn) else { return };
        turn.count_one(item);
        let known = turn.calls.remove(&call);
        if let Some(known) = &known {
            known.done(turn.no, call, Stage::of_outcome(outcome), Some((outcome, output)), row);
        }
        let is_ours = match &known {
            Some(known) => known.server.is_some(),
            None => self.session.transcript.served.contains_key(&call),
        };
        if !is_ours {
            let names = row.names();
            row.say_in(item.turn, "agent.session.turn.item.added", |data| {
                data.raw("item", &function_output(names, item, call, outcome, output));
            });
        }
    }
}

impl Known {
    fn json(
        &self,
        names: &dyn Names,
        call: CallId,
        stage: Stage,
        result: Option<(Outcome, &[Part])>,
    ) -> String {
        let called = Called { item: self.item, call, name: &self.name, arguments: &self.arguments };
        match &self.server {
            Some(label) => server_call(names, called, label, stage, result),
            None => function_call(names, called, stage),
        }
    }

    fn added(&self, no: TurnNo, call: CallId, row: &mut Row<'_>) {
        let names = row.names();
        row.say_in(no, "agent.session.turn.item.added", |data| {
            data.num("output_index", self.place);
            data.raw("item", &self.json(names, call, Stage::InProgress, None));
        });
    }

    fn done(
        &self,
        no: TurnNo,
        call: CallId,
        stage: Stage,
        result: Option<(Outcome, &[Part])>,
        row: &mut Row<'_>,
    ) {
        let names = row.names();
        row.say_in(no, "agent.session.turn.item.done", |data| {
            data.num("output_index", self.place);
            data.raw("item", &self.json(names, call, stage, result));
        });
    }
}

impl Telling {
    fn new(no: TurnNo) -> Telling {
        Telling {
            no,
            begun: false,
            next_idx: 0,
            next_place: 0,
            speaking: None,
            calls: BTreeMap::new(),
        }
    }

    /// What is heard beside the turn's course has numbers of its own, and is not counted.
    fn count(&mut self, items: &[Item]) {
        items.iter().for_each(|it| self.count_one(it.id));
    }

    fn count_one(&mut self, item: ItemId) {
        if item.turn == self.no {
            self.next_idx = self.next_idx.max(item.idx + 1);
        }
    }
}
