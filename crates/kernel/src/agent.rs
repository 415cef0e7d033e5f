//! An agent as a turn runs it: copied whole into the turn's first fact, so that later changes touch later turns.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::item::is_default;
use crate::json::Json;
use crate::tool::{Tool, ToolChoice};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The name asked for; an offer says what its provider calls it.
    pub model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub tool_choice: ToolChoice,
    #[serde(default, skip_serializing_if = "is_default")]
    pub sampling: Sampling,
    /// Request fields that we do not act on, by dialect and name: sent only where the dialect is the same.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, BTreeMap<String, Json>>,
}

/// How the model is asked to write. Numbers stay the text they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<Json>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// `none`, `minimal`, `low`, `medium`, `high`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_summary: Option<String>,
    /// The answer's form: absent is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verbosity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Text,
    JsonObject,
    JsonSchema {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        description: Option<String>,
        schema: Json,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        strict: Option<bool>,
    },
}

/// Everything has a limit. Each is for one turn, except `attempts_max`, which is for one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub steps_max: u32,
    pub attempts_max: u32,
    /// How often an answer that had been shown may be begun anew.
    pub restarts_max: u32,
    /// Calls that we run; further ones are answered `denied`.
    pub calls_max: u32,
    /// Bytes of items a turn may bring forth.
    pub bytes_max: u64,
    /// Input and output tokens together.
    pub tokens_max: u64,
    /// Millionths of a US dollar; absent is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_max: Option<u64>,
    /// Milliseconds in which we or a provider worked; waiting for a person or a client does not count.
    pub work_ms_max: u64,
    /// How long an approval may wait.
    pub approval_ms_max: u64,
    /// The first pause before the same offer is tried again; it doubles.
    pub backoff_ms: u64,
    /// Ask a second offer when the first has said nothing for so long; absent is never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_after_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            steps_max: 64,
            attempts_max: 6,
            restarts_max: 2,
            calls_max: 256,
            bytes_max: 64 << 20,
            tokens_max: 20_000_000,
            cost_max: None,
            work_ms_max: 3_600_000,
            approval_ms_max: 90 * 86_400_000,
            backoff_ms: 500,
            hedge_after_ms: None,
        }
    }
}

impl Agent {
    /// The tool a model means by this name. A client's function is the client's, even where we have one of that name.
    pub fn tool(&self, name: &str) -> Option<&Tool> {
        let named = || self.tools.iter().filter(|it| it.name == name);
        named().find(|it| it.runs == crate::tool::Runs::Client).or_else(|| named().next())
    }
}
