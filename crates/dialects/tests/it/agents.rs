//! The Agents API at the door.

mod config;
mod request;
mod voice;
