//! What a session needs to travel: its own chain in the clear, and a place for the chains of the logs it was written
//! in before it came here.
//!
//! A kept chain belongs to the session's first append. Its pieces are sealed objects of the session, durable before
//! that append names them; erasing rewrites them like rows, deleting the session deletes them. Pieces that no append
//! ever named are collected like any blob.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{Seq, SessionId};
use everstate_kernel::import::Chain;
use everstate_runtime::ports::{Down, Redact, RowKind, Verdict};

use crate::chain::{ChainRow, Walk, take};
use crate::log::{Opened, SealedLog};
use crate::seal::DataKey;
use crate::shelf::{BlobName, Kept};

/// A row of a kept chain, and whose log it was in.
pub type KeptRow = (SessionId, ChainRow);

/// Reads and keeps what travels.
pub struct Archive {
    log: Arc<SealedLog>,
}

/// Names a piece of the kept chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece(BlobName);

/// A log that a session was written in before it came here, and what was found when it was followed.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptChain {
    pub session: SessionId,
    pub verdict: Verdict,
}

/// Pieces that wait for their session's first append.
#[derive(Default)]
pub(crate) struct Pending(Mutex<HashMap<SessionId, Waiting>>);

struct Waiting {
    /// Before the first of them was put.
    since: Instant,
    key: Arc<DataKey>,
    pieces: Vec<BlobName>,
}

impl Pending {
    pub(crate) fn key(&self, session: SessionId) -> Option<Arc<DataKey>> {
        self.map().get(&session).map(|it| Arc::clone(&it.key))
    }

    pub(crate) fn since(&self, session: SessionId) -> Option<Instant> {
        self.map().get(&session).map(|it| it.since)
    }

    pub(crate) fn pieces(&self, session: SessionId) -> Vec<BlobName> {
        self.map().get(&session).map_or_else(Vec::new, |it| it.pieces.clone())
    }

    pub(crate) fn landed(&self, session: SessionId) {
        self.map().remove(&session);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<SessionId, Waiting>> {
        self.0.lock().expect("no one panics while holding it")
    }
}

impl Archive {
    pub(crate) fn new(log: Arc<SealedLog>) -> Archive {
        Archive { log }
    }

