//! Makes a key pair that bundles can be sealed to.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::Args;
use everstate_server::bundle::seal::Identity;
use serde_json::json;

use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};

/// A new key pair for bundles: the identity goes to a file, the recipient is shown
#[derive(Debug, Args)]
pub(crate) struct Keygen {
    /// Where the identity goes; a file that is there is never written over
    #[arg(short, long, value_name = "FILE", default_value = "everstate.identity")]
    output: PathBuf,
}

impl Keygen {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let identity = Identity::draw();
        let recipient = identity.recipient().to_string();
        let path = desk.here.join(&self.output);
        let shown = path.display();
        let cannot = |err: std::io::Error| {
            let fault = Fault::new(&codes::FILE, format!("cannot write {shown}: {err}"));
            match err.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    fault.attempt("everstate session keygen -o ANOTHER_FILE")
                }
                _ => fault,
            }
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(cannot)?;
        let text = format!("# opens what is sealed to {recipient}\n{}\n", identity.reveal());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)?;
        if desk.out.is_json {
            desk.out.json(&json!({ "recipient": recipient, "identity": shown.to_string() }));
            return Ok(());
        }
        desk.out.line(&recipient);
        desk.out.line(&format!(
            "its identity is in {shown}: whoever has that file opens what is sealed to it"
        ));
        desk.out.line(&format!("next: everstate session export @ --to {recipient}"));
        Ok(())
    }
}
