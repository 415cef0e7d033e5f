//! What each change but an append is in SQL. What touches several rows is one transaction that holds the session's
//! row from its beginning to its end.

use std::collections::BTreeSet;

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Document, PostOutcome, Put};
use tokio_postgres::types::{ToSql, Type};

use crate::postgres::apply::{BEGIN, damaged};
use crate::postgres::connect::Live;
use crate::postgres::statements as sql;
use crate::postgres::trouble::{Kind, Trouble};
use crate::postgres::values::{Id, blob_text, document_at, get, int, number, place};
use crate::shelf::{
    BlobName, KeyId, Rewrite, SealedSegment, SealedSnapshot, Wrote, is_expired, sealed_under,
};

type Done = Result<Wrote, Trouble>;

/// So many rows are rewritten by one statement: with the longest bodies, some 16 MiB.
const AT_ONCE: usize = 256;

/// Ends a transaction by what came of it. If it is not to stand, or after an error, nothing has happened.
async fn end(live: &Live, done: Done) -> Done {
    match done {
        Ok(Wrote::Stale) => {
            live.plain("ROLLBACK").await?;
            Ok(Wrote::Stale)
        }
        Ok(wrote) => {
            live.plain("COMMIT").await?;
            live.confirmed()?;
            Ok(wrote)
        }
        Err(trouble) => {
            // If it does not arrive, the connection is given up, and the transaction with it.
            let _ = live.plain("ROLLBACK").await;
            Err(trouble)
        }
    }
}

/// A session, as the first two values of a statement.
struct Of(i16, Id);

impl Of {
    fn session(session: SessionId) -> Of {
        let (bucket, id) = place(session);
        Of(bucket, id)
    }

    fn params(&self) -> [(&(dyn ToSql + Sync), Type); 2] {
        [(&self.0, Type::INT2), (&self.1, Type::UUID)]
    }

    fn with<'a>(
        &'a self,
        more: &[(&'a (dyn ToSql + Sync), Type)],
    ) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
        self.params().into_iter().chain(more.iter().cloned()).collect()
    }
}

/// Its data key and how far it is packed; the session is ours until the transaction ends.
async fn lock(live: &Live, of: &Of) -> Result<Option<(KeyId, Seq)>, Trouble> {
    let rows = live.rows(sql::LOCK_SESSION, &of.params()).await?;
    let held = |row| Ok((get(row, 0)?, number(row, 1)?));
    rows.first().map(held).transpose().map_err(damaged)
}

async fn numbers(live: &Live, statement: &str, of: &Of) -> Result<BTreeSet<u64>, Trouble> {
    let rows = live.rows(statement, &of.params()).await?;
    rows.iter().map(|row| number(row, 0).map_err(damaged)).collect()
}

async fn doom(live: &Live, of: &Of) -> Result<(), Trouble> {
    let mut keys: BTreeSet<KeyId> = BTreeSet::new();
    for statement in sql::KEYS_IN_USE {
        for row in live.rows(statement, &of.params()).await? {
            keys.insert(get(&row, 0).map_err(damaged)?);
        }
    }
    let keys: Vec<KeyId> = keys.into_iter().collect();
    live.run(sql::DOOM, &[(&keys, Type::INT8_ARRAY)]).await.map(drop)
}

async fn insert_segments(live: &Live, of: &Of, segments: &[SealedSegment]) -> Result<(), Trouble> {
    for it in segments {
        let (from, to, hash) = (int(it.from), int(it.to), &it.hash[..]);
        let params = of.with(&[
            (&from, Type::INT8),
            (&to, Type::INT8),
            (&hash, Type::BYTEA),
            (&it.data_key, Type::INT8),
            (&it.body, Type::BYTEA),
        ]);
        live.run(sql::INSERT_SEGMENT, &params).await?;
    }
    Ok(())
}

