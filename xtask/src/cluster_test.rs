//! Everstate on a PostgreSQL that fails over, on a network that drops packets, on a disk that is full: builds
//! `tests/cluster` and runs it. It takes minutes and other people's programs, so it is asked for by name.

use std::path::PathBuf;

use crate::{Done, shell};

/// What is tried unless something else is asked for.
const TRIALS: [&str; 4] = ["appends", "turns", "cuts", "full"];
/// Those that need nobody to fail over.
const ALONE: [&str; 2] = ["cuts", "full"];

/// A program that it needs, how it is asked for its version, and where it comes from.
const NEEDED: &[(&str, &[&str], &str)] = &[
    ("etcd", &["--version"], "apt-get install etcd-server"),
    ("patroni", &["--version"], "apt-get install patroni python3-psycopg2 python3-etcd"),
    ("/usr/lib/postgresql/15/bin/postgres", &["--version"], "apt-get install postgresql-15"),
    ("setpriv", &["--version"], "apt-get install util-linux"),
];

pub(crate) fn run(arguments: &[String]) -> Done {
    let asked = || arguments.iter().filter(|it| TRIALS.contains(&it.as_str()));
    let fails_over = asked().next().is_none() || asked().any(|it| !ALONE.contains(&it.as_str()));
    for (program, version, how) in NEEDED {
        let is_of_others = ["etcd", "patroni"].contains(program);
        if (fails_over || !is_of_others)
            && !matches!(shell::quiet(shell::command(program).args(*version)), Ok((true, _)))
        {
            return Err(format!("`{program}` does not run; install it with: {how}"));
        }
    }
    let debug = build()?;
    let mut test = shell::command(debug.join(PROGRAM));
    test.arg("--everstate").arg(debug.join("everstate")).args(arguments);
    if asked().next().is_none() {
        test.args(TRIALS);
    }
    match shell::passes(&mut test)? {
        true => Ok(()),
        false => Err(String::new()),
    }
}

pub(crate) const PROGRAM: &str = "everstate-test-cluster";

/// Builds the program and the server. Answers where they are.
pub(crate) fn build() -> Result<PathBuf, String> {
    let mut build = shell::cargo();
    build.args(["build", "--locked", "-p", PROGRAM, "-p", "everstate-cli"]);
    if !shell::passes(&mut build)? {
        return Err("what is to be tested does not build".to_owned());
    }
    Ok(shell::target().join("debug"))
}
