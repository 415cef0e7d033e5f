//! The Agents API at the door.

mod config;
mod request;
mod vault;
mod voice;
