//! The list of commands, and what they share: a few flags, the form of errors, exit codes.

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand};

use crate::desk::{Desk, Globals};
use crate::fault::{Done, Fault, codes};
use crate::out::Out;
use crate::{
    approval, audit, budget, config, demo, dev, doctor, effect, explain, keys, node, project,
    retention, run, serve, session, stop, store, version,
};

/// Agents whose state is yours, on the models of every cloud.
///
/// Exit codes: 0 done, 1 it failed, 2 usage or configuration, 3 not found, 4 not permitted, 5 refused by policy, terms
/// or budget, 6 conflict, 7 waiting for a person, 8 unreachable, 70 our bug, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "everstate", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

macro_rules! commands {
    ($($room:ident: $name:ident,)*) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($name($room::$name),)*
        }

        impl Command {
            async fn run(self, desk: &Desk) -> Done {
                match self {
                    $(Command::$name(it) => it.run(desk).await,)*
                }
            }
        }
    };
}

commands! {
    demo: Demo,
    dev: Dev,
    serve: Serve,
    run: Run,
    session: Session,
    approval: Approval,
    effect: Effect,
    budget: Budget,
    project: Project,
    keys: Key,
    retention: Retention,
    stop: Stop,
    stop: Start,
    node: Node,
    explain: Explain,
    doctor: Doctor,
    config: Config,
    audit: Audit,
    store: Store,
    version: Version,
}

pub(crate) fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    // A line that cannot be read has no flags; what form its error takes is looked up in the words.
    let wants_json = words.iter().any(|it| it == "--json");
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(err) => return misread(&err, wants_json),
    };
    let desk = Desk::new(cli.globals);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(err) => {
            let fault = Fault::new(&codes::INTERNAL, format!("cannot start the runtime: {err}"));
            return desk.out.fail(&fault);
        }
    };
    let done = runtime.block_on(cli.command.run(&desk));
    // A thread that waits for a key press would be waited for.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => desk.out.fail(&fault),
    }
}

fn misread(err: &clap::Error, json: bool) -> ExitCode {
    let out = Out::new(json, crate::out::Color::Auto);
    match err.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = err.render().to_string();
            match json {
                true => out.json(&serde_json::json!({ "help": text })),
                false => out.line(text.trim_end()),
            }
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !json => {
            out.note(err.render().to_string().trim_end());
            ExitCode::from(codes::USAGE.exit)
        }
        _ => {
            let text = err.render().to_string();
            let mut lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
            let what = lines.next().unwrap_or("the command line cannot be read");
            let mut fault = Fault::new(&codes::USAGE, what.trim_start_matches("error: "));
            for line in lines.filter(|it| !it.starts_with("For more information")) {
                match line.strip_prefix("tip: ") {
                    Some(tip) => fault = fault.attempt(tip),
                    None => fault = fault.why(line),
                }
            }
            if fault.attempt.is_none() {
                fault = fault.attempt("everstate --help");
            }
            out.fail(&fault)
        }
    }
}

#[cfg(test)]
mod tests;
