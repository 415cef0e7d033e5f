//! Dates, and where the figures go.

use super::{date, insert};

#[test]
fn dates() {
    for (day, wanted) in [
        (0, "1970-01-01"),
        (59, "1970-03-01"),
        (11_016, "2000-02-29"),
        (20_780, "2026-11-23"),
        (20_818, "2026-12-31"),
    ] {
        assert_eq!(date(day), wanted);
    }
}

#[test]
fn figures_go_between_the_marks() {
    let paper = "a\n<!-- durable: begin -->\nold\n<!-- durable: end -->\nb\n";
    let new = insert(paper, "durable", "new\n").expect("both marks are there");
    assert_eq!(new, "a\n<!-- durable: begin -->\n\nnew\n\n<!-- durable: end -->\nb\n");
    assert!(insert(paper, "cluster", "new").is_err());
}
