//! What a batch of appends is in SQL: one attempt at it, in one statement or one transaction. Whoever lands, lands
//! with all that belongs to him; whoever does not is told why, and harms no neighbour.

use std::collections::{HashMap, HashSet};

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Down, Hash, Head};
use futures_util::future::try_join_all;
use tokio_postgres::types::{ToSql, Type};

use crate::postgres::connect::Live;
use crate::postgres::statements as sql;
use crate::postgres::trouble::{Kind, Trouble};
use crate::postgres::values::{Id, blob_text, get, hash_at, head_of, int, number, place};
use crate::row::kind_code;
use crate::shelf::{Append, Wrote};

/// Of how many sessions the end of the log is remembered.
const HEADS_MAX: usize = 16_384;

/// A transaction that was forgotten by its client must not hold a session for long.
pub(super) const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 10000";

/// An append that waits for its outcome.
pub(super) struct Tried {
    pub(super) append: Box<Append>,
    /// It was found to come next. That stays so: what came before it does not change, and if an earlier try has landed
    /// it, the row there is its own.
    pub(super) follows: bool,
    pub(super) wrote: Option<Wrote>,
}

/// The ends of logs as this node wrote or read them. Another node may have written on: what lands is decided by the
/// database alone.
#[derive(Debug, Default)]
pub(super) struct Heads(HashMap<SessionId, Head>);

impl Heads {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    fn remember(&mut self, session: SessionId, head: Head) {
        if self.0.len() >= HEADS_MAX {
            // Which ones go does not matter: what is forgotten is looked up.
            let mut n = 0;
            self.0.retain(|_, _| {
                n += 1;
                n > HEADS_MAX / 8
            });
        }
        self.0.insert(session, head);
    }
}

/// One try. Those that are decided by it have their outcome afterwards; at least one is, unless it is an error. No two
/// of a batch are of one session.
pub(super) async fn attempt(
    live: &Live,
    heads: &mut Heads,
    batch: &mut [Tried],
) -> Result<(), Trouble> {
    look_up_heads(live, heads, batch).await?;
    let (mut fit, mut unfit) = (Vec::new(), Vec::new());
    for (n, tried) in batch.iter_mut().enumerate().filter(|(_, it)| it.wrote.is_none()) {
        tried.follows |= follows(heads, &tried.append);
        if tried.follows { &mut fit } else { &mut unfit }.push(n);
    }
    if unfit.is_empty() {
        let landing = land(live, batch, &fit).await?;
        for (n, landed) in fit.into_iter().zip(landing.landed) {
            match landed {
                true if landing.committed => land_at(heads, &mut batch[n]),
                true => {}
                false => unfit.push(n),
            }
        }
    }
    for n in unfit {
        let tried = &mut batch[n];
        heads.0.remove(&tried.append.session);
        match why_not(live, &tried.append).await? {
            Some(Wrote::Landed(_)) => land_at(heads, tried),
            other => tried.wrote = other,
        }
    }
    Ok(())
}

fn land_at(heads: &mut Heads, tried: &mut Tried) {
    let session = tried.append.session;
    let head = tried.append.row.header.head(session);
    heads.remember(session, head);
    tried.wrote = Some(Wrote::Landed(head));
}

fn follows(heads: &Heads, append: &Append) -> bool {
    let header = &append.row.header;
    let head = heads.0.get(&append.session).copied().unwrap_or_default();
    header.seq == head.seq + 1 && header.prev == head.hash
}

/// A first row needs no look: either its position is free, or it is not.
async fn look_up_heads(live: &Live, heads: &mut Heads, batch: &[Tried]) -> Result<(), Trouble> {
    let unknown = batch.iter().filter(|it| {
        let is_first = !heads.0.contains_key(&it.append.session) && it.append.row.header.seq == 1;
        it.wrote.is_none() && !it.follows && !is_first && !follows(heads, &it.append)
    });
    let sessions: Vec<SessionId> = unknown.map(|it| it.append.session).collect();
    let found = try_join_all(sessions.iter().map(|it| head(live, *it))).await?;
    for (session, head) in sessions.into_iter().zip(found) {
        match head {
            Some(head) => heads.remember(session, head),
            None => drop(heads.0.remove(&session)),
        }
    }
    Ok(())
}

