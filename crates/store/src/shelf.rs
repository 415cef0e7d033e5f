//! What a store has to be able to do: keep sealed rows and a few plain tables, and have them on disk before it
//! answers. Sealing, chaining and packing happen above, in `log`.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{
    Document, Down, Hash, Head, ListKey, Listed, Order, Page, PageKey, PostOutcome, Projection, Put,
};

use crate::row::SealedRow;

/// Names a data key. No two keys have the same.
pub(crate) type KeyId = i64;

/// Keyed hash of a blob's content: its address within its session.
pub(crate) type BlobName = [u8; 32];

/// One write. It lands whole or not at all, and is flushed when `write` returns.
pub(crate) enum Change {
    Append(Box<Append>),
    Rewrite(Box<Rewrite>),
    RollUp {
        session: SessionId,
        segments: Vec<SealedSegment>,
        /// The ones that hold the segments that are big.
        blobs: Vec<BlobName>,
        gone_blobs: Vec<BlobName>,
    },
    Delete {
        session: SessionId,
    },
    Snapshot {
        session: SessionId,
        snapshot: SealedSnapshot,
    },
    Post {
        session: SessionId,
        key: String,
        data_key: KeyId,
        body: Vec<u8>,
    },
    Settle {
        session: SessionId,
        key: String,
        outcome: PostOutcome,
    },
    PutDocument(Put),
    RemoveDocument {
        project: String,
        kind: String,
        id: String,
    },
    RemoveExpired {
        now: Millis,
    },
    /// These keys are destroyed; nobody has to remember that they are to be.
    KeysGone(Vec<KeyId>),
}

#[derive(Debug)]
pub(crate) struct Append {
    pub(crate) session: SessionId,
    pub(crate) row: SealedRow,
    pub(crate) key: Option<String>,
    pub(crate) consumed: Vec<String>,
    pub(crate) projection: Option<Projection>,
    pub(crate) blobs: Vec<BlobName>,
}

/// A session's contents under a new data key. Everything that is not in here is dropped: snapshots, old blobs.
#[derive(Debug)]
pub(crate) struct Rewrite {
    pub(crate) session: SessionId,
    /// What it was sealed under when it was read, and where its segments ended. A shelf that others write to as well
    /// lands nothing if that has changed, or if there is a row or a post more.
    pub(crate) was: Option<KeyId>,
    pub(crate) packed: Vec<Seq>,
    pub(crate) data_key: KeyId,
    pub(crate) rows: Vec<(Seq, Vec<u8>)>,
    pub(crate) segments: Vec<SealedSegment>,
    pub(crate) inbox: Vec<(String, Vec<u8>)>,
    pub(crate) blobs: Vec<BlobName>,
}

#[derive(Clone, Debug)]
pub(crate) struct SealedSegment {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    /// Of the newest `Events` row up to its end.
    pub(crate) hash: Hash,
    pub(crate) data_key: KeyId,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct SealedSnapshot {
    pub(crate) at: Head,
    pub(crate) data_key: KeyId,
    pub(crate) body: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct SealedPost {
    pub(crate) key: String,
    pub(crate) data_key: KeyId,
    pub(crate) body: Vec<u8>,
}

/// What became of a [`Change`].
#[derive(Debug, PartialEq)]
pub(crate) enum Wrote {
    Done,
    Landed(Head),
    Fenced,
    Seen(Seq),
    Revision(u64),
    Conflict(Option<Document>),
    /// Nothing was written: the session is sealed under another key than this came with.
    Rekeyed,
    /// Nothing was written: the session is not any more as it was read.
    Stale,
}

/// Rows of a session in order: what is packed first, then what is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) segments: Vec<SealedSegment>,
    pub(crate) rows: Vec<SealedRow>,
    /// There may be more after these.
    pub(crate) more: bool,
}

impl Kept {
    /// The position of the last of them.
    pub(crate) fn end(&self) -> Option<Seq> {
        let packed = self.segments.last().map(|it| it.to);
        self.rows.last().map(|it| it.header.seq).or(packed)
    }
}

/// Segments are big: so many are taken from the shelf at once.
pub(crate) const SEGMENTS_MAX: usize = 2;

/// Kept until the write it came with is decided, also when nobody waits for the answer any more.
pub(crate) type Hold = Option<Box<dyn Any + Send>>;

#[async_trait]
pub(crate) trait Shelf: Send + Sync + fmt::Debug {
    async fn write(&self, change: Change, hold: Hold) -> Result<Wrote, Down>;

