//! (being written)
use crate::event::Event;
use crate::ids::Millis;
use crate::state::Live;

impl Live {
    pub(crate) fn apply(&mut self, _event: &Event, _at: Millis) {}
}
