//! Providers through their doors: every kind against one contract, over real connections to servers that behave badly
//! on purpose.

#![allow(clippy::unwrap_used)] // A test that cannot go on should say so.

mod ask;
mod upstream;
mod contract;
mod http;
mod settings;
mod rehearsal;
mod papers;