    /// The data key of a session that exists, or that something was posted to.
    async fn data_key(&self, session: SessionId) -> Result<Option<KeyId>, Down>;
    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down>;
    /// What comes after `after`: the segments that reach beyond it, a few at a time; and if these are all, the rows
    /// that are not packed, at most `limit`.
    async fn rows(&self, session: SessionId, after: Seq, limit: usize) -> Result<Kept, Down>;
    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down>;
    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down>;
    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down>;
    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down>;
    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down>;
    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down>;
    async fn snapshot(&self, session: SessionId) -> Result<Option<SealedSnapshot>, Down>;
    async fn inbox(&self, session: SessionId) -> Result<Vec<SealedPost>, Down>;
    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down>;
    async fn has_blob(&self, session: SessionId, name: BlobName) -> Result<bool, Down>;
    /// What a session's contents are sealed under.
    async fn keys_in_use(&self, session: SessionId) -> Result<Vec<KeyId>, Down>;
    /// Data keys that nothing is sealed under any more, and that are still there.
    async fn doomed(&self) -> Result<Vec<KeyId>, Down>;

    /// A document, expired or not.
    async fn document(&self, project: &str, kind: &str, id: &str)
    -> Result<Option<Document>, Down>;
    /// Documents that have not expired at `now`.
    async fn documents(&self, page: DocumentPage) -> Result<Vec<Document>, Down>;

    /// Leaves no deleted byte behind in any file, and gives free space back.
    async fn scrub(&self) -> Result<(), Down>;
    async fn standing(&self) -> Result<Standing, Down>;
}

/// What can be said about a shelf.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) schema: u32,
    /// On disk.
    pub(crate) bytes: u64,
    /// Which server keeps it, if one does.
    pub(crate) server: Option<String>,
    /// What that server's settings mean for an acknowledged write, in sentences.
    pub(crate) promise: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct DocumentPage {
    pub(crate) project: String,
    pub(crate) kind: String,
    pub(crate) page: Page,
    pub(crate) now: Millis,
}

impl DocumentPage {
    /// The place it goes on from, as tables keep time: one that no document is at, if it is the first.
    pub(crate) fn start(&self) -> (i64, String) {
        let first = match self.page.order {
            Order::NewestFirst => i64::MAX,
            Order::OldestFirst => -1,
        };
        let of = |(at, id): &PageKey| (i64::try_from(*at).unwrap_or(i64::MAX), id.clone());
        self.page.after.as_ref().map_or((first, String::new()), of)
    }
}

/// Kinds that begin with this are of sealed documents: their bodies begin with the data key they are sealed under. The
/// change that replaces or removes one dooms that key. Such a document does not expire.
pub(crate) const SEALED: &str = "sealed/";

/// The data key that nothing is sealed under once this body is gone.
pub(crate) fn sealed_under(kind: &str, body: &[u8]) -> Option<KeyId> {
    let key = body.first_chunk().filter(|_| kind.starts_with(SEALED))?;
    Some(KeyId::from_be_bytes(*key))
}

/// Where the time comes from.
pub(crate) type Now = Arc<dyn Fn() -> Millis + Send + Sync>;

pub(crate) fn is_expired(expires_at: Option<Millis>, now: Millis) -> bool {
    expires_at.is_some_and(|at| at <= now)
}

/// What a document becomes by a put, or the conflict. The rule is the same on every shelf.
pub(crate) fn decide_put(old: Option<Document>, put: &Put) -> Result<Document, Option<Document>> {
    let living = old.as_ref().filter(|it| !is_expired(it.expires_at, put.now));
    if living.map(|it| it.revision) != put.expect {
        return Err(living.cloned());
    }
    Ok(Document {
        id: put.id.clone(),
        // A document that comes back after it expired goes on counting: a revision means one content.
        revision: old.as_ref().map_or(0, |it| it.revision) + 1,
        created_at: living.map_or(put.now, |it| it.created_at),
        updated_at: put.now,
        expires_at: put.expires_at,
        body: Bytes::clone(&put.body),
    })
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Change::Append(_) => "Append",
            Change::Rewrite(_) => "Rewrite",
            Change::RollUp { .. } => "RollUp",
            Change::Delete { .. } => "Delete",
            Change::Snapshot { .. } => "Snapshot",
            Change::Post { .. } => "Post",
            Change::Settle { .. } => "Settle",
            Change::PutDocument(_) => "PutDocument",
            Change::RemoveDocument { .. } => "RemoveDocument",
            Change::RemoveExpired { .. } => "RemoveExpired",
            Change::KeysGone(_) => "KeysGone",
        };
        f.write_str(name)
    }
}
