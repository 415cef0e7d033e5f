//! Tools against services on this machine: what is sent, and what is made of what comes back.

mod service;
mod fetching;
mod calling;
mod configuring;
