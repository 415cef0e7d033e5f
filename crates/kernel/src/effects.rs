//! (being written)
use crate::effect::Effect;
use crate::state::Live;

pub(crate) fn effects(_live: &Live) -> Vec<Effect> {
    Vec::new()
}
