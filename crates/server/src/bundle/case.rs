//! A bundle's outer form: a line, a head, then chunks, of which the last says that it is the last.
//!
//! Sealed, each chunk is authenticated with its number and with whether it is the last. Plain, the file ends with
//! a SHA-256 of everything before it: that finds accidents, not intent.

use aws_lc_rs::digest;
use everstate_kernel::ids::{base32, from_base32};
use serde::{Deserialize, Serialize};

use super::seal::{Identity, Opener, Recipient, Sealer};
use super::{BYTES_MAX, Bad, MAGIC, VERSION};

/// Plain bytes in one chunk, at most.
const CHUNK: usize = 1024 * 1024;
const TAG: usize = 16;
const HEAD_MAX: usize = 64 * 1024;
const LINE_MAX: usize = 64;
const SUM: usize = 32;
/// In a chunk's length: it is the last one.
const LAST: u32 = 1 << 31;

const NONE: &str = "none";
const HPKE: &str = "hpke-x25519-hkdf-sha256-aes-256-gcm";

/// What stands before the chunks, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// `none`, or the HPKE suite.
    pub seal: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The encapsulated key, in base 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enc: Option<String>,
}

impl Head {
    pub fn is_plain(&self) -> bool {
        self.seal == NONE
    }
}

// ---- writing -----------------------------------------------------------------------------

/// Puts bytes into a case. What it returns is the file, piece by piece.
pub struct Writer {
    sealer: Option<Sealer>,
    sum: digest::Context,
    held: Vec<u8>,
}

impl Writer {
    /// Plain without a recipient. The bytes are the file's beginning. `None`: nothing can be sealed to this recipient.
    pub fn new(to: Option<&Recipient>) -> Option<(Writer, Vec<u8>)> {
        let line = line();
        let (sealer, head) = match to {
            None => (None, Head { seal: NONE.to_owned(), recipient: None, enc: None }),
            Some(to) => {
                let (sealer, enc) = Sealer::new(to, line.as_bytes())?;
                let (recipient, enc) = (Some(to.to_string()), Some(base32(&enc)));
                (Some(sealer), Head { seal: HPKE.to_owned(), recipient, enc })
            }
        };
        let head = serde_json::to_vec(&head).expect("a head has a JSON form");
        let mut out = line.into_bytes();
        out.extend_from_slice(&(head.len() as u32).to_be_bytes());
        out.extend_from_slice(&head);
        let mut sum = digest::Context::new(&digest::SHA256);
        sum.update(&out);
        Some((Writer { sealer, sum, held: Vec::new() }, out))
    }

    /// Nothing comes out until a chunk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let mut out = Vec::new();
        while self.held.len() > CHUNK {
            let rest = self.held.split_off(CHUNK);
            let chunk = std::mem::replace(&mut self.held, rest);
            self.chunk(&chunk, false, &mut out);
        }
        out
    }

    pub fn end(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        let chunk = std::mem::take(&mut self.held);
        self.chunk(&chunk, true, &mut out);
        if self.sealer.is_none() {
            out.extend_from_slice(self.sum.finish().as_ref());
        }
        out
    }

    fn chunk(&mut self, plain: &[u8], last: bool, out: &mut Vec<u8>) {
        let start = out.len();
        let sealed = self.sealer.as_mut().map(|it| it.seal(&[u8::from(last)], plain));
        let chunk = sealed.as_deref().unwrap_or(plain);
        let len = chunk.len() as u32 | if last { LAST } else { 0 };
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(chunk);
        self.sum.update(&out[start..]);
    }
}

fn line() -> String {
    format!("{MAGIC}{VERSION}\n")
}

// ---- reading -----------------------------------------------------------------------------

/// Takes a case apart as its bytes arrive.
pub struct Reader<'a> {
    identity: Option<&'a Identity>,
    held: Vec<u8>,
    n_bytes: u64,
    sum: digest::Context,
    state: State,
}

enum State {
    Line,
    Head,
    /// `None`: plain.
    Chunks(Option<Opener>),
    /// The sum of a plain one.
    Sum,
    Over,
}

/// What a reader found.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    Head(Head),
    /// The next bytes of what is in the case.
    Bytes(Vec<u8>),
    End,
}

