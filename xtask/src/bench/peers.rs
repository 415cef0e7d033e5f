//! Those that are measured beside us: installed below `target/tools/peers`, at the versions of `bench/peers`, with the
//! network. Nothing else needs them.

use std::path::{Path, PathBuf};

use crate::shell;

/// What they are written in, and where it comes from.
const PYTHON: &str = "python3 with its module venv (apt-get install python3 python3-venv)";
const NODE: &str = "node 20 or later and npm (apt-get install nodejs npm)";

/// Answers the folder: `python/` is an environment, `node/` has the packages and our scripts.
pub(super) fn install() -> Result<PathBuf, String> {
    let home = shell::target().join("tools/peers");
    let ours = shell::root().join("bench/peers");
    python(&ours, &home.join("python"))?;
    node(&ours, &home.join("node"))?;
    Ok(home)
}

fn python(ours: &Path, venv: &Path) -> Result<(), String> {
    let requirements = ours.join("requirements.txt");
    let (wanted, stamp) = (shell::read(&requirements)?, venv.join("installed.txt"));
    if shell::read(&stamp).is_ok_and(|it| it == wanted) {
        return Ok(());
    }
    eprintln!("installing the peers in Python below {}", venv.display());
    let failed = |_| format!("the peers in Python could not be installed; they need {PYTHON}");
    let made = shell::output(shell::command("python3").args(["-m", "venv", "--clear"]).arg(venv));
    made.map_err(failed)?;
    let mut pip = shell::command(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    shell::output(pip.arg("--requirement").arg(&requirements)).map_err(failed)?;
    shell::write(&stamp, &wanted)
}

fn node(ours: &Path, folder: &Path) -> Result<(), String> {
    // Modules are found beside the script that asks for them.
    for name in ["package.json", "package-lock.json", "restate_turns.mjs", "restate_service.mjs"] {
        shell::write(&folder.join(name), &shell::read(&ours.join(name))?)?;
    }
    let (wanted, stamp) =
        (shell::read(&ours.join("package-lock.json"))?, folder.join("installed.json"));
    if shell::read(&stamp).is_ok_and(|it| it == wanted) {
        return Ok(());
    }
    eprintln!("installing the peers in JavaScript below {}", folder.display());
    let mut npm = shell::command("npm");
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]);
    let failed = |_| format!("the peers in JavaScript could not be installed; they need {NODE}");
    shell::output(&mut npm).map_err(failed)?;
    shell::write(&stamp, &wanted)
}
