//! Measuring: builds in release what measures itself, runs it, and puts the figures under the machine and the date.
//!
//! What is measured is in `bench/`: a program that prints Markdown on its standard output and its progress on the other
//! stream.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Done, shell};

mod peers;

const PAPER: &str = "docs/benchmarks.md";

/// What can be measured, each between two marks of its name in the paper.
const SETS: [&str; 2] = ["durable", "cluster"];

pub(crate) fn run(arguments: &[String]) -> Done {
    let chosen = arguments.split_first().filter(|(what, _)| SETS.contains(&what.as_str()));
    let Some((set, rest)) = chosen else {
        return Err(format!("what shall be measured? It can be: {}", SETS.join(", ")));
    };
    let write = rest.iter().any(|it| it == "--write");
    let passed_on: Vec<&String> = rest.iter().filter(|it| *it != "--write").collect();
    if write && !passed_on.is_empty() {
        return Err(
            "only a whole run is written down; leave out `--write`, or the parts".to_owned()
        );
    }
    let figures = measure(set, &passed_on)?;
    println!("{figures}");
    if write {
        let path = shell::root().join(PAPER);
        let paper = shell::read(&path)?;
        shell::write(&path, &insert(&paper, set, &figures)?)?;
        println!("written to {PAPER}");
    }
    Ok(())
}

fn measure(set: &str, passed_on: &[&String]) -> Result<String, String> {
    let mut build = shell::cargo();
    build.args(["build", "--release", "--locked"]);
    build.args(["-p", "everstate-bench", "-p", "everstate-cli"]);
    if !shell::passes(&mut build)? {
        return Err("what is to be measured does not build".to_owned());
    }
    let release = shell::target().join("release");
    let mut run = shell::command(release.join("everstate-bench"));
    run.arg(set).arg("--everstate").arg(release.join("everstate"));
    if set == "cluster" {
        run.arg("--peers").arg(peers::install()?);
    }
    let figures = shell::output(run.args(passed_on))?;
    Ok(format!("Measured on {}, {}.\n\n{}", today(), machine(), figures.trim()))
}

/// The paper with the figures between the two marks of this set.
fn insert(paper: &str, set: &str, figures: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {set}: begin -->"), format!("<!-- {set}: end -->"));
    let (head, rest) =
        paper.split_once(&begin).ok_or_else(|| format!("{PAPER} has no line `{begin}`"))?;
    let (_, tail) = rest.split_once(&end).ok_or_else(|| format!("{PAPER} has no line `{end}`"))?;
    Ok(format!("{head}{begin}\n\n{}\n\n{end}{tail}", figures.trim()))
}

/// What it ran on: processor, cores, memory, system.
fn machine() -> String {
    let field = |path: &str, name: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line =
            text.lines().find(|it| it.starts_with(name))?.split_once(':')?.1.trim().to_owned();
        Some(line)
    };
    let processor =
        field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|it| it.split_whitespace().next()?.parse::<f64>().ok())
        .map_or_else(String::new, |kib| format!(", {:.0} GiB", kib / 1024.0 / 1024.0));
    let system = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| std::env::consts::OS.to_owned(), |it| format!("Linux {}", it.trim()));
    format!("{processor}, {n_cores} cores{memory}, {system}")
}

fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_secs());
    date(now / 86_400)
}

/// The civil date of a day since 1970-01-01 (by eras of 400 years, which all have the same days).
fn date(day: u64) -> String {
    let day = day + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months are counted from March: the leap day is the last of its year.
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) =
        if month < 10 { (year + era * 400, month + 3) } else { (year + era * 400 + 1, month - 9) };
    format!("{year:04}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests;
