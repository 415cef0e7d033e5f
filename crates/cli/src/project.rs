//! Projects: each has its own sessions, keys and limits, and sees nothing of the others.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::desk::Desk;
use crate::fault::Done;

/// Projects: create, list
#[derive(Debug, Args)]
#[command(alias = "projects")]
pub(crate) struct Project {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// A new project; one that is there already is left as it is
    Create {
        /// 1 to 64 of a-z, 0-9 and `-`, beginning with a letter
        name: String,
    },
    /// All projects
    #[command(alias = "ls")]
    List,
}

const PROJECTS: &str = "/everstate/v1/projects";

impl Project {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        match self.verb {
            Verb::Create { name } => create(desk, &name).await,
            Verb::List => list(desk).await,
        }
    }
}

async fn create(desk: &Desk, name: &str) -> Done {
    let made = desk.client()?.post(PROJECTS, &json!({ "name": name })).await?;
    if desk.out.is_json {
        desk.out.json(&made);
        return Ok(());
    }
    desk.out.line(name);
    desk.out.line(&format!("next: everstate key create NAME --project {name}"));
    Ok(())
}

async fn list(desk: &Desk) -> Done {
    let items = desk.client()?.items(PROJECTS).await?;
    if desk.out.is_json {
        desk.out.json(&json!({ "items": items, "next": null }));
        return Ok(());
    }
    for it in &items {
        desk.out.line(it["name"].as_str().unwrap_or_default());
    }
    Ok(())
}
