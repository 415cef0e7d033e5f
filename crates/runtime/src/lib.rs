//! Makes it happen: loads sessions, compares what they want with what runs, and tells those who listen.
//!
//! It decides nothing about a session (the kernel does) and knows no wire format, SQL or HTTP (the rim does).

pub mod ports;
pub mod buckets;
pub mod secret;

// The door of this room.
pub mod settings;
pub mod market;
pub mod host;
pub mod start;
mod erasing;
pub mod drain;
pub mod ledger;
pub mod veil;

// Many nodes.
pub mod cluster;

// One session.
mod table;
mod cache;
mod load;
mod think;
mod driver;
mod workers;
mod keep;
pub mod attend;

// Beside them.
mod health;
mod timers;
mod hub;
pub mod tail;
