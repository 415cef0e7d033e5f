//! The shelf on SQLite: one thread writes and flushes in batches, one moves what it wrote from the write-ahead log
//! to its place, and a few connections read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{Document, Down, Head, ListKey, Listed, Order, PostOutcome};
use rusqlite::config::DbConfig;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::lock::Lock;
use crate::open::{Flush, OpenError};
use crate::row::{Header, SealedRow, kind_of};
use crate::shelf::{
    BlobName, Change, DocumentPage, Hold, Kept, KeyId, SEGMENTS_MAX, SealedPost, SealedSegment,
    SealedSnapshot, Shelf, Standing, Wrote,
};
use crate::sqlite::checkpoint::Checkpoint;
use crate::sqlite::readers::Readers;
use crate::sqlite::statements as sql;
use crate::sqlite::writer::Writer;

pub(crate) mod statements;
pub(crate) mod migrate;
mod readers;
pub(crate) mod room;
mod writer;
mod apply;
mod checkpoint;

#[derive(Debug)]
pub(crate) struct SqliteShelf {
    path: PathBuf,
    // In this order when it is dropped: the writer tells the checkpoint's thread to end; the lock goes last.
    readers: Readers,
    writer: Writer,
    _thread: checkpoint::Thread,
    checkpoint: Arc<Checkpoint>,
    _lock: Lock,
}

impl SqliteShelf {
    pub(crate) fn open(path: &Path, flush: Flush, lock: Lock) -> Result<SqliteShelf, OpenError> {
        let cannot = |err| OpenError::Down(format!("cannot make {}: {err}", path.display()));
        migrate::make_private(path).map_err(cannot)?;
        let failed = |err: rusqlite::Error| {
            OpenError::Down(format!("cannot open {}: {err}", path.display()))
        };
        let mut db = connect(path, flush).map_err(failed)?;
        migrate::migrate(&mut db, path, &migrate::STATE)?;
        // The main file's first page tells an older release what this file is, without its having to look further.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
        let (checkpoint, thread) = Checkpoint::start(connect(path, flush).map_err(failed)?);
        let writer = Writer::start(db, Arc::clone(&checkpoint));
        let readers = Readers::new(path);
        Ok(SqliteShelf {
            path: path.to_owned(),
            writer,
            _thread: thread,
            checkpoint,
            readers,
            _lock: lock,
        })
    }
}

/// A connection that writes.
fn connect(path: &Path, flush: Flush) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "page_size", 8192)?;
    db.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", flush.pragma("FULL"))?;
    db.pragma_update(None, "fullfsync", true)?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "secure_delete", true)?;
    db.pragma_update(None, "cache_size", -8_000)?;
    steady(&db)?;
    db.busy_timeout(std::time::Duration::from_secs(10))?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

/// Without this a cached statement is compiled anew whenever its parameters change: the values might favour another
/// plan. There is one good plan for each of ours.
fn steady(db: &Connection) -> rusqlite::Result<()> {
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}

// ---- keys and columns --------------------------------------------------------------------

/// The prefix of every key of the log.
fn place(session: SessionId) -> (u16, [u8; 16]) {
    (session.bucket(), session.0.to_be_bytes())
}

fn session_at(row: &Row<'_>, idx: usize) -> rusqlite::Result<SessionId> {
    Ok(SessionId(u128::from_be_bytes(row.get(idx)?)))
}

/// Counters and times are kept as the signed integers SQLite has.
fn number(row: &Row<'_>, idx: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(idx)? as u64)
}

fn header_at(row: &Row<'_>) -> rusqlite::Result<Header> {
    let kind: i64 = row.get(1)?;
    let unknown = || rusqlite::Error::IntegralValueOutOfRange(1, kind);
    Ok(Header {
        seq: number(row, 0)?,
        kind: kind_of(kind).ok_or_else(unknown)?,
        version: row.get(2)?,
        at: number(row, 3)?,
        prev: row.get(4)?,
        mac: row.get(5)?,
    })
}

fn document_at(row: &Row<'_>) -> rusqlite::Result<Document> {
    Ok(Document {
        id: row.get(0)?,
        revision: number(row, 1)?,
        created_at: number(row, 2)?,
        updated_at: number(row, 3)?,
        expires_at: row.get::<_, Option<i64>>(4)?.map(|it| it as u64),
        body: row.get::<_, Vec<u8>>(5)?.into(),
    })
}

