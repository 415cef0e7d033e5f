//! Entries of the transcript. Every dialect translates to and from these, and none to another.

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, ItemId};
use crate::json::Json;

/// One entry of the transcript.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: ItemId,
    pub body: Body,
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Status,
    /// What the provider called it. A field, never our name for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// Fields of the wire object that we do not understand: a JSON object, given back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Json>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Message {
        role: Role,
        parts: Vec<Part>,
    },
    Reasoning(Reasoning),
    Call {
        call: CallId,
        name: String,
        /// As the model wrote them; need not be valid JSON.
        arguments: String,
    },
    Result {
        call: CallId,
        outcome: Outcome,
        output: Vec<Part>,
    },
    /// Stands for everything up to and including `through` in later requests.
    Compaction {
        summary: Vec<Part>,
        through: ItemId,
    },
    /// Said to the model by the runtime: for example what became of a call that was unknown.
    Note {
        text: String,
    },
    /// An item only its own dialect understands, whole.
    Opaque {
        dialect: String,
        json: Json,
    },
    /// Its content was deleted; only its place is left.
    Erased,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Completed,
    /// Shown, then lost or cut short. Stays in the output, is never sent to a model.
    Incomplete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Text {
        text: String,
        /// Citations and the like, each a JSON object as the provider wrote it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        annotations: Vec<Json>,
    },
    Refusal {
        text: String,
    },
    /// `url` is `https:`, or `data:` with base 64.
    Image {
        url: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A content part only its own dialect understands (files, audio), whole.
    Opaque {
        dialect: String,
        json: Json,
    },
}

impl Part {
    pub fn text(text: impl Into<String>) -> Part {
        Part::Text { text: text.into(), annotations: Vec::new() }
    }
}

/// What a model thought, as far as it is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reasoning {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub summary: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub content: Vec<String>,
    /// Sealed by its provider, readable only in its domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sealed {
    /// Who can read it (see [`Offer::crypto_domain`](crate::offer::Offer)). Sent nowhere else.
    pub domain: String,
    pub content: String,
}

/// How a tool call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
    /// A person or a rule said no. It was not run.
    Denied,
    /// It was not run, or its result is no longer wanted.
    Cancelled,
    /// It may or may not have happened: we stopped between starting it and hearing of it.
    Unknown,
}

/// What a model brought forth, before the kernel gives it a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    pub body: OutputBody,
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Json>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputBody {
    Message { parts: Vec<Part> },
    Reasoning(Reasoning),
    Call { name: String, arguments: String },
    Opaque { dialect: String, json: Json },
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
