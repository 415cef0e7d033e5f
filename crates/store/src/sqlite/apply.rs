//! What each change is in SQL. All of it happens inside the writer's transaction.

use std::collections::HashMap;

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Document, Hash, Head, PostOutcome, Projection, Put};
use rusqlite::{Connection, Params};

use crate::row::kind_code;
use crate::shelf::{
    Append, Change, KeyId, Rewrite, SEALED, SealedSegment, Wrote, decide_put, sealed_under,
};
use crate::sqlite::statements as sql;
use crate::sqlite::{all, document_at, find, find_value, head, number, place, time};

/// Of how many sessions the writer remembers the end.
const HEADS_MAX: usize = 65_536;
/// What a row costs in the write-ahead log beside its body, about.
const ROW_BYTES: u64 = 512;

/// Knows the ends of the logs it wrote: nobody else writes them.
#[derive(Debug, Default)]
pub(crate) struct Apply {
    heads: HashMap<SessionId, Head>,
}

/// By what an append of unknown outcome is recognised: its keyed hash is like no other's.
pub(crate) struct Mark {
    session: SessionId,
    seq: Seq,
    mac: Hash,
    head: Head,
}

impl Mark {
    pub(crate) fn of(change: &Change) -> Option<Mark> {
        let Change::Append(append) = change else { return None };
        let (session, header) = (append.session, &append.row.header);
        Some(Mark { session, seq: header.seq, mac: header.mac, head: header.head(session) })
    }

    /// `None`: it is not there, or that could not be found out.
    pub(crate) fn read_back(&self, db: &Connection) -> Option<Wrote> {
        let (bucket, id) = place(self.session);
        let there: Option<Hash> =
            find_value(db, sql::EVENT_MAC, (bucket, id, time(self.seq))).ok()?;
        (there? == self.mac).then_some(Wrote::Landed(self.head))
    }
}

impl Apply {
    /// After a batch that failed, what is remembered may be wrong.
    pub(crate) fn forget(&mut self) {
        self.heads.clear();
    }

    /// What it became, and about how many bytes it added.
    pub(crate) fn apply(
        &mut self,
        db: &Connection,
        change: Change,
    ) -> rusqlite::Result<(Wrote, u64)> {
        let mut size = ROW_BYTES;
        let wrote = match change {
            Change::Append(append) => {
                size += append.row.body.len() as u64;
                self.append(db, &append)?
            }
            Change::Rewrite(it) => {
                size += it.rows.iter().map(|(_, body)| ROW_BYTES + body.len() as u64).sum::<u64>();
                rewrite(db, &it)?
            }
            Change::RollUp { session, segments, blobs, gone_blobs } => {
                size += segments.iter().map(|it| it.body.len() as u64).sum::<u64>();
                let through = segments.last().map_or(0, |it| it.to);
                insert_segments(db, session, &segments)?;
                let (bucket, id) = place(session);
                run(db, sql::DELETE_EVENTS, (bucket, id, time(through)))?;
                for name in blobs {
                    run(db, sql::INSERT_BLOB, (bucket, id, name))?;
                }
                for name in gone_blobs {
                    run(db, sql::DELETE_BLOB, (bucket, id, name))?;
                }
                Wrote::Done
            }
            Change::Delete { session } => {
                self.heads.remove(&session);
                delete(db, session)?
            }
            Change::Snapshot { session, snapshot } => {
                size += snapshot.body.len() as u64;
                let (bucket, id) = place(session);
                let (seq, hash) = (time(snapshot.at.seq), snapshot.at.hash);
                let params = (bucket, id, seq, hash, snapshot.data_key, snapshot.body);
                run(db, sql::PUT_SNAPSHOT, params)?;
                Wrote::Done
            }
            Change::Post { session, key, data_key, body } => {
                size += body.len() as u64;
                let (bucket, id) = place(session);
                run(db, sql::INSERT_SESSION, (bucket, id, data_key))?;
                run(db, sql::POST, (bucket, id, key, data_key, body))?;
                Wrote::Done
            }
            Change::Settle { session, key, outcome } => {
                settle(db, session, &key, &outcome)?;
                Wrote::Done
            }
            Change::PutDocument(put) => {
                size += put.body.len() as u64;
                put_document(db, &put)?
            }
            Change::RemoveDocument { project, kind, id } => {
                if kind.starts_with(SEALED) {
                    let old = find(db, sql::DOCUMENT, (&project, &kind, &id), document_at)?;
                    doom_body(db, &kind, old.as_ref())?;
                }
                run(db, sql::DELETE_DOCUMENT, (project, kind, id))?;
                Wrote::Done
            }
            Change::RemoveExpired { now } => {
                run(db, sql::DELETE_EXPIRED, [time(now)])?;
                Wrote::Done
            }
            Change::KeysGone(keys) => {
                for key in keys {
                    run(db, sql::DELETE_DOOMED, [key])?;
                }
                Wrote::Done
            }
        };
        Ok((wrote, size))
    }

