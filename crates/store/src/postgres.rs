//! The shelf on PostgreSQL, and what speaks its wire: many nodes, one state. A few lanes append in groups, a few
//! shared connections do everything else; between two statements nothing is kept on a connection, so that any of them
//! may be PgBouncer's.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{Document, Down, Head, ListKey, Listed, Order, PostOutcome, Put};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::postgres::connect::{Line, Live, Params, Target, Work};
use crate::postgres::statements as sql;
use crate::postgres::trouble::Trouble;
use crate::postgres::values::{
    Id, blob_text, document_at, get, hash_at, header_at, int, limit_of, number, place, session_at,
};
use crate::postgres::writer::Writer;
use crate::row::SealedRow;
use crate::seal::random;
use crate::shelf::{
    BlobName, Change, DocumentPage, Hold, Kept, KeyId, SEALED, SEGMENTS_MAX, SealedPost,
    SealedSegment, SealedSnapshot, Shelf, Standing, Wrote,
};

pub(crate) mod statements;
pub(crate) mod connect;
mod tls;
pub(crate) mod trouble;
mod values;
pub(crate) mod migrate;
pub(crate) mod start;
mod writer;
mod apply;
mod change;
pub(crate) mod objects;
pub(crate) mod room;
pub(crate) mod standing;

/// Connections that many use at once.
const SHARED: usize = 4;
/// Transactions over a whole session at a time.
const ALONE: usize = 2;

pub(crate) struct PgShelf {
    target: Arc<Target>,
    writer: Writer,
    shared: Vec<Arc<Line>>,
    next: AtomicUsize,
    /// For transactions over a whole session, each in the hands of one.
    alone: Vec<Arc<tokio::sync::Mutex<Line>>>,
}

impl PgShelf {
    pub(crate) fn new(target: &Arc<Target>) -> PgShelf {
        PgShelf {
            target: Arc::clone(target),
            writer: Writer::start(target),
            shared: (0..SHARED).map(|_| Arc::new(Line::new(target))).collect(),
            next: AtomicUsize::new(0),
            alone: (0..ALONE)
                .map(|_| Arc::new(tokio::sync::Mutex::new(Line::new(target))))
                .collect(),
        }
    }

    fn line(&self) -> &Arc<Line> {
        &self.shared[self.next.fetch_add(1, Ordering::Relaxed) % self.shared.len()]
    }

    async fn read<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        read: impl Fn(Arc<Live>) -> F,
    ) -> Result<T, Down> {
        let read = self.line().ask(Work::Statement, read).await;
        read.map_err(|it| it.down(&format!("cannot read from {}", self.target)))
    }

    async fn rows_of(&self, statement: &str, params: Params<'_>) -> Result<Vec<Row>, Down> {
        self.read(|live| async move { live.rows(statement, params).await }).await
    }

    async fn change(&self, change: Change, hold: Hold) -> Result<Wrote, Down> {
        let next = self.next.load(Ordering::Relaxed);
        let alone = Arc::clone(&self.alone[next % self.alone.len()]);
        let shared = Arc::clone(self.line());
        // Nobody who stops waiting stops it half-way, and the session is held until it is decided.
        let doing = tokio::spawn(async move {
            let _hold = hold;
            let mark = u128::from_be_bytes(random());
            match change {
                change if is_whole(&change) => {
                    let line = alone.lock_owned().await;
                    let change = &change;
                    let whole = |live: Arc<Live>| async move { whole(&live, change, mark).await };
                    line.write(Work::Whole, whole).await
                }
                change => {
                    let change = &change;
                    let single = |live: Arc<Live>| async move { single(&live, change, mark).await };
                    shared.write(Work::Statement, single).await
                }
            }
        });
        let stopped = |_| Down("the store is shutting down".to_owned());
        let done = doing.await.map_err(stopped)?;
        done.map_err(|it| it.down(&format!("cannot write to {}", self.target)))
    }
}