async fn insert_blobs(live: &Live, session: SessionId, blobs: &[BlobName]) -> Result<(), Trouble> {
    let (bucket, id) = place(session);
    let (buckets, ids) = (vec![bucket; blobs.len()], vec![id; blobs.len()]);
    let names: Vec<String> = blobs.iter().map(blob_text).collect();
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&buckets, Type::INT2_ARRAY), (&ids, Type::UUID_ARRAY), (&names, Type::TEXT_ARRAY)];
    live.run(sql::INSERT_BLOBS, &params).await.map(drop)
}

/// Stale if the session is not as it was when it was read: a row more, another key, history packed meanwhile.
pub(super) async fn rewrite(live: &Live, rewrite: &Rewrite) -> Done {
    let of = Of::session(rewrite.session);
    let again = live.rows(sql::SESSION, &of.params()).await?;
    if let Some(row) = again.first()
        && get::<KeyId>(row, 0).map_err(damaged)? == rewrite.data_key
    {
        // Of an unknown outcome: it had landed.
        return Ok(Wrote::Done);
    }
    live.plain(BEGIN).await?;
    let done = rewrite_inside(live, &of, rewrite).await;
    end(live, done).await
}

async fn rewrite_inside(live: &Live, of: &Of, rewrite: &Rewrite) -> Done {
    let Some((key, _)) = lock(live, of).await? else { return Ok(Wrote::Done) };
    let events = numbers(live, sql::EVENT_SEQS, of).await?;
    let segments = numbers(live, sql::SEGMENT_ENDS, of).await?;
    let mut posts: BTreeSet<String> = BTreeSet::new();
    for row in live.rows(sql::INBOX, &of.params()).await? {
        posts.insert(get(&row, 0).map_err(damaged)?);
    }
    let same = rewrite.was == Some(key)
        && events.iter().copied().eq(rewrite.rows.iter().map(|(seq, _)| *seq))
        && segments == rewrite.packed.iter().copied().collect()
        && posts == rewrite.inbox.iter().map(|(key, _)| key.clone()).collect();
    if !same {
        return Ok(Wrote::Stale);
    }
    doom(live, of).await?;
    let key = &rewrite.data_key;
    for rows in rewrite.rows.chunks(AT_ONCE) {
        let seqs: Vec<i64> = rows.iter().map(|(seq, _)| int(*seq)).collect();
        let bodies: Vec<&[u8]> = rows.iter().map(|(_, body)| &body[..]).collect();
        let params =
            of.with(&[(key, Type::INT8), (&seqs, Type::INT8_ARRAY), (&bodies, Type::BYTEA_ARRAY)]);
        live.run(sql::REWRITE_EVENTS, &params).await?;
    }
    let keys: Vec<&str> = rewrite.inbox.iter().map(|(key, _)| key.as_str()).collect();
    let bodies: Vec<&[u8]> = rewrite.inbox.iter().map(|(_, body)| &body[..]).collect();
    let params =
        of.with(&[(key, Type::INT8), (&keys, Type::TEXT_ARRAY), (&bodies, Type::BYTEA_ARRAY)]);
    live.run(sql::REWRITE_POSTS, &params).await?;
    for statement in [sql::DELETE_SEGMENTS, sql::DELETE_SNAPSHOT, sql::DELETE_BLOBS] {
        live.run(statement, &of.params()).await?;
    }
    insert_segments(live, of, &rewrite.segments).await?;
    insert_blobs(live, rewrite.session, &rewrite.blobs).await?;
    live.run(sql::SET_SESSION_KEY, &of.with(&[(key, Type::INT8)])).await?;
    Ok(Wrote::Done)
}

pub(super) async fn roll_up(
    live: &Live,
    session: SessionId,
    segments: &[SealedSegment],
    (blobs, gone_blobs): (&[BlobName], &[BlobName]),
) -> Done {
    let of = Of::session(session);
    live.plain(BEGIN).await?;
    let done = roll_up_inside(live, &of, session, segments, (blobs, gone_blobs)).await;
    end(live, done).await
}

