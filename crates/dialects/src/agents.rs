//! The Agents dialect: `/v1/agents`, as OpenAI's clients speak it. A door only: no provider is called in it.
//!
//! `config` is what an agent and a session are made of, `request` reads what clients send. `object` is what clients are
//! told of a session and its turns, `listing` of its items, `voice` of all that happens, `saved` of agents that are kept.
//! `vault` is about credentials.

pub mod config;
pub mod request;
pub mod object;
pub mod listing;
pub mod voice;
pub mod error;
pub mod saved;
pub mod vault;

/// The door's name in a session's first fact.
pub const DOOR: &str = "agents";
