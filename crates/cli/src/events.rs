//! Events of `/everstate/v1` read back into facts, for the timeline.

use everstate_kernel::event::Append;
use everstate_kernel::ids::{Millis, Seq};
use serde_json::{Map, Value, json};

/// The API tells each event of a row by itself, with its fields beside the row's. Each becomes an append of its own
/// here: folding them one by one comes to the same. `None` for streaming pieces.
pub(crate) fn read(told: &Value) -> Option<Append> {
    let mut fields: Map<String, Value> = told.as_object()?.clone();
    let seq = fields.remove("seq")?.as_u64()?;
    let at: Millis = fields.remove("at")?.as_u64()?;
    let kind = fields.remove("kind")?.as_str()?.to_owned();
    fields.remove("address");
    // The log's name for it, which beside a row's fields means the row's time.
    if let Some(again) = fields.remove("again_at") {
        fields.insert("at".to_owned(), again);
    }
    let event = if fields.is_empty() {
        Value::String(kind)
    } else {
        Value::Object(Map::from_iter([(kind, Value::Object(fields))]))
    };
    let body = json!({ "at": at, "events": [event] });
    Append::decode(seq, body.to_string().as_bytes()).ok()
}

/// How far a followed log was heard, so that a reader that comes back hears each event once. A row's events come one
/// by one, and the break may have been between two of them.
#[derive(Debug, Default)]
pub(crate) struct Place {
    seq: Seq,
    /// Events heard of the row at `seq`.
    heard: usize,
    /// Events of that row that will come again.
    skip: usize,
}

impl Place {
    /// What to ask for.
    pub(crate) fn after(&self) -> Seq {
        self.seq.saturating_sub(1)
    }

    /// A new stream begins.
    pub(crate) fn again(&mut self) {
        self.skip = self.heard;
    }

    pub(crate) fn is_new(&mut self, told: &Value) -> bool {
        let Some(seq) = told["seq"].as_u64() else { return false };
        if seq == self.seq && self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        if seq > self.seq {
            (self.seq, self.heard, self.skip) = (seq, 0, 0);
        }
        self.heard += 1;
        true
    }
}
