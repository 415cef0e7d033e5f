//! The binary as people use it: real processes, a real server, what stands on stdout and how they exit.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod bundles;
mod copying;
mod house;

mod commands;
mod config;
mod crash;
mod demo;
mod json;
mod many;
mod nodes;
mod old;
mod sdk;
mod stopping;
