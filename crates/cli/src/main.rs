//! The one binary, `everstate`. A client of its own server's HTTP API, like any other: it has no powers the API lacks.
//! Only `explain` and `audit verify` also read a store's file, when no server runs, and `store copy` carries one away.

mod commands;
mod desk;
mod fault;
mod out;
mod client;
mod sse;
mod events;
mod address;
mod key;
mod timeline;
mod table;
mod person;

// One file for each command.
mod demo;
mod dev;
mod serve;
mod run;
mod session;
mod explain;
mod doctor;
mod config;
mod audit;
mod store;
mod budget;
mod retention;
mod approval;
mod stop;
mod effect;
mod node;
mod project;
mod keys;
mod version;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