fn find<T>(
    db: &Connection,
    statement: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    db.prepare_cached(statement)?.query_row(params, read).optional()
}

fn find_value<T: FromSql>(
    db: &Connection,
    statement: &str,
    params: impl Params,
) -> rusqlite::Result<Option<T>> {
    find(db, statement, params, |row| row.get(0))
}

fn all<T>(
    db: &Connection,
    statement: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(statement)?.query_map(params, read)?.collect()
}

/// The first `limit` of those that are to be kept.
fn some<T>(
    db: &Connection,
    statement: &str,
    params: impl Params,
    limit: usize,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    mut keep: impl FnMut(&T) -> bool,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = db.prepare_cached(statement)?;
    let found = statement.query_map(params, read)?;
    found.filter(|it| it.as_ref().map_or(true, &mut keep)).take(limit).collect()
}

/// The end of a session's log: its last row, or of a session that is packed altogether, its last segment.
fn head(db: &Connection, session: SessionId) -> rusqlite::Result<Option<Head>> {
    let last = find(db, sql::LAST_EVENT, place(session), header_at)?;
    if let Some(header) = last {
        return Ok(Some(header.head(session)));
    }
    find(db, sql::LAST_SEGMENT, place(session), |row| {
        Ok(Head { seq: number(row, 0)?, hash: row.get(1)? })
    })
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn time(at: Millis) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

impl SqliteShelf {
    async fn page(
        &self,
        statement: &'static str,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        let project = project.to_owned();
        let read = move |db: &Connection| {
            let (at, id) = before.map_or((i64::MAX, vec![0xff; 17]), |it| {
                (time(it.created_at), it.session.0.to_be_bytes().to_vec())
            });
            all(db, statement, (&project, at, id, limit_of(limit)), |row| {
                Ok(Listed {
                    session: session_at(row, 0)?,
                    created_at: number(row, 1)?,
                    summary: row.get(2)?,
                })
            })
        };
        self.readers.read(read).await
    }
}

#[async_trait]
impl Shelf for SqliteShelf {
    async fn write(&self, change: Change, hold: Hold) -> Result<Wrote, Down> {
        self.writer.write(change, hold).await
    }

    async fn data_key(&self, session: SessionId) -> Result<Option<KeyId>, Down> {
        self.readers.read(move |db| find_value(db, sql::SESSION_KEY, place(session))).await
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        self.readers.read(move |db| head(db, session)).await
    }

    async fn rows(&self, session: SessionId, after: Seq, limit: usize) -> Result<Kept, Down> {
        let read = move |db: &Connection| {
            let (bucket, id) = place(session);
            let (after, limit) = (time(after), limit_of(limit));
            let more = limit_of(SEGMENTS_MAX + 1);
            let mut segments = all(db, sql::SEGMENTS, (bucket, id, after, more), |row| {
                Ok(SealedSegment {
                    from: number(row, 0)?,
                    to: number(row, 1)?,
                    hash: row.get(2)?,
                    data_key: row.get(3)?,
                    body: row.get(4)?,
                })
            })?;
            if segments.len() > SEGMENTS_MAX {
                segments.pop();
                return Ok(Kept { segments, rows: Vec::new(), more: true });
            }
            let rows = all(db, sql::EVENTS, (bucket, id, after, limit), |row| {
                Ok(SealedRow { header: header_at(row)?, data_key: row.get(6)?, body: row.get(7)? })
            })?;
            let more = limit_of(rows.len()) == limit;
            Ok(Kept { segments, rows, more })
        };
        self.readers.read(read).await
    }

    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        let key = key.to_owned();
        let read = move |db: &Connection| {
            let (bucket, id) = place(session);
            find(db, sql::SEEN, (bucket, id, &key), |row| number(row, 0))
        };
        self.readers.read(read).await
    }

    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        let buckets = buckets.clone();
        let read = move |db: &Connection| {
            let due = |row: &Row<'_>| Ok((session_at(row, 0)?, number(row, 1)?));
            some(db, sql::DUE, [time(now)], limit, due, |(id, _)| buckets.hold(*id))
        };
        self.readers.read(read).await
    }

    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        let buckets = buckets.clone();
        let read = move |db: &Connection| {
            let due = |row: &Row<'_>| Ok((session_at(row, 0)?, number(row, 1)?));
            some(db, sql::NEXT_DUE, [], 1, due, |(id, _)| buckets.hold(*id))
        };
        Ok(self.readers.read(read).await?.first().map(|(_, at)| *at))
    }

    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        let buckets = buckets.clone();
        let read = move |db: &Connection| {
            // The empty text stands before every id.
            let after = after.map_or(Vec::new(), |it| it.0.to_be_bytes().to_vec());
            let id = |row: &Row<'_>| session_at(row, 0);
            some(db, sql::READY, [after], limit, id, |it| buckets.hold(*it))
        };
        self.readers.read(read).await
    }

    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.page(sql::LIST, project, before, limit).await
    }

    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.page(sql::UNDER_WAY, project, before, limit).await
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<SealedSnapshot>, Down> {
        let read = move |db: &Connection| {
            find(db, sql::SNAPSHOT, place(session), |row| {
                let at = Head { seq: number(row, 0)?, hash: row.get(1)? };
                Ok(SealedSnapshot { at, data_key: row.get(2)?, body: row.get(3)? })
            })
        };
        self.readers.read(read).await
    }

    async fn inbox(&self, session: SessionId) -> Result<Vec<SealedPost>, Down> {
        let read = move |db: &Connection| {
            all(db, sql::INBOX, place(session), |row| {
                Ok(SealedPost { key: row.get(0)?, data_key: row.get(1)?, body: row.get(2)? })
            })
        };
        self.readers.read(read).await
    }

    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        let key = key.to_owned();
        let read = move |db: &Connection| {
            let (bucket, id) = place(session);
            let found = find(db, sql::OUTCOME, (bucket, id, &key), |row| {
                let landed = row.get::<_, Option<i64>>(0)?.map(|it| PostOutcome::Landed(it as u64));
                let refused = row.get::<_, Option<String>>(1)?.map(PostOutcome::Refused);
                Ok(landed.or(refused))
            })?;
            Ok(found.flatten())
        };
        self.readers.read(read).await
    }

    async fn has_blob(&self, session: SessionId, name: BlobName) -> Result<bool, Down> {
        let read = move |db: &Connection| {
            let (bucket, id) = place(session);
            Ok(find_value::<i64>(db, sql::HAS_BLOB, (bucket, id, name))?.is_some())
        };
        self.readers.read(read).await
    }

    async fn keys_in_use(&self, session: SessionId) -> Result<Vec<KeyId>, Down> {
        let read = move |db: &Connection| {
            let mut keys = Vec::new();
            for statement in sql::KEYS_IN_USE {
                keys.extend(all(db, statement, place(session), |row| row.get::<_, KeyId>(0))?);
            }
            Ok(keys)
        };
        self.readers.read(read).await
    }

    async fn doomed(&self) -> Result<Vec<KeyId>, Down> {
        self.readers.read(|db| all(db, sql::DOOMED, [], |row| row.get(0))).await
    }

    async fn document(
        &self,
        project: &str,
        kind: &str,
        id: &str,
    ) -> Result<Option<Document>, Down> {
        let at = (project.to_owned(), kind.to_owned(), id.to_owned());
        self.readers.read(move |db| find(db, sql::DOCUMENT, at, document_at)).await
    }

    async fn documents(&self, page: DocumentPage) -> Result<Vec<Document>, Down> {
        let read = move |db: &Connection| {
            let (at, id) = page.start();
            let DocumentPage { project, kind, page, now } = page;
            let statement = match page.order {
                Order::NewestFirst => sql::NEWEST_DOCUMENTS,
                Order::OldestFirst => sql::OLDEST_DOCUMENTS,
            };
            let params = (project, kind, at, id, time(now), limit_of(page.limit));
            all(db, statement, params, document_at)
        };
        self.readers.read(read).await
    }

    async fn scrub(&self) -> Result<(), Down> {
        let checkpoint = Arc::clone(&self.checkpoint);
        crate::keys::blocking(move || checkpoint.scrub()).await
    }

    async fn standing(&self) -> Result<Standing, Down> {
        let wal = format!("{}-wal", self.path.display());
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |it| it.len());
        let bytes = bytes(&self.path) + bytes(Path::new(&wal));
        Ok(Standing { schema: migrate::STATE.version(), bytes, ..Standing::default() })
    }
}