/// The row is asked for first: a roll-up in between moves it to where is looked next.
pub(super) async fn head(live: &Live, session: SessionId) -> Result<Option<Head>, Trouble> {
    let (bucket, id) = place(session);
    let params: [(&(dyn ToSql + Sync), Type); 2] = [(&bucket, Type::INT2), (&id, Type::UUID)];
    let event = live.rows(sql::LAST_EVENT, &params);
    let segment = live.rows(sql::LAST_SEGMENT, &params);
    let (event, segment) = tokio::join!(event, segment);
    head_of(session, &event?, &segment?).map_err(damaged)
}

pub(super) fn damaged(down: Down) -> Trouble {
    Trouble::new(Kind::Refused, down.0)
}

// ---- landing -----------------------------------------------------------------------------

struct Landing {
    landed: Vec<bool>,
    /// If not, those that landed did so in vain, and are tried again without the others.
    committed: bool,
}

async fn land(live: &Live, batch: &[Tried], fit: &[usize]) -> Result<Landing, Trouble> {
    let appends: Vec<&Append> = fit.iter().map(|n| &*batch[*n].append).collect();
    let is_plain = |it: &&Append| {
        let alone = it.key.is_none() && it.projection.is_none();
        it.row.header.seq > 1 && alone && it.consumed.is_empty() && it.blobs.is_empty()
    };
    if appends.is_empty() {
        return Ok(Landing { landed: Vec::new(), committed: true });
    }
    if appends.iter().all(is_plain) {
        let landed = insert_events(live, &appends).await?;
        live.confirmed()?;
        let landed = appends.iter().map(|it| landed.contains(&it.row.header.mac)).collect();
        return Ok(Landing { landed, committed: true });
    }
    let (begun, _, events, keys) = tokio::join!(
        live.plain(BEGIN),
        insert_sessions(live, &appends),
        insert_events(live, &appends),
        insert_keys(live, &appends),
    );
    let first = begun.and(events.as_ref().map(drop).map_err(Trouble::clone));
    if let Err(trouble) = first.and(keys.as_ref().map(drop).map_err(Trouble::clone)) {
        // If this does not arrive either, the connection is given up, and the transaction with it.
        let _ = live.plain("ROLLBACK").await;
        return Err(trouble);
    }
    let (events, keys) = (events?, keys?);
    let landed = |it: &&Append| {
        events.contains(&it.row.header.mac) && (it.key.is_none() || keys.contains(&it.session))
    };
    let landed: Vec<bool> = appends.iter().map(landed).collect();
    if landed.contains(&false) {
        live.plain("ROLLBACK").await?;
        return Ok(Landing { landed, committed: false });
    }
    let (projected, settled, named, committed) = tokio::join!(
        project(live, &appends),
        settle(live, &appends),
        insert_blobs(live, &appends),
        live.plain("COMMIT"),
    );
    // After an error, what was sent as a commit has rolled back.
    projected.and(settled).and(named)?;
    committed?;
    live.confirmed()?;
    Ok(Landing { landed, committed: true })
}

