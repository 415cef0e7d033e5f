//! Deliberate sabotage: break one promise at a time in a copy of the tree, and see that a test notices.
//!
//! The faults are in `sabotage/list.rs`. A fault that survives means that a promise is only written down.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{Done, shell, tools};

mod list;

use list::FAULTS;

/// One promise, and how it is broken.
#[derive(Debug)]
struct Fault {
    name: &'static str,
    /// What would happen to somebody if this went unnoticed.
    means: &'static str,
    /// All are made together.
    edits: &'static [Edit],
    /// The tests that must notice, as arguments of `cargo nextest run`.
    tests: &'static [&'static str],
}

/// Replaces a text that stands exactly once in a file.
#[derive(Debug)]
struct Edit {
    file: &'static str,
    find: &'static str,
    replace: &'static str,
}

pub(crate) fn run(arguments: &[String]) -> Done {
    let faults = chosen(arguments)?;
    let root = shell::root();
    let wrong: Vec<String> = faults.iter().filter_map(|it| it.check(&root).err()).collect();
    if !wrong.is_empty() {
        return Err(format!(
            "xtask/src/sabotage/list.rs does not fit the source\n  {}",
            wrong.join("\n  ")
        ));
    }

    let bench = Bench::set_up(&root)?;
    bench.see_it_pass(&faults)?;
    let mut survivors = 0;
    for fault in &faults {
        let verdict = bench.try_fault(fault)?;
        match verdict {
            Verdict::Caught { by } => println!("caught    {:<28} by {by}", fault.name),
            Verdict::Survived => {
                survivors += 1;
                println!("SURVIVED  {:<28} {}", fault.name, fault.means);
            }
        }
    }
    println!("sabotage: {} caught, {survivors} survived", faults.len() - survivors);
    if survivors == 0 {
        return Ok(());
    }
    Err("a promise that no test defends: write the test, then run this again".to_owned())
}

fn chosen(names: &[String]) -> Result<Vec<&'static Fault>, String> {
    if names.is_empty() {
        return Ok(FAULTS.iter().collect());
    }
    let find = |name: &String| {
        FAULTS.iter().find(|it| it.name == name).ok_or_else(|| {
            let all: Vec<&str> = FAULTS.iter().map(|it| it.name).collect();
            format!("there is no fault `{name}`; there are: {}", all.join(", "))
        })
    };
    names.iter().map(find).collect()
}

impl Fault {
    /// Can it be made?
    fn check(&self, root: &Path) -> Result<(), String> {
        if self.edits.is_empty() || self.tests.is_empty() {
            return Err(format!(
                "`{}` is not wired: give it the text to break and the tests that must notice",
                self.name
            ));
        }
        for edit in self.edits {
            edit.made(root).map_err(|why| format!("`{}`: {why}", self.name))?;
        }
        Ok(())
    }
}

impl Edit {
    /// The file's text with the edit made.
    fn made(&self, root: &Path) -> Result<String, String> {
        let text = shell::read(&root.join(self.file))?;
        match text.matches(self.find).count() {
            1 => Ok(text.replacen(self.find, self.replace, 1)),
            0 => Err(format!(
                "its text is not in {}; the source has moved on: find it again",
                self.file
            )),
            n => Err(format!(
                "its text stands {n} times in {}; take in more of what is around it",
                self.file
            )),
        }
    }
}

enum Verdict {
    Caught { by: String },
    Survived,
}

/// The copy that is broken, and where it is built.
struct Bench {
    root: PathBuf,
    tree: PathBuf,
    built: PathBuf,
    /// Where nextest lies, if it was installed for us.
    tools: Option<PathBuf>,
}

impl Bench {
    fn set_up(root: &Path) -> Result<Bench, String> {
        let home = shell::target().join("sabotage");
        let bench = Bench {
            root: root.to_owned(),
            tree: home.join("tree"),
            built: home.join("target"),
            tools: tools::nextest()?,
        };
        bench.copy()?;
        Ok(bench)
    }

