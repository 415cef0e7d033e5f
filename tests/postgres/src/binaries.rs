//! Where PostgreSQL's programs are, and how one is run by somebody without rights: it refuses to be run by root.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const HOW: &str = "PostgreSQL is not installed, and these tests need it. Install it with: \
                   apt-get install postgresql-15 pgbouncer (or your system's packages), or name the folder of its \
                   programs in EVERSTATE_TEST_POSTGRES_BIN; EVERSTATE_TEST_SKIP=postgres goes on without";

/// A program of PostgreSQL.
pub(crate) fn find(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(folder).as_ref().expect(HOW);
    folder.join(name)
}

fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("EVERSTATE_TEST_POSTGRES_BIN") {
        return Some(PathBuf::from(named)).filter(|it| it.join("initdb").exists());
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").ok();
    let mut versions: Vec<PathBuf> =
        debian.into_iter().flatten().flatten().map(|it| it.path().join("bin")).collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = versions.into_iter().rev().chain(std::env::split_paths(&path));
    all.find(|it| it.join("initdb").exists() && it.join("postgres").exists())
}

/// `pgbouncer`, which lies elsewhere.
pub(crate) fn pgbouncer() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.find(|it| it.join("pgbouncer").exists());
    found.map(|it| it.join("pgbouncer")).expect(
        "PgBouncer is not installed, and these tests need it. Install it with: apt-get install pgbouncer; \
         EVERSTATE_TEST_SKIP=postgres goes on without",
    )
}

/// As nobody, if we are root. When the process that started it dies it gets `last`: the kernel sees to it.
pub(crate) fn unprivileged(program: &Path, last: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", last]);
    if let Some((uid, gid)) = owner() {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).current_dir("/");
    // Nothing of the caller's surroundings changes what the server does.
    command.env("LC_ALL", "C").env("TZ", "UTC").env_remove("PGDATA");
    command
}

/// Whom the files have to belong to, if not to us.
pub(crate) fn owner() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    // What this process makes is its own.
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    is_root.then_some((NOBODY, NOBODY))
}

/// It is `nobody` everywhere.
const NOBODY: u32 = 65_534;
