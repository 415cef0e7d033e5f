//! What may be skipped, and which versions will do.

use super::{SKIPPABLE, Skips, nextest_will_do};

#[test]
fn only_tools_are_skipped() {
    let skips = Skips::parse(" python, gcc ,").expect("both are tools");
    assert_eq!(skips.names(), ["python", "gcc"]);
    assert!(skips.has("gcc") && !skips.has("clippy"));
    assert!(Skips::parse("").expect("nothing is fine").names().is_empty());

    let refused = Skips::parse("gcc,pyhton").expect_err("a slip must not skip nothing silently");
    assert!(refused.contains("pyhton"), "{refused}");
    for name in SKIPPABLE {
        assert!(refused.contains(name), "{refused}");
    }
}

#[test]
fn versions_of_nextest() {
    assert!(nextest_will_do("cargo-nextest 0.9.143 (60fa45f63 2026-08-04)"));
    assert!(nextest_will_do("cargo-nextest 0.9.151\nrelease: 0.9.151"));
    assert!(!nextest_will_do("cargo-nextest 0.9.99"));
    assert!(!nextest_will_do("cargo-nextest 0.10.0"), "another series may say other things");
    assert!(!nextest_will_do("error: no such command: `nextest`"));
}
