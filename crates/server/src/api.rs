//! The doors. Each translates its API's requests into inputs of sessions, and what sessions say into its answers.

pub mod responses;
pub mod models;
pub mod everstate;
pub mod later;
pub mod health;
