//! The tools that the tests need: which, why, at which version, and how to come by them.
//!
//! Fetching needs the network and happens before the tests; the tests themselves run without.

use std::path::{Path, PathBuf};

use crate::shell;

pub(crate) mod node;

/// The version that is installed where none is found. A newer one of the same series, already there, is as good.
const NEXTEST: (u64, u64, u64) = (0, 9, 143);
/// The version that judges the kernel; another one invents other mutants.
const MUTANTS: &str = "27.1.0";

/// Names that `EVERSTATE_TEST_SKIP` may list.
pub(crate) const SKIPPABLE: &[&str] =
    &["rustfmt", "clippy", "nextest", "gcc", "python", "node", "postgres", "systemd"];

/// What the tests may go without, by wish of whoever runs them.
#[derive(Debug)]
pub(crate) struct Skips(Vec<String>);

impl Skips {
    pub(crate) fn from_env() -> Result<Skips, String> {
        Skips::parse(&std::env::var("EVERSTATE_TEST_SKIP").unwrap_or_default())
    }

    fn parse(list: &str) -> Result<Skips, String> {
        let names: Vec<String> =
            list.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect();
        match names.iter().find(|it| !SKIPPABLE.contains(&it.as_str())) {
            Some(name) => Err(format!(
                "EVERSTATE_TEST_SKIP lists `{name}`, which is no tool of ours; it may list: {}",
                SKIPPABLE.join(", ")
            )),
            None => Ok(Skips(names)),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|it| it == name)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }
}

/// The tools that are there.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// The directory that goes in front of the `PATH`, if something was installed for us alone.
    pub(crate) bin: Option<PathBuf>,
    /// The interpreter of the environment that holds the SDK.
    pub(crate) python: Option<PathBuf>,
    /// The folder whose `node_modules` holds the SDK in JavaScript, and the Node that runs it.
    pub(crate) node: Option<PathBuf>,
}

/// Looks for every tool, installs what can be installed, and names all that is missing.
pub(crate) fn install(skips: &Skips) -> Result<Tools, String> {
    let mut tools = Tools::default();
    let mut missing = Vec::new();
    for component in ["rustfmt", "clippy"] {
        if !skips.has(component)
            && let Err(why) = rust_component(component)
        {
            missing.push(why);
        }
    }
    if !skips.has("gcc")
        && let Err(why) = gcc()
    {
        missing.push(why);
    }
    if !skips.has("postgres")
        && let Err(why) = postgres()
    {
        missing.push(why);
    }
    if !skips.has("systemd")
        && !skips.has("python")
        && let Err(why) = systemd()
    {
        missing.push(why);
    }
    if !skips.has("nextest") {
        match nextest() {
            Ok(bin) => tools.bin = bin,
            Err(why) => missing.push(why),
        }
    }
    if !skips.has("python") {
        match python() {
            Ok(python) => tools.python = Some(python),
            Err(why) => missing.push(why),
        }
    }
    if !skips.has("node") {
        match node::install() {
            Ok(folder) => tools.node = Some(folder),
            Err(why) => missing.push(why),
        }
    }
    if missing.is_empty() {
        return Ok(tools);
    }
    Err(format!(
        "{} missing; nothing was tested\n  {}\n  (EVERSTATE_TEST_SKIP=NAME,... goes on without, and says so at the end)",
        if missing.len() == 1 { "a tool is" } else { "tools are" },
        missing.join("\n  ")
    ))
}

fn rust_component(component: &str) -> Result<(), String> {
    let subcommand = if component == "rustfmt" { "fmt" } else { "clippy" };
    let there =
        || matches!(shell::quiet(shell::cargo().args([subcommand, "--version"])), Ok((true, _)));
    if there() {
        return Ok(());
    }
    // A toolchain of the minimal profile lacks it.
    let added = shell::passes(shell::command("rustup").args(["component", "add", component]));
    if matches!(added, Ok(true)) && there() {
        return Ok(());
    }
    Err(format!(
        "{component}: checks the source. Install it with: rustup component add {component}"
    ))
}

