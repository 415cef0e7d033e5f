//! Node, and the official SDK in JavaScript, below `target/tools/node`, at the versions and sums of the lock file of
//! `tests/node`. The SDK needs Node 22 or later; that one comes from the registry too, so that any npm will do.

use std::path::{Path, PathBuf};

use super::{apt_install, can_apt};
use crate::shell;

const WHY: &str = "node: runs the official OpenAI SDK in JavaScript against the server.";

/// Answers the folder, which holds `node_modules`.
pub(super) fn install() -> Result<PathBuf, String> {
    let folder = super::tools_dir().join("node");
    let (ours, stamp) = (shell::root().join("tests/node"), folder.join("installed.json"));
    let wanted = shell::read(&ours.join("package-lock.json"))?;
    if shell::read(&stamp).is_ok_and(|it| it == wanted) && works(&folder) {
        return Ok(folder);
    }
    if !has_npm() && can_apt() {
        println!("installing npm (a minute, once)");
        apt_install(&["npm"])?;
    }
    if !has_npm() {
        return Err(format!("{WHY} npm installs it, and is missing: apt-get install npm"));
    }
    println!("installing the packages of tests/node below {}", folder.display());
    for name in ["package.json", "package-lock.json"] {
        shell::write(&folder.join(name), &shell::read(&ours.join(name))?)?;
    }
    let mut npm = shell::command("npm");
    npm.current_dir(&folder);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
    if !shell::passes(&mut npm)? {
        return Err(format!(
            "{WHY} The packages of tests/node could not be installed (the messages are above)"
        ));
    }
    if !works(&folder) {
        return Err(format!(
            "{WHY} The Node that was installed does not run: tests/node/package.json lists the machines that have one"
        ));
    }
    shell::write(&stamp, &wanted)?;
    Ok(folder)
}

pub(crate) fn program(folder: &Path) -> PathBuf {
    folder.join("node_modules/.bin/node")
}

/// The files with tests in them.
pub(crate) fn tests() -> Result<Vec<PathBuf>, String> {
    let ours = Path::new("tests/node");
    let files = shell::files(&shell::root().join(ours))?;
    let is_test = |it: &PathBuf| it.to_string_lossy().ends_with(".test.mjs");
    Ok(files.into_iter().filter(is_test).map(|it| ours.join(it)).collect())
}

fn works(folder: &Path) -> bool {
    let sdk = folder.join("node_modules/openai");
    let version = shell::quiet(shell::command(program(folder)).arg("--version"));
    sdk.exists() && matches!(version, Ok((true, _)))
}

fn has_npm() -> bool {
    matches!(shell::quiet(shell::command("npm").arg("--version")), Ok((true, _)))
}