/// Does it take a transaction, and so a connection that nobody else uses meanwhile?
fn is_whole(change: &Change) -> bool {
    match change {
        Change::Rewrite(_) | Change::RollUp { .. } | Change::Delete { .. } => true,
        Change::PutDocument(Put { kind, .. }) | Change::RemoveDocument { kind, .. } => {
            kind.starts_with(SEALED)
        }
        Change::Append(_)
        | Change::Snapshot { .. }
        | Change::Post { .. }
        | Change::Settle { .. }
        | Change::RemoveExpired { .. }
        | Change::KeysGone(_) => false,
    }
}

async fn whole(live: &Live, it: &Change, mark: u128) -> Result<Wrote, Trouble> {
    match it {
        Change::Rewrite(rewrite) => change::rewrite(live, rewrite).await,
        Change::RollUp { session, segments, blobs, gone_blobs } => {
            change::roll_up(live, *session, segments, (blobs, gone_blobs)).await
        }
        Change::Delete { session } => change::delete(live, *session).await,
        Change::PutDocument(put) => change::put_sealed(live, put, mark).await,
        Change::RemoveDocument { project, kind, id } => {
            change::remove_sealed(live, [project, kind, id]).await
        }
        other => unreachable!("{other:?} takes one statement"),
    }
}

async fn single(live: &Live, it: &Change, mark: u128) -> Result<Wrote, Trouble> {
    match it {
        Change::Snapshot { session, snapshot } => change::snapshot(live, *session, snapshot).await,
        Change::Post { session, key, data_key, body } => {
            change::post(live, *session, key, (*data_key, body)).await
        }
        Change::Settle { session, key, outcome } => {
            change::settle(live, *session, key, outcome).await
        }
        Change::PutDocument(put) => change::put_document(live, put, mark).await,
        Change::RemoveDocument { project, kind, id } => {
            let params: [(&(dyn ToSql + Sync), Type); 3] =
                [(project, Type::TEXT), (kind, Type::TEXT), (id, Type::TEXT)];
            live.run(sql::DELETE_DOCUMENT, &params).await?;
            live.confirmed().map(|()| Wrote::Done)
        }
        Change::RemoveExpired { now } => {
            live.run(sql::DELETE_EXPIRED, &[(&int(*now), Type::INT8)]).await?;
            Ok(Wrote::Done)
        }
        Change::KeysGone(keys) => {
            live.run(sql::DELETE_DOOMED, &[(keys, Type::INT8_ARRAY)]).await?;
            Ok(Wrote::Done)
        }
        other => unreachable!("{other:?} is not a single statement"),
    }
}

fn buckets_of(buckets: &Buckets) -> Vec<i16> {
    buckets.iter().filter_map(|it| i16::try_from(it).ok()).collect()
}

fn segment_at(row: &Row) -> Result<SealedSegment, Down> {
    Ok(SealedSegment {
        from: number(row, 0)?,
        to: number(row, 1)?,
        hash: hash_at(row, 2)?,
        data_key: get(row, 3)?,
        body: get(row, 4)?,
    })
}

fn due_at(row: &Row) -> Result<(SessionId, Millis), Down> {
    Ok((session_at(row, 0)?, number(row, 1)?))
}

impl PgShelf {
    async fn page(
        &self,
        from_newest: &'static str,
        from: &'static str,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        let limit = limit_of(limit);
        let found = match before {
            None => {
                let params: [(&(dyn ToSql + Sync), Type); 2] =
                    [(&project, Type::TEXT), (&limit, Type::INT8)];
                self.rows_of(from_newest, &params).await?
            }
            Some(ListKey { created_at, session }) => {
                let (at, id) = (int(created_at), Id(session.0));
                let params: [(&(dyn ToSql + Sync), Type); 4] = [
                    (&project, Type::TEXT),
                    (&at, Type::INT8),
                    (&id, Type::UUID),
                    (&limit, Type::INT8),
                ];
                self.rows_of(from, &params).await?
            }
        };
        let listed = |row: &Row| {
            let (session, created_at) = (session_at(row, 0)?, number(row, 1)?);
            Ok(Listed { session, created_at, summary: get(row, 2)? })
        };
        found.iter().map(listed).collect()
    }
}

