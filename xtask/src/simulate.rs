//! The kernel's seeded simulation, with as many seeds as one likes.

use crate::{Done, shell};

pub(crate) fn run(arguments: &[String]) -> Done {
    let (name, value) = match arguments {
        [n] => ("EVERSTATE_SEEDS", number(n)?),
        [flag, seed] if flag == "--seed" => ("EVERSTATE_SEED", number(seed)?),
        _ => return Err("how many seeds? For a million: cargo xtask simulate 1_000_000".to_owned()),
    };
    let began = std::time::Instant::now();
    // Optimised, but with the checks of a debug build. A target of its own, because the flags differ.
    let passed = shell::passes(
        shell::cargo()
            .env("CARGO_TARGET_DIR", shell::target().join("simulate"))
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
            .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true")
            .env_remove("EVERSTATE_SEED")
            .env(name, value.to_string())
            .args(["test", "--release", "--locked", "-p", "everstate-kernel", "simulation"])
            .args(["--", "--nocapture"]),
    )?;
    if !passed {
        return Err("a promise was broken; the seed is above".to_owned());
    }
    println!("no promise broken, {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn number(text: &str) -> Result<u64, String> {
    text.replace(['_', ','], "").parse().map_err(|_| format!("`{text}` is no number"))
}
