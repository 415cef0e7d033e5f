//! Everstate on a PostgreSQL that fails over: builds `tests/cluster` and runs it. It takes minutes and other people's
//! programs, so it is asked for by name.

use crate::{Done, shell};

/// A program that it needs, how it is asked for its version, and where it comes from.
const NEEDED: &[(&str, &[&str], &str)] = &[
    ("etcd", &["--version"], "apt-get install etcd-server"),
    ("patroni", &["--version"], "apt-get install patroni python3-psycopg2 python3-etcd"),
    ("/usr/lib/postgresql/15/bin/postgres", &["--version"], "apt-get install postgresql-15"),
    ("setpriv", &["--version"], "apt-get install util-linux"),
];

pub(crate) fn run(arguments: &[String]) -> Done {
    for (program, version, how) in NEEDED {
        if !matches!(shell::quiet(shell::command(program).args(*version)), Ok((true, _))) {
            return Err(format!("`{program}` does not run; install it with: {how}"));
        }
    }
    let mut build = shell::cargo();
    build.args(["build", "--locked", "-p", "everstate-test-cluster", "-p", "everstate-cli"]);
    if !shell::passes(&mut build)? {
        return Err("what is to be tested does not build".to_owned());
    }
    let debug = shell::target().join("debug");
    let mut test = shell::command(debug.join("everstate-test-cluster"));
    match shell::passes(test.args(arguments))? {
        true => Ok(()),
        false => Err(String::new()),
    }
}