fn gcc() -> Result<(), String> {
    match shell::quiet(shell::command("gcc").arg("--version")) {
        Ok((true, _)) => Ok(()),
        _ => Err("gcc: builds SQLite, and the library with which the power is cut. \
                  Install it with: apt-get install gcc libc6-dev (or your system's compiler package)"
            .to_owned()),
    }
}

/// PostgreSQL and PgBouncer, which the tests start themselves, each with a database of its own.
fn postgres() -> Result<(), String> {
    let missing = || {
        let mut missing = Vec::new();
        if !postgres_is_there() {
            missing.push("postgresql-15");
        }
        let sbin = PathBuf::from("/usr/sbin/pgbouncer");
        let bouncer = shell::quiet(shell::command("pgbouncer").arg("--version"));
        if !sbin.exists() && !matches!(bouncer, Ok((true, _))) {
            missing.push("pgbouncer");
        }
        missing
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    if can_apt() {
        println!("installing {} (a minute, once)", packages.join(" "));
        apt_install(&packages)?;
    }
    match missing() {
        left if left.is_empty() => Ok(()),
        left => Err(format!(
            "postgres: many nodes share one. Install it with: apt-get install {} (or your system's packages; \
             EVERSTATE_TEST_POSTGRES_BIN names the folder of its programs if they lie elsewhere)",
            left.join(" ")
        )),
    }
}

fn postgres_is_there() -> bool {
    let has = |folder: &Path| folder.join("initdb").exists() && folder.join("postgres").exists();
    if let Some(named) = std::env::var_os("EVERSTATE_TEST_POSTGRES_BIN") {
        return has(Path::new(&named));
    }
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = debian.map(|it| it.path().join("bin")).chain(std::env::split_paths(&path));
    all.any(|it| has(&it))
}

/// Debian would make a cluster of its own and start it, which nobody here asked for.
fn apt_install(packages: &[&str]) -> Result<(), String> {
    let mut install = shell::command("apt-get");
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    install.args(["install", "-y", "--no-install-recommends"]).args(packages);
    let conf = Path::new("/etc/postgresql-common/createcluster.conf");
    if !conf.exists() && std::fs::create_dir_all("/etc/postgresql-common").is_ok() {
        shell::write(conf, "create_main_cluster = false\n")?;
    }
    if shell::passes(&mut install)? {
        return Ok(());
    }
    // A fresh machine knows no packages yet.
    shell::passes(shell::command("apt-get").arg("update"))?;
    shell::passes(&mut install).map(drop)
}

/// Only its tool that judges units; nothing of it runs.
fn systemd() -> Result<(), String> {
    let is_there = || {
        let version = shell::quiet(shell::command("systemd-analyze").arg("--version"));
        matches!(version, Ok((true, _)))
    };
    if !is_there() && can_apt() {
        println!("installing systemd (a minute, once)");
        apt_install(&["systemd"])?;
    }
    match is_there() {
        true => Ok(()),
        false => Err("systemd: `systemd-analyze` checks the unit of deploy/. \
                      Install it with: apt-get install systemd"
            .to_owned()),
    }
}

fn can_apt() -> bool {
    let is_root =
        matches!(shell::quiet(shell::command("id").arg("-u")), Ok((true, it)) if it.trim() == "0");
    let apt = || shell::quiet(shell::command("apt-get").arg("--version"));
    is_root && matches!(apt(), Ok((true, _)))
}

/// Answers the directory to put in front of the `PATH`, if it is not on it already.
pub(crate) fn nextest() -> Result<Option<PathBuf>, String> {
    let on_path = shell::quiet(shell::cargo().args(["nextest", "--version"]));
    if let Ok((true, text)) = on_path
        && nextest_will_do(&text)
    {
        return Ok(None);
    }
    let pin = format!("{}.{}.{}", NEXTEST.0, NEXTEST.1, NEXTEST.2);
    // Without its self-update, which would want OpenSSL.
    let options = ["--no-default-features", "--features", "default-no-update"];
    let bin = cargo_install("cargo-nextest", &pin, &options).map_err(|why| {
        format!(
            "nextest: runs the Rust tests. {why}. Install it with: cargo install --locked cargo-nextest@{pin}"
        )
    })?;
    Ok(Some(bin))
}

fn nextest_will_do(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|it| it.parse::<u64>().unwrap_or(0));
    let (major, minor, patch) =
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) == (NEXTEST.0, NEXTEST.1) && patch >= NEXTEST.2
}

