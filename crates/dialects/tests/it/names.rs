//! Names as plain as can be.

use everstate_dialects::{ItemKind, Names};
use everstate_kernel::ids::{CallId, ItemId, TurnNo};

pub(crate) struct Plain;

impl Names for Plain {
    fn item(&self, item: ItemId, kind: ItemKind) -> String {
        let word = match kind {
            ItemKind::Message => "msg",
            ItemKind::Reasoning => "rs",
            ItemKind::FunctionCall => "fc",
            ItemKind::FunctionCallOutput => "fco",
            ItemKind::ServerCall => "mcp",
            ItemKind::ToolList => return format!("mcpl_{}_{}", item.turn, u32::MAX - item.idx),
            ItemKind::Compaction => "cmp",
            ItemKind::Other => "item",
        };
        format!("{word}_{}_{}", item.turn, item.idx)
    }

    fn call(&self, call: CallId) -> String {
        format!("call_{}_{}", call.turn, call.n)
    }

    fn approval(&self, call: CallId) -> String {
        format!("mcpr_{}_{}", call.turn, call.n)
    }

    fn turn(&self, turn: TurnNo) -> String {
        format!("resp_{turn}")
    }
}
