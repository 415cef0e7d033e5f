//! The runtime over a log, models, tools and a clock made of memory: scenarios, and a seeded simulation of it all.
#![allow(
    clippy::unwrap_used,
    reason = "a test that finds nothing where something must be has failed"
)]

mod clock;
mod ledger;
mod log;
mod world;
mod gate;
mod nodes;

mod feeding;
mod tailing;
mod surviving;
mod keeping;
mod sim;
mod clustering;
mod clustersim;