/// The keyed hashes of those that landed: like no other's.
async fn insert_events(live: &Live, appends: &[&Append]) -> Result<HashSet<Hash>, Trouble> {
    let (buckets, ids) = places(appends);
    let header = |it: &&Append| it.row.header.clone();
    let headers: Vec<_> = appends.iter().map(header).collect();
    let seqs: Vec<i64> = headers.iter().map(|it| int(it.seq)).collect();
    let kinds: Vec<i16> = headers.iter().map(|it| i16::from(kind_code(it.kind))).collect();
    let versions: Vec<i32> = headers.iter().map(|it| i32::from(it.version)).collect();
    let ats: Vec<i64> = headers.iter().map(|it| int(it.at)).collect();
    let prevs: Vec<&[u8]> = headers.iter().map(|it| &it.prev[..]).collect();
    let macs: Vec<&[u8]> = headers.iter().map(|it| &it.mac[..]).collect();
    let keys: Vec<i64> = appends.iter().map(|it| it.row.data_key).collect();
    let bodies: Vec<&[u8]> = appends.iter().map(|it| &it.row.body[..]).collect();
    let params: [(&(dyn ToSql + Sync), Type); 10] = [
        (&buckets, Type::INT2_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&seqs, Type::INT8_ARRAY),
        (&kinds, Type::INT2_ARRAY),
        (&versions, Type::INT4_ARRAY),
        (&ats, Type::INT8_ARRAY),
        (&prevs, Type::BYTEA_ARRAY),
        (&macs, Type::BYTEA_ARRAY),
        (&keys, Type::INT8_ARRAY),
        (&bodies, Type::BYTEA_ARRAY),
    ];
    let landed = live.rows(sql::INSERT_EVENTS, &params).await?;
    landed.iter().map(|row| hash_at(row, 0).map_err(damaged)).collect()
}

fn places<'a>(appends: impl IntoIterator<Item = &'a &'a Append>) -> (Vec<i16>, Vec<Id>) {
    appends.into_iter().map(|it| place(it.session)).unzip()
}

/// Of those that may be the first of their session.
async fn insert_sessions(live: &Live, appends: &[&Append]) -> Result<(), Trouble> {
    let firsts: Vec<&Append> =
        appends.iter().copied().filter(|it| it.row.header.seq == 1).collect();
    if firsts.is_empty() {
        return Ok(());
    }
    let (buckets, ids) = places(&firsts);
    let keys: Vec<i64> = firsts.iter().map(|it| it.row.data_key).collect();
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&buckets, Type::INT2_ARRAY), (&ids, Type::UUID_ARRAY), (&keys, Type::INT8_ARRAY)];
    live.run(sql::INSERT_SESSIONS, &params).await.map(drop)
}

/// The sessions whose input's key was not there yet.
async fn insert_keys(live: &Live, appends: &[&Append]) -> Result<HashSet<SessionId>, Trouble> {
    let keyed: Vec<&Append> = appends.iter().copied().filter(|it| it.key.is_some()).collect();
    if keyed.is_empty() {
        return Ok(HashSet::new());
    }
    let (buckets, ids) = places(&keyed);
    let keys: Vec<&str> = keyed.iter().filter_map(|it| it.key.as_deref()).collect();
    let seqs: Vec<i64> = keyed.iter().map(|it| int(it.row.header.seq)).collect();
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&buckets, Type::INT2_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&seqs, Type::INT8_ARRAY),
    ];
    let new = live.rows(sql::INSERT_DEDUPES, &params).await?;
    new.iter().map(|row| get::<Id>(row, 1).map(|it| SessionId(it.0)).map_err(damaged)).collect()
}

async fn project(live: &Live, appends: &[&Append]) -> Result<(), Trouble> {
    let projected: Vec<&Append> =
        appends.iter().copied().filter(|it| it.projection.is_some()).collect();
    if projected.is_empty() {
        return Ok(());
    }
    let (buckets, ids) = places(&projected);
    let projections: Vec<_> = projected.iter().filter_map(|it| it.projection.as_ref()).collect();
    let wakes: Vec<Option<i64>> = projections.iter().map(|it| it.wake.map(int)).collect();
    let readies: Vec<bool> = projections.iter().map(|it| it.ready).collect();
    let listings: Vec<_> = projections.iter().map(|it| it.listing.as_ref()).collect();
    let projects: Vec<Option<&str>> =
        listings.iter().map(|it| it.map(|it| it.project.as_str())).collect();
    let created: Vec<Option<i64>> =
        listings.iter().map(|it| it.map(|it| int(it.created_at))).collect();
    let summaries: Vec<Option<&str>> =
        listings.iter().map(|it| it.map(|it| it.summary.as_str())).collect();
    let params: [(&(dyn ToSql + Sync), Type); 7] = [
        (&buckets, Type::INT2_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&wakes, Type::INT8_ARRAY),
        (&readies, Type::BOOL_ARRAY),
        (&projects, Type::TEXT_ARRAY),
        (&created, Type::INT8_ARRAY),
        (&summaries, Type::TEXT_ARRAY),
    ];
    live.run(sql::PROJECT, &params).await.map(drop)
}

