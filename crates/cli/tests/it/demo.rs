//! The demo proves what it says, leaves nothing behind, and takes no keys.

use crate::house::{House, everstate};

#[test]
fn the_demo_proves_its_end() {
    let house = House::empty();
    let mut command = everstate(house.dir.path());
    // A key lies about, and whoever answers there would notice.
    command.env("OPENAI_API_KEY", "sk-lies-about").env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let out = command.args(["demo", "--fast"]).output().unwrap();
    let (said, err) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert!(out.status.success(), "{said}\n{err}");
    for part in [
        "rehearsal: a simulation, no model is called, no key is used",
        "signal 9",
        "same key sent again",
        "MOVED",
        "ok      refunds in the bank: exactly one",
        "ok      the client's stream has no gap",
        "ok      the log verifies",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }
    assert!(!said.contains("FAILED") && said.is_ascii(), "{said}");
    let left = std::fs::read_dir(house.dir.path()).unwrap().count();
    assert_eq!(left, 0, "its directory is gone");
}

#[test]
fn live_asks_first() {
    let house = House::empty();
    let without = house.run(&["demo", "--live"]);
    assert_eq!(without.code, 4);
    let mut command = everstate(house.dir.path());
    let out = command.env("OPENAI_API_KEY", "sk-x").args(["demo", "--live"]).output().unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(err.contains("$0.0500") && err.contains("--yes"), "the limit is shown: {err}");
}
