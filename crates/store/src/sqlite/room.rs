//! A store in files as one end of a copy: read beside the server that has it, or written by us alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Document, Down};
use rusqlite::Connection;

use crate::copy::room::{Beside, DocKey, Packed, Posted, Quiet, ReadRoom, Write, WriteRoom};
use crate::keys::blocking;
use crate::lock::{self, Lock};
use crate::open::{Flush, OpenError};
use crate::row::{SealedRow, kind_code};
use crate::shelf::{KeyId, SealedSegment};
use crate::sqlite::readers::Readers;
use crate::sqlite::statements as sql;
use crate::sqlite::{
    all, connect, document_at, find, header_at, limit_of, migrate, number, place, session_at, time,
};

/// Of which the last page was read.
#[derive(Debug)]
pub(crate) struct FileSource {
    path: PathBuf,
    readers: Readers,
}

impl FileSource {
    /// A file of an earlier release has other tables: it is brought up to date by its own server.
    pub(crate) fn open(path: &Path) -> Result<FileSource, OpenError> {
        let down = |err: rusqlite::Error| {
            OpenError::Down(format!("cannot open {}: {err}", path.display()))
        };
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = Connection::open_with_flags(path, flags).map_err(down)?;
        let found: u32 =
            db.pragma_query_value(None, "user_version", |it| it.get(0)).map_err(down)?;
        let known = migrate::STATE.version();
        if found != known {
            return Err(OpenError::Down(format!(
                "{} has schema {found}, and a copy reads schema {known}: start this release's server on it once",
                path.display()
            )));
        }
        Ok(FileSource { path: path.to_owned(), readers: Readers::new(path) })
    }
}

#[async_trait]
impl ReadRoom for FileSource {
    async fn quiet(&self) -> Result<Quiet, Down> {
        match lock::take(&self.path, "") {
            Ok(lock) => Ok(Quiet::Yes(Box::new(lock))),
            Err(err @ OpenError::Locked { .. }) => Ok(Quiet::No(err.to_string())),
            Err(err) => Err(Down(err.to_string())),
        }
    }

    async fn sessions(&self, bucket: u16) -> Result<Vec<SessionId>, Down> {
        self.readers.read(move |db| sessions(db, bucket)).await
    }

    async fn beside(&self, session: SessionId) -> Result<Option<Beside>, Down> {
        self.readers.read(move |db| beside(db, session)).await
    }