    /// Makes the copy equal to the tree. Files that are equal already are left alone: cargo goes by their age.
    fn copy(&self) -> Result<(), String> {
        shell::make_dir(&self.tree)?;
        let wanted: BTreeSet<PathBuf> = shell::files(&self.root)?.into_iter().collect();
        for path in shell::files(&self.tree)? {
            if !wanted.contains(&path) {
                let path = self.tree.join(path);
                std::fs::remove_file(&path)
                    .map_err(|err| format!("cannot remove {}: {err}", path.display()))?;
            }
        }
        for path in &wanted {
            let (from, to) = (self.root.join(path), self.tree.join(path));
            let bytes = std::fs::read(&from)
                .map_err(|err| format!("cannot read {}: {err}", from.display()))?;
            if std::fs::read(&to).is_ok_and(|it| it == bytes) {
                continue;
            }
            if let Some(dir) = to.parent() {
                shell::make_dir(dir)?;
            }
            std::fs::write(&to, bytes)
                .map_err(|err| format!("cannot write {}: {err}", to.display()))?;
        }
        Ok(())
    }

    /// A test that fails anyway would "catch" everything.
    fn see_it_pass(&self, faults: &[&Fault]) -> Result<(), String> {
        let commands: BTreeSet<&[&str]> = faults.iter().map(|it| it.tests).collect();
        for tests in commands {
            println!("whole     cargo nextest run {}", tests.join(" "));
            match self.test(tests)? {
                Outcome::Passed => {}
                Outcome::Failed { by, text } => {
                    return Err(format!(
                        "{text}\n`{by}` fails in a tree that nobody broke; mend that first"
                    ));
                }
                Outcome::NotRun { text } => {
                    return Err(format!(
                        "{text}\n`cargo nextest run {}` ran no test",
                        tests.join(" ")
                    ));
                }
            }
        }
        Ok(())
    }

    fn try_fault(&self, fault: &Fault) -> Result<Verdict, String> {
        // Two edits may be in one file: each reads what the one before has written.
        for edit in fault.edits {
            shell::write(&self.tree.join(edit.file), &edit.made(&self.tree)?)?;
        }
        let outcome = self.test(fault.tests);
        self.copy()?;
        match outcome? {
            Outcome::Passed => Ok(Verdict::Survived),
            Outcome::Failed { by, .. } => Ok(Verdict::Caught { by }),
            Outcome::NotRun { text } => Err(format!(
                "{text}\n`{}` does not build; a fault must be one that a compiler lets through",
                fault.name
            )),
        }
    }

    fn test(&self, tests: &[&str]) -> Result<Outcome, String> {
        /// nextest: it ran, and a test failed.
        const TEST_FAILED: i32 = 100;
        let mut cargo = shell::cargo();
        if let Some(bin) = &self.tools {
            cargo.env("PATH", crate::test::with_path(bin));
        }
        let shared = std::env::var_os("EVERSTATE_SHARED")
            .map_or_else(|| self.root.join("../shared"), PathBuf::from);
        let output = cargo
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.built)
            .env("CARGO_NET_OFFLINE", "true")
            .env("CARGO_TERM_COLOR", "never")
            .env("EVERSTATE_SHARED", shared)
            // Warnings of broken code are no news.
            .env("RUSTFLAGS", "-Awarnings")
            .args(["nextest", "run", "--locked", "--color", "never", "--fail-fast"])
            .args(tests)
            .output()
            .map_err(|err| format!("cannot run cargo nextest: {err}"))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(match output.status.code() {
            Some(0) => Outcome::Passed,
            Some(TEST_FAILED) => Outcome::Failed { by: first_failure(&text), text },
            _ => Outcome::NotRun { text },
        })
    }
}

enum Outcome {
    Passed,
    Failed {
        /// The first test that noticed.
        by: String,
        text: String,
    },
    /// It did not build, or there was nothing to run.
    NotRun {
        text: String,
    },
}

/// The test in nextest's first line of the form `FAIL [   0.077s] (3/3) crate name`, and what it said.
fn first_failure(text: &str) -> String {
    const WORDS: &[&str] = &["FAIL", "TIMEOUT", "SIGABRT", "SIGSEGV", "SIGKILL"];
    let line =
        text.lines().map(str::trim_start).find(|line| WORDS.iter().any(|it| line.starts_with(it)));
    let named = line.and_then(|it| it.split_once(']')).map_or("a test", |(_, rest)| rest.trim());
    let named = match named.strip_prefix('(').and_then(|it| it.split_once(')')) {
        Some((_, rest)) => rest.trim(),
        None => named,
    };
    match first_panic(text) {
        Some(said) => format!("{named}: {}", said.chars().take(100).collect::<String>()),
        None => named.to_owned(),
    }
}

/// What the first panic said, in its first line.
fn first_panic(text: &str) -> Option<&str> {
    let mut lines = text.lines().skip_while(|it| !it.contains("panicked at "));
    lines.nth(1).map(str::trim).filter(|it| !it.is_empty())
}

#[cfg(test)]
mod tests;
