//! Which release this is.

use clap::Args;
use serde_json::json;

use crate::desk::Desk;
use crate::fault::Done;

/// The version of this binary
#[derive(Debug, Args)]
pub(crate) struct Version {}

impl Version {
    #[expect(clippy::unused_async, reason = "every command has the same shape")]
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let version = env!("CARGO_PKG_VERSION");
        if desk.out.is_json {
            desk.out.json(&json!({
                "version": version,
                "log_version": everstate_kernel::event::VERSION,
            }));
        } else {
            desk.out.line(&format!("everstate {version}"));
        }
        Ok(())
    }
}
