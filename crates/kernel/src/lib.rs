//! What is true: the session machine and the words it is made of.
//!
//! Three verbs. [`Session::decide`](state::Session::decide) turns an input into events, or refuses;
//! [`Session::apply`](state::Session::apply) folds a fact into the state, and is the only thing replay runs;
//! [`Session::effects`](state::Session::effects) reads off the state what the world should be doing right now.
//!
//! Nothing here waits, asks for the time, draws a number or touches a disk: all that is handed in.

// The words, from the smallest to the largest.
pub mod ids;
pub mod json;
pub mod item;
pub mod delta;
pub mod tool;
pub mod agent;
pub mod offer;
pub mod policy;
pub mod plan;
pub mod money;
pub mod slice;
pub mod calendar;

// The machine.
pub mod input;
pub mod event;
pub mod effect;
pub mod state;
mod transcript;
mod live;
mod decide;
mod effects;
pub mod request;
pub mod fork;
pub mod import;
pub mod erase;
pub mod veil;