async fn settle(live: &Live, appends: &[&Append]) -> Result<(), Trouble> {
    let consumed =
        || appends.iter().copied().flat_map(|it| it.consumed.iter().map(move |key| (it, key)));
    let (buckets, ids): (Vec<i16>, Vec<Id>) = consumed().map(|(it, _)| place(it.session)).unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = consumed().map(|(_, key)| key.as_str()).collect();
    let landed: Vec<i64> = consumed().map(|(it, _)| int(it.row.header.seq)).collect();
    let params: [(&(dyn ToSql + Sync), Type); 4] = [
        (&buckets, Type::INT2_ARRAY),
        (&ids, Type::UUID_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&landed, Type::INT8_ARRAY),
    ];
    live.run(sql::SETTLE_LANDED, &params).await.map(drop)
}

async fn insert_blobs(live: &Live, appends: &[&Append]) -> Result<(), Trouble> {
    let blobs =
        || appends.iter().copied().flat_map(|it| it.blobs.iter().map(move |name| (it, name)));
    let (buckets, ids): (Vec<i16>, Vec<Id>) = blobs().map(|(it, _)| place(it.session)).unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = blobs().map(|(_, name)| blob_text(name)).collect();
    let params: [(&(dyn ToSql + Sync), Type); 3] =
        [(&buckets, Type::INT2_ARRAY), (&ids, Type::UUID_ARRAY), (&names, Type::TEXT_ARRAY)];
    live.run(sql::INSERT_BLOBS, &params).await.map(drop)
}

// ---- why not -----------------------------------------------------------------------------

/// Why an append did not land just now. `None`: nothing is in its way any more.
async fn why_not(live: &Live, append: &Append) -> Result<Option<Wrote>, Trouble> {
    let (bucket, id) = place(append.session);
    let header = &append.row.header;
    let (seq, key) = (int(header.seq), append.key.as_deref().unwrap_or_default());
    let session: [(&(dyn ToSql + Sync), Type); 2] = [(&bucket, Type::INT2), (&id, Type::UUID)];
    let at: [(&(dyn ToSql + Sync), Type); 3] =
        [(&bucket, Type::INT2), (&id, Type::UUID), (&seq, Type::INT8)];
    let by_key: [(&(dyn ToSql + Sync), Type); 3] =
        [(&bucket, Type::INT2), (&id, Type::UUID), (&key, Type::TEXT)];
    // A write that changes nothing: what is seen after it is as durable as what we were to write.
    let (touched, there, seen, held) = tokio::join!(
        live.run(sql::TOUCH_SESSION, &session),
        live.rows(sql::EVENT_MAC, &at),
        live.rows(sql::SEEN, &by_key),
        live.rows(sql::SESSION, &session),
    );
    touched?;
    live.confirmed()?;
    let there = there?.first().map(|row| hash_at(row, 0)).transpose().map_err(damaged)?;
    if there == Some(header.mac) {
        return Ok(Some(Wrote::Landed(header.head(append.session))));
    }
    if let Some(row) = seen?.first().filter(|_| append.key.is_some()) {
        return Ok(Some(Wrote::Seen(number(row, 0).map_err(damaged)?)));
    }
    let held = held?;
    let Some(row) = held.first() else {
        return Ok((header.seq > 1).then_some(Wrote::Fenced));
    };
    let (data_key, packed): (i64, Seq) =
        (get(row, 0).map_err(damaged)?, number(row, 1).map_err(damaged)?);
    if there.is_some() || packed >= header.seq {
        return Ok(Some(Wrote::Fenced));
    }
    if data_key != append.row.data_key {
        return Ok(Some(Wrote::Rekeyed));
    }
    // Its position is free: it is not the one that comes next, or what stood in its way is gone.
    let end = head(live, append.session).await?.unwrap_or_default();
    let follows = header.seq == end.seq + 1 && header.prev == end.hash;
    Ok((!follows).then_some(Wrote::Fenced))
}
