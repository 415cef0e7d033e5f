//! Mutation tests of the kernel: what no test notices must be known, and have a reason.
//!
//! The accepted survivors are in `crates/kernel/mutants-accepted.txt`, one a line: the mutant without its line
//! number, two spaces, `#`, the reason. What is mutated is said in `.cargo/mutants.toml`.

use std::collections::BTreeMap;

use crate::{Done, shell, tools};

const ACCEPTED: &str = "crates/kernel/mutants-accepted.txt";

pub(crate) fn run(arguments: &[String]) -> Done {
    let accepted = Accepted::parse(&shell::read(&shell::root().join(ACCEPTED))?)?;
    let bin = tools::mutants()?;
    let nextest = tools::nextest()?;
    let out = shell::target().join("mutants");
    shell::make_dir(&out)?;
    let mut path = crate::test::with_path(&bin);
    if let Some(nextest) = nextest {
        // Both lie in the same directory, if both are ours.
        path = crate::test::with_path(&nextest);
    }
    let code = shell::code(
        shell::cargo()
            .env("PATH", path)
            .env("CARGO_NET_OFFLINE", "true")
            // Each of hundreds of mutants lives through the simulation: fewer lives, and a quick build of them.
            .env("EVERSTATE_SEEDS", "150")
            .env("PROPTEST_CASES", "16")
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .args(["mutants", "--package", "everstate-kernel", "--output"])
            .arg(&out)
            .args(arguments),
    )?;
    // cargo-mutants: 0 all caught, 2 some missed, 3 some timed out; anything else is no judgement.
    if !matches!(code, 0 | 2 | 3) {
        return Err(format!("cargo-mutants gave up (exit {code}); its messages are above"));
    }
    let list = |name: &str| {
        let text = shell::read(&out.join("mutants.out").join(name)).unwrap_or_default();
        tally(text.lines().map(without_position))
    };
    let survived = list("missed.txt");
    let mut noticed = list("caught.txt");
    for (mutant, n) in list("timeout.txt") {
        *noticed.entry(mutant).or_default() += n;
    }
    // Arguments choose a part of the mutants; of the rest nothing is known.
    let judgement = accepted.judge(&survived, &noticed, arguments.is_empty());
    for line in &judgement {
        eprintln!("{line}");
    }
    let n_survived: usize = survived.values().sum();
    let n_noticed: usize = noticed.values().sum();
    println!(
        "mutants: {n_noticed} noticed, {n_survived} survived, {} not as committed",
        judgement.len()
    );
    if judgement.is_empty() { Ok(()) } else { Err(format!("{ACCEPTED} is not what is true")) }
}

/// Mutants, and how often each occurs: two of them may differ in their line only.
type Tally = BTreeMap<String, usize>;

fn tally(mutants: impl Iterator<Item = String>) -> Tally {
    let mut tally = Tally::new();
    for mutant in mutants.filter(|it| !it.is_empty()) {
        *tally.entry(mutant).or_default() += 1;
    }
    tally
}

/// `src/a.rs:12:5: replace x` without its `12:5`, which moves with every change.
fn without_position(line: &str) -> String {
    let Some((file, rest)) = line.trim().split_once(".rs:") else { return line.trim().to_owned() };
    let what = rest.trim_start_matches(|it: char| it.is_ascii_digit() || it == ':').trim_start();
    format!("{file}.rs: {what}")
}

struct Accepted(Tally);

impl Accepted {
    fn parse(text: &str) -> Result<Accepted, String> {
        let mut mutants = Vec::new();
        for (at, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once("  # ") {
                Some((mutant, reason)) if !reason.trim().is_empty() => {
                    mutants.push(mutant.trim().to_owned());
                }
                _ => {
                    return Err(format!(
                        "{ACCEPTED}:{}: a survivor needs its reason: `MUTANT  # why no test can notice`",
                        at + 1
                    ));
                }
            }
        }
        Ok(Accepted(tally(mutants.into_iter())))
    }

    /// What is not as the file says.
    fn judge(&self, survived: &Tally, noticed: &Tally, all: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for (mutant, n) in survived {
            let known = self.0.get(mutant).copied().unwrap_or(0);
            if *n > known {
                lines.push(format!("new survivor ({} of {n}): {mutant}", n - known));
            }
        }
        for (mutant, known) in &self.0 {
            let n = survived.get(mutant).copied().unwrap_or(0);
            if n < *known && (all || noticed.contains_key(mutant)) {
                lines.push(format!("accepted, but no survivor: take the line out: {mutant}"));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests;
