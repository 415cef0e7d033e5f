//! Durable facts, past tense. The log of these is the only truth; every release reads what every earlier one wrote.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::delta::ReplyEnd;
use crate::fork::Inheritance;
use crate::ids::{AttemptId, CallId, ItemId, Millis, Seq, SessionId, StepNo, TurnNo};
use crate::import::Origin;
use crate::input::{Approval, Configure, Failure, TurnTerms};
use crate::item::{Item, Outcome, Part};
use crate::json::Json;
use crate::money::{Micros, Usage};
use crate::plan::{NoOffer, Plan};

/// What one row of the log holds: all the events of one decision. It lands whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Append {
    pub seq: Seq,
    pub at: Millis,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Created {
        id: SessionId,
        project: String,
        door: String,
        named: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Json>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inheritance: Option<Inheritance>,
    },
    /// What it begins with was said in another installation, and carried here in a bundle.
    Imported {
        origin: Origin,
    },
    /// The session was told something about itself; what is not in here stays as it was.
    Configured(Configure),
    /// A node took the session over. Epochs of a session only grow.
    Owned {
        epoch: u64,
    },

    TurnStarted {
        turn: TurnNo,
        terms: TurnTerms,
        items: Vec<Item>,
    },
    /// Heard while a turn ran; said to the model at the next step boundary.
    Steered {
        turn: TurnNo,
        items: Vec<Item>,
    },
    TurnEnded {
        turn: TurnNo,
        end: End,
    },
    /// Nothing more is done for the turn until somebody acts. It is not over: it can be steered, and cancelled.
    Paused {
        turn: TurnNo,
        why: Pause,
    },
    /// What it was paused for is mended.
    Resumed {
        turn: TurnNo,
    },

    /// The model is told what time it is, in the step that follows.
    Reminded {
        item: Item,
    },
    StepStarted {
        turn: TurnNo,
        step: StepNo,
    },
    /// A try is wanted: it is to be placed.
    AttemptOpened {
        attempt: AttemptId,
        why: Try,
    },
    Placed {
        attempt: AttemptId,
        plan: Plan,
    },
    NotPlaced {
        attempt: AttemptId,
        no_offer: NoOffer,
    },
    /// Of several attempts this one spoke first; the others are dropped.
    AttemptChosen {
        attempt: AttemptId,
    },
    Replied {
        attempt: AttemptId,
        items: Vec<Item>,
        end: ReplyEnd,
        cost: Cost,
    },
    /// A summary was told. `Compacted` follows, unless nothing can be made of it.
    SummedUp {
        attempt: AttemptId,
        end: ReplyEnd,
        cost: Cost,
    },
    AttemptFailed {
        attempt: AttemptId,
        failure: Failure,
        cost: Cost,
    },
    /// Its owner is gone, and with it the answer.
    AttemptLost {
        attempt: AttemptId,
        frames: u64,
        cost: Cost,
    },
    /// No longer wanted: it lost a hedge, or the turn ended.
    AttemptDropped {
        attempt: AttemptId,
        cost: Cost,
    },
    /// What had been shown of a failed or lost attempt: it stays in the output, incomplete.
    Sealed {
        attempt: AttemptId,
        items: Vec<Item>,
    },
    /// The step is tried again at this time.
    RetryScheduled {
        turn: TurnNo,
        step: StepNo,
        at: Millis,
    },

    ApprovalRequested {
        call: CallId,
        expires_at: Millis,
    },
    ApprovalAnswered(Approval),
    ApprovalExpired {
        call: CallId,
    },
    /// From here on the tool may have run.
    ToolStarted {
        call: CallId,
    },
    ToolFinished {
        call: CallId,
        item: ItemId,
        outcome: Outcome,
        output: Vec<Part>,
    },
    /// What became of a call that had been closed `unknown` or `cancelled`. The model hears of it in the next step.
    OutcomeLearned {
        call: CallId,
        outcome: Outcome,
        output: Vec<Part>,
        note: Item,
    },

    Compacted {
        item: Item,
    },
    /// These items' contents are gone. `items` holds everything that had to go with what was asked for.
    ItemErased {
        items: Vec<ItemId>,
    },

    Parked {
        reason: String,
    },
    Unparked,

    /// A fact of a later release: kept, not understood. A session that holds one is not run here.
    #[serde(skip)]
    Foreign(Foreign),
}

/// An event whose kind this release does not know, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    pub kind: String,
    pub json: Json,
}

/// Why an attempt was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Try {
    First,
    /// Again, after a pause.
    Retry,
    /// At once, elsewhere.
    Fallback,
    /// Beside a slow one.
    Hedge,
    /// Anew, after an answer was lost.
    Restart,
    /// Beside the steps, for a summary of all that was said so far.
    SumUp,
}

