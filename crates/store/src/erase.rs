//! Rewriting a session: its contents under a new key with something taken out, or packed together.

use std::collections::BTreeSet;
use std::time::Instant;

use everstate_kernel::ids::{Seq, SessionId};
use everstate_runtime::ports::{Down, Redact, RowKind};

use crate::archive;
use crate::blobs::still_fresh;
use crate::log::{Opened, SealedLog, blob_name, inbox_place};
use crate::seal::{Content, DataKey};
use crate::segment::{self, Packed};
use crate::shelf::{BlobName, Change, Kept, Rewrite, SealedSegment, Wrote};

/// How many rows are read at once.
const PAGE: usize = 1_000;
/// How often an erasure begins anew because another node wrote meanwhile.
const TRIES: usize = 20;

/// One change on the shelf: a crash leaves all as it was, or all of it erased. The old keys are remembered as doomed
/// in the same change, so that their destruction is not forgotten either.
pub(crate) async fn erase(log: &SealedLog, session: SessionId, redact: Redact) -> Result<(), Down> {
    for _ in 0..TRIES {
        let hold = log.stripes.alone(session).await;
        let Some(rewrite) = rewritten(log, session, &redact).await? else { return Ok(()) };
        log.forget(session);
        // Who rewrites alone here may still have a neighbour elsewhere: then all is read anew.
        let key = rewrite.data_key;
        if log.shelf.write(Change::Rewrite(Box::new(rewrite)), Some(Box::new(hold))).await?
            != Wrote::Stale
        {
            return Ok(());
        }
        // Blobs may be sealed under it that nothing names.
        log.keys.destroy(vec![key]).await?;
    }
    Err(Down(format!("{session} could not be erased: it changed all the time; try again")))
}

async fn rewritten(
    log: &SealedLog,
    session: SessionId,
    redact: &Redact,
) -> Result<Option<Rewrite>, Down> {
    let began = Instant::now();
    let was = log.shelf.data_key(session).await?;
    let kept = everything(log, session).await?;
    if kept.rows.is_empty() && kept.segments.is_empty() {
        return Ok(None);
    }
    let key = log.keys.take().await?;
    log.keys.remember(&key);
    let mut rewrite = Rewrite {
        session,
        was,
        packed: kept.segments.iter().map(|it| it.to).collect(),
        data_key: key.id,
        rows: Vec::new(),
        segments: Vec::new(),
        inbox: Vec::new(),
        blobs: Vec::new(),
    };
    for sealed in &kept.segments {
        let mut packed = Vec::new();
        for opened in log.open_segment(session, sealed).await? {
            packed.push(redacted(log, session, &key, opened, redact, &mut rewrite.blobs).await?);
        }
        let prev = first_prev(&packed, sealed);
        for piece in segment::pack(session, (sealed.from, sealed.to), prev, &packed) {
            let sealed = log.seal_segment(session, &key, piece, &mut rewrite.blobs).await?;
            rewrite.segments.push(sealed);
        }
    }
    for sealed in kept.rows {
        let opened = log.open_row(session, sealed).await?;
        let row = redacted(log, session, &key, opened, redact, &mut rewrite.blobs).await?;
        let text = row.content.text();
        rewrite.rows.push((row.header.seq, key.seal(&row.header.hash(session), &text)));
    }
    for posted in log.shelf.inbox(session).await? {
        let place = inbox_place(session, &posted.key);
        let old = log.keys.find(posted.data_key).await?;
        let body = old.and_then(|it| it.open(&place, &posted.body));
        let damaged = || Down(format!("`{}` in the inbox of {session} is damaged", posted.key));
        rewrite.inbox.push((posted.key.clone(), key.seal(&place, &body.ok_or_else(damaged)?)));
    }
    still_fresh(began)?;
    Ok(Some(rewrite))
}

/// What is left of a row. Its header stays: the chain does not know that something is gone, the row does.
async fn redacted(
    log: &SealedLog,
    session: SessionId,
    key: &DataKey,
    Opened { header, content, .. }: Opened,
    redact: &Redact,
    blobs: &mut Vec<BlobName>,
) -> Result<Packed, Down> {
    let body = log.body_of(session, &content).await?;
    let (salt, body) = match redact(header.kind, header.seq, &body) {
        Some(left) => (None, left),
        None => (content.salt, body),
    };
    let (body, in_blob) = match log.put_if_big(session, key, &body).await? {
        Some(name) => {
            blobs.push(name);
            (name.to_vec(), true)
        }
        None => (body, false),
    };
    let kept = archive::rewrite(log, session, key, &content.kept, redact).await?;
    blobs.extend(&kept);
    Ok(Packed { header, content: Content { salt, body, in_blob, kept } })
}

/// Packs closed history. What was packed before stays as it is.
pub(crate) async fn roll_up(log: &SealedLog, session: SessionId, through: Seq) -> Result<(), Down> {
    let hold = log.stripes.alone(session).await;
    let kept = everything(log, session).await?;
    let (mut rows, mut dropped, mut kept_blobs) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut data_key = None;
    for sealed in kept.rows {
        let is_packed = sealed.header.seq <= through;
        let opened = log.open_row(session, sealed).await?;
        let gone = is_packed && opened.header.kind == RowKind::Frame;
        if let Some(name) = blob_name(&opened.content) {
            if gone { &mut dropped } else { &mut kept_blobs }.insert(name);
        }
        data_key = Some(opened.data_key);
        if is_packed {
            rows.push(Packed { header: opened.header, content: opened.content });
        }
    }
    let (Some(first), Some(last), Some(id)) = (rows.first(), rows.last(), data_key) else {
        return Ok(());
    };
    let (range, prev) = ((first.header.seq, last.header.seq), first.header.prev);
    let key = log.keys.find(id).await?;
    let key = key.ok_or_else(|| Down(format!("data key {id} of {session} is gone")))?;
    let began = Instant::now();
    let (mut segments, mut blobs) = (Vec::new(), Vec::new());
    for piece in segment::pack(session, range, prev, &rows) {
        segments.push(log.seal_segment(session, &key, piece, &mut blobs).await?);
    }
    let gone_blobs = dropped.difference(&kept_blobs).copied().collect();
    still_fresh(began)?;
    log.done(Change::RollUp { session, segments, blobs, gone_blobs }, Some(Box::new(hold))).await
}

/// Every row and segment of a session.
pub(crate) async fn everything(log: &SealedLog, session: SessionId) -> Result<Kept, Down> {
    let mut all = Kept::default();
    let mut after = 0;
    loop {
        let page = log.shelf.rows(session, after, PAGE).await?;
        let (more, end) = (page.more, page.end());
        all.segments.extend(page.segments);
        all.rows.extend(page.rows);
        match end {
            Some(seq) if more => after = seq,
            _ => return Ok(all),
        }
    }
}

/// The chain's hash where a segment begins.
fn first_prev(rows: &[Packed], sealed: &SealedSegment) -> everstate_runtime::ports::Hash {
    // A segment without `Events` rows does not move the chain: its end is its beginning.
    rows.first().map_or(sealed.hash, |it| it.header.prev)
}
