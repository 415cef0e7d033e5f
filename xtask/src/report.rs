//! Counting what test runners report (JUnit XML, as nextest and pytest write it).

use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    /// One check that is no test runner's: a formatter, a linter.
    pub(crate) fn one(passed: bool) -> Counts {
        Counts { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.passed += more.passed;
        self.failed += more.failed;
        self.skipped += more.skipped;
    }
}

/// What a report says, and in words what was skipped.
///
/// Rust's harness cannot say "skipped", so a test that could not do its work prints a line that begins with
/// `skipped: ` and returns; it is not counted as passed.
pub(crate) fn count(junit: &str) -> (Counts, Vec<String>) {
    let mut counts = Counts::default();
    let mut skips = Vec::new();
    for case in junit.split("<testcase ").skip(1) {
        let case = case.split("</testcase>").next().unwrap_or(case);
        let head = case.split('>').next().unwrap_or(case);
        // `<testcase .../>` has no children: what follows belongs to somebody else.
        let body = if head.ends_with('/') { "" } else { &case[head.len()..] };
        let name = attribute(head, "name");
        if body.contains("<failure") || body.contains("<error") {
            counts.failed += 1;
        } else if let Some(reason) = skip_reason(body) {
            counts.skipped += 1;
            skips.push(format!("{name}: {reason}"));
        } else {
            counts.passed += 1;
        }
    }
    (counts, skips)
}

fn skip_reason(body: &str) -> Option<String> {
    if let Some((_, rest)) = body.split_once("<skipped") {
        return Some(attribute(rest.split('>').next().unwrap_or(rest), "message"));
    }
    let spoken = body.split(['\n', '>']).find_map(|line| line.strip_prefix("skipped: "))?;
    Some(plain(spoken.split('<').next().unwrap_or(spoken)))
}

fn attribute(head: &str, name: &str) -> String {
    // With a blank in front, since `classname` ends like `name`.
    let head = format!(" {head}");
    let value = head.split_once(&format!(" {name}=\"")).map_or("", |(_, rest)| rest);
    plain(value.split('"').next().unwrap_or(value))
}

fn plain(xml: &str) -> String {
    xml.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests;
