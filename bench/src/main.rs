//! Measures what `docs/benchmarks.md` promises, and prints it as Markdown. `cargo xtask bench
//! durable` (or `cluster`) builds and runs it.
//!
//! Whatever must be killed, or slowed down from outside, runs in a process of its own: this program, called again.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a program to be watched: where it cannot go on, it says where and stops"
)]

use std::path::PathBuf;
use std::process::ExitCode;

mod figures;
mod process;
mod http;
mod world;
mod database;

// What is measured, one file each.
mod append;
mod steps;
mod disk;
mod idle;
mod recovery;
mod small;
mod cluster;

/// What a part is given.
#[derive(Debug)]
struct Around {
    /// Everything tiny: only to see that it runs.
    quick: bool,
    /// The binary that serves.
    everstate: Option<PathBuf>,
    /// Where those are installed that are measured beside us.
    peers: Option<PathBuf>,
    /// Its own, on the disk that is measured; removed at the end.
    folder: PathBuf,
}

struct Part {
    name: &'static str,
    title: &'static str,
    run: fn(&Around) -> String,
}

/// Measured together, and written down together.
struct Set {
    name: &'static str,
    parts: &'static [Part],
}

const SETS: &[Set] =
    &[Set { name: "durable", parts: DURABLE }, Set { name: "cluster", parts: CLUSTER }];

const DURABLE: &[Part] = &[
    Part { name: "append", title: "Appends", run: append::run },
    Part { name: "steps", title: "Durable steps through HTTP", run: steps::run },
    Part { name: "disk", title: "Bytes on disk", run: disk::run },
    Part { name: "idle", title: "Idle", run: idle::run },
    Part { name: "recovery", title: "Recovery", run: recovery::run },
    Part { name: "small", title: "Placing, and opening a session", run: small::run },
];

const CLUSTER: &[Part] = &[
    Part { name: "logs", title: "Appends on PostgreSQL", run: cluster::logs::run },
    Part { name: "turns", title: "Durable steps beside others", run: cluster::turns::run },
    Part { name: "takeover", title: "Take-over", run: cluster::takeover::run },
    Part { name: "idle-nodes", title: "Ten idle nodes", run: cluster::idle::run },
];

type Errand = (&'static str, fn(&[String]));

/// What this program does when it calls itself.
const ERRANDS: &[Errand] = &[
    ("append", append::errand),
    ("fill", world::fill),
    ("in-flight", recovery::in_flight),
    ("recover", recovery::recover),
    ("pg-append", cluster::logs::errand),
];

const USAGE: &str =
    "usage: everstate-bench durable|cluster [--quick] [--everstate PATH] [--peers DIR] [PART...]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = arguments.split_first()
        && let Some(errand) = first.strip_prefix("errand:")
    {
        let (_, run) = ERRANDS.iter().find(|(name, _)| *name == errand).expect("an errand");
        run(rest);
        return ExitCode::SUCCESS;
    }
    let Some((around, parts)) = read(&arguments) else {
        eprintln!("{USAGE}");
        for set in SETS {
            let names: Vec<&str> = set.parts.iter().map(|it| it.name).collect();
            eprintln!("parts of {}: {}", set.name, names.join(", "));
        }
        return ExitCode::from(2);
    };
    for part in parts {
        eprintln!("-- {} (load {})", part.title, process::load());
        let folder = around.folder.join(part.name);
        std::fs::create_dir_all(&folder).unwrap();
        let around = Around {
            folder,
            everstate: around.everstate.clone(),
            peers: around.peers.clone(),
            ..around
        };
        let load = process::load();
        println!(
            "### {}\n\n{}\nLoad of the machine before: {load}.\n",
            part.title,
            (part.run)(&around)
        );
        std::fs::remove_dir_all(&around.folder).unwrap();
    }
    std::fs::remove_dir_all(&around.folder).unwrap();
    ExitCode::SUCCESS
}

fn read(arguments: &[String]) -> Option<(Around, Vec<&'static Part>)> {
    let folder = std::env::temp_dir().join(format!("everstate-bench-{}", std::process::id()));
    let mut around = Around { quick: false, everstate: None, peers: None, folder };
    let mut parts = Vec::new();
    let mut words = arguments.iter();
    let set = words.next()?;
    let set = SETS.iter().find(|it| it.name == set)?;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => around.quick = true,
            "--everstate" => {
                // The server runs in a folder of its own.
                around.everstate = std::path::absolute(words.next()?).ok();
            }
            "--peers" => around.peers = std::path::absolute(words.next()?).ok(),
            name => parts.push(set.parts.iter().find(|it| it.name == name)?),
        }
    }
    if parts.is_empty() {
        parts = set.parts.iter().collect();
    }
    Some((around, parts))
}

/// A runtime as the binary has it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}
