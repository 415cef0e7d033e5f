//! Everstate on a PostgreSQL that fails over: three etcd, three Patroni, three PostgreSQL on loopback, synchronous
//! replication in strict mode, and the leader is killed again and again under load. `cargo xtask cluster-test` builds
//! and runs it. It takes minutes, so it is no part of the ordinary tests.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program to be watched: where it cannot go on, it says where and stops"
)]

use std::path::PathBuf;
use std::process::ExitCode;

mod processes;
mod http;
mod ensemble;
mod faults;
mod appends;

/// How it is to run.
#[derive(Debug)]
struct Wishes {
    /// So many faults, one after the other.
    rounds: usize,
    /// The folder stays, with everybody's logs.
    keep: bool,
    folder: PathBuf,
}

const USAGE: &str = "usage: everstate-test-cluster [--rounds N] [--keep]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(wishes) = read(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    processes::make_folder(&wishes.folder);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(appends::run(&wishes));
    if wishes.keep {
        eprintln!("everybody's logs are in {}", wishes.folder.display());
    } else {
        let _ = std::fs::remove_dir_all(&wishes.folder);
    }
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Option<Wishes> {
    let folder = std::env::temp_dir().join(format!("everstate-cluster-{}", std::process::id()));
    let mut wishes = Wishes { rounds: faults::FAULTS.len() * 2, keep: false, folder };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => wishes.rounds = words.next()?.parse().ok()?,
            "--keep" => wishes.keep = true,
            _ => return None,
        }
    }
    Some(wishes)
}
