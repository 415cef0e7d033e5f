//! A row's header, and its hash: what the chain is made of.

use aws_lc_rs::digest;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::ports::{Hash, Head, RowKind};

use crate::shelf::KeyId;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header {
    pub(crate) seq: Seq,
    pub(crate) kind: RowKind,
    pub(crate) version: u16,
    pub(crate) at: Millis,
    /// Hash of the newest `Events` header before it.
    pub(crate) prev: Hash,
    /// HMAC of the body as it was written, under a salt that only the sealed body holds.
    pub(crate) mac: Hash,
}

#[derive(Clone, Debug)]
pub(crate) struct SealedRow {
    pub(crate) header: Header,
    pub(crate) data_key: KeyId,
    pub(crate) body: Vec<u8>,
}

impl Header {
    /// Everything the header says, and whose it is.
    pub(crate) fn hash(&self, session: SessionId) -> Hash {
        let mut hasher = digest::Context::new(&digest::SHA256);
        hasher.update(b"everstate row 1\0");
        hasher.update(&session.0.to_be_bytes());
        hasher.update(&self.seq.to_be_bytes());
        hasher.update(&[kind_code(self.kind)]);
        hasher.update(&self.version.to_be_bytes());
        hasher.update(&self.at.to_be_bytes());
        hasher.update(&self.prev);
        hasher.update(&self.mac);
        let mut hash = Hash::default();
        hash.copy_from_slice(hasher.finish().as_ref());
        hash
    }

    /// The end of a log whose last row this is.
    pub(crate) fn head(&self, session: SessionId) -> Head {
        let hash = match self.kind {
            RowKind::Events => self.hash(session),
            RowKind::Frame => self.prev,
        };
        Head { seq: self.seq, hash }
    }
}

/// As it stands on disk.
pub(crate) fn kind_code(kind: RowKind) -> u8 {
    match kind {
        RowKind::Events => 0,
        RowKind::Frame => 1,
    }
}

pub(crate) fn kind_of(code: i64) -> Option<RowKind> {
    match code {
        0 => Some(RowKind::Events),
        1 => Some(RowKind::Frame),
        _ => None,
    }
}
