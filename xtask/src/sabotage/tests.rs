//! The list holds every promise, and fits the source it wants to break.

use super::{FAULTS, first_failure};
use crate::shell;

#[test]
fn every_promise_has_its_fault() {
    for name in [
        "fence dropped",
        "acknowledged before commit",
        "dedupe off",
        "frame shown before commit",
        "adoption skipped",
        "late outcome applied",
        "approval not checked",
        "two attempts both accepted",
        "erased item sent",
        "reservation not returned",
        "crash forgets what was spent",
        "reserved money spent again",
    ] {
        assert_eq!(FAULTS.iter().filter(|it| it.name == name).count(), 1, "{name}");
    }
}

#[test]
fn the_list_fits_the_source() {
    for fault in FAULTS.iter().filter(|it| !it.edits.is_empty()) {
        if let Err(why) = fault.check(&shell::root()) {
            panic!("{why}");
        }
        for edit in fault.edits {
            assert_ne!(edit.find, edit.replace, "{}", fault.name);
        }
    }
}

#[test]
fn who_noticed() {
    let text = "  PASS [   0.005s] (1/3) nx b\n  FAIL [   0.077s] (3/3) everstate-kernel simulation::seeds\n";
    assert_eq!(first_failure(text), "everstate-kernel simulation::seeds");
    let text = "  FAIL [   0.077s] nx c\n  stderr\n    thread 'c' (1) panicked at src/lib.rs:3:17:\n    a promise\n";
    assert_eq!(first_failure(text), "nx c: a promise");
    assert_eq!(first_failure("  FAIL [   0.077s] nx c\n"), "nx c");
    assert_eq!(first_failure(" TIMEOUT [ 60.0s] (1/1) nx d\n"), "nx d");
}
