//! The test command of the README and of CI: tools first (with the network), then everything else without it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::report::{self, Counts};
use crate::tools::{self, Skips, Tools};
use crate::{Done, shell, tidy};

pub(crate) fn run(arguments: &[String]) -> Done {
    if let Some(unknown) = arguments.first() {
        return Err(format!(
            "`{unknown}`: test takes no arguments. For a part of the tests: cargo nextest run -p everstate-kernel"
        ));
    }
    let skips = Skips::from_env()?;
    let mut run = Run::default();

    let tools = run.preparation("tools", || {
        let tools = tools::install(&skips)?;
        fetch()?;
        Ok(tools)
    });
    // Whoever reads only the last line must not miss that nothing ran.
    let tools = match tools {
        Ok(tools) => tools,
        Err(why) => {
            run.total += Counts::one(false);
            run.close(&skips);
            return Err(why);
        }
    };

    if !skips.has("rustfmt") {
        run.check("format", || shell::passes(offline(&tools).args(["fmt", "--all", "--check"])));
    }
    run.check("tidy", || match tidy::run(&[]) {
        Ok(()) => Ok(true),
        Err(reason) => Err(reason),
    });
    if !skips.has("clippy") {
        run.check("lints", || {
            shell::passes(
                offline(&tools)
                    .args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--"])
                    .args(["-D", "warnings"]),
            )
        });
    }
    if !skips.has("nextest") {
        run.tests("rust", || rust_tests(&tools));
    }
    if let Some(python) = &tools.python {
        run.tests("sdk", || sdk_tests(&tools, python));
    }
    if let Some(node) = &tools.node {
        run.tests("node", || node_tests(&tools, node));
    }

    let failed = run.total.failed;
    run.close(&skips);
    if failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Everything that cargo will need, so that nothing after this asks for the network.
fn fetch() -> Result<(), String> {
    if shell::passes(shell::cargo().args(["fetch", "--locked", "--quiet"]))? {
        return Ok(());
    }
    Err("the crates of Cargo.lock could not be fetched (the messages are above)".to_owned())
}

/// A cargo that may not use the network, and finds no credentials in its environment.
fn offline(tools: &Tools) -> Command {
    let mut cargo = shell::cargo();
    close_off(&mut cargo, tools);
    cargo
}

fn close_off(command: &mut Command, tools: &Tools) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if is_foreign(&name) {
            command.env_remove(name.as_ref());
        }
    }
    command.env("CARGO_NET_OFFLINE", "true").env("PIP_NO_INDEX", "1");
    // Tests speak to loopback only, and never through somebody's proxy.
    command.env("NO_PROXY", "*").env("no_proxy", "*");
    if let Some(python) = &tools.python {
        command.env("EVERSTATE_TEST_PYTHON", python);
    }
    if let Some(bin) = &tools.bin {
        command.env("PATH", with_path(bin));
    }
}

/// Variables of the person's that would change what a test sees: keys of providers, settings of a server, proxies.
fn is_foreign(name: &str) -> bool {
    const OURS: &[&str] = &["EVERSTATE_TEST_", "EVERSTATE_SEED", "EVERSTATE_SHARED", "AWS_LC_"];
    const THEIRS: &[&str] = &["EVERSTATE_", "OPENAI_", "ANTHROPIC_", "AZURE_", "AWS_", "GOOGLE_"];
    let lower = name.to_ascii_lowercase();
    lower.ends_with("_proxy")
        || lower.ends_with("_api_key")
        || THEIRS.iter().any(|it| name.starts_with(it))
            && !OURS.iter().any(|it| name.starts_with(it))
}

/// The `PATH` with this directory in front.
pub(crate) fn with_path(bin: &Path) -> std::ffi::OsString {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&rest));
    std::env::join_paths(all).unwrap_or(rest)
}

fn rust_tests(tools: &Tools) -> Result<(bool, PathBuf), String> {
    let report = shell::target().join("nextest/default/junit.xml");
    remove(&report)?;
    let passed = shell::passes(offline(tools).args([
        "nextest",
        "run",
        "--workspace",
        "--locked",
        "--no-fail-fast",
    ]))?;
    Ok((passed, report))
}

