//! How each API says it, both directions. Pure: bytes in, values out, and back.

use everstate_kernel::ids::{CallId, ItemId, TurnNo};

/// How the names inside a session look on a wire. The doors implement it; a dialect never makes up a name.
pub trait Names {
    fn item(&self, item: ItemId, kind: ItemKind) -> String;
    fn call(&self, call: CallId) -> String;
    fn approval(&self, call: CallId) -> String;
    fn turn(&self, turn: TurnNo) -> String;
}

/// Wire names begin with a word for what they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    Message,
    Reasoning,
    FunctionCall,
    FunctionCallOutput,
    ServerCall,
    Compaction,
    Other,
}
