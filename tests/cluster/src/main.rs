//! What takes minutes and other people's programs, and so is no part of the ordinary tests: Everstate on a PostgreSQL that
//! fails over (three etcd, three Patroni, three PostgreSQL on loopback, synchronous replication in strict mode, the
//! leader killed again and again under load), on a network that drops packets, on a disk that is full, and two releases
//! of Everstate side by side. `cargo xtask cluster-test` and `cargo xtask upgrade` build and run it.
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
mod nodes;
mod net;
mod relay;

// What is tried, one file each.
mod appends;
mod turns;
mod cuts;
mod full;
mod upgrade;

/// How it is to run.
#[derive(Clone, Debug)]
struct Wishes {
    /// So many faults, one after the other. Unless said, as many as the trial holds for enough.
    rounds: Option<usize>,
    /// Only faults in whose names this stands.
    only: String,
    /// The folder stays, with everybody's logs.
    keep: bool,
    /// Nobody waits for a standby: to see that what is lost then is noticed.
    careless: bool,
    /// The binary that serves.
    everstate: Option<PathBuf>,
    /// An earlier one.
    old: Option<PathBuf>,
    folder: PathBuf,
}

struct Trial {
    name: &'static str,
    run: fn(&Wishes) -> Result<String, String>,
}

const TRIALS: &[Trial] = &[
    Trial { name: "appends", run: appends::run },
    Trial { name: "turns", run: turns::run },
    Trial { name: "cuts", run: cuts::run },
    Trial { name: "full", run: full::run },
    Trial { name: "upgrade", run: upgrade::run },
];

const USAGE: &str = "usage: everstate-test-cluster appends|turns|cuts|full|upgrade... [--rounds N] [--only FAULT] [--keep] \
                     [--careless] [--everstate PATH] [--old PATH]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((wishes, trials)) = read(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut failed = false;
    for trial in trials {
        let folder = wishes.folder.join(trial.name);
        processes::make_folder(&wishes.folder);
        processes::make_folder(&folder);
        match (trial.run)(&Wishes { folder, ..wishes.clone() }) {
            Ok(report) => println!("{}: passed\n\n{report}", trial.name),
            Err(why) => {
                failed = true;
                eprintln!("{}: FAILED\n\n{why}", trial.name);
            }
        }
    }
    if wishes.keep {
        eprintln!("everybody's logs are in {}", wishes.folder.display());
    } else {
        let _ = std::fs::remove_dir_all(&wishes.folder);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Wishes {
    /// What goes wrong, in its order.
    fn faults(&self) -> impl Iterator<Item = &'static faults::Fault> {
        let chosen = faults::FAULTS.iter().filter(|it| it.name.contains(&self.only));
        chosen.cycle().take(self.rounds.unwrap_or(2 * faults::FAULTS.len()))
    }
}

fn read(arguments: &[String]) -> Option<(Wishes, Vec<&'static Trial>)> {
    let folder = std::env::temp_dir().join(format!("everstate-cluster-{}", std::process::id()));
    let (everstate, old) = (None, None);
    let mut wishes = Wishes {
        rounds: None,
        only: String::new(),
        keep: false,
        careless: false,
        everstate,
        old,
        folder,
    };
    let mut trials = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--rounds" => wishes.rounds = Some(words.next()?.parse().ok()?),
            "--only" => wishes.only.clone_from(words.next()?),
            "--keep" => wishes.keep = true,
            "--careless" => wishes.careless = true,
            "--everstate" => wishes.everstate = std::path::absolute(words.next()?).ok(),
            "--old" => wishes.old = std::path::absolute(words.next()?).ok(),
            name => trials.push(TRIALS.iter().find(|it| it.name == name)?),
        }
    }
    (!trials.is_empty()).then_some((wishes, trials))
}