impl<'a> Reader<'a> {
    pub fn new(identity: Option<&'a Identity>) -> Reader<'a> {
        Reader {
            identity,
            held: Vec::new(),
            n_bytes: 0,
            sum: digest::Context::new(&digest::SHA256),
            state: State::Line,
        }
    }

    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Bad> {
        self.n_bytes = self.n_bytes.saturating_add(bytes.len() as u64);
        if self.n_bytes > BYTES_MAX {
            return Err(Bad::TooLarge(format!("more than {BYTES_MAX} bytes")));
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    /// What can be made of the bytes so far; `None`: more are needed.
    pub fn step(&mut self) -> Result<Option<Found>, Bad> {
        match &mut self.state {
            State::Line => {
                let Some(len) = self.held.iter().position(|&it| it == b'\n') else {
                    return match self.held.len() > LINE_MAX || !could_be_line(&self.held) {
                        true => Err(no_bundle()),
                        false => Ok(None),
                    };
                };
                let line = self.take(len + 1);
                let text = std::str::from_utf8(&line).ok().and_then(|it| it.strip_prefix(MAGIC));
                let version = text.and_then(|it| it.trim_end().parse::<u32>().ok());
                match version.ok_or_else(no_bundle)? {
                    VERSION => {}
                    0 => return Err(no_bundle()),
                    newer => return Err(Bad::Newer(format!("its version is {newer}"))),
                }
                self.state = State::Head;
                self.step()
            }
            State::Head => {
                let Some(len) = self.length() else { return Ok(None) };
                let len = len as usize;
                if len > HEAD_MAX {
                    return Err(Bad::Damaged("its head has no end".to_owned()));
                }
                if self.held.len() < 4 + len {
                    return Ok(None);
                }
                let head = self.take(4 + len);
                let head: Head = serde_json::from_slice(&head[4..])
                    .map_err(|err| Bad::Damaged(format!("its head cannot be read: {err}")))?;
                self.state = State::Chunks(self.opener(&head)?);
                Ok(Some(Found::Head(head)))
            }
            State::Chunks(opener) => {
                let Some((text, _)) = self.held.split_first_chunk::<4>() else { return Ok(None) };
                let len = u32::from_be_bytes(*text);
                let (last, len) = (len & LAST != 0, (len & !LAST) as usize);
                let max = if opener.is_some() { CHUNK + TAG } else { CHUNK };
                if len > max {
                    return Err(Bad::Damaged("a chunk is larger than chunks are".to_owned()));
                }
                let Some(chunk) = self.held.get(4..4 + len) else { return Ok(None) };
                let plain = match opener {
                    None => chunk.to_vec(),
                    Some(opener) => {
                        let plain = opener.open(&[u8::from(last)], chunk);
                        let why =
                            "a chunk cannot be opened: it was changed, or is not where it was";
                        plain.ok_or_else(|| Bad::Damaged(why.to_owned()))?
                    }
                };
                let is_plain = opener.is_none();
                self.take(4 + len);
                self.state = match (last, is_plain) {
                    (false, _) => return Ok(Some(Found::Bytes(plain))),
                    (true, true) => State::Sum,
                    (true, false) => State::Over,
                };
                Ok(Some(Found::Bytes(plain)))
            }
            State::Sum => {
                let Some((sum, _)) = self.held.split_first_chunk::<SUM>() else { return Ok(None) };
                if self.sum.clone().finish().as_ref() != sum {
                    return Err(Bad::Damaged(
                        "its sum is another than that of its bytes".to_owned(),
                    ));
                }
                self.held.drain(..SUM);
                self.state = State::Over;
                self.step()
            }
            State::Over if self.held.is_empty() => Ok(Some(Found::End)),
            State::Over => Err(Bad::Damaged("something follows after its end".to_owned())),
        }
    }

    fn opener(&self, head: &Head) -> Result<Option<Opener>, Bad> {
        let Head { seal, recipient, enc } = head;
        match seal.as_str() {
            NONE => Ok(None),
            HPKE => {
                let to = recipient.clone().unwrap_or_else(|| "somebody".to_owned());
                let ours = |it: &&Identity| it.recipient().to_string() == to;
                let Some(identity) = self.identity.filter(ours) else {
                    return Err(Bad::SealedTo(to));
                };
                let enc = enc.as_deref().and_then(from_base32).unwrap_or_default();
                let opener = Opener::new(identity, enc, line().as_bytes());
                let bad = || Bad::Damaged("its encapsulated key is none".to_owned());
                opener.map(Some).ok_or_else(bad)
            }
            other => Err(Bad::Newer(format!("it is sealed by `{}`", crate::error::shown(other)))),
        }
    }

    fn length(&self) -> Option<u32> {
        self.held.split_first_chunk::<4>().map(|(it, _)| u32::from_be_bytes(*it))
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let taken: Vec<u8> = self.held.drain(..len).collect();
        self.sum.update(&taken);
        taken
    }
}

fn could_be_line(held: &[u8]) -> bool {
    let n = held.len().min(MAGIC.len());
    held[..n] == MAGIC.as_bytes()[..n]
}

fn no_bundle() -> Bad {
    Bad::Damaged("it does not begin like one".to_owned())
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}
