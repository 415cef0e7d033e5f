//! What goes to stdout (what was asked for) and to stderr (all else). With `--json` everything on stdout is JSON, errors
//! too.

use std::io::{ErrorKind, IsTerminal, Write, stderr, stdin, stdout};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::fault::Fault;
use crate::timeline::{Look, Tone};

#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) is_json: bool,
    pub(crate) look: Look,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

/// Where nothing says how wide it is.
const WIDTH: usize = 110;
const WIDTH_MAX: usize = 140;

impl Out {
    pub(crate) fn new(is_json: bool, color: Color) -> Out {
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name: &str| std::env::var_os(name).is_some_and(|it| !it.is_empty());
                let dumb = std::env::var_os("TERM").is_none_or(|it| it == "dumb");
                stdout().is_terminal() && !set("NO_COLOR") && !dumb
            }
        };
        Out { is_json, look: Look { width: width(), color, zone: TimeZone::system() } }
    }

    /// One line of what was asked for.
    pub(crate) fn line(&self, text: &str) {
        put(&mut stdout(), text);
    }

    /// What was asked for, in JSON.
    pub(crate) fn json(&self, value: &Value) {
        put(&mut stdout(), &value.to_string());
    }

    /// Everything else.
    pub(crate) fn note(&self, text: &str) {
        put(&mut stderr(), text);
    }

    /// Only for people: with `--json` it is left out.
    pub(crate) fn say(&self, text: &str) {
        if !self.is_json {
            self.line(text);
        }
    }

    pub(crate) fn fail(&self, fault: &Fault) -> ExitCode {
        if self.is_json {
            self.json(&fault.json());
        } else {
            for (n, line) in fault.lines().iter().enumerate() {
                match n {
                    0 => self.note(&self.look.tint(Tone::Bad, line)),
                    _ => self.note(line),
                }
            }
        }
        ExitCode::from(fault.exit)
    }

    /// May a person be asked?
    pub(crate) fn can_ask(&self) -> bool {
        stdin().is_terminal() && stderr().is_terminal()
    }
}

fn put(to: &mut dyn Write, text: &str) {
    let wrote = writeln!(to, "{text}").and_then(|()| to.flush());
    if wrote.is_err_and(|it| it.kind() == ErrorKind::BrokenPipe) {
        UNHEARD.store(true, Ordering::Relaxed);
    }
}

/// Whoever read us has seen enough, as `head` does. What is under way is still brought to its end and cleaned up.
static UNHEARD: AtomicBool = AtomicBool::new(false);

/// Is there no use in saying more?
pub(crate) fn unheard() -> bool {
    UNHEARD.load(Ordering::Relaxed)
}

/// The terminal's columns. `stty` asks the terminal behind stdin, which is as good as ours.
fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|it| it.parse().ok());
    let asked = || {
        if !stdout().is_terminal() || !stdin().is_terminal() {
            return None;
        }
        let out = Command::new("stty").arg("size").stdin(Stdio::inherit()).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        text.split_whitespace().nth(1)?.parse().ok()
    };
    said.or_else(asked).filter(|it| *it >= 40).unwrap_or(WIDTH).min(WIDTH_MAX)
}
