//! Anything that can happen to a session.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::agent::{Agent, Limits};
use crate::delta::ReplyEnd;
use crate::fork::Inheritance;
use crate::ids::{AttemptId, CallId, ItemId, Millis, SessionId, TurnNo};
use crate::import::Import;
use crate::item::{Body, Outcome, Output, Part};
use crate::json::Json;
use crate::money::Micros;
use crate::plan::{NoOffer, Plan};
use crate::policy::Constraints;
use crate::tool::Tool;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The first input of every session.
    Create(Create),
    /// What the session is to know about itself from here on; at any time, also while a turn runs.
    Configure(Configure),
    /// The first input of a session that was carried here from another installation.
    Import(Box<Import>),
    /// A new owner has loaded the session; whoever ran its effects before is gone.
    Adopted {
        epoch: u64,
    },
    /// What follows in the same append shall begin this turn and no other: refused if another has begun meanwhile.
    Expect {
        turn: TurnNo,
    },
    /// Something is said to the session.
    Begin(Begin),
    /// Results of calls that a client runs, for a turn that waits for them (`calls = hold`).
    Answer {
        answers: Vec<Answer>,
    },
    /// A person's answer to a call that asked for one.
    Approve(Approval),
    /// `Place` came back.
    Placed {
        attempt: AttemptId,
        plan: Plan,
    },
    NotPlaced {
        attempt: AttemptId,
        no_offer: NoOffer,
    },
    /// The first piece of an answer is here; asked before it is shown, where several attempts live.
    Spoke {
        attempt: AttemptId,
    },
    Replied {
        attempt: AttemptId,
        outputs: Vec<Output>,
        end: ReplyEnd,
    },
    AttemptFailed {
        attempt: AttemptId,
        failure: Failure,
    },
    /// A tool that we run came back.
    Returned {
        call: CallId,
        outcome: Outcome,
        output: Vec<Part>,
    },
    /// Look at the clock. Harmless at any time.
    Tick,
    /// Whoever waited for this turn's answer is gone.
    CallerLost {
        turn: TurnNo,
    },
    Cancel {
        turn: TurnNo,
    },
    /// The conversation up to `through` shall be stood for by a summary.
    Compact {
        summary: Vec<Part>,
        through: ItemId,
    },
    Erase {
        items: Vec<ItemId>,
    },
    /// The session cannot go on. Its neighbours do not notice.
    Park {
        reason: String,
    },
    Unpark,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Create {
    pub id: SessionId,
    pub project: String,
    /// The door it was made through.
    pub door: String,
    /// A named session is a conversation: it is continued in place, never forked by being continued.
    pub named: bool,
    /// A JSON object of the client's, given back unchanged.
    pub metadata: Option<Json>,
    /// What a fork begins with.
    pub inheritance: Option<Inheritance>,
    pub epoch: u64,
}

/// What changes of a session; what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configure {
    /// The door's own document about the session: a JSON object the kernel does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Json>,
    /// A JSON object of the client's; it takes the place of the whole that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json>,
    /// The tools of the running turn, from its next model call on: an answer under way is still read with those it was
    /// asked with. Without a turn it changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// What the session may spend in all its turns, in millionths of a US dollar; `Some(None)` is no limit. A detached
    /// turn that may spend no more pauses, and goes on when this is raised; an attached one ends `incomplete`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "given")]
    pub spend_max: Option<Option<Micros>>,
}

/// `null` is a value that was given, and not the same as nothing.
mod given {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::money::Micros;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<Option<Micros>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.flatten().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Option<Micros>>, D::Error> {
        Option::deserialize(from).map(Some)
    }
}

/// One input from a client, and how it wants the turn to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    pub items: Vec<NewItem>,
    /// Results of client calls left open by the turn before.
    pub answers: Vec<Answer>,
    pub approvals: Vec<Approval>,
    pub terms: TurnTerms,
    pub when_busy: WhenBusy,
}

/// An item from a client. Calls and results among them are history the client tells: a call here is numbered by
/// the client's door (`turn` 0), and has its result further down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewItem {
    pub body: Body,
    /// What the client calls it; of a call, its call id.
    pub provider_id: Option<String>,
    pub extra: Option<Json>,
}

/// All that holds for one turn, copied into its first fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TurnTerms {
    pub agent: Arc<Agent>,
    pub limits: Limits,
    pub constraints: Constraints,
    pub calls: Calls,
    pub visible: Visible,
    pub caller: Caller,
    /// Is what was shown kept, so that the stream can be resumed?
    pub resumable: bool,
    /// The door's dialect and the revision of its encoder: with it the turn's stream can be told again, byte for byte.
    pub voice: String,
    /// The request as the door wants to echo it: a JSON object the kernel does not read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub echo: Option<Json>,
    /// Where the turn belongs in its caller's trace, as W3C Trace Context writes it (`traceparent`), for whoever tells
    /// the turn to a tracing system. It is sent to no provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Before a step, the model is told what time it is if it was not told for so many milliseconds; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_every_ms: Option<Millis>,
    /// When what was said is summed up, before a step; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact: Option<Compact>,
    /// Who began it, and what that one may have; the kernel does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// A session that outgrows what a model takes is summed up: a model is asked for a summary, which stands for all that
/// was said in later requests. The turn waits for it; if nothing comes of it, it goes on without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compact {
    /// The last answer's input tokens from which on it is due, as its provider counted them.
    pub at_tokens: u64,
}

/// The API key behind a turn, and its limits as they stood then. Absent is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_min: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns_max: Option<u64>,
}

/// Who waits while a client runs its tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// The turn waits for the results (Agents API).
    Hold,
    /// The turn ends with the calls open; the next one must answer them (Responses, Chat).
    Return,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visible {
    /// A turn that fails leaves nothing in the transcript (Conversations).
    AtEnd,
    AsItGoes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// The turn ends when its caller is gone.
    Attached,
    Detached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBusy {
    Refuse,
    /// Heard at the next step boundary, after open calls have results.
    Steer,
    /// The running turn ends `steered`, this one begins in the same append.
    Supersede,
}

/// A client's result of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub call: CallId,
    pub outcome: Outcome,
    pub output: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub call: CallId,
    pub approve: bool,
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was shown so far of an attempt that is under way. It comes with every input, because any of them may end
/// the attempt, and what was shown stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub attempt: AttemptId,
    pub outputs: Vec<Output>,
    pub frames: u64,
}

/// What went wrong with an attempt. Providers classify; the kernel decides what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub class: FailureClass,
    pub message: String,
    /// HTTP status, where there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The provider's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The provider asked us to wait so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// Too many requests: wait, or go elsewhere.
    RateLimited,
    Overloaded,
    /// Paid or allotted capacity is used up: go elsewhere.
    QuotaExhausted,
    /// No or wrong credentials: go elsewhere.
    Auth,
    /// The model is not there: go elsewhere.
    NotFoundHere,
    Timeout,
    /// Connection lost, nonsense received, ended without an end.
    Broken,
    /// The provider will not answer this prompt. The same elsewhere is not tried.
    Refused,
    /// More than the model can take.
    TooLong,
    /// The request is wrong, wherever it is sent.
    Invalid,
}

impl FailureClass {
    /// Another offer may do better.
    pub fn elsewhere(self) -> bool {
        !matches!(self, FailureClass::Refused | FailureClass::TooLong | FailureClass::Invalid)
    }

    /// The same offer may do better later.
    pub fn later(self) -> bool {
        matches!(
            self,
            FailureClass::RateLimited
                | FailureClass::Overloaded
                | FailureClass::Timeout
                | FailureClass::Broken
        )
    }
}
