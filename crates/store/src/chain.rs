//! A log as it travels: rows with all that their chain is made of, outside of any shelf. Whoever has the rows can
//! check the chain; no key is needed.

use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::ports::{Hash, Head, RowKind};

use crate::row::Header;
use crate::seal::mac;

/// One `Events` row. Frames do not travel: the chain skips them.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainRow {
    pub seq: Seq,
    pub version: u16,
    pub at: Millis,
    /// Hash of the header before.
    pub prev: Hash,
    /// HMAC of the body as it was written, under the salt.
    pub mac: Hash,
    /// `None`: something of the body was erased, and what is left of it is held by nothing.
    pub salt: Option<[u8; 32]>,
    pub body: Vec<u8>,
}

const ERASED: u8 = 1;

impl ChainRow {
    pub(crate) fn new(header: &Header, salt: Option<[u8; 32]>, body: Vec<u8>) -> ChainRow {
        let &Header { seq, kind: _, version, at, prev, mac } = header;
        ChainRow { seq, version, at, prev, mac, salt, body }
    }

    /// Of its header: what the next row follows.
    pub fn hash(&self, session: SessionId) -> Hash {
        let &ChainRow { seq, version, at, prev, mac, .. } = self;
        Header { seq, kind: RowKind::Events, version, at, prev, mac }.hash(session)
    }

    /// Numbers are big-endian; the body goes to the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(115 + self.body.len());
        out.extend_from_slice(&self.seq.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.at.to_be_bytes());
        out.extend_from_slice(&self.prev);
        out.extend_from_slice(&self.mac);
        out.push(if self.salt.is_none() { ERASED } else { 0 });
        out.extend_from_slice(self.salt.as_ref().map_or(&[][..], |it| it));
        out.extend_from_slice(&self.body);
        out
    }

    /// `None`: cut, or of a form that this release does not know.
    pub fn decode(text: &[u8]) -> Option<ChainRow> {
        let mut rest = text;
        let seq = u64::from_be_bytes(take(&mut rest)?);
        let version = u16::from_be_bytes(take(&mut rest)?);
        let at = u64::from_be_bytes(take(&mut rest)?);
        let (prev, mac) = (take(&mut rest)?, take(&mut rest)?);
        let salt = match take(&mut rest)? {
            [0] => Some(take(&mut rest)?),
            [ERASED] => None,
            [_] => return None,
        };
        Some(ChainRow { seq, version, at, prev, mac, salt, body: rest.to_vec() })
    }
}

pub(crate) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*taken)
}

/// Follows a chain from its beginning, row by row.
#[derive(Clone, Debug)]
pub struct Walk {
    pub session: SessionId,
    /// Of the last row that followed.
    pub head: Head,
    pub rows: u64,
    pub erased: u64,
}

impl Walk {
    pub fn new(session: SessionId) -> Walk {
        Walk { session, head: Head::default(), rows: 0, erased: 0 }
    }

    /// The error is what is broken, in words.
    pub fn step(&mut self, row: &ChainRow) -> Result<(), String> {
        let seq = row.seq;
        // There are gaps where frames were.
        if seq <= self.head.seq || row.prev != self.head.hash {
            return Err(format!("row {seq} does not follow the row before it"));
        }
        match &row.salt {
            Some(salt) if mac(salt, &row.body) != row.mac => {
                return Err(format!("row {seq} says something else than was written"));
            }
            Some(_) => {}
            None => self.erased += 1,
        }
        self.rows += 1;
        self.head = Head { seq, hash: row.hash(self.session) };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
