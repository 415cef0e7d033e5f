//! The log over any shelf: seals what comes in, opens what goes out, and keeps the chain.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::event::VERSION;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{
    AppendError, Down, Head, Landed, ListKey, Listed, Log, NewRow, PostOutcome, Posted, Projection,
    Redact, Row, RowKind, Verdict,
};
use futures_util::future::try_join_all;
use tokio::sync::Notify;

use crate::archive::Pending;
use crate::blobs::{Blobs, still_fresh};
use crate::keys::Keys;
use crate::names::{self, is_name};
use crate::row::{Header, SealedRow};
use crate::seal::{Content, DataKey, FAST, compress, decompress, mac, random};
use crate::segment::{self, Packed};
use crate::shelf::{
    Append, BlobName, Change, Hold, KeyId, SealedPost, SealedSegment, SealedSnapshot, Shelf, Wrote,
};
use crate::stripes::Stripes;

/// Longer bodies become blobs.
const BLOB_MIN: usize = 64 * 1024;
/// So many blobs are fetched at once for one reader.
const FETCHED_AT_ONCE: usize = 8;
/// Of how many sessions the data key is kept at hand.
const AT_HAND_MAX: usize = 8_192;

/// How often a write is sealed anew because another node gave its session another key.
const REKEYED_MAX: usize = 20;

pub(crate) struct SealedLog {
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) blobs: Blobs,
    pub(crate) stripes: Stripes,
    pub(crate) pending: Pending,
    /// Rings when there are keys to destroy.
    pub(crate) doomed: Arc<Notify>,
    at_hand: Mutex<HashMap<SessionId, Arc<DataKey>>>,
}

/// A row's header and what was sealed in it.
pub(crate) struct Opened {
    pub(crate) header: Header,
    pub(crate) content: Content,
    /// What it was sealed under; of a packed row, its segment's.
    pub(crate) data_key: KeyId,
}

impl SealedLog {
    pub(crate) fn new(shelf: Arc<dyn Shelf>, keys: Arc<Keys>, blobs: Blobs) -> SealedLog {
        SealedLog {
            shelf,
            keys,
            blobs,
            stripes: Stripes::new(),
            pending: Pending::default(),
            doomed: Arc::default(),
            at_hand: Mutex::default(),
        }
    }

    /// The session's data key; a fresh one (`true`) if it has none. Only for who holds the session: an erasure would
    /// change it. A fresh key is not yet put at hand, as nobody holds the session when it has turned out to be used.
    async fn key_of(&self, session: SessionId) -> Result<(Arc<DataKey>, bool), Down> {
        if let Some(key) = self.at_hand().get(&session) {
            return Ok((Arc::clone(key), false));
        }
        match self.shelf.data_key(session).await? {
            Some(id) => {
                let key = self.find_key(session, id).await?;
                self.put_at_hand(session, &key);
                Ok((key, false))
            }
            None => {
                // What is kept with its first append is sealed already.
                if let Some(key) = self.pending.key(session) {
                    return Ok((key, false));
                }
                let key = self.keys.take().await?;
                self.keys.remember(&key);
                Ok((key, true))
            }
        }
    }

    async fn find_key(&self, session: SessionId, id: KeyId) -> Result<Arc<DataKey>, Down> {
        let gone =
            || Down(format!("data key {id} of {session} is gone: what it sealed cannot be read"));
        self.keys.find(id).await?.ok_or_else(gone)
    }

    fn put_at_hand(&self, session: SessionId, key: &Arc<DataKey>) {
        let mut at_hand = self.at_hand();
        if at_hand.len() >= AT_HAND_MAX {
            let some: Vec<SessionId> = at_hand.keys().take(AT_HAND_MAX / 8).copied().collect();
            some.iter().for_each(|it| drop(at_hand.remove(it)));
        }
        at_hand.insert(session, Arc::clone(key));
    }

    pub(crate) fn forget(&self, session: SessionId) {
        self.at_hand().remove(&session);
    }

    /// Opened keys are looked up anew after this: what was destroyed meanwhile stays so.
    pub(crate) fn forget_keys(&self) {
        self.at_hand().clear();
        self.keys.forget();
    }

