//! Measures what `docs/benchmarks.md` promises, and prints it as Markdown. `cargo xtask bench durable` builds and runs it.
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

// What is measured, one file each.
mod append;
mod steps;
mod disk;
mod idle;
mod recovery;
mod small;

/// What a part is given.
#[derive(Debug)]
struct Around {
    /// Everything tiny: only to see that it runs.
    quick: bool,
    /// The binary that serves.
    everstate: Option<PathBuf>,
    /// Its own, on the disk that is measured; removed at the end.
    folder: PathBuf,
}

struct Part {
    name: &'static str,
    title: &'static str,
    run: fn(&Around) -> String,
}

const PARTS: &[Part] = &[
    Part { name: "append", title: "Appends", run: append::run },
    Part { name: "steps", title: "Durable steps through HTTP", run: steps::run },
    Part { name: "disk", title: "Bytes on disk", run: disk::run },
    Part { name: "idle", title: "Idle", run: idle::run },
    Part { name: "recovery", title: "Recovery", run: recovery::run },
    Part { name: "small", title: "Placing, and opening a session", run: small::run },
];

type Errand = (&'static str, fn(&[String]));

/// What this program does when it calls itself.
const ERRANDS: &[Errand] = &[
    ("append", append::errand),
    ("fill", world::fill),
    ("in-flight", recovery::in_flight),
    ("recover", recovery::recover),
];

const USAGE: &str = "usage: everstate-bench [--quick] [--everstate PATH] [PART...]";

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
        let names: Vec<&str> = PARTS.iter().map(|it| it.name).collect();
        eprintln!("{USAGE}\nparts: {}", names.join(", "));
        return ExitCode::from(2);
    };
    for part in parts {
        eprintln!("-- {} (load {})", part.title, process::load());
        let folder = around.folder.join(part.name);
        std::fs::create_dir_all(&folder).unwrap();
        let around = Around { folder, everstate: around.everstate.clone(), ..around };
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
    let mut around = Around { quick: false, everstate: None, folder };
    let mut parts = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => around.quick = true,
            "--everstate" => {
                // The server runs in a folder of its own.
                around.everstate = std::path::absolute(words.next()?).ok();
            }
            name => parts.push(PARTS.iter().find(|it| it.name == name)?),
        }
    }
    if parts.is_empty() {
        parts = PARTS.iter().collect();
    }
    Some((around, parts))
}

/// A runtime as the binary has it.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}
