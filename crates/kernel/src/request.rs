//! What a model is asked: built from the state alone, the same every time, and legal by construction.

use std::sync::Arc;

use crate::agent::Agent;
use crate::ids::{AttemptId, SessionId};
use crate::item::Item;
use crate::tool::ToolChoice;

/// One model request, before a dialect gives it its form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub session: SessionId,
    pub attempt: AttemptId,
    pub agent: Arc<Agent>,
    /// In force for this step: a forced choice holds for a turn's first step only.
    pub tool_choice: ToolChoice,
    /// Every call in here has its result, after it; nothing erased, hidden or incomplete is.
    pub items: Vec<Arc<Item>>,
    /// How many of `items` an earlier request of this session may have carried already: the part a cache can hold.
    pub n_prefix: usize,
    pub max_output_tokens: Option<u64>,
}
