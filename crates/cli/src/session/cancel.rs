//! Ends a running turn.

use clap::Args;

use super::{SESSIONS, Which, show};
use crate::desk::Desk;
use crate::fault::Done;

/// End the running turn; its open calls are closed
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    which: Which,
}

impl Cancel {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let path = format!("{SESSIONS}/{}/cancel", self.which.session);
        let client = desk.client()?;
        let before = client.get(&format!("{SESSIONS}/{}", self.which.session)).await?;
        let told = client.post(&path, &show::nothing()).await?;
        let what = if before["turn"].is_null() { "no turn was running" } else { "cancelled" };
        show::standing(&desk.out, &told, what);
        Ok(())
    }
}
