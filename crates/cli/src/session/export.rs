//! Takes a session out of an installation, in a bundle.

use std::fs::OpenOptions;
use std::io::{Write, stdout};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use everstate_server::bundle::seal::Recipient;
use serde_json::json;

use super::{SESSIONS, Which};
use crate::client::Download;
use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};

/// Write a session with its history to a bundle, for another installation
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    which: Which,
    /// Where it goes; `-` is the standard output. By default `SESSION.everstate`, here
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    seal: Seal,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Seal {
    /// Sealed: only this recipient can read it (`everstate session keygen` makes one)
    #[arg(long, value_name = "RECIPIENT")]
    to: Option<Recipient>,
    /// Not sealed: whoever gets the file can read it
    #[arg(long)]
    plain: bool,
}

impl Export {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let how = match &self.seal.to {
            Some(to) => format!("to={to}"),
            None => "plain=true".to_owned(),
        };
        let is_piped = self.output.as_ref().is_some_and(|it| it.as_os_str() == "-");
        if is_piped && desk.out.is_json {
            let text = "`-o -` and --json both want the standard output";
            return Err(
                Fault::new(&codes::USAGE, text).attempt("everstate --json session export -o FILE")
            );
        }
        let path = format!("{SESSIONS}/{}/export?{how}", self.which.session);
        let mut download = desk.client()?.download(&path).await?;
        let (session, head) =
            (download.header("x-everstate-session"), download.header("x-everstate-head"));
        let to = self.output.unwrap_or_else(|| PathBuf::from(format!("{session}.everstate")));
        let n_bytes = match to.as_os_str() == "-" {
            true => copy(&mut download, &mut stdout().lock(), "the standard output").await?,
            false => to_file(&mut download, &desk.here.join(&to)).await?,
        };
        let sealed_to = self.seal.to.as_ref().map(ToString::to_string);
        if sealed_to.is_none() {
            desk.out.note("PLAIN: the bundle is not sealed. Whoever gets it can read all of the session; give --to RECIPIENT to seal it");
        }
        if to.as_os_str() == "-" {
            return Ok(());
        }
        let (seq, hash) = head.split_once(':').unwrap_or_default();
        if desk.out.is_json {
            desk.out.json(&json!({
                "session": session,
                "file": to.display().to_string(),
                "bytes": n_bytes,
                "sealed_to": sealed_to,
                "head": { "seq": seq.parse::<u64>().unwrap_or_default(), "hash": hash },
            }));
            return Ok(());
        }
        let how = sealed_to.map_or_else(|| "PLAIN".to_owned(), |it| format!("sealed to {it}"));
        desk.out.line(&format!("{session}   exported to {}, {n_bytes} bytes, {how}", to.display()));
        desk.out.line(&format!("head {seq}: {hash}"));
        desk.out.line("the head stands for all of the log: carry it to the other side by another way than the file");
        desk.out.line(&format!("next: everstate session import {} --head {hash}", to.display()));
        Ok(())
    }
}

/// Whole under its name, or not there at all; readable by its owner only.
async fn to_file(download: &mut Download, path: &Path) -> Result<u64, Fault> {
    let shown = path.display().to_string();
    let half = PathBuf::from(format!("{shown}.half"));
    let cannot =
        |err: std::io::Error| Fault::new(&codes::FILE, format!("cannot write {shown}: {err}"));
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(&half).map_err(cannot)?;
    let copied = copy(download, &mut file, &shown).await;
    let done = copied.and_then(|n_bytes| {
        file.sync_all().and_then(|()| std::fs::rename(&half, path)).map_err(cannot)?;
        Ok(n_bytes)
    });
    if done.is_err() {
        // Half a bundle is of no use to anybody.
        std::fs::remove_file(&half).ok();
    }
    done
}

async fn copy(download: &mut Download, to: &mut dyn Write, name: &str) -> Result<u64, Fault> {
    let cannot =
        |err: std::io::Error| Fault::new(&codes::FILE, format!("cannot write {name}: {err}"));
    let mut n_bytes = 0;
    while let Some(bytes) = download.next().await? {
        to.write_all(&bytes).map_err(cannot)?;
        n_bytes += bytes.len() as u64;
    }
    to.flush().map_err(cannot)?;
    Ok(n_bytes)
}
