//! What is in a bundle: records, each a kind, a length and a text. A manifest comes first, then each chain with its
//! rows, the oldest log first, then names, then the end.

use everstate_kernel::ids::{Millis, SessionId, TurnNo};
use everstate_kernel::import::Chain;
use everstate_store::chain::ChainRow;
use serde::{Deserialize, Serialize};

use super::Bad;

/// Bytes of one record, at most.
pub const RECORD_MAX: usize = 128 * 1024 * 1024;

const MANIFEST: u8 = 1;
const CHAIN: u8 = 2;
const ROW: u8 = 3;
const NAMES: u8 = 4;
const END: u8 = 5;
/// Kinds from here on may be left out by who does not know them.
const OPTIONAL: u8 = 128;

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Manifest(Manifest),
    /// The rows that follow were in this session's log.
    Chain(SessionId),
    Row(ChainRow),
    Names(Vec<Name>),
    End(End),
}

/// What the bundle is, before the rest of it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub session: SessionId,
    pub project: String,
    /// The release that wrote it.
    pub release: String,
    pub exported_at: Millis,
    /// The logs it holds and where they end. The last is the session's own.
    pub chains: Vec<Chain>,
}

/// A name that clients of the other installation may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    pub was: String,
    pub turn: TurnNo,
    /// The call's number; none: it is the turn's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Of all chains.
    pub rows: u64,
}

impl Record {
    pub fn encode(&self) -> Vec<u8> {
        let (kind, text) = match self {
            Record::Manifest(it) => (MANIFEST, json(it)),
            Record::Chain(session) => (CHAIN, session.to_string().into_bytes()),
            Record::Row(row) => (ROW, row.encode()),
            Record::Names(it) => (NAMES, json(it)),
            Record::End(it) => (END, json(it)),
        };
        let mut out = Vec::with_capacity(5 + text.len());
        out.push(kind);
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(&text);
        out
    }

    /// `None`: a kind that may be left out.
    fn decode(kind: u8, text: &[u8]) -> Result<Option<Record>, Bad> {
        let bad = |what: &str| Bad::Damaged(format!("its {what} cannot be read"));
        Ok(Some(match kind {
            MANIFEST => Record::Manifest(read(text, "manifest")?),
            CHAIN => {
                let text = std::str::from_utf8(text).ok();
                let session = text.and_then(|it| it.parse().ok());
                Record::Chain(session.ok_or_else(|| bad("list of logs"))?)
            }
            ROW => Record::Row(ChainRow::decode(text).ok_or_else(|| bad("row"))?),
            NAMES => Record::Names(read(text, "names")?),
            END => Record::End(read(text, "end")?),
            OPTIONAL.. => return Ok(None),
            other => return Err(Bad::Newer(format!("it holds records of kind {other}"))),
        }))
    }
}

fn read<T: serde::de::DeserializeOwned>(text: &[u8], what: &str) -> Result<T, Bad> {
    serde_json::from_slice(text)
        .map_err(|err| Bad::Damaged(format!("its {what} cannot be read: {err}")))
}

fn json(it: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(it).expect("plain values have a JSON form")
}

/// Finds records in bytes as they come.
#[derive(Debug, Default)]
pub struct Records {
    held: Vec<u8>,
    /// How much of it was read.
    at: usize,
}

impl Records {
    pub fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.at);
        self.at = 0;
        self.held.extend_from_slice(bytes);
    }

    /// `None`: more bytes are needed.
    pub fn step(&mut self) -> Result<Option<Record>, Bad> {
        loop {
            let rest = &self.held[self.at..];
            let Some((head, rest)) = rest.split_first_chunk::<5>() else { return Ok(None) };
            let [kind, len @ ..] = *head;
            let len = u32::from_be_bytes(len) as usize;
            if len > RECORD_MAX {
                return Err(Bad::TooLarge(format!("a record of more than {RECORD_MAX} bytes")));
            }
            let Some(text) = rest.get(..len) else { return Ok(None) };
            let record = Record::decode(kind, text)?;
            self.at += 5 + len;
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Is nothing left over?
    pub fn is_empty(&self) -> bool {
        self.at == self.held.len()
    }
}
