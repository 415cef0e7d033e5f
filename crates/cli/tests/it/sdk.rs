//! The tests with the official SDK, each connection through one of two nodes at random.

use std::path::Path;
use std::process::Command;

use everstate_test_postgres::cluster;

/// More servers than these tests start.
const STORES: usize = 40;

#[test]
#[allow(clippy::print_stdout, reason = "whoever runs the tests counts these lines")]
fn the_official_sdk_through_random_nodes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), Into::into);
    let python = target.join("tools/venv/bin/python");
    if !python.exists() {
        println!("skipped: the Python environment is not there; `cargo xtask test` makes it");
        return;
    }
    let Some(database) = cluster() else { return };
    let stores: Vec<String> = (0..STORES).map(|_| database.fresh_database()).collect();
    let tests = Command::new(python)
        .args(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/sdk"])
        // What is not stored is with one node, and random ones do not know of it.
        .args(["-k", "not not_stored"])
        .env("EVERSTATE_TEST_BINARY", env!("CARGO_BIN_EXE_everstate"))
        .env("EVERSTATE_TEST_STORES", stores.join(","))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(&root)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success(), "{said}{}", String::from_utf8_lossy(&tests.stderr));
}
