//! The house's own commands: `cargo xtask <task>`. One file per task; nothing but `std`, so that it is built in seconds.
//!
//! What the tasks check is written in ARCHITECTURE.md; here is only how.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command line: printing is what it is for

use std::process::ExitCode;

mod shell;
mod report;
mod tools;
mod test;
mod tidy;
mod sabotage;
mod simulate;
mod mutants;
mod bench;
mod cluster_test;
mod upgrade;

/// A task's end: it did what was asked and all is well, or the reason why not.
type Done = Result<(), String>;

struct Task {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Done,
}

const TASKS: &[Task] = &[
    Task {
        name: "test",
        arguments: "",
        about: "everything that must pass: formatting, tidy, lints, Rust tests, tests with the official SDK",
        run: test::run,
    },
    Task { name: "ci", arguments: "", about: "the same as test", run: test::run },
    Task {
        name: "tidy",
        arguments: "",
        about: "the walls between the crates, and the house rules that a compiler does not know",
        run: tidy::run,
    },
    Task {
        name: "sabotage",
        arguments: "[NAME...]",
        about: "break the machine on purpose, one promise at a time; each break must be caught",
        run: sabotage::run,
    },
    Task {
        name: "simulate",
        arguments: "N | --seed SEED",
        about: "run the kernel's simulation with N seeds (or a certain one), in release: cargo xtask simulate 1_000_000",
        run: simulate::run,
    },
    Task {
        name: "mutants",
        arguments: "[OPTIONS...]",
        about: "mutate the kernel (options are those of cargo-mutants); every survivor must be in crates/kernel/mutants-accepted.txt",
        run: mutants::run,
    },
    Task {
        name: "bench",
        arguments: "durable|cluster [--write] [PART...]",
        about: "measure, beside the bars of docs/benchmarks.md; --write puts the figures there",
        run: bench::run,
    },
    Task {
        name: "cluster-test",
        arguments: "[appends|turns] [--rounds N] [--only FAULT] [--keep] [--careless]",
        about: "go through failovers of a PostgreSQL that Patroni and etcd look after (minutes; not a part of test)",
        run: cluster_test::run,
    },
    Task {
        name: "upgrade",
        arguments: "[REVISION]",
        about: "build an earlier release (the last tag, or any revision) and run it with this one on one store",
        run: upgrade::run,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|it| it.name == name) else {
        eprint!("there is no task `{name}`\n\n{}", usage());
        return ExitCode::from(2);
    };
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            if !reason.is_empty() {
                eprintln!("xtask {name}: {reason}");
            }
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut out = String::from("usage: cargo xtask TASK\n\n");
    for task in TASKS {
        let head = format!("{} {}", task.name, task.arguments);
        out.push_str(&format!("  {:<26} {}\n", head.trim_end(), task.about));
    }
    out.push_str(
        "\nEVERSTATE_TEST_SKIP=a,b lets `test` go on without the named tools; what was skipped is said at the end.\n\
         EVERSTATE_SHARED=DIR is where recorded traffic lies (default: `../shared` beside the repository).\n",
    );
    out
}
