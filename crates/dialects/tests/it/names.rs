//! Names as plain as can be.

use everstate_dialects::{ItemKind, Names};
use everstate_kernel::ids::{CallId, ItemId, Seq, TurnNo};

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

    fn session(&self) -> String {
        "ses_1".to_owned()
    }

    fn session_turn(&self, turn: TurnNo) -> String {
        format!("turn_{turn}")
    }

    fn event(&self, seq: Seq, n: u32) -> String {
        format!("evt_{seq}_{n}")
    }
}