/// The directory that holds cargo-mutants.
pub(crate) fn mutants() -> Result<PathBuf, String> {
    cargo_install("cargo-mutants", MUTANTS, &[]).map_err(|why| {
        format!("mutants: {why}. Install it with: cargo install --locked cargo-mutants@{MUTANTS}")
    })
}

/// Installs a cargo tool for us alone, below `target/`, once.
fn cargo_install(name: &str, version: &str, options: &[&str]) -> Result<PathBuf, String> {
    let home = tools_dir();
    let bin = home.join("bin");
    let stamp = home.join(format!("{name}-{version}"));
    if stamp.exists() && bin.join(name).exists() {
        return Ok(bin);
    }
    println!("installing {name} {version} below {} (a few minutes, once)", home.display());
    // Unoptimised: it is built faster than it could win back.
    let mut install = shell::cargo();
    install.env("CARGO_PROFILE_DEV_DEBUG", "0").env_remove("CARGO_TARGET_DIR");
    install.args(["install", "--locked", "--force", "--quiet", "--debug", "--root"]);
    install.arg(&home).arg(format!("{name}@{version}")).args(options);
    let installed = shell::passes(&mut install)?;
    if !installed {
        return Err(format!("{name} {version} could not be installed (the messages are above)"));
    }
    shell::write(&stamp, "")?;
    Ok(bin)
}

/// What goes into the Python environment. A package that two of them name has the same version in both.
const REQUIREMENTS: &[&str] =
    &["tests/sdk/requirements.txt", "tests/s3/requirements.txt", "tests/deploy/requirements.txt"];

/// A Python environment with exactly the packages of [`REQUIREMENTS`]. Answers its interpreter.
fn python() -> Result<PathBuf, String> {
    const WHY: &str = "python: runs the official OpenAI SDK against the server, an S3 server, and what judges deploy/.";
    let requirements: Vec<PathBuf> = REQUIREMENTS.iter().map(|it| shell::root().join(it)).collect();
    let wanted = requirements.iter().map(|it| shell::read(it)).collect::<Result<String, _>>()?;
    let venv = tools_dir().join("venv");
    let interpreter = venv.join("bin/python");
    let stamp = venv.join("requirements.txt");
    if shell::read(&stamp).is_ok_and(|it| it == wanted) && works(&interpreter) {
        return Ok(interpreter);
    }
    match shell::quiet(
        shell::command("python3")
            .args(["-c", "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)"]),
    ) {
        Ok((true, _)) => {}
        Ok((false, _)) => {
            return Err(format!("{WHY} `python3` is older than 3.11; put a newer one on the PATH"));
        }
        Err(_) => {
            return Err(format!("{WHY} Install it with: apt-get install python3 python3-venv"));
        }
    }
    // Debian ships the interpreter without `ensurepip`; without it an environment has no pip.
    if !shell::quiet(shell::command("python3").args(["-c", "import venv, ensurepip"]))?.0 {
        return Err(format!(
            "{WHY} `python3` is there, its module venv is not. Install it with: apt-get install python3-venv"
        ));
    }
    println!(
        "installing the Python packages of {} below {}",
        REQUIREMENTS.join(", "),
        venv.display()
    );
    let made = shell::passes(shell::command("python3").args(["-m", "venv", "--clear"]).arg(&venv))?;
    let filled = made
        && shell::passes(
            shell::command(&interpreter)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                ])
                .args(requirements.iter().flat_map(|it| [Path::new("--requirement"), it])),
        )?;
    if !filled {
        return Err(format!(
            "{WHY} The packages of {} could not be installed (the messages are above)",
            REQUIREMENTS.join(", ")
        ));
    }
    shell::write(&stamp, &wanted)?;
    Ok(interpreter)
}

fn works(interpreter: &Path) -> bool {
    let import = shell::quiet(
        shell::command(interpreter).args(["-c", "import check_jsonschema, moto, openai, pytest"]),
    );
    matches!(import, Ok((true, _)))
}

fn tools_dir() -> PathBuf {
    shell::target().join("tools")
}

#[cfg(test)]
mod tests;
