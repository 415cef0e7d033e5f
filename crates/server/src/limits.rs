//! How often and how much a key may ask: what is configured.

use serde::{Deserialize, Serialize};

/// Absent is no limit, or the project's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_min: Option<u64>,
    /// Input and output tokens a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_min: Option<u64>,
    /// Turns at work at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns_max: Option<u64>,
}