    fn at_hand(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<DataKey>>> {
        self.at_hand.lock().expect("no one panics while holding it")
    }

    pub(crate) async fn open_row(
        &self,
        session: SessionId,
        row: SealedRow,
    ) -> Result<Opened, Down> {
        let key = self.find_key(session, row.data_key).await?;
        let opened = key.open(&row.header.hash(session), &row.body);
        let content = opened.and_then(|it| Content::decode(&it));
        let content = content.ok_or_else(|| {
            Down(format!("row {} of {session} is damaged: it cannot be opened", row.header.seq))
        })?;
        Ok(Opened { header: row.header, content, data_key: row.data_key })
    }

    pub(crate) async fn open_segment(
        &self,
        session: SessionId,
        sealed: &SealedSegment,
    ) -> Result<Vec<Opened>, Down> {
        let key = self.find_key(session, sealed.data_key).await?;
        let name = segment::name(session, sealed.from, sealed.to, &sealed.hash);
        let damaged = || {
            let (from, to) = (sealed.from, sealed.to);
            Down(format!("rows {from} to {to} of {session} are damaged: they cannot be opened"))
        };
        let mut text = key.open(&name, &sealed.body).ok_or_else(damaged)?;
        if let Some(blob) = segment::blob_name(&text) {
            text = self.blobs.get(session, blob, &self.keys).await?;
        }
        let packed = segment::unpack(session, &text).ok_or_else(damaged)?;
        let data_key = sealed.data_key;
        let opened = |Packed { header, content }| Opened { header, content, data_key };
        Ok(packed.into_iter().map(opened).collect())
    }

    /// A big one goes into a blob, which is added to `blobs`.
    pub(crate) async fn seal_segment(
        &self,
        session: SessionId,
        key: &DataKey,
        piece: segment::Piece,
        blobs: &mut Vec<BlobName>,
    ) -> Result<SealedSegment, Down> {
        let segment::Piece { from, to, hash, text } = piece;
        let blob = self.put_if_big(session, key, &text).await?;
        let text = blob.as_ref().map_or(text, segment::in_blob);
        blobs.extend(blob);
        let name = segment::name(session, from, to, &hash);
        Ok(SealedSegment { from, to, hash, data_key: key.id, body: key.seal(&name, &text) })
    }

    /// The body itself, from its blob if it is in one.
    pub(crate) async fn body_of(
        &self,
        session: SessionId,
        content: &Content,
    ) -> Result<Vec<u8>, Down> {
        match blob_name(content) {
            Some(name) => self.blobs.get(session, name, &self.keys).await,
            None => Ok(content.body.clone()),
        }
    }

    /// A big body goes into a blob of its own, durable before anything names it.
    pub(crate) async fn put_if_big(
        &self,
        session: SessionId,
        key: &DataKey,
        body: &[u8],
    ) -> Result<Option<BlobName>, Down> {
        if body.len() <= BLOB_MIN {
            return Ok(None);
        }
        let name = key.name(body);
        self.blobs.put(session, name, key, body).await?;
        Ok(Some(name))
    }

    pub(crate) async fn done(&self, change: Change, hold: Hold) -> Result<(), Down> {
        self.shelf.write(change, hold).await.map(drop)
    }
}

pub(crate) fn blob_name(content: &Content) -> Option<BlobName> {
    content.in_blob.then(|| content.body.as_slice().try_into().unwrap_or_default())
}

pub(crate) fn inbox_place(session: SessionId, key: &str) -> Vec<u8> {
    [b"inbox", &session.0.to_be_bytes()[..], key.as_bytes()].concat()
}

fn rekeyed(session: SessionId) -> Down {
    Down(format!("the data key of {session} changed all the time; try again"))
}

fn snapshot_place(session: SessionId, at: Head) -> Vec<u8> {
    [b"snapshot", &session.0.to_be_bytes()[..], &at.seq.to_be_bytes(), &at.hash].concat()
}

#[async_trait]
impl Log for SealedLog {
    async fn append(&self, row: NewRow) -> Result<Landed, AppendError> {
        let NewRow { session, seq, kind, at, prev, body, key: input, consumed, projection } = row;
        let listing = projection.as_ref().and_then(|it| it.listing.as_ref());
        let project = listing.map(|it| &it.project);
        names::refuse(input.iter().chain(&consumed).chain(project).map(String::as_str))
            .map_err(AppendError::Down)?;
        for _ in 0..REKEYED_MAX {
            let (input, consumed) = (input.clone(), consumed.clone());
            let row = Unsealed { kind, at, prev, seq, body: &body };
            let projection = projection.clone();
            match self.try_append(session, row, input, consumed, projection).await? {
                Wrote::Landed(head) => {
                    if seq == 1 {
                        self.pending.landed(session);
                    }
                    return Ok(Landed { head });
                }
                Wrote::Seen(seq) => return Err(AppendError::Seen(seq)),
                Wrote::Fenced => return Err(AppendError::Fenced),
                Wrote::Rekeyed => self.forget(session),
                other => {
                    return Err(AppendError::Down(Down(format!("an append became {other:?}"))));
                }
            }
        }
        Err(AppendError::Down(rekeyed(session)))
    }

