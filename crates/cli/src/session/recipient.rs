//! Whom a bundle for this server is sealed to.

use clap::Args;

use crate::desk::Desk;
use crate::fault::{Done, Fault};

/// Whom to seal bundles to that come to this server: it opens them itself
#[derive(Debug, Args)]
pub(crate) struct Recipient {}

impl Recipient {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let told = desk.client()?.get(PATH).await?;
        if desk.out.is_json {
            desk.out.json(&told);
        } else {
            desk.out.line(told["recipient"].as_str().unwrap_or_default());
        }
        Ok(())
    }
}

const PATH: &str = "/everstate/v1/recipient";

/// The server's own.
pub(super) async fn of(client: &crate::client::Client) -> Result<String, Fault> {
    Ok(client.get(PATH).await?["recipient"].as_str().unwrap_or_default().to_owned())
}
