//! Tools as a turn knows them: enough to offer them to a model and to run them safely.

use serde::{Deserialize, Serialize};

use crate::json::Json;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    pub runs: Runs,
    /// Fields of the wire object that we do not understand: a JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Json>,
}

/// Who runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runs {
    /// The client does, and sends the result.
    Client,
    /// We do.
    Server(ServerTool),
    /// The provider does (its own search and the like). `json` is the tool's whole wire object.
    Provider { dialect: String, json: Json },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerTool {
    /// The tool server it belongs to; `everstate` for the tools of our own configuration.
    pub label: String,
    pub safety: Safety,
    /// Does a person have to say yes to each call?
    pub approval: bool,
    pub timeout_ms: u64,
}

/// What may happen to a call whose fate we do not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// Changes nothing: it is run again.
    ReadOnly,
    /// The other side honours our key: it is run again with the same one.
    Idempotent,
    /// It is never run again; it becomes `unknown`.
    Neither,
}

/// What the model is told to do about tools. Forced choices hold for a turn's first step only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    #[default]
    Auto,
    None,
    Required,
    /// This one.
    Named(String),
    /// One of these, or (if not `required`) none.
    Allowed {
        names: Vec<String>,
        required: bool,
    },
}
