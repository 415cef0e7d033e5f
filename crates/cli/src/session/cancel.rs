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
        let told = desk.client()?.post(&path, &show::nothing()).await?;
        show::standing(&desk.out, &told, "cancelled");
        Ok(())
    }
}