async fn roll_up_inside(
    live: &Live,
    of: &Of,
    session: SessionId,
    segments: &[SealedSegment],
    (blobs, gone_blobs): (&[BlobName], &[BlobName]),
) -> Done {
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
        return Ok(Wrote::Done);
    };
    let Some((key, packed)) = lock(live, of).await? else { return Ok(Wrote::Stale) };
    if key != last.data_key || packed + 1 != first.from {
        return Ok(Wrote::Stale);
    }
    let through = int(last.to);
    let n_gone = live.run(sql::DELETE_EVENTS, &of.with(&[(&through, Type::INT8)])).await?;
    if n_gone != last.to - packed {
        return Ok(Wrote::Stale);
    }
    insert_segments(live, of, segments).await?;
    insert_blobs(live, session, blobs).await?;
    let names: Vec<String> = gone_blobs.iter().map(blob_text).collect();
    live.run(sql::DELETE_SOME_BLOBS, &of.with(&[(&names, Type::TEXT_ARRAY)])).await?;
    live.run(sql::SET_PACKED, &of.with(&[(&through, Type::INT8)])).await?;
    Ok(Wrote::Done)
}

pub(super) async fn delete(live: &Live, session: SessionId) -> Done {
    let of = Of::session(session);
    live.plain(BEGIN).await?;
    let done = delete_inside(live, &of).await;
    end(live, done).await
}

async fn delete_inside(live: &Live, of: &Of) -> Done {
    if lock(live, of).await?.is_none() {
        return Ok(Wrote::Done);
    }
    doom(live, of).await?;
    live.run(sql::DELETE_EVENTS, &of.with(&[(&i64::MAX, Type::INT8)])).await?;
    for statement in [
        sql::DELETE_SEGMENTS,
        sql::DELETE_SNAPSHOT,
        sql::DELETE_INBOX,
        sql::DELETE_DEDUPE,
        sql::DELETE_BLOBS,
        sql::DELETE_SESSION,
    ] {
        live.run(statement, &of.params()).await?;
    }
    Ok(Wrote::Done)
}

pub(super) async fn snapshot(live: &Live, session: SessionId, snapshot: &SealedSnapshot) -> Done {
    let of = Of::session(session);
    let (seq, hash) = (int(snapshot.at.seq), &snapshot.at.hash[..]);
    let params = of.with(&[
        (&seq, Type::INT8),
        (&hash, Type::BYTEA),
        (&snapshot.data_key, Type::INT8),
        (&snapshot.body, Type::BYTEA),
    ]);
    live.run(sql::PUT_SNAPSHOT, &params).await.map(|_| Wrote::Done)
}

// ---- the inbox ---------------------------------------------------------------------------

/// A session that is not there yet gets this key. One that is sealed under another one takes nothing sealed under
/// this: whoever erases it meanwhile would not know of it.
pub(super) async fn post(
    live: &Live,
    session: SessionId,
    key: &str,
    (data_key, body): (KeyId, &[u8]),
) -> Done {
    let of = Of::session(session);
    let (bucket, id) = place(session);
    let (buckets, ids, keys) = (vec![bucket], vec![id], vec![data_key]);
    let new: [(&(dyn ToSql + Sync), Type); 3] =
        [(&buckets, Type::INT2_ARRAY), (&ids, Type::UUID_ARRAY), (&keys, Type::INT8_ARRAY)];
    let params = of.with(&[(&key, Type::TEXT), (&data_key, Type::INT8), (&body, Type::BYTEA)]);
    let by_key = of.with(&[(&key, Type::TEXT)]);
    let (made, posted, there) = tokio::join!(
        live.run(sql::INSERT_SESSIONS, &new),
        live.rows(sql::POST, &params),
        live.rows(sql::POSTED, &by_key),
    );
    made?;
    let (posted, there) = (posted?, there?);
    live.confirmed()?;
    Ok(if posted.is_empty() && there.is_empty() { Wrote::Rekeyed } else { Wrote::Done })
}

pub(super) async fn settle(
    live: &Live,
    session: SessionId,
    key: &str,
    outcome: &PostOutcome,
) -> Done {
    let of = Of::session(session);
    let (landed, refused) = match outcome {
        PostOutcome::Landed(seq) => (Some(int(*seq)), None),
        PostOutcome::Refused(why) => (None, Some(why.as_str())),
    };
    let params = of.with(&[(&key, Type::TEXT), (&landed, Type::INT8), (&refused, Type::TEXT)]);
    live.run(sql::SETTLE, &params).await?;
    live.confirmed().map(|()| Wrote::Done)
}

