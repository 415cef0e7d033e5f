//! How each API says it, both directions. Pure: bytes in, values out, and back.
//!
//! Two directions. *Upstream*: a kernel request becomes a provider's body, and the provider's bytes become pieces of
//! an answer ([`upstream`]). *Door*: a client's request becomes kernel words, and the log of a turn becomes what its
//! client sees (the `request` and `voice` modules of a dialect). Dialects meet in the kernel's items; none translates
//! to another.

use everstate_kernel::ids::{CallId, ItemId, Seq, TurnNo};

// What all dialects share.
pub mod upstream;
pub mod failure;
mod arrange;
mod body;
mod sse;
mod json;

// The dialects.
pub mod responses;
pub mod chat;
pub mod agents;

use crate::upstream::Dialect;

/// Every dialect a provider can speak.
pub static DIALECTS: &[&dyn Dialect] = &[&responses::Responses, &chat::Chat];

/// Every voice a turn can be told in, the newest revision of each door first. A revision that was once recorded is
/// never changed: a turn is told again as it was told first.
pub static VOICES: &[&str] = &[responses::voice::REVISION, agents::voice::REVISION];

/// The dialect of this name.
pub fn dialect(name: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.iter().copied().find(|it| it.name() == name)
}

/// How the names inside a session look on a wire. The doors implement it; a dialect never makes up a name.
pub trait Names {
    fn item(&self, item: ItemId, kind: ItemKind) -> String;
    fn call(&self, call: CallId) -> String;
    fn approval(&self, call: CallId) -> String;
    fn turn(&self, turn: TurnNo) -> String;
    /// The session, where clients see sessions.
    fn session(&self) -> String;
    /// The same turn as [`Names::turn`], where clients see turns.
    fn session_turn(&self, turn: TurnNo) -> String;
    /// The `n`-th event that row `seq` tells.
    fn event(&self, seq: Seq, n: u32) -> String;
}

/// Wire names begin with a word for what they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    Message,
    Reasoning,
    FunctionCall,
    FunctionCallOutput,
    ServerCall,
    /// The list of a tool server's tools, told at the head of a turn: no item of the transcript. Its `idx` counts
    /// down from the greatest.
    ToolList,
    Compaction,
    Other,
}