    fn append(&mut self, db: &Connection, append: &Append) -> rusqlite::Result<Wrote> {
        let Append { session, row, key, consumed, projection, blobs } = append;
        let (bucket, id) = place(*session);
        if let Some(key) = key
            && let Some(seq) = find(db, sql::SEEN, (bucket, id, key), |row| number(row, 0))?
        {
            return Ok(Wrote::Seen(seq));
        }
        let known = match self.heads.get(session) {
            Some(head) => Some(*head),
            None => head(db, *session)?,
        };
        let end = known.unwrap_or_default();
        let header = &row.header;
        if header.seq != end.seq + 1 || header.prev != end.hash {
            self.remember(*session, end);
            return Ok(Wrote::Fenced);
        }
        let seq = time(header.seq);
        let (kind, version, at) = (kind_code(header.kind), header.version, time(header.at));
        let (prev, mac) = (&header.prev, &header.mac);
        let params = (bucket, id, seq, kind, version, at, prev, mac, row.data_key, &row.body);
        run(db, sql::INSERT_EVENT, params)?;
        match projection {
            Some(projection) => project(db, *session, row.data_key, projection)?,
            None if known.is_none() => run(db, sql::INSERT_SESSION, (bucket, id, row.data_key))?,
            None => {}
        }
        if let Some(key) = key {
            run(db, sql::INSERT_DEDUPE, (bucket, id, key, seq))?;
        }
        for key in consumed {
            settle(db, *session, key, &PostOutcome::Landed(header.seq))?;
        }
        for name in blobs {
            run(db, sql::INSERT_BLOB, (bucket, id, name))?;
        }
        let head = header.head(*session);
        self.remember(*session, head);
        Ok(Wrote::Landed(head))
    }

    fn remember(&mut self, session: SessionId, head: Head) {
        if self.heads.len() >= HEADS_MAX {
            // Which ones go does not matter: what is forgotten is looked up.
            let mut n = 0;
            self.heads.retain(|_, _| {
                n += 1;
                n > HEADS_MAX / 8
            });
        }
        if head.seq > 0 {
            self.heads.insert(session, head);
        }
    }
}

fn run(db: &Connection, statement: &str, params: impl Params) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute(params).map(drop)
}

fn project(
    db: &Connection,
    session: SessionId,
    data_key: KeyId,
    projection: &Projection,
) -> rusqlite::Result<()> {
    let (bucket, id) = place(session);
    let Projection { wake, ready, listing } = projection;
    let project = listing.as_ref().map(|it| &it.project);
    let created_at = listing.as_ref().map(|it| time(it.created_at));
    let summary = listing.as_ref().map(|it| &it.summary);
    let wake = wake.map(time);
    run(db, sql::PROJECT, (bucket, id, data_key, wake, ready, project, created_at, summary))
}