/// How a turn ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    Completed,
    /// The answer was cut short.
    Incomplete(Cut),
    Failed {
        code: String,
        message: String,
    },
    Cancelled(Why),
    /// A newer input took its place.
    Steered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    OutputTokens,
    ContentFilter,
    Steps,
    Tokens,
    Bytes,
    Cost,
    WorkTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    Asked,
    CallerLost,
}

/// What a turn waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// The session has spent what it may, or what is left does not pay for one more step.
    Spend,
}

/// What an attempt cost. It ends the attempt's reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub usage: Usage,
    pub micros: Micros,
}

impl Event {
    /// The event's word, as it stands in the log.
    pub fn kind(&self) -> &str {
        match self {
            Event::Created { .. } => "created",
            Event::Imported { .. } => "imported",
            Event::Configured(_) => "configured",
            Event::Owned { .. } => "owned",
            Event::TurnStarted { .. } => "turn_started",
            Event::Steered { .. } => "steered",
            Event::TurnEnded { .. } => "turn_ended",
            Event::Paused { .. } => "paused",
            Event::Resumed { .. } => "resumed",
            Event::Reminded { .. } => "reminded",
            Event::StepStarted { .. } => "step_started",
            Event::AttemptOpened { .. } => "attempt_opened",
            Event::Placed { .. } => "placed",
            Event::NotPlaced { .. } => "not_placed",
            Event::AttemptChosen { .. } => "attempt_chosen",
            Event::Replied { .. } => "replied",
            Event::SummedUp { .. } => "summed_up",
            Event::AttemptFailed { .. } => "attempt_failed",
            Event::AttemptLost { .. } => "attempt_lost",
            Event::AttemptDropped { .. } => "attempt_dropped",
            Event::Sealed { .. } => "sealed",
            Event::RetryScheduled { .. } => "retry_scheduled",
            Event::ApprovalRequested { .. } => "approval_requested",
            Event::ApprovalAnswered(_) => "approval_answered",
            Event::ApprovalExpired { .. } => "approval_expired",
            Event::ToolStarted { .. } => "tool_started",
            Event::ToolFinished { .. } => "tool_finished",
            Event::OutcomeLearned { .. } => "outcome_learned",
            Event::Compacted { .. } => "compacted",
            Event::ItemErased { .. } => "item_erased",
            Event::Parked { .. } => "parked",
            Event::Unparked => "unparked",
            Event::Foreign(foreign) => &foreign.kind,
        }
    }
}

/// The version this release writes at.
pub const VERSION: u16 = 1;

#[derive(Serialize)]
struct BodyOut<'a> {
    at: Millis,
    events: Vec<EventOut<'a>>,
}

struct EventOut<'a>(&'a Event);

impl Serialize for EventOut<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Event::Foreign(foreign) => foreign.json.serialize(to),
            known => known.serialize(to),
        }
    }
}

/// A body without foreign events, which is nearly every one.
#[derive(Deserialize)]
struct KnownIn {
    at: Millis,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct BodyIn {
    at: Millis,
    events: Vec<EventIn>,
}

struct EventIn(Event);

impl<'de> Deserialize<'de> for EventIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<EventIn, D::Error> {
        let json = Json::deserialize(from)?;
        match serde_json::from_str::<Event>(json.text()) {
            Ok(event) => Ok(EventIn(event)),
            Err(err) => match foreign_kind(&json) {
                Some(kind) => Ok(EventIn(Event::Foreign(Foreign { kind, json }))),
                None => Err(serde::de::Error::custom(err)),
            },
        }
    }
}

/// The kind of an event that could not be read. Of a kind we know it is no foreign event but a broken one...
/// unless a later release gave it a field we cannot do without; either way the session is not run here.
fn foreign_kind(json: &Json) -> Option<String> {
    match json.value() {
        serde_json::Value::String(kind) => Some(kind),
        serde_json::Value::Object(map) if map.len() == 1 => map.keys().next().cloned(),
        _ => None,
    }
}

impl Append {
    /// The row's body: JSON, before it is sealed.
    pub fn encode(&self) -> Vec<u8> {
        let body = BodyOut { at: self.at, events: self.events.iter().map(EventOut).collect() };
        serde_json::to_vec(&body).expect("events have a JSON form")
    }

    pub fn decode(seq: Seq, body: &[u8]) -> Result<Append, serde_json::Error> {
        if let Ok(KnownIn { at, events }) = serde_json::from_slice(body) {
            return Ok(Append { seq, at, events });
        }
        let body: BodyIn = serde_json::from_slice(body)?;
        Ok(Append { seq, at: body.at, events: body.events.into_iter().map(|it| it.0).collect() })
    }
}
