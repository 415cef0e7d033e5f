//! Speaks HTTP, and wires all rooms together. It decides nothing about a session.

pub mod config;
pub mod serve;
pub mod wiring;
pub mod offline;
pub mod bundle;
mod app;
mod http;
mod api;
pub mod error;
mod refuse;
pub mod keys;
pub mod limits;
mod claim;
mod ids;
mod menu;
mod stall;
mod peers;
mod chores;
mod retention;
mod clock;
mod meters;
mod telemetry;
