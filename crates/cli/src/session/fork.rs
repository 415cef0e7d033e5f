//! Begins a new session where another was cut.

use clap::Args;
use serde_json::json;

use super::{SESSIONS, Which, show};
use crate::desk::Desk;
use crate::fault::Done;

/// A new session that begins with what this one had said
#[derive(Debug, Args)]
pub(crate) struct Fork {
    #[command(flatten)]
    which: Which,
    /// After this event; by default the last
    #[arg(long, value_name = "SEQ")]
    at: Option<u64>,
}

impl Fork {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let path = format!("{SESSIONS}/{}/fork", self.which.session);
        let body = self.at.map_or_else(show::nothing, |at| json!({ "at": at }));
        let told = desk.client()?.post(&path, &body).await?;
        show::standing(&desk.out, &told, "forked; no inherited work was started");
        Ok(())
    }
}