    /// The `Events` rows of the session's own log after `after`, oldest first: at least one, unless there are no more.
    /// Not many more than `limit` rows are looked at for it.
    pub async fn rows(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<ChainRow>, Down> {
        let mut after = after;
        loop {
            let page = self.log.shelf.rows(session, after, limit).await?;
            let (more, end) = (page.more, page.end());
            let mut rows = Vec::new();
            for opened in self.open(session, page).await? {
                if opened.header.kind == RowKind::Events && opened.header.seq > after {
                    let body = self.log.body_of(session, &opened.content).await?;
                    rows.push(ChainRow::new(&opened.header, opened.content.salt, body));
                }
            }
            match end {
                Some(seq) if more && rows.is_empty() => after = seq,
                _ => return Ok(rows),
            }
        }
    }

    async fn open(&self, session: SessionId, page: Kept) -> Result<Vec<Opened>, Down> {
        let mut all = Vec::new();
        for sealed in &page.segments {
            all.extend(self.log.open_segment(session, sealed).await?);
        }
        for sealed in page.rows {
            all.push(self.log.open_row(session, sealed).await?);
        }
        Ok(all)
    }

    /// Keeps a piece of the logs that a session was written in, before its first append: pieces come in order, the
    /// oldest log first. At most some megabytes at a time. The session has to be new, and its first append has to come
    /// through this store within the hour.
    pub async fn keep(&self, session: SessionId, rows: &[KeptRow]) -> Result<(), Down> {
        let _hold = self.log.stripes.shared(session).await;
        let key = match self.log.pending.key(session) {
            Some(key) => key,
            None => {
                if self.log.shelf.data_key(session).await?.is_some() {
                    return Err(Down(format!(
                        "{session} is not new: it can keep no other's chain"
                    )));
                }
                let key = self.log.keys.take().await?;
                self.log.keys.remember(&key);
                let waiting =
                    Waiting { since: Instant::now(), key: Arc::clone(&key), pieces: Vec::new() };
                self.log.pending.map().insert(session, waiting);
                key
            }
        };
        let name = put(&self.log, session, &key, rows).await?;
        if let Some(it) = self.log.pending.map().get_mut(&session) {
            it.pieces.push(name);
        }
        Ok(())
    }

    /// The session will not come: nothing of it stays.
    pub async fn let_go(&self, session: SessionId) -> Result<(), Down> {
        let Some(Waiting { key, pieces, .. }) = self.log.pending.map().remove(&session) else {
            return Ok(());
        };
        // Without its key it cannot be read, whatever becomes of the rest.
        self.log.keys.destroy(vec![key.id]).await?;
        for name in pieces {
            self.log.blobs.delete(session, name).await?;
        }
        Ok(())
    }

    /// The pieces of the chains that are kept with a session, in order.
    pub async fn pieces(&self, session: SessionId) -> Result<Vec<Piece>, Down> {
        let first = self.first(session).await?;
        Ok(first.map_or_else(Vec::new, |it| it.content.kept.into_iter().map(Piece).collect()))
    }

    pub async fn piece(&self, session: SessionId, piece: Piece) -> Result<Vec<KeptRow>, Down> {
        get(&self.log, session, piece.0).await
    }

    /// Follows the kept chains, and compares their ends with what the session's first append says of them. Of a session
    /// that began here there are none.
    pub async fn verify(&self, session: SessionId) -> Result<Vec<KeptChain>, Down> {
        let Some(first) = self.first(session).await? else { return Ok(Vec::new()) };
        let body = self.log.body_of(session, &first.content).await?;
        let told = told(first.header.seq, &body);
        let mut walks: Vec<(Walk, Option<String>)> = Vec::new();
        for name in first.content.kept {
            let rows = match get(&self.log, session, name).await {
                Ok(rows) => rows,
                Err(down) => {
                    let lost = Verdict {
                        rows: 0,
                        erased: 0,
                        broken: Some(down.0),
                        head: Default::default(),
                    };
                    return Ok(vec![KeptChain { session, verdict: lost }]);
                }
            };
            for (of, row) in rows {
                if walks.last().is_none_or(|(it, _)| it.session != of) {
                    walks.push((Walk::new(of), None));
                }
                if let Some((walk, broken)) = walks.last_mut()
                    && broken.is_none()
                {
                    *broken = walk.step(&row).err();
                }
            }
        }
        Ok(judge(walks, &told))
    }

    /// The session's first row.
    async fn first(&self, session: SessionId) -> Result<Option<Opened>, Down> {
        let page = self.log.shelf.rows(session, 0, 1).await?;
        Ok(self.open(session, page).await?.into_iter().next())
    }
}

/// The chains that a first append says are kept with it.
fn told(seq: Seq, body: &[u8]) -> Vec<Chain> {
    let events = Append::decode(seq, body).map(|it| it.events).unwrap_or_default();
    let chains = events.into_iter().find_map(|it| match it {
        Event::Imported { origin } => Some(origin.chains),
        _ => None,
    });
    chains.unwrap_or_default()
}

fn judge(walks: Vec<(Walk, Option<String>)>, told: &[Chain]) -> Vec<KeptChain> {
    let mut walks = walks.into_iter();
    let mut judged = Vec::new();
    for chain in told {
        let Chain { session, seq, hash } = chain;
        let (walk, mut broken) =
            walks.next().unwrap_or_else(|| (Walk::new(*session), Some("it is missing".to_owned())));
        let is_end =
            walk.session == *session && walk.head.seq == *seq && hex(&walk.head.hash) == *hash;
        if broken.is_none() && !is_end {
            broken = Some(format!("it does not end at row {seq} as recorded"));
        }
        let Walk { head, rows, erased, .. } = walk;
        judged
            .push(KeptChain { session: *session, verdict: Verdict { rows, erased, broken, head } });
    }
    for (walk, _) in walks {
        let Walk { session, head, rows, erased } = walk;
        let broken = Some("nothing says that it belongs to this session".to_owned());
        judged.push(KeptChain { session, verdict: Verdict { rows, erased, broken, head } });
    }
    judged
}

/// As it stands in a [`Chain`].
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// ---- pieces ------------------------------------------------------------------------------

async fn put(
    log: &SealedLog,
    session: SessionId,
    key: &DataKey,
    rows: &[KeptRow],
) -> Result<BlobName, Down> {
    let mut text = Vec::new();
    for (of, row) in rows {
        let row = row.encode();
        text.extend_from_slice(&of.0.to_be_bytes());
        text.extend_from_slice(&(row.len() as u64).to_be_bytes());
        text.extend_from_slice(&row);
    }
    let name = key.name(&text);
    log.blobs.put(session, name, key, &text).await?;
    Ok(name)
}

async fn get(log: &SealedLog, session: SessionId, name: BlobName) -> Result<Vec<KeptRow>, Down> {
    let text = log.blobs.get(session, name, &log.keys).await?;
    let mut rest = text.as_slice();
    let mut rows = Vec::new();
    while !rest.is_empty() {
        let row = read(&mut rest);
        let damaged = || Down(format!("a kept piece of {session} is of an unknown form"));
        rows.push(row.ok_or_else(damaged)?);
    }
    Ok(rows)
}

fn read(rest: &mut &[u8]) -> Option<KeptRow> {
    let of = SessionId(u128::from_be_bytes(take(rest)?));
    let len = usize::try_from(u64::from_be_bytes(take(rest)?)).ok()?;
    let (row, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some((of, ChainRow::decode(row)?))
}

/// The kept pieces under a new key, with something taken out. Items keep their numbers when they travel, so what takes
/// them out of our rows takes them out of these.
pub(crate) async fn rewrite(
    log: &SealedLog,
    session: SessionId,
    key: &DataKey,
    pieces: &[BlobName],
    redact: &Redact,
) -> Result<Vec<BlobName>, Down> {
    let mut names = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let mut rows = get(log, session, *piece).await?;
        for (_, row) in &mut rows {
            if let Some(left) = redact(RowKind::Events, row.seq, &row.body) {
                (row.salt, row.body) = (None, left);
            }
        }
        names.push(put(log, session, key, &rows).await?);
    }
    Ok(names)
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Archive({:?})", self.log)
    }
}
