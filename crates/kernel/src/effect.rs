//! Work the state wants done outside. A level, not a pulse: derived anew after each fact, and compared with what runs.

use crate::ids::{AttemptId, CallId, Millis};

/// Names one piece of work. With the session's id it is unique in the world, survives a crash, and is the
/// work's idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Choose an offer for this attempt.
    Place(AttemptId),
    /// Ask the model.
    Model(AttemptId),
    /// Run the tool.
    Tool(CallId),
    /// Look at the clock at this time.
    Wake(Millis),
}
