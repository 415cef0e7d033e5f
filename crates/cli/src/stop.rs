//! Stops everything that runs, of an agent, a project, or at all; and lets it begin again.

use clap::Args;
use serde_json::{Value, json};

use crate::address::short;
use crate::desk::Desk;
use crate::fault::Done;
use crate::person;

pub(crate) const STOP: &str = "/everstate/v1/stop";
const START: &str = "/everstate/v1/start";

/// Stop every running turn of an agent, a project, or all
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(false).args(["agent", "project", "all"]))]
pub(crate) struct Stop {
    /// Sessions of this saved agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Sessions of this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Every session of every project; needs the admin key
    #[arg(long)]
    all: bool,
    /// Also refuse new turns, until `everstate start`
    #[arg(long, conflicts_with = "agent")]
    hold: bool,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
}

/// Let turns begin again that `stop --hold` keeps out
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("whose").required(true).multiple(false).args(["project", "all"]))]
pub(crate) struct Start {
    /// In this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Where all were held; a project that was held by its name stays so
    #[arg(long)]
    all: bool,
}

impl Stop {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let (whose, flag) = match (&self.agent, &self.project) {
            (Some(agent), _) => (format!("of the agent {agent}"), format!("--agent {agent}")),
            (_, Some(name)) => (format!("of the project {name}"), format!("--project {name}")),
            (None, None) => ("of every project".to_owned(), "--all".to_owned()),
        };
        let hold = if self.hold { " --hold" } else { "" };
        let what = format!(
            "every running turn {whose} is cancelled; a tool that runs may have taken effect"
        );
        person::consents(desk, self.yes, &what, &format!("everstate stop {flag}{hold} --yes"))?;
        let body = match (self.agent, self.project) {
            (Some(agent), _) => json!({ "agent": agent }),
            (_, Some(project)) => json!({ "project": project, "hold": self.hold }),
            (None, None) => json!({ "all": true, "hold": self.hold }),
        };
        let answer = desk.client()?.post(STOP, &body).await?;
        told(desk, &answer);
        if self.hold && !desk.out.is_json {
            desk.out.line(&format!("new turns are refused; lift it with: everstate start {flag}"));
        }
        Ok(())
    }
}

pub(crate) fn told(desk: &Desk, answer: &Value) {
    if desk.out.is_json {
        desk.out.json(answer);
        return;
    }
    let n = answer["stopped"].as_u64().unwrap_or_default();
    let turns = if n == 1 { "turn" } else { "turns" };
    desk.out.line(&format!("{n} {turns} stopped in {} ms", answer["took_ms"]));
    for it in answer["items"].as_array().into_iter().flatten().take(20) {
        let session = it["session"].as_str().unwrap_or_default();
        desk.out.line(&format!("  {}/{}", short(session), it["turn"]));
    }
    if n > 20 {
        desk.out.line(&format!("  and {} more", n - 20));
    }
}

impl Start {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let body = match self.project {
            Some(project) => json!({ "project": project }),
            None => json!({ "all": true }),
        };
        let answer = desk.client()?.post(START, &body).await?;
        if desk.out.is_json {
            desk.out.json(&answer);
            return Ok(());
        }
        let what =
            if answer["lifted"] == true { "turns may begin again" } else { "it was not held" };
        desk.out.line(what);
        if answer["still_held"] == true && body["all"] != true {
            desk.out.line("all projects are held: everstate start --all");
        }
        Ok(())
    }
}