    async fn rows(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedRow>, Down> {
        self.readers.read(move |db| rows(db, session, after, limit)).await
    }

    async fn segments(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedSegment>, Down> {
        self.readers.read(move |db| segments(db, session, after, limit)).await
    }

    async fn documents(
        &self,
        after: Option<&DocKey>,
        limit: usize,
    ) -> Result<Vec<(DocKey, Document)>, Down> {
        let after = after.cloned();
        self.readers.read(move |db| documents(db, after, limit)).await
    }

    async fn doomed(&self) -> Result<Vec<KeyId>, Down> {
        self.readers.read(|db| all(db, sql::DOOMED, [], |row| row.get(0))).await
    }
}

/// A store that is being made.
pub(crate) struct FileRoom {
    db: Arc<Mutex<Connection>>,
    path: PathBuf,
    _lock: Lock,
}

impl FileRoom {
    pub(crate) fn open(path: &Path, flush: Flush, lock: Lock) -> Result<FileRoom, OpenError> {
        let cannot = |err| OpenError::Down(format!("cannot make {}: {err}", path.display()));
        migrate::make_private(path).map_err(cannot)?;
        let failed = |err: rusqlite::Error| {
            OpenError::Down(format!("cannot open {}: {err}", path.display()))
        };
        let mut db = connect(path, flush).map_err(failed)?;
        // Nobody else moves what is written to its place.
        db.pragma_update(None, "wal_autocheckpoint", 4_000).map_err(failed)?;
        migrate::migrate(&mut db, path, &migrate::STATE)?;
        Ok(FileRoom { db: Arc::new(Mutex::new(db)), path: path.to_owned(), _lock: lock })
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Down> {
        let (db, path) = (Arc::clone(&self.db), self.path.clone());
        blocking(move || {
            let mut db = db.lock().expect("no one panics while holding it");
            work(&mut db).map_err(|err| Down(format!("cannot use {}: {err}", path.display())))
        })
        .await
    }
}

#[async_trait]
impl ReadRoom for FileRoom {
    async fn quiet(&self) -> Result<Quiet, Down> {
        Ok(Quiet::Yes(Box::new(())))
    }

    async fn sessions(&self, bucket: u16) -> Result<Vec<SessionId>, Down> {
        self.with(move |db| sessions(db, bucket)).await
    }

    async fn beside(&self, session: SessionId) -> Result<Option<Beside>, Down> {
        self.with(move |db| beside(db, session)).await
    }

    async fn rows(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedRow>, Down> {
        self.with(move |db| rows(db, session, after, limit)).await
    }

    async fn segments(
        &self,
        session: SessionId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<SealedSegment>, Down> {
        self.with(move |db| segments(db, session, after, limit)).await
    }

    async fn documents(
        &self,
        after: Option<&DocKey>,
        limit: usize,
    ) -> Result<Vec<(DocKey, Document)>, Down> {
        let after = after.cloned();
        self.with(move |db| documents(db, after, limit)).await
    }

    async fn doomed(&self) -> Result<Vec<KeyId>, Down> {
        self.with(|db| all(db, sql::DOOMED, [], |row| row.get(0))).await
    }
}

#[async_trait]
impl WriteRoom for FileRoom {
    async fn write(&self, write: Write) -> Result<(), Down> {
        self.with(move |db| {
            let tx = db.transaction()?;
            apply(&tx, write)?;
            tx.commit()
        })
        .await
    }
}

// ---- reading -----------------------------------------------------------------------------

fn sessions(db: &Connection, bucket: u16) -> rusqlite::Result<Vec<SessionId>> {
    all(db, sql::SESSIONS, [bucket], |row| session_at(row, 0))
}

fn beside(db: &Connection, session: SessionId) -> rusqlite::Result<Option<Beside>> {
    let at = place(session);
    let found = find(db, sql::SESSION, at, |row| {
        Ok(Beside {
            data_key: row.get(0)?,
            wake: row.get::<_, Option<i64>>(1)?.map(|it| it as u64),
            ready: row.get(2)?,
            project: row.get(3)?,
            created_at: row.get::<_, Option<i64>>(4)?.map(|it| it as u64),
            summary: row.get(5)?,
            rows: (None, 0),
            segments: Vec::new(),
            dedupe: Vec::new(),
            inbox: Vec::new(),
            blobs: Vec::new(),
        })
    })?;
    let Some(found) = found else { return Ok(None) };
    let last = find(db, sql::LAST_EVENT, at, header_at)?.map(|it| it.head(session));
    let n_rows = find(db, sql::EVENT_COUNT, at, |row| number(row, 0))?.unwrap_or_default();
    let packed = |row: &rusqlite::Row<'_>| {
        let (from, to) = (number(row, 0)?, number(row, 1)?);
        Ok(Packed { from, to, hash: row.get(2)?, data_key: row.get(3)? })
    };
    let posted = |row: &rusqlite::Row<'_>| {
        Ok(Posted {
            key: row.get(0)?,
            data_key: row.get(1)?,
            body: row.get(2)?,
            landed: row.get::<_, Option<i64>>(3)?.map(|it| it as u64),
            refused: row.get(4)?,
        })
    };
    Ok(Some(Beside {
        rows: (last, n_rows),
        segments: all(db, sql::SEGMENT_HEADS, at, packed)?,
        dedupe: all(db, sql::DEDUPES, at, |row| Ok((row.get(0)?, number(row, 1)?)))?,
        inbox: all(db, sql::POSTS, at, posted)?,
        blobs: all(db, sql::BLOBS, at, |row| row.get(0))?,
        ..found
    }))
}

fn rows(
    db: &Connection,
    session: SessionId,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<SealedRow>> {
    let (bucket, id) = place(session);
    let row = |row: &rusqlite::Row<'_>| {
        Ok(SealedRow { header: header_at(row)?, data_key: row.get(6)?, body: row.get(7)? })
    };
    all(db, sql::EVENTS, (bucket, id, time(after), limit_of(limit)), row)
}

fn segments(
    db: &Connection,
    session: SessionId,
    after: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<SealedSegment>> {
    let (bucket, id) = place(session);
    let segment = |row: &rusqlite::Row<'_>| {
        Ok(SealedSegment {
            from: number(row, 0)?,
            to: number(row, 1)?,
            hash: row.get(2)?,
            data_key: row.get(3)?,
            body: row.get(4)?,
        })
    };
    all(db, sql::SEGMENTS, (bucket, id, time(after), limit_of(limit)), segment)
}

fn documents(
    db: &Connection,
    after: Option<DocKey>,
    limit: usize,
) -> rusqlite::Result<Vec<(DocKey, Document)>> {
    let (project, kind, id) = after.unwrap_or_default();
    all(db, sql::ALL_DOCUMENTS, (project, kind, id, limit_of(limit)), |row| {
        let document = document_at(row)?;
        Ok(((row.get(6)?, row.get(7)?, document.id.clone()), document))
    })
}

// ---- writing -----------------------------------------------------------------------------

fn apply(db: &Connection, write: Write) -> rusqlite::Result<()> {
    let run =
        |statement: &str,
         params: &dyn Fn(&mut rusqlite::CachedStatement<'_>) -> rusqlite::Result<usize>| {
            params(&mut db.prepare_cached(statement)?).map(drop)
        };
    match write {
        Write::Forget(session) => {
            let (bucket, id) = place(session);
            run(sql::DELETE_EVENTS, &|it| it.execute((bucket, id, i64::MAX)))?;
            for statement in [sql::DELETE_SEGMENTS, sql::DELETE_SNAPSHOT] {
                run(statement, &|it| it.execute((bucket, id)))?;
            }
            forget_beside(db, session)
        }
        Write::Rows(session, rows) => {
            let (bucket, id) = place(session);
            for SealedRow { header: it, data_key, body } in &rows {
                let (seq, kind, at) = (time(it.seq), kind_code(it.kind), time(it.at));
                run(sql::CARRY_EVENT, &|to| {
                    to.execute((
                        bucket, id, seq, kind, it.version, at, it.prev, it.mac, data_key, body,
                    ))
                })?;
            }
            Ok(())
        }
        Write::Segments(session, segments) => {
            let (bucket, id) = place(session);
            for it in &segments {
                let (from, to) = (time(it.from), time(it.to));
                run(sql::CARRY_SEGMENT, &|at| {
                    at.execute((bucket, id, from, to, it.hash, it.data_key, &it.body))
                })?;
            }
            Ok(())
        }
        Write::Beside(session, beside) => put_beside(db, session, &beside),
        Write::Document((project, kind, id), it) => {
            let (created_at, updated_at) = (time(it.created_at), time(it.updated_at));
            let (revision, expires_at) = (time(it.revision), it.expires_at.map(time));
            run(sql::PUT_DOCUMENT, &|to| {
                let body = &it.body[..];
                to.execute((
                    &project, &kind, &id, revision, created_at, updated_at, expires_at, body,
                ))
            })
        }
        Write::DropDocument((project, kind, id)) => {
            run(sql::DELETE_DOCUMENT, &|it| it.execute((&project, &kind, &id)))
        }
        Write::Doomed(keys) => {
            for key in all(db, sql::DOOMED, [], |row| row.get::<_, KeyId>(0))? {
                run(sql::DELETE_DOOMED, &|it| it.execute([key]))?;
            }
            keys.iter().try_for_each(|key| run(sql::DOOM, &|it| it.execute([key])))
        }
    }
}

fn forget_beside(db: &Connection, session: SessionId) -> rusqlite::Result<()> {
    let tables = [sql::DELETE_INBOX, sql::DELETE_DEDUPE, sql::DELETE_BLOBS, sql::DELETE_SESSION];
    tables.iter().try_for_each(|it| db.prepare_cached(it)?.execute(place(session)).map(drop))
}

fn put_beside(db: &Connection, session: SessionId, it: &Beside) -> rusqlite::Result<()> {
    forget_beside(db, session)?;
    let (bucket, id) = place(session);
    let (wake, created_at) = (it.wake.map(time), it.created_at.map(time));
    let params = (bucket, id, it.data_key, wake, it.ready, &it.project, created_at, &it.summary);
    db.prepare_cached(sql::CARRY_SESSION)?.execute(params)?;
    for (key, seq) in &it.dedupe {
        db.prepare_cached(sql::INSERT_DEDUPE)?.execute((bucket, id, key, time(*seq)))?;
    }
    for Posted { key, data_key, body, landed, refused } in &it.inbox {
        let params = (bucket, id, key, data_key, body, landed.map(time), refused);
        db.prepare_cached(sql::CARRY_POST)?.execute(params)?;
    }
    for name in &it.blobs {
        db.prepare_cached(sql::INSERT_BLOB)?.execute((bucket, id, name))?;
    }
    Ok(())
}

impl fmt::Debug for FileRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileRoom({})", self.path.display())
    }
}
