//! What is true of a session: the fold of its log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::Effect;
use crate::event::{Append, End, Event, Pause, Try};
use crate::fork::Lineage;
use crate::ids::{AttemptId, AttemptNo, CallId, ItemId, Millis, Seq, SessionId, StepNo, TurnNo};
use crate::import::Origin;
use crate::input::{Failure, Input, Shown, TurnTerms};
use crate::item::{Item, Outcome};
use crate::json::Json;
use crate::money::{Micros, Usage};
use crate::plan::{Plan, Warm};
use crate::tool::{Runs, Tool};

/// A session. `transcript` grows with the conversation and is only read to build requests; `live` is all that
/// decisions look at, and stays small.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The last append that was applied; 0 before the first.
    pub head: Seq,
    pub about: Option<About>,
    pub transcript: Transcript,
    pub live: Live,
}

/// What was settled when the session was made, and what it was told about itself since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub id: SessionId,
    pub project: String,
    pub door: String,
    pub named: bool,
    pub metadata: Option<Json>,
    /// The door's own document about the session: a JSON object the kernel does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Json>,
    pub created_at: Millis,
    /// Which sessions minted the names of what was inherited.
    pub lineage: Vec<Lineage>,
    /// Where it was carried from, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    pub entries: Vec<Entry>,
    /// Heard, and said to the model at the next step boundary.
    pub waiting: Vec<Arc<Item>>,
    pub turns: BTreeMap<TurnNo, Past>,
    /// The labels of the tool servers that calls went to: the calls that we run. What a call's tool is may change later.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "crate::json::pairs")]
    pub served: BTreeMap<CallId, String>,
    /// What a summary that is being made, or was made last, stands for: everything up to and including this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summed_through: Option<ItemId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub item: Arc<Item>,
    /// Left out of requests and listings: of a turn that failed and was to be visible only at its end.
    pub hidden: bool,
}

/// A turn's place in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// The model that was asked for; empty in snapshots from before it was kept.
    #[serde(default)]
    pub model: String,
    pub started: Seq,
    pub ended: Option<Seq>,
    pub end: Option<End>,
    /// This and what follows is nothing in snapshots from before it was kept.
    #[serde(default)]
    pub started_at: Millis,
    #[serde(default)]
    pub ended_at: Option<Millis>,
    /// What it had used at its end.
    #[serde(default)]
    pub usage: Usage,
}

/// The part of a session that decisions look at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    pub last_at: Millis,
    pub epoch: u64,
    /// The last turn that was begun; 0 before the first.
    pub turn_no: TurnNo,
    /// The next item's index in the turn.
    pub next_idx: u32,
    /// How many items of the turn were heard aside.
    pub asides: u32,
    /// The next call's number in the turn.
    pub next_call: u32,
    pub turn: Option<Turn>,
    /// Calls without a result. Of an ended turn, only those its mode leaves to the next.
    #[serde(with = "crate::json::pairs")]
    pub calls: BTreeMap<CallId, Call>,
    /// Calls that may have run and have no end yet. Known by name alone, so that it outlives the erasing of a call.
    pub started: BTreeSet<CallId>,
    /// Calls that had started and were closed before their outcome was known: it may still be learned.
    #[serde(with = "crate::json::pairs")]
    pub doubts: BTreeMap<CallId, Doubt>,
    /// The notes that told what became of such calls.
    #[serde(default, with = "crate::json::pairs")]
    pub learned: BTreeMap<CallId, ItemId>,
    pub spent: Micros,
    /// What all its turns used; nothing in snapshots from before it was kept.
    #[serde(default)]
    pub usage: Usage,
    /// What the session may spend in all its turns; absent is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_max: Option<Micros>,
    /// Money held for attempts under way.
    #[serde(with = "crate::json::pairs")]
    pub reserved: BTreeMap<AttemptId, Micros>,
    pub warm: Option<Warm>,
    /// The last answer's input tokens; 0 if what was said has been summed up since.
    #[serde(default, skip_serializing_if = "crate::item::is_default")]
    pub context_tokens: u64,
    /// When the model was last told the time; absent if what it is told does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reminded_at: Option<Millis>,
    pub parked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    pub no: TurnNo,
    pub terms: TurnTerms,
    /// 0 until the first step begins: calls inherited from the turn before may come first.
    pub step: StepNo,
    /// The step has begun, and no answer was accepted yet.
    #[serde(default)]
    pub asking: bool,
    /// Nothing is wanted until somebody acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// These take the place of the agent's tools when no answer is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools_next: Option<Vec<Tool>>,
    /// The tries of the current step that are under way.
    pub attempts: BTreeMap<AttemptNo, Attempt>,
    /// What was said is being summed up; the next step waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summing: Option<Summing>,
    /// How many tries of a summary the turn has made since it had one.
    #[serde(default, skip_serializing_if = "crate::item::is_default")]
    pub sums_made: u32,
    /// Offers that failed at it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sums_failed: Vec<(Option<String>, Failure)>,
    /// How many tries the current step has had.
    pub attempts_made: u32,
    /// Offers that failed in the current step.
    pub failed: Vec<(Option<String>, Failure)>,
    pub retry_at: Option<Millis>,
    /// Something was heard that the model was not yet told.
    pub pending: bool,
    pub restarts: u32,
    /// Calls that we ran or run in this turn.
    pub calls_run: u32,
    pub bytes: u64,
    pub usage: Usage,
    pub cost: Micros,
    pub started_at: Millis,
    /// Milliseconds of work up to `last_at`; waiting for people and clients is not work.
    pub worked_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub why: Try,
    pub plan: Option<Plan>,
    pub placed_at: Millis,
    /// It won: its answer is the one that is shown.
    pub chosen: bool,
}

