//! Makes it happen: loads sessions, compares what they want with what runs, and tells those who listen.
//!
//! It decides nothing about a session (the kernel does) and knows no wire format, SQL or HTTP (the rim does).

pub mod ports;
pub mod secret;
