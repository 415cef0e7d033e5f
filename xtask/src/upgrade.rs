//! Two releases on one store: builds an earlier one from its tag, or from any revision, and lets `tests/cluster` run it
//! with this one. What an earlier release wrote is also kept as fixtures, which every build reads; this is the whole thing.

use std::path::PathBuf;

use crate::{Done, cluster_test, shell};

pub(crate) fn run(arguments: &[String]) -> Done {
    let revision = match arguments {
        [] => last_tag()?,
        [revision] => revision.clone(),
        _ => return Err("one revision is enough".to_owned()),
    };
    let old = build_old(&revision)?;
    let debug = cluster_test::build()?;
    let mut test = shell::command(debug.join(cluster_test::PROGRAM));
    test.arg("upgrade").arg("--old").arg(old).arg("--everstate").arg(debug.join("everstate"));
    match shell::passes(&mut test)? {
        true => Ok(()),
        false => Err(String::new()),
    }
}

fn git(arguments: &[&str]) -> Result<(bool, String), String> {
    shell::quiet(shell::command("git").args(arguments))
}

fn last_tag() -> Result<String, String> {
    match git(&["describe", "--tags", "--abbrev=0"])? {
        (true, tag) => Ok(tag.trim().to_owned()),
        (false, _) => {
            Err("there is no tag yet; name a revision: cargo xtask upgrade REVISION".to_owned())
        }
    }
}

/// In a working tree of its own below `target/`, where it is built once. Answers the binary.
fn build_old(revision: &str) -> Result<PathBuf, String> {
    let named = format!("{revision}^{{commit}}");
    let (true, commit) = git(&["rev-parse", "--verify", &named])? else {
        return Err(format!("`{revision}` is no revision"));
    };
    let commit = commit.trim();
    let home = shell::target().join("upgrade");
    let (tree, built) = (home.join(commit), home.join("target"));
    let binary = home.join(format!("everstate-{commit}"));
    if binary.exists() {
        return Ok(binary);
    }
    if !tree.exists() {
        let at = tree.to_string_lossy();
        let (true, _) = git(&["worktree", "add", "--detach", "--force", &at, commit])? else {
            return Err(format!("git makes no working tree of `{revision}` at {at}"));
        };
    }
    println!("building `{revision}` ({commit})");
    let mut cargo = shell::cargo();
    cargo.current_dir(&tree).env("CARGO_TARGET_DIR", &built);
    cargo.args(["build", "--locked", "--quiet", "-p", "everstate-cli"]);
    let built_it = shell::passes(&mut cargo)?;
    let (_, said) = git(&["worktree", "remove", "--force", &tree.to_string_lossy()])?;
    if !built_it {
        return Err(format!("`{revision}` does not build. {said}"));
    }
    // Kept under its own name: the next revision is built in the same place.
    std::fs::copy(built.join("debug/everstate"), &binary)
        .map_err(|err| format!("cannot keep the binary of `{revision}`: {err}"))?;
    Ok(binary)
}