fn sdk_tests(tools: &Tools, python: &Path) -> Result<(bool, PathBuf), String> {
    /// pytest found nothing to run.
    const NO_TESTS: i32 = 5;
    let report = shell::target().join("sdk/junit.xml");
    remove(&report)?;
    if !build(tools)? {
        return Ok((false, report));
    }
    let mut pytest = shell::command(python);
    close_off(&mut pytest, tools);
    pytest
        .env("EVERSTATE_TEST_BINARY", shell::target().join("debug/everstate"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/sdk",
            "tests/s3",
            "tests/deploy",
        ])
        .arg(format!("--junitxml={}", report.display()));
    let code = shell::code(&mut pytest)?;
    Ok((code == 0 || code == NO_TESTS, report))
}

/// The tests start the server as a person would: the binary. Chosen like for the Rust tests, so that nothing is built
/// twice with other features.
fn build(tools: &Tools) -> Result<bool, String> {
    let all = ["build", "--quiet", "--locked", "--workspace", "--all-targets"];
    shell::passes(offline(tools).args(all))
}

fn node_tests(tools: &Tools, folder: &Path) -> Result<(bool, PathBuf), String> {
    let report = shell::target().join("sdk/node.xml");
    remove(&report)?;
    if !build(tools)? {
        return Ok((false, report));
    }
    let mut node = shell::command(tools::node::program(folder));
    close_off(&mut node, tools);
    node.env("EVERSTATE_TEST_BINARY", shell::target().join("debug/everstate"))
        .env("EVERSTATE_TEST_NODE", folder)
        .args(["--test", "--test-timeout=600000", "--test-concurrency=1"])
        .args(["--test-reporter=dot", "--test-reporter-destination=stdout"])
        .arg("--test-reporter=junit")
        .arg(format!("--test-reporter-destination={}", report.display()))
        .args(tools::node::tests()?);
    Ok((shell::passes(&mut node)?, report))
}

/// A report of an earlier run must not speak for this one.
fn remove(report: &Path) -> Result<(), String> {
    match std::fs::remove_file(report) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {err}", report.display()))
        }
        _ => Ok(()),
    }
}

/// What was run, how long it took, and what came of it.
#[derive(Default)]
struct Run {
    total: Counts,
    stages: Vec<(&'static str, Duration, String)>,
    skips: Vec<String>,
}

impl Run {
    /// Must succeed before anything else makes sense.
    fn preparation<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        println!("== {name}");
        let began = Instant::now();
        let result = work();
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        self.stages.push((name, began.elapsed(), word.to_owned()));
        result
    }

    /// One check: it passes or fails as a whole.
    fn check(&mut self, name: &'static str, work: impl FnOnce() -> Result<bool, String>) {
        println!("== {name}");
        let began = Instant::now();
        let passed = work().unwrap_or_else(|why| {
            eprintln!("{name}: {why}");
            false
        });
        self.total += Counts::one(passed);
        let word = if passed { "ok" } else { "FAILED" };
        self.stages.push((name, began.elapsed(), word.to_owned()));
    }

    /// Many tests, counted from the runner's report. A run that failed without a failed test (it did not build,
    /// say) counts as one failure.
    fn tests(
        &mut self,
        name: &'static str,
        work: impl FnOnce() -> Result<(bool, PathBuf), String>,
    ) {
        println!("== {name}");
        let began = Instant::now();
        let (passed, report) = work().unwrap_or_else(|why| {
            eprintln!("{name}: {why}");
            (false, PathBuf::new())
        });
        let (mut counts, skips) = report::count(&shell::read(&report).unwrap_or_default());
        if !passed && counts.failed == 0 {
            counts.failed = 1;
        }
        self.skips.extend(skips.into_iter().map(|it| format!("{name}: {it}")));
        self.total += counts;
        let word = format!("{} passed, {} failed", counts.passed, counts.failed);
        self.stages.push((name, began.elapsed(), word));
    }

    /// Says what happened. The last line is for machines too: keep its form.
    fn close(&self, skips: &Skips) {
        println!("\n== summary");
        for (name, took, word) in &self.stages {
            println!("  {name:<8} {:>7.1} s  {word}", took.as_secs_f64());
        }
        for skip in &self.skips {
            println!("  skipped  {skip}");
        }
        for name in skips.names() {
            println!("  NOT RUN  everything that needs `{name}`: EVERSTATE_TEST_SKIP says so");
        }
        let Counts { passed, failed, skipped } = self.total;
        let skipped = skipped + skips.names().len() as u64;
        println!("tests: {passed} passed, {failed} failed, {skipped} skipped");
    }
}
