//! Rules about what stands in a source file.

use super::arrows::PURE;
use super::{File, Problem, Tree, scan};

/// Longer files hide a second idea.
const LINES_MAX: usize = 1000;

/// What pure rooms do not contain, and what to do about it. `std::` names are also found in `use std::{...}`.
const IMPURE: &[(&str, &str)] = &[
    ("async", "nothing waits here; return what is wanted, and let the runtime wait"),
    ("tokio", "nothing waits here; return what is wanted, and let the runtime wait"),
    ("std::time", "`now` is handed in"),
    ("SystemTime", "`now` is handed in"),
    ("Instant", "`now` is handed in"),
    ("std::net", "the network is the rim's"),
    ("std::fs", "files are the rim's"),
    ("std::env", "settings are handed in"),
    ("std::process", "processes are the rim's"),
    ("std::thread", "threads are the runtime's"),
    ("rand", "random numbers are drawn at the rim and handed in"),
    ("HashMap", "order is part of the answer; use BTreeMap"),
    ("HashSet", "order is part of the answer; use BTreeSet"),
    ("println!", "nothing is printed here; return it"),
    ("tracing", "nothing is logged here; return it"),
];

pub(super) fn check(tree: &Tree, problems: &mut Vec<Problem>) {
    for file in &tree.files {
        if file.path.ends_with(".py") {
            check_python(file, problems);
        } else if file.path.ends_with(".rs") {
            check_rust(file, problems);
        }
    }
}

fn check_rust(file: &File, problems: &mut Vec<Problem>) {
    let tests = is_tests(&file.path);
    // A program to be run by hand may look at the clock, wherever it lies.
    let example = file.path.contains("/examples/");
    // Under tokio's paused clock nobody really sleeps.
    let paused = file.text.contains("start_paused") || file.text.contains("time::pause()");
    let room = file.path.strip_prefix("crates/").and_then(|it| it.split('/').next());
    check_file(file, tests, problems);

    let code = scan::code(&file.text);
    let mut in_std = false;
    let mut after_cfg_test = false;
    for (at, (line, whole)) in code.lines().zip(file.text.lines()).enumerate() {
        let mut say = |rule: &str, says: &str| {
            if !allowed(file, at, rule, problems) {
                problems.push(Problem::new(file, at + 1, says));
            }
        };
        if let Some(room) = room
            && PURE.contains(&room)
            && !tests
            && !example
        {
            in_std |= line.contains("std::{");
            for (word, instead) in IMPURE {
                let short = word.strip_prefix("std::").filter(|_| in_std);
                if scan::has_word(line, word) || short.is_some_and(|it| scan::has_word(line, it)) {
                    say("impure", &format!("`{word}` in `{room}`, which is pure: {instead}"));
                }
            }
            in_std &= !line.contains("};");
        }
        for word in ["todo!(", "unimplemented!(", "dbg!("] {
            if line.contains(word) {
                say("unfinished", &format!("`{word}..)`: finish it, or leave it out"));
            }
        }
        if line.contains("#[ignore") {
            say(
                "ignore",
                "an ignored test tests nothing; if it is slow, let it ask for an environment variable",
            );
        }
        if tests && !paused && sleeps(line) {
            say(
                "sleep",
                "a test that sleeps is slow or flaky; wait for the event, or use tokio's paused clock",
            );
        }
        if after_cfg_test && line.trim_start().starts_with("mod ") && line.contains('{') {
            say(
                "inline-tests",
                "tests have their own file: `mod tests;` here, and `tests.rs` in the module's folder",
            );
        }
        after_cfg_test = line.contains("#[cfg(test)]");
        // Assembled, so that this line does not find itself.
        for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")] {
            if scan::has_word(whole, word) && line != whole {
                say("unfinished", &format!("`{word}`: do it, or open an issue"));
            }
        }
    }
}

fn check_file(file: &File, tests: bool, problems: &mut Vec<Problem>) {
    if file.path.ends_with("/mod.rs") {
        let says = "no mod.rs: name the file after the module, beside its folder";
        problems.push(Problem::new(file, 1, says));
    }
    let n_lines = file.text.lines().count();
    if n_lines > LINES_MAX && !tests {
        let says = format!(
            "{n_lines} lines, at most {LINES_MAX}: look for the second idea and give it a file"
        );
        problems.push(Problem::new(file, n_lines, says));
    }
    // Unit tests are about the module they lie in. Attributes of the whole file may stand before its header.
    if file.path.ends_with("/tests.rs") {
        return;
    }
    let first = file.text.lines().find(|it| !it.trim().is_empty() && !it.starts_with("#!["));
    if !first.is_some_and(|it| it.starts_with("//!")) {
        let says =
            "no header: begin with `//!`, what the file is for, and what it leaves to others";
        problems.push(Problem::new(file, 1, says));
    }
}

fn check_python(file: &File, problems: &mut Vec<Problem>) {
    for (at, line) in file.text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or(line);
        if code.contains("sleep(") && !allowed(file, at, "sleep", problems) {
            let says = "a test that sleeps is slow or flaky; wait for the event";
            problems.push(Problem::new(file, at + 1, says));
        }
    }
}

/// Does it call a `sleep` of the standard library or of tokio? One of our own is a simulated clock's.
fn sleeps(line: &str) -> bool {
    let called = line.match_indices("sleep(").any(|(at, _)| {
        let before = line[..at].trim_end();
        !before.ends_with("fn") && !before.ends_with('.') && !before.ends_with('_')
    });
    called && scan::has_word(line, "sleep")
}

fn is_tests(path: &str) -> bool {
    path.split('/').any(|it| it == "tests" || it == "tests.rs")
}

/// Is the rule lifted for this line, here or on the line before? Without a reason it is not.
fn allowed(file: &File, at: usize, rule: &str, problems: &mut Vec<Problem>) -> bool {
    let mark = format!("tidy allows {rule}");
    for near in at.saturating_sub(1)..=at {
        let Some((_, rest)) = file.text.lines().nth(near).and_then(|it| it.split_once(&mark))
        else {
            continue;
        };
        if rest.strip_prefix(':').is_some_and(|reason| !reason.trim().is_empty()) {
            return true;
        }
        let says = format!("`{mark}` needs a reason: `// {mark}: why it must be`");
        problems.push(Problem::new(file, near + 1, says));
    }
    false
}