/// A summary under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summing {
    pub id: AttemptId,
    pub attempt: Attempt,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub name: String,
    pub arguments: String,
    pub runs: Runs,
    pub state: CallState,
    pub step: StepNo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// The model asked for it; what follows is decided in the same append.
    Asked,
    /// A person has to say yes or no.
    AwaitingApproval { expires_at: Millis },
    /// A person said yes; it starts with the next turn.
    Approved,
    /// It may have run.
    Started,
    /// The client has it.
    WithClient,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// How it was closed: `unknown` or `cancelled`.
    pub closed: Outcome,
}

/// The answer is no. Not an error: nothing went wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The session was not created, or was already.
    NotCreated,
    AlreadyCreated,
    /// A turn is running.
    Busy {
        turn: TurnNo,
    },
    /// Another turn was begun meanwhile, or this is not the next one: the last is this.
    Overtaken {
        last: TurnNo,
    },
    NoSuchTurn,
    NoSuchItem(ItemId),
    /// The call was never made, or has its answer.
    CallNotOpen(CallId),
    /// The call waits for another kind of answer.
    WrongAnswer(CallId),
    /// These calls have to be answered first.
    CallsOpen(Vec<CallId>),
    /// Items before this one still belong together with later ones.
    NotABoundary,
    /// The approval was not answered in time.
    Expired(CallId),
    Parked(String),
    NotParked,
    /// A newer owner has the session.
    OldEpoch {
        current: u64,
    },
    /// The session would take it; whoever watches over what many share does not let it begin.
    TurnedAway(TurnedAway),
}

/// Why no turn may begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TurnedAway {
    /// Its project is stopped, until somebody lifts that.
    Held,
    /// So many turns of the key are at work.
    TurnsMax { max: u64 },
    /// The key's turns have used its tokens; some are there again after this time.
    Tokens { per_min: u64, again_ms: Millis },
}

impl Session {
    pub fn replay<'a>(log: impl IntoIterator<Item = &'a Append>) -> Session {
        let mut session = Session::default();
        for append in log {
            session.apply(append);
        }
        session
    }

    /// Folds one append. Total: a fact that has been recorded is always accepted.
    pub fn apply(&mut self, append: &Append) {
        self.head = append.seq;
        for event in &append.events {
            self.apply_event(append.seq, append.at, event);
        }
    }

    /// Folds one event of the append `seq`, for whoever tells what was true in the middle of it. Nobody else does: an
    /// append holds whole, or not at all.
    pub fn apply_event(&mut self, seq: Seq, at: Millis, event: &Event) {
        self.head = seq;
        if let Event::Created { id, project, door, named, metadata, inheritance } = event {
            self.about = Some(About {
                id: *id,
                project: project.clone(),
                door: door.clone(),
                named: *named,
                metadata: metadata.clone(),
                created_at: at,
                settings: inheritance.as_ref().and_then(|it| it.settings.clone()),
                lineage: inheritance.as_ref().map(|it| it.lineage.clone()).unwrap_or_default(),
                origin: None,
            });
        }
        if let (Event::Configured(told), Some(about)) = (event, &mut self.about) {
            about.settings = told.settings.clone().or(about.settings.take());
            about.metadata = told.metadata.clone().or(about.metadata.take());
        }
        if let (Event::Imported { origin }, Some(about)) = (event, &mut self.about) {
            about.origin = Some(origin.clone());
        }
        self.transcript.apply(event, seq, at, &self.live);
        self.live.apply(event, at);
    }

    /// What follows from an input. Pure; changes nothing. No events: nobody waits for this any more.
    /// `shown` tells what was shown so far of the attempts that are under way.
    pub fn decide(
        &self,
        input: Input,
        shown: &[Shown],
        now: Millis,
    ) -> Result<Vec<Event>, Rejection> {
        crate::decide::decide(self, input, shown, now)
    }

    /// What the outside should be doing for this session right now, and nothing more.
    pub fn effects(&self) -> Vec<Effect> {
        crate::effects::effects(&self.live)
    }

    pub fn id(&self) -> Option<SessionId> {
        self.about.as_ref().map(|it| it.id)
    }
}

impl Turn {
    /// Every attempt that has no end yet, with its name.
    pub fn under_way(&self) -> impl Iterator<Item = (AttemptId, &Attempt)> {
        let steps = self
            .attempts
            .iter()
            .map(|(&attempt, it)| (AttemptId { turn: self.no, step: self.step, attempt }, it));
        steps.chain(self.summing.iter().map(|it| (it.id, &it.attempt)))
    }
}

impl Live {
    pub fn attempt(&self, id: AttemptId) -> Option<&Attempt> {
        let turn = self.turn.as_ref().filter(|it| it.no == id.turn && it.step == id.step)?;
        match &turn.summing {
            Some(summing) if summing.id == id => Some(&summing.attempt),
            Some(_) | None => turn.attempts.get(&id.attempt),
        }
    }

    pub fn reserved_total(&self) -> Micros {
        self.reserved.values().sum()
    }

    /// What the session may still spend; `None` is without limit.
    pub fn session_left(&self) -> Option<Micros> {
        let max = self.spend_max?;
        Some(max.saturating_sub(self.spent).saturating_sub(self.reserved_total()))
    }

    /// What the running turn may still spend by its own terms; `None` is without limit.
    pub fn turn_left(&self) -> Option<Micros> {
        let turn = self.turn.as_ref()?;
        let max = turn.terms.limits.cost_max?;
        Some(max.saturating_sub(turn.cost).saturating_sub(self.reserved_total()))
    }
}