#[async_trait]
impl Shelf for PgShelf {
    async fn write(&self, change: Change, hold: Hold) -> Result<Wrote, Down> {
        match change {
            Change::Append(append) => self.writer.append(append, hold).await,
            change => self.change(change, hold).await,
        }
    }

    async fn data_key(&self, session: SessionId) -> Result<Option<KeyId>, Down> {
        let (bucket, id) = place(session);
        let found = self.rows_of(sql::SESSION, &[(&bucket, Type::INT2), (&id, Type::UUID)]).await?;
        found.first().map(|row| get(row, 0)).transpose()
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        self.read(|live| async move { apply::head(&live, session).await }).await
    }

    /// The rows are asked for before the segments: what is packed in between is found twice, and never not at all.
    async fn rows(&self, session: SessionId, after: Seq, limit: usize) -> Result<Kept, Down> {
        let (bucket, id) = place(session);
        let (after, limit) = (int(after), limit_of(limit));
        let more = limit_of(SEGMENTS_MAX + 1);
        let (bucket, id, after, limit, more) = (&bucket, &id, &after, &limit, &more);
        let read = |live: Arc<Live>| async move {
            let params: [(&(dyn ToSql + Sync), Type); 4] =
                [(bucket, Type::INT2), (id, Type::UUID), (after, Type::INT8), (limit, Type::INT8)];
            let rows = live.rows(sql::EVENTS, &params);
            let mut by_end = params.clone();
            by_end[3] = (more, Type::INT8);
            let segments = live.rows(sql::SEGMENTS, &by_end);
            let (rows, segments) = tokio::join!(rows, segments);
            Ok((rows?, segments?))
        };
        let (rows, segments) = self.read(read).await?;
        let mut segments = segments.iter().map(segment_at).collect::<Result<Vec<_>, _>>()?;
        if segments.len() > SEGMENTS_MAX {
            segments.pop();
            return Ok(Kept { segments, rows: Vec::new(), more: true });
        }
        let more = limit_of(rows.len()) == *limit;
        let packed = segments.last().map_or(0, |it| it.to);
        let mut kept = Vec::with_capacity(rows.len());
        for row in &rows {
            let row =
                SealedRow { header: header_at(row)?, data_key: get(row, 6)?, body: get(row, 7)? };
            if row.header.seq > packed {
                kept.push(row);
            }
        }
        Ok(Kept { segments, rows: kept, more })
    }

    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        let (bucket, id) = place(session);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&bucket, Type::INT2), (&id, Type::UUID), (&key, Type::TEXT)];
        let found = self.rows_of(sql::SEEN, &params).await?;
        found.first().map(|row| number(row, 0)).transpose()
    }

    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        let (ours, now, limit) = (buckets_of(buckets), int(now), limit_of(limit));
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&ours, Type::INT2_ARRAY), (&now, Type::INT8), (&limit, Type::INT8)];
        self.rows_of(sql::DUE, &params).await?.iter().map(due_at).collect()
    }

    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        let found = self.due(buckets, Millis::MAX, 1).await?;
        Ok(found.first().map(|(_, at)| *at))
    }

    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        let (ours, limit) = (buckets_of(buckets), limit_of(limit));
        let found = match after {
            None => {
                let params: [(&(dyn ToSql + Sync), Type); 2] =
                    [(&ours, Type::INT2_ARRAY), (&limit, Type::INT8)];
                self.rows_of(sql::READY_FROM_FIRST, &params).await?
            }
            Some(after) => {
                let after = Id(after.0);
                let params: [(&(dyn ToSql + Sync), Type); 3] =
                    [(&ours, Type::INT2_ARRAY), (&after, Type::UUID), (&limit, Type::INT8)];
                self.rows_of(sql::READY, &params).await?
            }
        };
        found.iter().map(|row| session_at(row, 0)).collect()
    }

    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.page(sql::LIST_FROM_NEWEST, sql::LIST, project, before, limit).await
    }

    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.page(sql::UNDER_WAY_FROM_NEWEST, sql::UNDER_WAY, project, before, limit).await
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<SealedSnapshot>, Down> {
        let (bucket, id) = place(session);
        let found =
            self.rows_of(sql::SNAPSHOT, &[(&bucket, Type::INT2), (&id, Type::UUID)]).await?;
        let snapshot = |row: &Row| {
            let at = Head { seq: number(row, 0)?, hash: hash_at(row, 1)? };
            Ok(SealedSnapshot { at, data_key: get(row, 2)?, body: get(row, 3)? })
        };
        found.first().map(snapshot).transpose()
    }

    async fn inbox(&self, session: SessionId) -> Result<Vec<SealedPost>, Down> {
        let (bucket, id) = place(session);
        let found = self.rows_of(sql::INBOX, &[(&bucket, Type::INT2), (&id, Type::UUID)]).await?;
        let post = |row: &Row| {
            Ok(SealedPost { key: get(row, 0)?, data_key: get(row, 1)?, body: get(row, 2)? })
        };
        found.iter().map(post).collect()
    }

    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        let (bucket, id) = place(session);
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&bucket, Type::INT2), (&id, Type::UUID), (&key, Type::TEXT)];
        let found = self.rows_of(sql::OUTCOME, &params).await?;
        let Some(row) = found.first() else { return Ok(None) };
        let landed = get::<Option<i64>>(row, 0)?.map(|it| PostOutcome::Landed(it as u64));
        let refused = get::<Option<String>>(row, 1)?.map(PostOutcome::Refused);
        Ok(landed.or(refused))
    }

    async fn has_blob(&self, session: SessionId, name: BlobName) -> Result<bool, Down> {
        let ((bucket, id), name) = (place(session), blob_text(&name));
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&bucket, Type::INT2), (&id, Type::UUID), (&name, Type::TEXT)];
        Ok(!self.rows_of(sql::HAS_BLOB, &params).await?.is_empty())
    }

    async fn keys_in_use(&self, session: SessionId) -> Result<Vec<KeyId>, Down> {
        let (bucket, id) = place(session);
        let mut keys = Vec::new();
        for statement in sql::KEYS_IN_USE {
            let params: [(&(dyn ToSql + Sync), Type); 2] =
                [(&bucket, Type::INT2), (&id, Type::UUID)];
            for row in self.rows_of(statement, &params).await? {
                keys.push(get(&row, 0)?);
            }
        }
        Ok(keys)
    }

    async fn doomed(&self) -> Result<Vec<KeyId>, Down> {
        self.rows_of(sql::DOOMED, &[]).await?.iter().map(|row| get(row, 0)).collect()
    }

    async fn document(
        &self,
        project: &str,
        kind: &str,
        id: &str,
    ) -> Result<Option<Document>, Down> {
        let params: [(&(dyn ToSql + Sync), Type); 3] =
            [(&project, Type::TEXT), (&kind, Type::TEXT), (&id, Type::TEXT)];
        self.rows_of(sql::DOCUMENT, &params).await?.first().map(document_at).transpose()
    }

    async fn documents(&self, page: DocumentPage) -> Result<Vec<Document>, Down> {
        let (at, id) = page.start();
        let DocumentPage { project, kind, page, now } = page;
        let (now, limit) = (int(now), limit_of(page.limit));
        let statement = match page.order {
            Order::NewestFirst => sql::NEWEST_DOCUMENTS,
            Order::OldestFirst => sql::OLDEST_DOCUMENTS,
        };
        let params: [(&(dyn ToSql + Sync), Type); 6] = [
            (&project, Type::TEXT),
            (&kind, Type::TEXT),
            (&at, Type::INT8),
            (&id, Type::TEXT),
            (&now, Type::INT8),
            (&limit, Type::INT8),
        ];
        self.rows_of(statement, &params).await?.iter().map(document_at).collect()
    }

    /// Deleted rows are the server's to clear away: what was in them is sealed under a key that is gone.
    async fn scrub(&self) -> Result<(), Down> {
        Ok(())
    }

    async fn standing(&self) -> Result<Standing, Down> {
        self.read(|live| async move { standing::standing(&live).await }).await
    }
}

impl fmt::Debug for PgShelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgShelf({})", self.target)
    }
}
