//! The server through its doors: a real socket, a real store, and the rehearsal for a model.

#![allow(clippy::unwrap_used)] // In a test, whatever is not there is a failure.

mod access;
mod agents;
mod bad_input;
mod bundles;
mod budgets;
mod claims;
mod collector;
mod erasing;
mod everstate;
mod responses;
mod later_agents;
mod limits;
mod running;
mod server;
mod starting;
mod stored_agents;
mod table;
mod traces;
mod tracing;
mod vaults;
