//! The Agents API at the door.

mod any;
mod config;
mod objects;
mod promises;
mod request;
mod vault;
mod voice;
