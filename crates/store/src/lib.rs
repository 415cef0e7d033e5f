//! Keeps what must not be lost: the log of all sessions, the registry's documents, and the keys their contents
//! are sealed under. What the contents mean is decided elsewhere.
//!
//! A store has two halves. A [`shelf`] keeps sealed rows and plain tables, flushed before it answers; it knows
//! nothing of keys. What is sealed, chained, packed, erased and verified is the same over every shelf, in [`log`].
//! To add a store: write a shelf, add an arm in [`open::open`], and a line in the list of the contract suite.

pub mod open;
mod shelf;
mod row;
mod seal;
mod segment;
mod log;
mod erase;
mod verify;
pub mod chain;
pub mod archive;
pub mod copy;
mod registry;
mod sealed;
mod names;
pub mod blobs;
mod stripes;
pub mod keys;
mod memory;
mod sqlite;
mod postgres;
mod lock;
pub mod facts;
