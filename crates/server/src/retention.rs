//! What is kept, and for how long: `rules` says it for each project, `sweep` finds what is due and deletes it by the same
//! doors as a client would, `told` shows it.

pub(crate) mod rules;
pub(crate) mod own;
pub(crate) mod sweep;
pub(crate) mod told;
