//! Ends what a session does, whatever it is waiting for.

use clap::Args;
use serde_json::json;

use crate::desk::Desk;
use crate::fault::Done;
use crate::stop::{STOP, told};

/// End what a session does: its turn, its model calls and tools, and what it waits for
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// A session's id or its beginning; `@` is the newest
    #[arg(value_parser = super::id, value_name = "SESSION")]
    session: String,
}

impl Stop {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let answer = desk.client()?.post(STOP, &json!({ "session": self.session })).await?;
        told(desk, &answer);
        Ok(())
    }
}
