//! The faults. Each breaks one promise in a way that compiles and that a hurried change could bring about.
//!
//! `find` must stand exactly once in its file; when the source moves on, a test says which entry has to follow.

use super::Fault;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "fence dropped",
        means: "two owners write the same session",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "acknowledged before commit",
        means: "a client is told that something is kept, and a power cut takes it",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "dedupe off",
        means: "an input that is sent twice happens twice",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "frame shown before commit",
        means: "a client saw what a resumed stream does not know",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "adoption skipped",
        means: "work of a lost owner is waited for, for ever",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "late outcome applied",
        means: "a result that nobody waits for any more changes the transcript",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "approval not checked",
        means: "a tool runs that a person had to allow",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "two attempts both accepted",
        means: "one step answers twice",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "erased item sent",
        means: "what was erased goes to a model",
        edits: &[],
        tests: &[],
    },
    Fault {
        name: "reservation not returned",
        means: "money that was never spent is missing from the budget",
        edits: &[],
        tests: &[],
    },
];
