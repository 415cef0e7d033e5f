//! Is the log linearizable? What callers asked and heard is recorded around a `Log`, in the order in which it happened,
//! and then checked: is there one order of all operations, each taking effect at one moment between its question and
//! its answer, in which a plain sequential log would have given the same answers?
//!
//! Sessions do not know each other, so each is checked alone. An append whose answer never came, or said that nobody
//! knows, may have landed at any moment since, or never. For tests only; how faults are made is left to them.

pub mod operation;
pub mod recorder;
mod model;
pub mod search;
pub mod storm;
