//! The demo proves what it says, leaves nothing behind, and takes no keys.

use crate::house::{House, KEY, everstate};

#[test]
fn the_demo_proves_its_end() {
    let house = House::empty();
    let mut command = everstate(house.dir.path());
    // A key lies about, and whoever answers there would notice.
    command.env("OPENAI_API_KEY", "sk-lies-about").env("OPENAI_BASE_URL", "http://127.0.0.1:9/v1");
    let out = command.args(["demo", "--fast"]).output().unwrap();
    let (said, err) =
        (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
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

/// Another server of ours stands in for the real upstream.
#[test]
fn live_plays_with_an_upstream_that_is_asked_over_http() {
    let upstream = House::new(UPSTREAM);
    let house = House::empty();
    let mut command = everstate(house.dir.path());
    command
        .env("OPENAI_API_KEY", KEY)
        .env("OPENAI_BASE_URL", format!("{}/v1", upstream.url))
        .args(["demo", "--live", "--yes", "--fast", "--model", "upstream"]);
    let out = command.output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let err = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{said}\n{err}");
    assert!(err.contains("it stops at $0.0500"), "{err}");
    assert!(said.contains("openai/global/upstream") && !said.contains("rehearsal"), "{said}");
    assert!(said.contains("Refunded once."), "only the upstream's script says that: {said}");
}

const UPSTREAM: &str = r#"
[providers.upstream]
kind = "rehearsal"

[providers.upstream.script]
strict = true

[[providers.upstream.script.rules]]
when = { result_of = "refund" }
text = "Refunded once."

[[providers.upstream.script.rules]]
when = { result_of = "list_charges" }
calls = [{ name = "refund", arguments = { charge = "ch_2", amount = "49.00 EUR" } }]

[[providers.upstream.script.rules]]
calls = [{ name = "list_charges", arguments = { order = "1182" } }]

[[offers]]
model = "upstream"
provider = "upstream"
"#;
