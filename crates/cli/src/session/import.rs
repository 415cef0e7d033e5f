//! Brings a session into an installation, from a bundle.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use everstate_server::bundle::Bad;
use everstate_server::bundle::case::{Found, Reader, Writer};
use everstate_server::bundle::seal::Identity;
use everstate_server::error::ApiError;
use serde_json::Value;
use tokio::sync::mpsc;

use super::{SESSIONS, recipient, show};
use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};

/// Begin a new session with what a bundle holds; nothing of it starts by itself
#[derive(Debug, Args)]
pub(crate) struct Import {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The identity that a sealed bundle is opened with
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Only if the session's log ends in this hash, as the exporting side told it
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

const PIECE: usize = 256 * 1024;

impl Import {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let path = desk.here.join(&self.file);
        let identity = self.identity.as_ref().map(|it| read_identity(&desk.here.join(it)));
        let identity = identity.transpose()?;
        // Looked through before anything is sent: what is wrong with the file is said here, and better.
        let looked = read(&path, identity.as_ref(), &mut |_| true);
        let client = desk.client()?;
        let as_it_is = match looked {
            Ok(_) => false,
            // Sealed to the server itself, it is opened there.
            Err(Unread::Bad(Bad::SealedTo(to))) if recipient::of(&client).await? == to => true,
            Err(unread) => return Err(unread.into()),
        };
        let (pieces, sent) = mpsc::channel::<Bytes>(4);
        let reading = std::thread::spawn(move || match as_it_is {
            true => whole(&path, &pieces),
            false => plain(&path, identity.as_ref(), &pieces),
        });
        let head = self.head.map_or_else(String::new, |it| format!("?head={it}"));
        let told = client.upload(&format!("{SESSIONS}/import{head}"), sent).await;
        let read = reading.join().unwrap_or_else(|_| {
            Err(Fault::new(&codes::INTERNAL, "what read the bundle met a mistake of ours"))
        });
        // What the server says of it comes first: if it did not want more, reading did not come to its end either.
        let told = told?;
        read?;
        tell(desk, &told);
        Ok(())
    }
}

fn tell(desk: &Desk, told: &Value) {
    if !desk.out.is_json {
        let imported = &told["imported"];
        let from = imported["origin"]["session"].as_str().unwrap_or("?");
        for line in imported["origin"]["left_behind"].as_array().into_iter().flatten() {
            desk.out.line(&format!("left behind: {}", line.as_str().unwrap_or_default()));
        }
        if let Some(n) = imported["erased"].as_u64().filter(|it| *it > 0) {
            desk.out.line(&format!(
                "{n} rows of its log were erased before it came: their words are held by no chain"
            ));
        }
        for call in imported["open_calls"].as_array().into_iter().flatten() {
            desk.out
                .line(&format!("open: {} waits for its client", call.as_str().unwrap_or_default()));
        }
        desk.out.line(&format!("imported from {from}; its log verifies, and is kept"));
    }
    show::standing(&desk.out, told, "imported; nothing of it was started");
}

fn read_identity(path: &Path) -> Result<Identity, Fault> {
    let shown = path.display();
    let cannot =
        |err: std::io::Error| Fault::new(&codes::FILE, format!("cannot read {shown}: {err}"));
    let mode = std::fs::metadata(path).map_err(cannot)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let text = format!("the identity in {shown} can be read by others (mode {mode:04o})");
        return Err(Fault::new(&codes::FILE, text)
            .attempt(format!("chmod 600 {shown}     and think about who may have read it")));
    }
    let text = std::fs::read_to_string(path).map_err(cannot)?;
    let line = text.lines().map(str::trim).find(|it| !it.is_empty() && !it.starts_with('#'));
    let identity = line.unwrap_or_default().parse::<Identity>();
    identity.map_err(|err| Fault::new(&codes::FILE, format!("{shown} holds no identity: {err}")))
}

/// The file as it is.
fn whole(path: &Path, pieces: &mpsc::Sender<Bytes>) -> Result<(), Fault> {
    let shown = path.display();
    let cannot =
        |err: std::io::Error| Fault::new(&codes::FILE, format!("cannot read {shown}: {err}"));
    let mut file = File::open(path).map_err(cannot)?;
    let mut piece = vec![0; PIECE];
    loop {
        let n = file.read(&mut piece).map_err(cannot)?;
        if n == 0 || pieces.blocking_send(Bytes::copy_from_slice(&piece[..n])).is_err() {
            return Ok(());
        }
    }
}

/// Why a bundle could not be read to its end.
enum Unread {
    Bad(Bad),
    File(Fault),
}

impl From<Unread> for Fault {
    fn from(unread: Unread) -> Fault {
        match unread {
            Unread::Bad(bad) => Fault::from(ApiError::from(bad)),
            Unread::File(fault) => fault,
        }
    }
}

/// The bundle's insides in a plain case: the server has no use for our identity.
fn plain(
    path: &Path,
    identity: Option<&Identity>,
    pieces: &mpsc::Sender<Bytes>,
) -> Result<(), Fault> {
    let (mut case, head) = Writer::new(None).expect("a plain case can be made");
    let send = |bytes: Vec<u8>| bytes.is_empty() || pieces.blocking_send(bytes.into()).is_ok();
    if send(head) && read(path, identity, &mut |bytes| send(case.write(&bytes)))? {
        send(case.end());
    }
    Ok(())
}

/// Everything in the case, until the taker has enough: then `false`.
fn read(
    path: &Path,
    identity: Option<&Identity>,
    take: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<bool, Unread> {
    let shown = path.display();
    let cannot = |err: std::io::Error| {
        Unread::File(Fault::new(&codes::FILE, format!("cannot read {shown}: {err}")))
    };
    let mut file = File::open(path).map_err(cannot)?;
    let mut reader = Reader::new(identity);
    let mut piece = vec![0; PIECE];
    loop {
        let n = file.read(&mut piece).map_err(cannot)?;
        if n == 0 {
            break;
        }
        reader.push(&piece[..n]).map_err(Unread::Bad)?;
        while let Some(found) = reader.step().map_err(Unread::Bad)? {
            match found {
                Found::Head(_) => {}
                Found::Bytes(bytes) => {
                    if !take(bytes) {
                        return Ok(false);
                    }
                }
                Found::End => break,
            }
        }
    }
    match reader.step().map_err(Unread::Bad)? {
        Some(Found::End) => Ok(true),
        _ => Err(Unread::Bad(Bad::Cut)),
    }
}
