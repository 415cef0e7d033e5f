//! The kernel through its door: scenarios that read like stories, and a seeded world that breaks everything it can.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::print_stdout, reason = "the simulation says what it met")]

mod codec;
mod erasing;
mod importing;
mod old;
mod promises;
mod scenarios;
mod simulation;
mod slice;
mod story;
mod tools;
mod words;
mod world;
