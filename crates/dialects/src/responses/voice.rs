//! A turn as a Responses client sees it: events on a stream, and the response object.
//!
//! A pure fold of the turn's log: facts and shown frames in, wire events out. Told again from the same rows it says the
//! same bytes, so a stream can be resumed on another machine. What is recorded names the [`REVISION`] it was told in;
//! a change of what is said to old rows is a new revision.
//!
//! Names of items are predicted when their first fragment is shown: the kernel numbers a turn's items and calls
//! consecutively. Facts then only close what fragments left open; without any fragments they tell everything.

mod object;
pub(crate) mod slot;
mod tell;

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::delta::{Delta, Frame, Opening};
use everstate_kernel::event::{Append, End, Event};
use everstate_kernel::ids::{ASIDE, AttemptId, CallId, ItemId, Millis, TurnNo};
use everstate_kernel::input::TurnTerms;
use everstate_kernel::item::{Body, Item, Outcome, Part, Status};
use everstate_kernel::json::Json;
use everstate_kernel::money::Usage;
use everstate_kernel::tool::Runs;

use crate::Names;
use crate::json::Fields;
use crate::responses::voice::object::ToolList;
use crate::responses::voice::slot::Slot;

/// Dialect and revision of this encoder, as turns record it.
pub const REVISION: &str = "responses/1";

/// One event of a stream, ready to be written. `data` is one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireEvent {
    pub event: &'static str,
    pub data: String,
}

#[derive(Clone, Debug)]
pub struct Voice {
    turn: TurnNo,
    /// The next event's `sequence_number`.
    next_event: u64,
    terms: Option<Terms>,
    created_at: Millis,
    begun: bool,
    slots: Vec<Slot>,
    /// What the next item and the next call of the turn will be named.
    next_idx: u32,
    next_call: u32,
    speaking: Option<Speaking>,
    calls: BTreeMap<CallId, Known>,
    /// Calls a person was asked about.
    asked: BTreeSet<CallId>,
    /// Where calls that we run are shown.
    run: BTreeMap<CallId, usize>,
    usage: Option<Usage>,
    tier: Option<String>,
    end: Option<(End, Millis)>,
}

/// What of the turn's terms is told.
#[derive(Clone, Debug)]
struct Terms {
    echo: Fields,
    background: bool,
    /// Tools that we run, by name, with their server's label; not those a client tool hides.
    servers: BTreeMap<String, String>,
    lists: Vec<ToolList>,
}

/// The attempt whose fragments are being shown.
#[derive(Clone, Debug)]
struct Speaking {
    attempt: AttemptId,
    first_idx: u32,
    first_call: u32,
    n_calls: u32,
    /// Where its items are shown; `None`: not at all, or not yet.
    places: Vec<Option<usize>>,
}

#[derive(Clone, Debug)]
struct Known {
    item: ItemId,
    name: String,
    arguments: String,
}

impl Voice {
    /// `None` for a revision that this release does not speak.
    pub fn new(revision: &str, turn: TurnNo) -> Option<Voice> {
        (revision == REVISION).then(|| Voice {
            turn,
            next_event: 0,
            terms: None,
            created_at: 0,
            begun: false,
            slots: Vec::new(),
            next_idx: 0,
            next_call: 1,
            speaking: None,
            calls: BTreeMap::new(),
            asked: BTreeSet::new(),
            run: BTreeMap::new(),
            usage: None,
            tier: None,
            end: None,
        })
    }

    /// Tells of an item from before the turn. Needed for calls that the turn inherits, where the log is not heard from
    /// its beginning.
    pub fn know(&mut self, item: &Item) {
        if let Body::Call { call, name, arguments } = &item.body {
            let known = Known { item: item.id, name: name.clone(), arguments: arguments.clone() };
            self.calls.insert(*call, known);
        }
        // What is heard beside the turn's course has numbers of its own, far from those a model's items get.
        if item.id.turn == self.turn && item.id.idx < ASIDE {
            self.next_idx = self.next_idx.max(item.id.idx + 1);
            if let Body::Call { call, .. } = &item.body
                && call.turn == self.turn
            {
                self.next_call = self.next_call.max(call.n + 1);
            }
        }
    }

