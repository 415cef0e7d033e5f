//! What a store looks like to who carries it away: every table as it stands, sealed as it is. Rows, segments and blobs
//! are never opened on the way; data keys are, because each store wraps them by a key of its own.

use std::any::Any;
use std::fmt;

use async_trait::async_trait;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::ports::{Document, Down, Hash, Head};

use crate::row::SealedRow;
use crate::shelf::{BlobName, KeyId, SealedSegment};

/// Names a document: project, kind, id.
pub(crate) type DocKey = (String, String, String);

/// All of a session but the bodies of its rows and segments. Two sides that say the same of a session hold the same:
/// a body changes only together with the data key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Beside {
    pub(crate) data_key: KeyId,
    pub(crate) wake: Option<Millis>,
    pub(crate) ready: bool,
    pub(crate) project: Option<String>,
    pub(crate) created_at: Option<Millis>,
    pub(crate) summary: Option<String>,
    /// Of the rows that are not packed: the end, and how many.
    pub(crate) rows: (Option<Head>, u64),
    pub(crate) segments: Vec<Packed>,
    pub(crate) dedupe: Vec<(String, Seq)>,
    /// In the order of posting.
    pub(crate) inbox: Vec<Posted>,
    pub(crate) blobs: Vec<BlobName>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Packed {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    pub(crate) hash: Hash,
    pub(crate) data_key: KeyId,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Posted {
    pub(crate) key: String,
    pub(crate) data_key: KeyId,
    /// `None`: settled.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) landed: Option<Seq>,
    pub(crate) refused: Option<String>,
}

/// Is anybody at work there?
pub(crate) enum Quiet {
    /// Nobody, and while this is held nobody can be, as far as the store can see to that.
    Yes(Box<dyn Any + Send>),
    /// Who, in words.
    No(String),
}

/// The side that is read. It is never written.
#[async_trait]
pub(crate) trait ReadRoom: Send + Sync + fmt::Debug {
    async fn quiet(&self) -> Result<Quiet, Down>;
    /// A bucket's sessions, in the order of their ids.
    async fn sessions(&self, bucket: u16) -> Result<Vec<SessionId>, Down>;
    async fn beside(&self, session: SessionId) -> Result<Option<Beside>, Down>;
    /// Rows that are not packed, after `after`.
    async fn rows(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedRow>, Down>;
    async fn segments(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedSegment>, Down>;
    /// All documents, expired or not, in the order of their names.
    async fn documents(
        &self,
        after: Option<&DocKey>,
        limit: usize,
    ) -> Result<Vec<(DocKey, Document)>, Down>;
    async fn doomed(&self) -> Result<Vec<KeyId>, Down>;
}

/// The side that is written. Nobody else has it.
#[async_trait]
pub(crate) trait WriteRoom: ReadRoom {
    /// Each lands whole or not at all, is flushed, and may be done again.
    async fn write(&self, write: Write) -> Result<(), Down>;
}

#[derive(Debug)]
pub(crate) enum Write {
    /// All of a session. Its data key is not doomed: the other side's session may be sealed under it.
    Forget(SessionId),
    Rows(SessionId, Vec<SealedRow>),
    Segments(SessionId, Vec<SealedSegment>),
    /// In the place of what was there.
    Beside(SessionId, Box<Beside>),
    Document(DocKey, Document),
    DropDocument(DocKey),
    /// These, and no others.
    Doomed(Vec<KeyId>),
}
