//! What every store promises, tried through its doors, and what a crash or a power cut may not take away.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod carrying;
mod copying;
mod stores;
mod log;
mod projections;
mod rewriting;
mod bucket;
mod blobs;
mod registry;
mod sealed;
mod files;
mod old;
mod tamper;
mod linear;
mod names;
mod nodes;
mod faults;
mod server;
mod remains;
mod crash;
mod powercut;