    /// Has the turn ended, and was that told?
    pub fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Facts of other turns are only remembered.
    pub fn hear_append(&mut self, names: &dyn Names, append: &Append) -> Vec<WireEvent> {
        let mut out = Vec::new();
        for event in &append.events {
            self.hear(names, event, append.at, &mut out);
        }
        out
    }

    pub fn hear_frame(&mut self, names: &dyn Names, frame: &Frame) -> Vec<WireEvent> {
        let mut out = Vec::new();
        if frame.attempt.turn == self.turn && self.is_running() {
            self.begin(names, &mut out);
            self.listen_to(frame.attempt, &mut out);
            for delta in &frame.deltas {
                self.delta(names, delta, &mut out);
            }
        }
        out
    }

    /// The response as it stands.
    pub fn response(&self, names: &dyn Names) -> Json {
        self.object(names)
    }

    fn is_running(&self) -> bool {
        self.terms.is_some() && self.end.is_none()
    }

    fn hear(&mut self, names: &dyn Names, event: &Event, at: Millis, out: &mut Vec<WireEvent>) {
        match event {
            Event::Created { inheritance, .. } => {
                for item in inheritance.iter().flat_map(|it| &it.items) {
                    self.know(item);
                }
            }
            Event::TurnStarted { turn, terms, items } => {
                items.iter().for_each(|it| self.know(it));
                if *turn == self.turn {
                    self.start(names, terms, at, out);
                }
            }
            Event::Steered { items, .. } => items.iter().for_each(|it| self.know(it)),
            Event::Compacted { item } | Event::Reminded { item } => self.know(item),
            Event::TurnEnded { turn, end } => {
                if *turn == self.turn && self.is_running() {
                    self.finish(names, end, at, out);
                }
            }
            Event::Placed { attempt, .. } => {
                if attempt.turn == self.turn && self.is_running() {
                    self.begin(names, out);
                }
            }
            Event::Replied { attempt, items, end, .. } => {
                if attempt.turn == self.turn && self.is_running() {
                    self.begin(names, out);
                    self.usage.get_or_insert_default().add(&end.usage);
                    self.tier = end.tier.clone().or(self.tier.take());
                    self.settle(names, *attempt, items, out);
                }
                items.iter().for_each(|it| self.know(it));
            }
            Event::Sealed { attempt, items } => {
                if attempt.turn == self.turn && self.is_running() {
                    self.begin(names, out);
                    self.settle(names, *attempt, items, out);
                }
                items.iter().for_each(|it| self.know(it));
            }
            Event::ApprovalRequested { call, .. } => {
                self.asked.insert(*call);
                if call.turn == self.turn && self.is_running() {
                    self.begin(names, out);
                    self.ask(names, *call, out);
                }
            }
            Event::ToolStarted { call } => {
                if self.is_running() {
                    self.begin(names, out);
                    self.start_call(names, *call, out);
                }
            }
            Event::ToolFinished { call, item, outcome, output } => {
                if self.is_running() {
                    self.finish_call(names, *call, *item, *outcome, output, out);
                }
                if item.turn == self.turn {
                    self.next_idx = self.next_idx.max(item.idx + 1);
                }
            }
            Event::OutcomeLearned { note, .. } => self.know(note),
            Event::ItemErased { items } => {
                for slot in &mut self.slots {
                    slot.erased |= slot.item.is_some_and(|it| items.contains(&it));
                }
            }
            Event::Imported { .. }
            | Event::Configured(_)
            | Event::Owned { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::StepStarted { .. }
            | Event::AttemptOpened { .. }
            | Event::NotPlaced { .. }
            | Event::AttemptChosen { .. }
            | Event::SummedUp { .. }
            | Event::AttemptFailed { .. }
            | Event::AttemptLost { .. }
            | Event::AttemptDropped { .. }
            | Event::RetryScheduled { .. }
            | Event::ApprovalAnswered(_)
            | Event::ApprovalExpired { .. }
            | Event::Parked { .. }
            | Event::Unparked
            | Event::Foreign(_) => {}
        }
    }

    fn start(
        &mut self,
        names: &dyn Names,
        terms: &TurnTerms,
        at: Millis,
        out: &mut Vec<WireEvent>,
    ) {
        let echo = terms.echo.as_ref().and_then(Fields::of).unwrap_or_default();
        let tools = &terms.agent.tools;
        let clients: BTreeSet<&str> =
            tools.iter().filter(|it| it.runs == Runs::Client).map(|it| it.name.as_str()).collect();
        let mut servers = BTreeMap::new();
        for tool in tools {
            if let Runs::Server(server) = &tool.runs
                && !clients.contains(tool.name.as_str())
            {
                servers.insert(tool.name.clone(), server.label.clone());
            }
        }
        let lists = ToolList::of(&echo, tools, &servers);
        let background = echo.get("background").and_then(crate::json::boolean).unwrap_or(false);
        self.terms = Some(Terms { echo, background, servers, lists });
        self.created_at = at;
        self.say_response("response.created", names, out);
        if background {
            self.say_response("response.queued", names, out);
        } else {
            self.begin(names, out);
        }
    }

    /// Work has begun: said once, before anything else is.
    fn begin(&mut self, names: &dyn Names, out: &mut Vec<WireEvent>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.say_response("response.in_progress", names, out);
        let lists = self.terms.as_mut().map(|it| std::mem::take(&mut it.lists)).unwrap_or_default();
        for (i, list) in (0u32..).zip(lists) {
            self.tell_list(names, u32::MAX - i, list, out);
        }
    }

    fn finish(&mut self, names: &dyn Names, end: &End, at: Millis, out: &mut Vec<WireEvent>) {
        self.begin(names, out);
        self.hush(out);
        for place in self.run.values().copied().collect::<Vec<_>>() {
            self.close(place, Status::Incomplete, out);
        }
        self.end = Some((end.clone(), at));
        let event = match end {
            End::Completed => "response.completed",
            End::Failed { .. } => "response.failed",
            // There is no event for a cancelled response: it is incomplete, and its status says why.
            End::Incomplete(_) | End::Cancelled(_) | End::Steered => "response.incomplete",
        };
        self.say_response(event, names, out);
    }

    fn listen_to(&mut self, attempt: AttemptId, out: &mut Vec<WireEvent>) {
        if self.speaking.as_ref().is_some_and(|it| it.attempt == attempt) {
            return;
        }
        self.hush(out);
        self.speaking = Some(Speaking {
            attempt,
            first_idx: self.next_idx,
            first_call: self.next_call,
            n_calls: 0,
            places: Vec::new(),
        });
    }

    /// Whoever was speaking does not go on: what it left open stays incomplete.
    fn hush(&mut self, out: &mut Vec<WireEvent>) {
        for place in self.speaking.take().into_iter().flat_map(|it| it.places).flatten() {
            self.close(place, Status::Incomplete, out);
        }
    }

    fn delta(&mut self, names: &dyn Names, delta: &Delta, out: &mut Vec<WireEvent>) {
        if let Delta::Open { item, opening, .. } = delta {
            let Some(speaking) = &mut self.speaking else { return };
            if *item as usize != speaking.places.len() {
                return;
            }
            let id = ItemId { turn: self.turn, idx: speaking.first_idx + item };
            let call = match opening {
                Opening::Call { .. } => {
                    speaking.n_calls += 1;
                    let n = speaking.first_call + speaking.n_calls - 1;
                    Some(CallId { turn: self.turn, n })
                }
                Opening::Message | Opening::Reasoning | Opening::Opaque { .. } => None,
            };
            let place = self.open(names, id, opening, call, out);
            if let Some(speaking) = &mut self.speaking {
                speaking.places.push(place);
            }
            return;
        }
        let item = match delta {
            Delta::Open { item, .. }
            | Delta::TextPart { item }
            | Delta::Text { item, .. }
            | Delta::Annotation { item, .. }
            | Delta::Refusal { item, .. }
            | Delta::SummaryPart { item }
            | Delta::Summary { item, .. }
            | Delta::Thought { item, .. }
            | Delta::Sealed { item, .. }
            | Delta::Arguments { item, .. }
            | Delta::Extra { item, .. }
            | Delta::Close { item, .. } => *item as usize,
        };
        let place = self.speaking.as_ref().and_then(|it| it.places.get(item).copied().flatten());
        let Some(place) = place else { return };
        match delta {
            Delta::Open { .. } => {}
            Delta::TextPart { .. } => self.text_part(place, out),
            Delta::Text { text, .. } => self.text(place, text, out),
            Delta::Annotation { annotation, .. } => self.annotation(place, annotation, out),
            Delta::Refusal { text, .. } => self.refusal(place, text, out),
            Delta::SummaryPart { .. } => self.summary_part(place, out),
            Delta::Summary { text, .. } => self.summary(place, text, out),
            Delta::Thought { text, .. } => self.thought(place, text, out),
            Delta::Sealed { sealed, .. } => self.slots[place].seal(sealed),
            Delta::Arguments { text, .. } => self.arguments(place, text, out),
            Delta::Extra { extra, .. } => self.slots[place].add_extra(extra),
            Delta::Close { status, .. } => self.close(place, *status, out),
        }
    }

    /// An attempt's items are settled: tells what of them was not shown yet.
    fn settle(
        &mut self,
        names: &dyn Names,
        attempt: AttemptId,
        items: &[Item],
        out: &mut Vec<WireEvent>,
    ) {
        let heard = self.speaking.take_if(|it| it.attempt == attempt);
        self.hush(out);
        let places = heard.map(|it| it.places).unwrap_or_default();
        for (i, item) in items.iter().enumerate() {
            let place = match places.get(i) {
                Some(place) => *place,
                None => self.open_item(names, item, out),
            };
            if let Some(place) = place {
                self.catch_up(place, item, out);
                self.close(place, item.status, out);
                self.slots[place].settle(item.status);
            }
        }
        for place in places.iter().skip(items.len()).copied().flatten() {
            self.close(place, Status::Incomplete, out);
        }
    }

    fn open_item(
        &mut self,
        names: &dyn Names,
        item: &Item,
        out: &mut Vec<WireEvent>,
    ) -> Option<usize> {
        let (opening, call) = match &item.body {
            Body::Message { .. } => (Opening::Message, None),
            Body::Reasoning(_) => (Opening::Reasoning, None),
            Body::Call { call, name, .. } => (Opening::Call { name: name.clone() }, Some(*call)),
            Body::Opaque { dialect, json } => {
                (Opening::Opaque { dialect: dialect.clone(), json: json.clone() }, None)
            }
            Body::Result { .. } | Body::Compaction { .. } | Body::Note { .. } | Body::Erased => {
                return None;
            }
        };
        self.open(names, item.id, &opening, call, out)
    }

    fn server_of(&self, name: &str) -> Option<&str> {
        self.terms.as_ref()?.servers.get(name).map(String::as_str)
    }

    fn ask(&mut self, names: &dyn Names, call: CallId, out: &mut Vec<WireEvent>) {
        let Some(known) = self.calls.get(&call).cloned() else { return };
        let label = self.server_of(&known.name).unwrap_or(OURS).to_owned();
        let slot =
            Slot::approval(names.approval(call), known.item, label, &known.name, &known.arguments);
        let place = self.add(slot, out);
        self.close(place, Status::Completed, out);
    }

    fn start_call(&mut self, names: &dyn Names, call: CallId, out: &mut Vec<WireEvent>) {
        // After a crash the same call may be started again: it is shown once.
        let Some(known) = self.calls.get(&call).filter(|_| !self.run.contains_key(&call)).cloned()
        else {
            return;
        };
        let label = self.server_of(&known.name).unwrap_or(OURS).to_owned();
        let approval =
            (self.asked.contains(&call) || call.turn != self.turn).then(|| names.approval(call));
        let place = self.tell_call(names, known.item, label, &known.name, approval, out);
        self.run.insert(call, place);
        self.server_arguments(place, &known.arguments, out);
    }

    fn finish_call(
        &mut self,
        names: &dyn Names,
        call: CallId,
        item: ItemId,
        outcome: Outcome,
        output: &[Part],
        out: &mut Vec<WireEvent>,
    ) {
        if self.run.contains_key(&call) {
            self.end_call(call, outcome, output, out);
            return;
        }
        // A call of an earlier turn was answered with this turn's input: that is no output.
        let Some(known) = self.calls.get(&call).filter(|_| call.turn == self.turn) else { return };
        if self.asked.contains(&call) {
            return;
        }
        let is_ours = self.server_of(&known.name).is_some();
        self.begin(names, out);
        if is_ours {
            self.start_call(names, call, out);
            self.end_call(call, outcome, output, out);
        } else {
            self.tell_result(names, call, item, outcome, output, out);
        }
    }
}

/// The label of a server whose tool is not among the turn's any more.
const OURS: &str = "everstate";