    async fn read(&self, session: SessionId, after: Seq, limit: usize) -> Result<Vec<Row>, Down> {
        let (mut rows, mut end): (Vec<Row>, Seq) = (Vec::new(), after);
        while rows.len() < limit {
            let kept = self.shelf.rows(session, end, limit - rows.len()).await?;
            let (more, kept_end) = (kept.more, kept.end());
            for sealed in &kept.segments {
                let opened = self.open_segment(session, sealed).await?;
                let open = opened.into_iter().filter(|it| it.header.seq > after);
                let open = open.take(limit - rows.len()).collect();
                rows.extend(self.with_bodies(session, open).await?);
            }
            let left = limit - rows.len();
            let mut open = Vec::new();
            for sealed in kept.rows.into_iter().take(left) {
                open.push(self.open_row(session, sealed).await?);
                if open.len() % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            rows.extend(self.with_bodies(session, open).await?);
            match kept_end {
                Some(seq) if more => end = seq,
                _ => break,
            }
        }
        Ok(rows)
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        self.shelf.head(session).await
    }

    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        if !is_name(key) {
            return Ok(None);
        }
        self.shelf.seen(session, key).await
    }

    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        self.shelf.due(buckets, now, limit).await
    }

    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        self.shelf.next_due(buckets).await
    }

    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        self.shelf.ready(buckets, after, limit).await
    }

    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        if !is_name(project) {
            return Ok(Vec::new());
        }
        self.shelf.list(project, before, limit).await
    }

    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.shelf.under_way(project, before, limit).await
    }

    async fn erase(&self, session: SessionId, redact: Redact) -> Result<(), Down> {
        crate::erase::erase(self, session, redact).await?;
        self.doomed.notify_one();
        Ok(())
    }

    async fn delete(&self, session: SessionId) -> Result<(), Down> {
        let hold = self.stripes.alone(session).await;
        self.forget(session);
        self.done(Change::Delete { session }, Some(Box::new(hold))).await?;
        self.doomed.notify_one();
        Ok(())
    }

    async fn put_snapshot(&self, session: SessionId, at: Head, body: Bytes) -> Result<(), Down> {
        let hold = self.stripes.shared(session).await;
        let Some(id) = self.shelf.data_key(session).await? else { return Ok(()) };
        let key = self.find_key(session, id).await?;
        let text = match compress(&body, FAST) {
            Some(packed) => [&[1][..], &packed].concat(),
            None => [&[0][..], &body].concat(),
        };
        let body = key.seal(&snapshot_place(session, at), &text);
        let snapshot = SealedSnapshot { at, data_key: key.id, body };
        self.done(Change::Snapshot { session, snapshot }, Some(Box::new(hold))).await
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<(Head, Bytes)>, Down> {
        let Some(sealed) = self.shelf.snapshot(session).await? else { return Ok(None) };
        // A cache that cannot be read is no cache; the log itself is asked then.
        let Some(key) = self.keys.find(sealed.data_key).await? else { return Ok(None) };
        let text = key.open(&snapshot_place(session, sealed.at), &sealed.body);
        let body = text.and_then(|it| match it.split_first()? {
            (0, body) => Some(Bytes::copy_from_slice(body)),
            (1, packed) => decompress(packed).map(Bytes::from),
            _ => None,
        });
        Ok(body.map(|it| (sealed.at, it)))
    }

    async fn roll_up(&self, session: SessionId, through: Seq) -> Result<(), Down> {
        crate::erase::roll_up(self, session, through).await
    }

    async fn post(&self, session: SessionId, key: &str, body: Bytes) -> Result<(), Down> {
        names::refuse([key])?;
        for _ in 0..REKEYED_MAX {
            let hold = self.stripes.shared(session).await;
            let (data_key, _) = self.key_of(session).await?;
            let body = data_key.seal(&inbox_place(session, key), &body);
            let (key, data_key) = (key.to_owned(), data_key.id);
            let change = Change::Post { session, key, data_key, body };
            if self.shelf.write(change, Some(Box::new(hold))).await? != Wrote::Rekeyed {
                return Ok(());
            }
            self.forget(session);
        }
        Err(rekeyed(session))
    }

    async fn inbox(&self, session: SessionId) -> Result<Vec<Posted>, Down> {
        let mut posted = Vec::new();
        for SealedPost { key, data_key, body } in self.shelf.inbox(session).await? {
            let data_key = self.find_key(session, data_key).await?;
            let body = data_key.open(&inbox_place(session, &key), &body);
            let damaged = || Down(format!("`{key}` in the inbox of {session} is damaged"));
            let body = body.ok_or_else(damaged)?.into();
            posted.push(Posted { key, body });
        }
        Ok(posted)
    }

    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        if !is_name(key) {
            return Ok(None);
        }
        self.shelf.outcome(session, key).await
    }

    async fn settle(
        &self,
        session: SessionId,
        key: &str,
        outcome: PostOutcome,
    ) -> Result<(), Down> {
        names::refuse([key])?;
        self.done(Change::Settle { session, key: key.to_owned(), outcome }, None).await
    }

    async fn verify(&self, session: SessionId) -> Result<Verdict, Down> {
        crate::verify::verify(self, session).await
    }
}

