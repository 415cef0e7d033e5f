//! Says something to a session that is there already: its next turn.

use clap::Args;
use serde_json::json;

use super::SESSIONS;
use crate::address::short;
use crate::desk::Desk;
use crate::fault::Done;

/// Say something to a session; its last turn's agent goes on
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// A session's id or its beginning; `@` is the newest
    #[arg(value_parser = super::id, value_name = "SESSION")]
    session: String,
    /// What is said
    text: String,
}

impl Send {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let path = format!("{SESSIONS}/{}/say", self.session);
        let told = desk.client()?.post(&path, &json!({ "text": self.text })).await?;
        if desk.out.is_json {
            desk.out.json(&told);
            return Ok(());
        }
        let id = told["session"].as_str().unwrap_or(&self.session);
        desk.out.line(&format!("{id}   turn {} begun", told["turn"]));
        desk.out.line(&format!("next: everstate session watch {} --until-idle", short(id)));
        Ok(())
    }
}
