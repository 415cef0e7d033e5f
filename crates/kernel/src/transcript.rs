//! (being written)
use crate::event::Event;
use crate::ids::Seq;
use crate::state::{Live, Transcript};

impl Transcript {
    pub(crate) fn apply(&mut self, _event: &Event, _seq: Seq, _live: &Live) {}
}
