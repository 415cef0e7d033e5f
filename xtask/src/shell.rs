//! Running other programs, and where things are. It knows no task.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The repository.
pub(crate) fn root() -> PathBuf {
    // Cargo sets it at run time too; the compiled-in path is for a binary that was called by hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().expect("xtask lies in the repository").to_owned()
}

/// Where everything that is built goes.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// A command that runs in the repository.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for name in LEAKS {
        command.env_remove(name);
    }
    command
}

/// What cargo tells the xtask about itself. A cargo below would take it for its own, and build everything anew.
const LEAKS: &[&str] = &[
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CARGO_PKG_VERSION_MAJOR",
    "CARGO_PKG_VERSION_MINOR",
    "CARGO_PKG_VERSION_PATCH",
    "CARGO_PKG_VERSION_PRE",
    "CARGO_PKG_AUTHORS",
    "CARGO_PKG_DESCRIPTION",
    "CARGO_PKG_HOMEPAGE",
    "CARGO_PKG_REPOSITORY",
    "CARGO_PKG_LICENSE",
    "CARGO_PKG_LICENSE_FILE",
    "CARGO_PKG_README",
    "CARGO_PKG_RUST_VERSION",
];

pub(crate) fn cargo() -> Command {
    command("cargo")
}

/// Runs it and shows what it says. `Ok(false)` if it ran and failed.
pub(crate) fn passes(command: &mut Command) -> Result<bool, String> {
    code(command).map(|it| it == 0)
}

/// Runs it, shows what it says, and answers its exit code.
pub(crate) fn code(command: &mut Command) -> Result<i32, String> {
    let status = command.status().map_err(|err| cannot_run(command, &err))?;
    Ok(status.code().unwrap_or(-1))
}

/// Runs it silently: what it printed (both streams), and whether it succeeded.
pub(crate) fn quiet(command: &mut Command) -> Result<(bool, String), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|err| cannot_run(command, &err))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.success(), text))
}

/// What it prints on its standard output; an error if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|err| cannot_run(command, &err))?;
    if !output.status.success() {
        return Err(format!("`{}` failed ({})", shown(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("`{}` printed no UTF-8", shown(command)))
}

fn cannot_run(command: &Command, err: &std::io::Error) -> String {
    format!("cannot run `{}`: {err}", shown(command))
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|it| it.to_string_lossy().into_owned()));
    words.join(" ")
}

pub(crate) fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    std::fs::write(path, text).map_err(|err| format!("cannot write {}: {err}", path.display()))
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|err| format!("cannot make {}: {err}", dir.display()))
}

/// All files below `root`, relative to it, in order. What is built, what git keeps for itself, and states of
/// running servers are left out.
pub(crate) fn files(root: &Path) -> Result<Vec<PathBuf>, String> {
    const LEFT_OUT: &[&str] =
        &["target", ".git", ".everstate", ".venv", "mutants.out", "node_modules", "__pycache__"];
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let at = root.join(&dir);
        let entries =
            std::fs::read_dir(&at).map_err(|err| format!("cannot list {}: {err}", at.display()))?;
        for entry in entries {
            let entry = entry.map_err(|err| format!("cannot list {}: {err}", at.display()))?;
            let name = entry.file_name();
            if LEFT_OUT.iter().any(|it| name == *it) {
                continue;
            }
            let kind = entry
                .file_type()
                .map_err(|err| format!("cannot look at {}: {err}", entry.path().display()))?;
            if kind.is_dir() {
                open.push(dir.join(name));
            } else if kind.is_file() {
                found.push(dir.join(name));
            }
        }
    }
    found.sort();
    Ok(found)
}