// ---- the registry ------------------------------------------------------------------------

/// `mark` is drawn for this put: it knows its own document again.
pub(super) async fn put_document(live: &Live, put: &Put, mark: u128) -> Done {
    let (now, expires_at) = (int(put.now), put.expires_at.map(int));
    let (body, mark, expect) = (&put.body[..], Id(mark), put.expect.map(int));
    let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![
        (&put.project, Type::TEXT),
        (&put.kind, Type::TEXT),
        (&put.id, Type::TEXT),
        (&now, Type::INT8),
        (&expires_at, Type::INT8),
        (&body, Type::BYTEA),
        (&mark, Type::UUID),
    ];
    let statement = match &expect {
        None => sql::CREATE_DOCUMENT,
        Some(revision) => {
            params.push((revision, Type::INT8));
            sql::CHANGE_DOCUMENT
        }
    };
    let (wrote, there) =
        tokio::join!(live.rows(statement, &params), live.rows(sql::DOCUMENT, &params[..3]));
    let (wrote, there) = (wrote?, there?);
    live.confirmed()?;
    if let Some(row) = wrote.first() {
        return Ok(Wrote::Revision(number(row, 0).map_err(damaged)?));
    }
    let Some(row) = there.first() else {
        return match put.expect {
            Some(_) => Ok(Wrote::Conflict(None)),
            // It was removed between the two statements.
            None => Err(Trouble::new(Kind::Again, "the document comes and goes".to_owned())),
        };
    };
    let there: Document = document_at(row).map_err(damaged)?;
    if get::<Id>(row, 6).map_err(damaged)? == mark {
        return Ok(Wrote::Revision(there.revision));
    }
    let living = !is_expired(there.expires_at, put.now);
    if living.then_some(there.revision) == put.expect {
        return Err(Trouble::new(Kind::Again, "the document changes all the time".to_owned()));
    }
    Ok(Wrote::Conflict(living.then_some(there)))
}

async fn doom_body(live: &Live, kind: &str, body: &[u8]) -> Result<(), Trouble> {
    let keys: Vec<KeyId> = sealed_under(kind, body).into_iter().collect();
    live.run(sql::DOOM, &[(&keys, Type::INT8_ARRAY)]).await.map(drop)
}

/// A document that is sealed under a key of its own: what it replaces gives up its key in the same transaction.
pub(super) async fn put_sealed(live: &Live, put: &Put, mark: u128) -> Done {
    live.plain(BEGIN).await?;
    let done = put_sealed_inside(live, put, mark).await;
    end(live, done).await
}

async fn put_sealed_inside(live: &Live, put: &Put, mark: u128) -> Done {
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&put.project, Type::TEXT), (&put.kind, Type::TEXT), (&put.id, Type::TEXT)];
    let before = live.rows(sql::DOCUMENT, &params).await?;
    let before = before.first().map(document_at).transpose().map_err(damaged)?;
    let wrote = put_document(live, put, mark).await?;
    // After an unknown outcome it stands there already, and what it replaced was doomed with it.
    if let (Wrote::Revision(revision), Some(old)) = (&wrote, before)
        && old.revision < *revision
    {
        doom_body(live, &put.kind, &old.body).await?;
    }
    Ok(wrote)
}

pub(super) async fn remove_sealed(live: &Live, at: [&String; 3]) -> Done {
    live.plain(BEGIN).await?;
    let done = remove_sealed_inside(live, at).await;
    end(live, done).await
}

async fn remove_sealed_inside(live: &Live, [project, kind, id]: [&String; 3]) -> Done {
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(project, Type::TEXT), (kind, Type::TEXT), (id, Type::TEXT)];
    for row in live.rows(sql::TAKE_DOCUMENT, &params).await? {
        let body: Vec<u8> = get(&row, 0).map_err(damaged)?;
        doom_body(live, kind, &body).await?;
    }
    Ok(Wrote::Done)
}
