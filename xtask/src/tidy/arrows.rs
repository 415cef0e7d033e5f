//! Who may import whom, and which outside crates belong to which room.

use super::{File, Problem, Tree, manifest};

/// A room: its folder in `crates/`, and the rooms it may import. Package names are `everstate-` and the folder.
/// A new arrow wants a page in docs/decisions.
const ROOMS: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("dialects", &["kernel"]),
    ("placement", &["kernel"]),
    ("runtime", &["kernel", "placement"]),
    ("providers", &["kernel", "dialects", "runtime"]),
    ("tools", &["kernel", "runtime"]),
    ("store", &["kernel", "runtime"]),
    ("server", &["kernel", "dialects", "placement", "runtime", "providers", "tools", "store"]),
    ("cli", &["server", "kernel", "dialects"]),
];

/// Rooms in which nothing waits, asks for the time, draws a number or touches a disk.
pub(super) const PURE: &[&str] = &["kernel", "dialects", "placement"];

/// All that a pure room may use of the outside.
const PURE_MAY_USE: &[&str] = &["serde", "serde_json", "memchr"];

/// Outside crates that belong to certain rooms: SQL, HTTP and command lines do not wander.
const AT_HOME: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("tokio-postgres", &["store"]),
    ("tokio-postgres-rustls", &["store"]),
    ("object_store", &["store"]),
    ("axum", &["server"]),
    ("hyper-util", &["server"]),
    ("reqwest", &["providers", "tools", "server", "cli"]),
    ("jsonschema", &["tools"]),
    ("clap", &["cli"]),
];

/// What may not be in the lock at all, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("sqlx", "it cannot be in one graph with rusqlite (both link SQLite); use rusqlite"),
    ("sqlx-core", "it cannot be in one graph with rusqlite (both link SQLite); use rusqlite"),
    ("rsa", "its timing leaks keys (RUSTSEC-2023-0071); use aws-lc-rs"),
    (
        "openssl-sys",
        "one TLS is enough, and it is rustls with aws-lc-rs; turn the feature off that brings it",
    ),
    (
        "native-tls",
        "one TLS is enough, and it is rustls with aws-lc-rs; turn the feature off that brings it",
    ),
];

pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in &tree.files {
        let inside =
            file.path.strip_prefix("crates/").and_then(|it| it.strip_suffix("/Cargo.toml"));
        match inside {
            Some(room) if !room.contains('/') => check_room(file, room, problems),
            _ => {}
        }
        if file.path == TEST_POSTGRES {
            check_test_postgres(file, problems);
        }
        if file.path == "xtask/Cargo.toml" {
            for dependency in manifest::dependencies(&file.text) {
                let says = format!(
                    "xtask depends on `{}`; every test run would wait for it: do it with `std`",
                    dependency.package
                );
                problems.push(Problem::new(file, dependency.line, says));
            }
        }
    }
    if let Some(lock) = tree.file("Cargo.lock") {
        check_lock(lock, problems);
    }
}

/// The PostgreSQL of the tests. No room may build it in: that is an arrow like any other. Its tests wait for it.
const TEST_POSTGRES: &str = "tests/postgres/Cargo.toml";

fn check_test_postgres(file: &File, problems: &mut Vec<Problem>) {
    if !manifest::takes_lints(&file.text) {
        let says = "the lints of the house do not hold here; add `[lints]` with `workspace = true`";
        problems.push(Problem::new(file, 1, says));
    }
    for dependency in manifest::dependencies(&file.text) {
        let says = format!(
            "the PostgreSQL of the tests depends on `{}`; it knows nothing of ours and needs nothing else: \
             do it with `std`",
            dependency.package
        );
        problems.push(Problem::new(file, dependency.line, says));
    }
}

fn check_room(file: &File, room: &str, problems: &mut Vec<Problem>) {
    let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        let says = format!(
            "`{room}` is no room; ask which leak it stops: if none, make it a module, else add it to the table \
             in xtask/src/tidy/arrows.rs and write a page in docs/decisions"
        );
        problems.push(Problem::new(file, 1, says));
        return;
    };
    if !manifest::takes_lints(&file.text) {
        let says = "the lints of the house do not hold here; add `[lints]` with `workspace = true`";
        problems.push(Problem::new(file, 1, says));
    }
    for dependency in manifest::dependencies(&file.text) {
        if let Some(says) = objection(room, may, &dependency.package) {
            problems.push(Problem::new(file, dependency.line, says));
        }
    }
}

fn objection(room: &str, may: &[&str], package: &str) -> Option<String> {
    if let Some(other) = package.strip_prefix("everstate-") {
        if may.contains(&other) {
            return None;
        }
        let list = if may.is_empty() { "nothing of ours".to_owned() } else { may.join(", ") };
        return Some(format!(
            "`{room}` may not import `{other}` (it may import {list}); move the code to the room it belongs to, \
             or put a trait where it is used"
        ));
    }
    if PURE.contains(&room) && !PURE_MAY_USE.contains(&package) {
        return Some(format!(
            "`{room}` is pure and may use only {} of the outside; hand in what `{package}` would give",
            PURE_MAY_USE.join(", ")
        ));
    }
    let (_, home) = AT_HOME.iter().find(|(name, _)| *name == package)?;
    (!home.contains(&room)).then(|| {
        format!("`{package}` belongs to {}; `{room}` gets at it through a port", home.join(", "))
    })
}

fn check_lock(lock: &File, problems: &mut Vec<Problem>) {
    for (at, line) in lock.text.lines().enumerate() {
        let name = line.strip_prefix("name = \"").and_then(|it| it.strip_suffix('"'));
        let Some((name, why)) = name.and_then(|name| FORBIDDEN.iter().find(|it| it.0 == name))
        else {
            continue;
        };
        problems.push(Problem::new(lock, at + 1, format!("`{name}` is in the graph: {why}")));
    }
}
