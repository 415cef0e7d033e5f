//! The Agents dialect: `/v1/agents`, as OpenAI's clients speak it. A door only: no provider is called in it.
//!
//! `config` is what an agent and a session are made of, `request` reads what clients send.

pub mod config;
pub mod request;

/// The door's name in a session's first fact.
pub const DOOR: &str = "agents";
