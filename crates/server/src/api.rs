//! The doors. Each translates its API's requests into inputs of sessions, and what sessions say into its answers.

pub(crate) mod responses;
pub(crate) mod agents;
pub(crate) mod models;
pub(crate) mod everstate;
pub(crate) mod later;
pub(crate) mod health;
pub(crate) mod internal;