fn settle(
    db: &Connection,
    session: SessionId,
    key: &str,
    outcome: &PostOutcome,
) -> rusqlite::Result<()> {
    let (bucket, id) = place(session);
    let (landed, refused) = match outcome {
        PostOutcome::Landed(seq) => (Some(time(*seq)), None),
        PostOutcome::Refused(why) => (None, Some(why)),
    };
    run(db, sql::SETTLE, (bucket, id, key, landed, refused))
}

fn insert_segments(
    db: &Connection,
    session: SessionId,
    segments: &[SealedSegment],
) -> rusqlite::Result<()> {
    let (bucket, id) = place(session);
    for it in segments {
        let params = (bucket, id, time(it.from), time(it.to), it.hash, it.data_key, &it.body);
        run(db, sql::INSERT_SEGMENT, params)?;
    }
    Ok(())
}

fn doom(db: &Connection, session: SessionId) -> rusqlite::Result<()> {
    for statement in sql::KEYS_IN_USE {
        for key in all(db, statement, place(session), |row| row.get::<_, KeyId>(0))? {
            run(db, sql::DOOM, [key])?;
        }
    }
    Ok(())
}

fn rewrite(db: &Connection, rewrite: &Rewrite) -> rusqlite::Result<Wrote> {
    let Rewrite { session, data_key, rows, segments, inbox, blobs, .. } = rewrite;
    let (bucket, id) = place(*session);
    doom(db, *session)?;
    for (seq, body) in rows {
        run(db, sql::REWRITE_EVENT, (bucket, id, time(*seq), data_key, body))?;
    }
    for (key, body) in inbox {
        run(db, sql::REWRITE_POST, (bucket, id, key, data_key, body))?;
    }
    run(db, sql::DELETE_SEGMENTS, (bucket, id))?;
    insert_segments(db, *session, segments)?;
    run(db, sql::DELETE_SNAPSHOT, (bucket, id))?;
    run(db, sql::DELETE_BLOBS, (bucket, id))?;
    for name in blobs {
        run(db, sql::INSERT_BLOB, (bucket, id, name))?;
    }
    run(db, sql::SET_SESSION_KEY, (bucket, id, data_key))?;
    Ok(Wrote::Done)
}

fn delete(db: &Connection, session: SessionId) -> rusqlite::Result<Wrote> {
    let (bucket, id) = place(session);
    doom(db, session)?;
    run(db, sql::DELETE_EVENTS, (bucket, id, i64::MAX))?;
    let tables = [
        sql::DELETE_SEGMENTS,
        sql::DELETE_SNAPSHOT,
        sql::DELETE_INBOX,
        sql::DELETE_DEDUPE,
        sql::DELETE_BLOBS,
        sql::DELETE_SESSION,
    ];
    tables.iter().try_for_each(|statement| run(db, statement, (bucket, id)))?;
    Ok(Wrote::Done)
}

fn put_document(db: &Connection, put: &Put) -> rusqlite::Result<Wrote> {
    let (project, kind, id) = (&put.project, &put.kind, &put.id);
    let old = find(db, sql::DOCUMENT, (project, kind, id), document_at)?;
    let document = match decide_put(old.clone(), put) {
        Ok(document) => document,
        Err(there) => return Ok(Wrote::Conflict(there)),
    };
    doom_body(db, kind, old.as_ref())?;
    let revision = time(document.revision);
    let (created_at, updated_at) = (time(document.created_at), time(document.updated_at));
    let (expires_at, body) = (document.expires_at.map(time), &document.body[..]);
    let params = (project, kind, id, revision, created_at, updated_at, expires_at, body);
    run(db, sql::PUT_DOCUMENT, params)?;
    Ok(Wrote::Revision(document.revision))
}

fn doom_body(db: &Connection, kind: &str, old: Option<&Document>) -> rusqlite::Result<()> {
    match old.and_then(|it| sealed_under(kind, &it.body)) {
        Some(key) => run(db, sql::DOOM, [key]),
        None => Ok(()),
    }
}
