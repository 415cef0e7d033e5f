//! The main job, played in half a minute without key or network: an agent on a task with tools and an approval, its
//! server really killed in the middle of a tool call, the next step on another cloud; and the proof that it came out
//! right. What a real client would do is done here, over plain HTTP.

mod bank;
mod child;
mod person;
mod play;
mod proof;
mod show;
mod stage;

use std::path::{Path, PathBuf};

use clap::Args;
use everstate_kernel::ids::base32;

use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};
use bank::Bank;
use child::Start;
use play::Play;
use stage::Cast;

/// See it work: an agent, a real kill -9, exactly one refund; no key, no network
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// With a real model and your OPENAI_API_KEY; asks first
    #[arg(long)]
    live: bool,
    /// Which model, with --live
    #[arg(long, default_value = "gpt-6-luna", requires = "live")]
    model: String,
    /// What it may spend at most, with --live, in US dollars
    #[arg(long, default_value = "0.05", requires = "live", value_parser = dollars, value_name = "USD")]
    limit: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Keep the directory: configuration, script, log
    #[arg(long)]
    keep: bool,
    /// Without pauses
    #[arg(long)]
    fast: bool,
}

impl Demo {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let cast = if self.live { self.live(desk)? } else { self.rehearsal(desk) };
        let dir = fresh_dir()?;
        let played = tokio::select! {
            played = self.play(desk, cast, &dir) => played,
            _ = tokio::signal::ctrl_c() => Err(Fault::new(&codes::INTERRUPTED, "the demo was stopped")),
        };
        if self.keep {
            desk.out.note(&format!("kept: {}", dir.display()));
        } else {
            std::fs::remove_dir_all(&dir).ok();
        }
        played
    }

    async fn play(&self, desk: &Desk, cast: Cast, dir: &Path) -> Done {
        let bank = Bank::open().map_err(|err| {
            Fault::new(&codes::DEMO_FAILED, format!("cannot open the fake bank: {err}"))
        })?;
        stage::write(dir, &cast, bank.address)?;
        let keep =
            if cast.is_live() { vec!["OPENAI_API_KEY", "OPENAI_BASE_URL"] } else { Vec::new() };
        let start = Start { dir: dir.to_path_buf(), key: crate::key::fresh(), keep };
        let play = Play { desk, cast: &cast, start, fast: self.fast };
        let played = play.run(bank).await?;
        let held = proof::tell(desk, &cast, dir, played).await?;
        next(desk, dir, self.keep);
        if held {
            return Ok(());
        }
        Err(Fault::new(&codes::PROOF_FAILED, "the demo did not prove what it is there to prove")
            .why("the lines that say FAILED")
            .attempt("everstate demo --keep"))
    }

    fn rehearsal(&self, desk: &Desk) -> Cast {
        desk.out.say("rehearsal: a simulation, no model is called, no key is used. The server, the log and the kill are real.");
        desk.out.say("a made-up bank and two made-up clouds (cloud-a, cloud-b) run beside it on this machine.");
        desk.out.say("");
        Cast::Rehearsal { slow: if self.fast { 1 } else { 18 } }
    }

    fn live(&self, desk: &Desk) -> Result<Cast, Fault> {
        if std::env::var("OPENAI_API_KEY").unwrap_or_default().is_empty() {
            return Err(Fault::new(
                &codes::NO_KEY,
                "--live needs OPENAI_API_KEY, and it is not set",
            )
            .attempt("export OPENAI_API_KEY=...     or, without any key,   everstate demo"));
        }
        let limit = crate::timeline::words::money(self.limit);
        let text = format!(
            "live: this sends about four short prompts to {} with your OPENAI_API_KEY; it stops at {limit}",
            self.model
        );
        desk.out.note(&text);
        if !self.yes {
            if !desk.out.can_ask() {
                return Err(Fault::new(
                    &codes::NEEDS_YES,
                    "--live spends money, and nobody can be asked here",
                )
                .why(text)
                .attempt("everstate demo --live --yes"));
            }
            if !person::agrees("spend it? [y/N] ") {
                return Err(Fault::new(&codes::INTERRUPTED, "nothing was sent"));
            }
        }
        Ok(Cast::Live { model: self.model.clone(), limit_micros: self.limit })
    }
}

/// Three things to type.
fn next(desk: &Desk, dir: &Path, kept: bool) {
    let dev =
        "everstate dev                  # a server of your own, durable in ./.everstate".to_owned();
    let next = if kept {
        let store = format!("--store sqlite:{}/state.db", dir.display());
        [format!("everstate explain @/2.1 {store}"), format!("everstate audit verify {store}"), dev]
    } else {
        [
            dev,
            "everstate run \"say hello\"      # a task for it".to_owned(),
            "everstate demo --keep          # this again, and keep the log to look at".to_owned(),
        ]
    };
    desk.out.say("");
    for (n, command) in next.iter().enumerate() {
        let name = if n == 0 { "next:" } else { "" };
        desk.out.say(&format!("{name:<5} {command}"));
    }
}

fn fresh_dir() -> Result<PathBuf, Fault> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    let dir = std::env::temp_dir().join(format!("everstate-demo-{}", base32(&bytes)));
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&dir).map_err(|err| {
        Fault::new(&codes::FILE, format!("cannot make the directory {}: {err}", dir.display()))
    })?;
    Ok(dir)
}

/// Dollars as micro-dollars.
fn dollars(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no amount in dollars, such as 0.05");
    let (whole, part) = text.trim_start_matches('$').split_once('.').unwrap_or((text, ""));
    if part.len() > 6 || !part.bytes().all(|it| it.is_ascii_digit()) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000).and_then(|it| it.checked_add(part)).ok_or_else(wrong)
}
