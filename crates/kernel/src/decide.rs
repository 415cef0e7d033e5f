//! (being written)
use crate::event::Event;
use crate::ids::Millis;
use crate::input::Input;
use crate::state::{Rejection, Session};

pub(crate) fn decide(
    _session: &Session,
    _input: Input,
    _now: Millis,
) -> Result<Vec<Event>, Rejection> {
    Ok(Vec::new())
}
