//! The dialects from outside: recorded traffic, requests, and what a turn's client sees.

mod agents;
mod cassettes;
mod decode;
mod door;
mod encode;
mod names;
mod play;
mod recorded;
mod voice;
mod yaml;
