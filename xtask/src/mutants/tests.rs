//! Comparing survivors with the accepted ones.

use super::{Accepted, tally, without_position};

#[track_caller]
fn check(accepted: &str, survived: &[&str], noticed: &[&str], all: bool, wanted: &[&str]) {
    let accepted = Accepted::parse(accepted).expect("every line has its reason");
    let tally = |list: &[&str]| tally(list.iter().map(|it| without_position(it)));
    let lines = accepted.judge(&tally(survived), &tally(noticed), all);
    assert_eq!(lines.len(), wanted.len(), "{lines:#?}");
    for (line, wanted) in lines.iter().zip(wanted) {
        assert!(line.contains(wanted), "`{line}` does not say `{wanted}`");
    }
}

#[test]
fn survivors_are_known() {
    let accepted = "# why\n\nsrc/a.rs: replace f with ()  # only speed\n";
    check(accepted, &["src/a.rs:1:2: replace f with ()"], &[], true, &[]);
    check(
        accepted,
        &["src/a.rs:9:9: replace f with ()", "src/a.rs:8:1: replace f with ()"],
        &[],
        true,
        &["new survivor (1 of 2)"],
    );
    check(
        accepted,
        &["src/a.rs:1:2: replace f with ()", "src/b.rs:1:1: replace g -> bool with true"],
        &[],
        true,
        &["new survivor (1 of 1): src/b.rs"],
    );
}

#[test]
fn stale_lines_go() {
    let accepted = "src/a.rs: replace f with ()  # only speed\n";
    check(accepted, &[], &[], true, &["take the line out"]);
    check(accepted, &[], &["src/a.rs:1:2: replace f with ()"], false, &["take the line out"]);
    // A partial run that did not try it knows nothing.
    check(accepted, &[], &[], false, &[]);
}

#[test]
fn a_reason_is_needed() {
    for text in ["src/a.rs: replace f with ()\n", "src/a.rs: replace f with ()  # \n"] {
        assert!(Accepted::parse(text).is_err(), "{text}");
    }
}