/// A row before it is sealed.
struct Unsealed<'a> {
    seq: Seq,
    kind: RowKind,
    at: Millis,
    prev: everstate_runtime::ports::Hash,
    body: &'a [u8],
}

impl SealedLog {
    async fn try_append(
        &self,
        session: SessionId,
        Unsealed { seq, kind, at, prev, body }: Unsealed<'_>,
        input: Option<String>,
        consumed: Vec<String>,
        projection: Option<Projection>,
    ) -> Result<Wrote, AppendError> {
        let hold = self.stripes.shared(session).await;
        let (key, fresh) = self.key_of(session).await.map_err(AppendError::Down)?;
        let salt: [u8; 32] = random();
        let header = Header { seq, kind, version: VERSION, at, prev, mac: mac(&salt, body) };
        let began = self.pending.since(session).unwrap_or_else(Instant::now);
        let blob = self.put_if_big(session, &key, body).await.map_err(AppendError::Down)?;
        let kept = if seq == 1 { self.pending.pieces(session) } else { Vec::new() };
        let sealed_blob = blob.is_some();
        let text = match &blob {
            Some(name) => Content::encode(Some(&salt), name, true, &kept),
            None => Content::encode(Some(&salt), body, false, &kept),
        };
        let body = key.seal(&header.hash(session), &text);
        let row = SealedRow { header, data_key: key.id, body };
        let blobs: Vec<BlobName> = blob.into_iter().chain(kept).collect();
        if !blobs.is_empty() {
            still_fresh(began).map_err(AppendError::Down)?;
        }
        let append = Append { session, row, key: input, consumed, projection, blobs };
        let wrote = self.shelf.write(Change::Append(Box::new(append)), Some(Box::new(hold))).await;
        let wrote = wrote.map_err(AppendError::Down)?;
        if fresh && matches!(wrote, Wrote::Fenced | Wrote::Seen(_)) {
            match sealed_blob {
                // Whoever got it next would keep readable what never came to be.
                true => self.keys.destroy(vec![key.id]).await.map_err(AppendError::Down)?,
                false => self.keys.give_back(key),
            }
        }
        Ok(wrote)
    }

    /// What lies in blobs is fetched several at a time: each may be a way over a network.
    async fn with_bodies(&self, session: SessionId, opened: Vec<Opened>) -> Result<Vec<Row>, Down> {
        let names: Vec<BlobName> = opened.iter().filter_map(|it| blob_name(&it.content)).collect();
        let mut fetched = Vec::with_capacity(names.len());
        for some in names.chunks(FETCHED_AT_ONCE) {
            let some = some.iter().map(|name| self.blobs.get(session, *name, &self.keys));
            fetched.extend(try_join_all(some).await?);
        }
        let mut fetched = fetched.into_iter();
        let row = |Opened { header, content, .. }: Opened| {
            let Header { seq, kind, version, at, .. } = header;
            let (hash, erased) = (header.head(session).hash, content.erased());
            let body = match blob_name(&content) {
                Some(_) => fetched.next().expect("one was fetched for each"),
                None => content.body,
            };
            Row { seq, kind, version, at, hash, body: body.into(), erased }
        };
        Ok(opened.into_iter().map(row).collect())
    }
}

impl fmt::Debug for SealedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedLog({:?})", self.shelf)
    }
}
