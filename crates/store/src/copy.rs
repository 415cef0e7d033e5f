//! Carries a whole store to another: in rounds while the source is in use, and a last one when it is not.
//!
//! Nothing is remembered between two runs but what the target holds: each round compares the two sides session by
//! session and copies what differs. So a run that was killed anywhere is gone on with by the next. Until the last
//! round was verified the target is marked, and no server opens it.

pub(crate) mod room;
mod ends;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use everstate_kernel::ids::{BUCKETS, SessionId};
use everstate_runtime::ports::{Document, Down, Put, PutError};

use crate::copy::ends::{Source, Target};
use crate::copy::room::{Beside, DocKey, Quiet, ReadRoom, Write, WriteRoom};
use crate::open::{self, OpenError, Settings, Store};
use crate::shelf::KeyId;

/// A store, and how it is opened.
#[derive(Clone, Debug)]
pub struct End {
    pub url: String,
    pub settings: Settings,
}

/// What was done so far, and what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rounds: u64,
    /// Copied, in the last round.
    pub changed: u64,
    pub sessions: u64,
    pub rows: u64,
    pub segments: u64,
    pub documents: u64,
    pub keys: u64,
    pub blobs: u64,
}

/// How far it came.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Both sides are the same, and every chain of the target verifies: so many rows, of which some were erased.
    Done { counts: Counts, verified: u64, erased: u64 },
    /// The target holds nearly all, and somebody is at work at the source: this one.
    CaughtUp { counts: Counts, busy: String },
}

/// Why it went no further.
#[derive(Debug, PartialEq)]
pub enum CopyError {
    Open(OpenError),
    /// The target is not for us: why.
    Refused(String),
    /// The two sides differ after the last round, or the target does not verify: how.
    Differs(String),
    Down(Down),
}

/// While somebody is at work at the source, so many rounds are made at most.
const ROUNDS_MAX: u64 = 12;
/// With fewer changes in a round, what is left is little.
const LITTLE: u64 = 64;
/// How often the source is looked at while it is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const PAGE: usize = 256;
const DOCUMENTS: usize = 1_000;

/// The mark on a target.
const MARK: (&str, &str, &str) = ("", "copy", "state");
const COPYING: &str = "copying";
const DONE: &str = "done";

/// Kinds of documents that belong to where they are: who uses the place of the blobs, which nodes there are.
const NOT_CARRIED: &[&str] = &["cluster", "copy", BLOBS];
/// Whose the place of the blobs is. Where they stay in their place, this is carried.
const BLOBS: &str = "blobs";

/// Copies `from` to `to`, and says how it goes. With `wait` it stays until nobody is at work at the source.
pub async fn copy(
    from: &End,
    to: &End,
    wait: bool,
    say: &mut (dyn FnMut(&Counts) + Send),
) -> Result<Outcome, CopyError> {
    let source = Source::open(from).await?;
    let target = Target::open(to).await?;
    accept(&source, &target).await?;
    let mut counts = Counts::default();
    let _quiet = loop {
        match source.room.quiet().await? {
            Quiet::Yes(held) => break held,
            Quiet::No(busy) => {
                let caught_up = counts.rounds > 0 && counts.changed < LITTLE;
                if (caught_up || counts.rounds >= ROUNDS_MAX) && !wait {
                    return Ok(Outcome::CaughtUp { counts, busy });
                }
                if !caught_up || wait {
                    round(&source, &target, &mut counts).await?;
                    say(&counts);
                }
                if wait && counts.changed < LITTLE {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    };
    // Nobody is at work: what is the same after this stays the same.
    round(&source, &target, &mut counts).await?;
    say(&counts);
    let (counts, sessions) = compare(&source, &target, counts.rounds).await?;
    // Of two that write, one would be locked out.
    drop(target);
    let (verified, erased) = verify(to, &sessions).await?;
    Ok(Outcome::Done { counts, verified, erased })
}

// ---- the mark ----------------------------------------------------------------------------

/// A target is empty, or was begun from this source and never used.
async fn accept(source: &Source, target: &Target) -> Result<(), CopyError> {
    let ours = installation(&*source.room).await?;
    match find(&*target.room, &key(MARK)).await? {
        Some(mark) => {
            let text = String::from_utf8_lossy(&mark.body).into_owned();
            let (state, theirs) = text.split_once(' ').unwrap_or((&text, ""));
            if state != COPYING {
                let text = "the target holds a finished copy, which may have gone on since: copy into a new store";
                return Err(CopyError::Refused(text.to_owned()));
            }
            if theirs != ours {
                let text = "the target holds the beginning of a copy of another store: copy into a new one";
                return Err(CopyError::Refused(text.to_owned()));
            }
        }
        None => {
            let is_ours = |it: &DocKey| !NOT_CARRIED.contains(&it.1.as_str());
            let documents = documents(&*target.room).await?;
            let mut sessions = 0;
            for bucket in 0..BUCKETS {
                sessions += target.room.sessions(bucket).await?.len();
            }
            if sessions > 0 || documents.keys().any(is_ours) {
                let text = "the target is not empty: a store is copied into a new one";
                return Err(CopyError::Refused(text.to_owned()));
            }
            mark(&*target.room, &format!("{COPYING} {ours}")).await?;
        }
    }
    Ok(())
}

/// By what an installation is known: the hash of what it draws when it first starts.
async fn installation(room: &(impl ReadRoom + ?Sized)) -> Result<String, Down> {
    let drawn = find(room, &key(("", "drawn", "naming"))).await?;
    let hash = |it: Document| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &it.body);
        crate::archive::hex(hash.as_ref())
    };
    Ok(drawn.map_or_else(|| "nobody".to_owned(), hash))
}

async fn mark(target: &dyn WriteRoom, text: &str) -> Result<(), Down> {
    let document = Document {
        id: MARK.2.to_owned(),
        revision: 1,
        created_at: 0,
        updated_at: 0,
        expires_at: None,
        body: text.to_owned().into(),
    };
    target.write(Write::Document(key(MARK), document)).await
}

fn key((project, kind, id): (&str, &str, &str)) -> DocKey {
    (project.to_owned(), kind.to_owned(), id.to_owned())
}

async fn find(room: &(impl ReadRoom + ?Sized), wanted: &DocKey) -> Result<Option<Document>, Down> {
    // The names are in order: the one before it leads to it.
    let (project, kind, id) = wanted;
    let before = (project.clone(), kind.clone(), id[..id.len() - 1].to_owned());
    let page = room.documents(Some(&before), DOCUMENTS).await?;
    Ok(page.into_iter().find(|it| it.0 == *wanted).map(|it| it.1))
}

/// Is this store the target of a copy that is not finished? No server may open it.
pub(crate) async fn refuse_unfinished(store: &Store) -> Result<(), OpenError> {
    let (project, kind, id) = MARK;
    let mark = store.registry.get(project, kind, id).await;
    let mark = mark.map_err(|down| OpenError::Down(down.0))?;
    match mark.is_some_and(|it| it.body.starts_with(COPYING.as_bytes())) {
        false => Ok(()),
        true => Err(OpenError::Down(
            "another store is being copied into this one, and the copy is not finished: run the same \
             `everstate store copy` again"
                .to_owned(),
        )),
    }
}

// ---- a round -----------------------------------------------------------------------------

async fn round(source: &Source, target: &Target, counts: &mut Counts) -> Result<(), Down> {
    *counts = Counts { rounds: counts.rounds + 1, ..Counts::default() };
    // Keys come first and again last, so that what is readable at the source is readable at the target.
    keys(source, target, counts).await?;
    for bucket in 0..BUCKETS {
        let ours = source.room.sessions(bucket).await?;
        let theirs: BTreeSet<SessionId> = target.room.sessions(bucket).await?.into_iter().collect();
        for session in &ours {
            counts.sessions += 1;
            one(source, target, *session, counts).await?;
        }
        let ours: BTreeSet<SessionId> = ours.into_iter().collect();
        for gone in theirs.difference(&ours) {
            target.room.write(Write::Forget(*gone)).await?;
            counts.changed += 1;
        }
    }
    carry_documents(source, target, counts).await?;
    keys(source, target, counts).await?;
    let doomed = source.room.doomed().await?;
    if target.room.doomed().await? != doomed {
        target.room.write(Write::Doomed(doomed)).await?;
    }
    Ok(())
}

async fn one(
    source: &Source,
    target: &Target,
    session: SessionId,
    counts: &mut Counts,
) -> Result<(), Down> {
    let Some(ours) = source.room.beside(session).await? else { return Ok(()) };
    counts.rows += ours.rows.1;
    counts.segments += ours.segments.len() as u64;
    counts.blobs += ours.blobs.len() as u64;
    let theirs = target.room.beside(session).await?;
    if theirs.as_ref() == Some(&ours) {
        return Ok(());
    }
    counts.changed += 1;
    for name in &ours.blobs {
        target.blobs.carry(&source.blobs, session, *name).await?;
    }
    // What was only appended to is added to; anything else is carried anew.
    let mut after = match &theirs {
        Some(theirs) if is_beginning(theirs, &ours) => theirs.rows.0.map_or(0, |it| it.seq),
        Some(_) | None => {
            target.room.write(Write::Forget(session)).await?;
            segments(source, target, session, &ours).await?;
            0
        }
    };
    let end = ours.rows.0.map_or(0, |it| it.seq);
    while after < end {
        let mut page = source.room.rows(session, after, PAGE).await?;
        page.retain(|it| it.header.seq <= end);
        // Packed meanwhile: the next round sees it.
        let Some(last) = page.last() else { break };
        after = last.header.seq;
        target.room.write(Write::Rows(session, page)).await?;
    }
    target.room.write(Write::Beside(session, Box::new(ours))).await
}

fn is_beginning(theirs: &Beside, ours: &Beside) -> bool {
    let end = |it: &Beside| it.rows.0.map_or(0, |it| it.seq);
    theirs.data_key == ours.data_key
        && theirs.segments == ours.segments
        && end(theirs) <= end(ours)
        // As many rows as there are positions: none was left out.
        && ours.rows.1 - theirs.rows.1.min(ours.rows.1) == end(ours) - end(theirs)
}

async fn segments(
    source: &Source,
    target: &Target,
    session: SessionId,
    ours: &Beside,
) -> Result<(), Down> {
    let (mut after, end) = (0, ours.segments.last().map_or(0, |it| it.to));
    while after < end {
        let page = source.room.segments(session, after, 2).await?;
        let Some(last) = page.last() else { break };
        after = last.to;
        target.room.write(Write::Segments(session, page)).await?;
    }
    Ok(())
}

async fn documents(room: &(impl ReadRoom + ?Sized)) -> Result<BTreeMap<DocKey, Document>, Down> {
    let mut all: BTreeMap<DocKey, Document> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = room.documents(after.as_ref(), DOCUMENTS).await?;
        let n = page.len();
        after = page.last().map(|it| it.0.clone());
        all.extend(page);
        if n < DOCUMENTS {
            return Ok(all);
        }
    }
}

/// The documents that are carried, of both sides.
async fn carried(
    source: &Source,
    target: &Target,
) -> Result<(BTreeMap<DocKey, Document>, BTreeMap<DocKey, Document>), Down> {
    let stay = source.blobs.place() == target.blobs.place();
    let is_carried = |it: &DocKey, _: &mut Document| {
        !NOT_CARRIED.contains(&it.1.as_str()) || (stay && it.1 == BLOBS)
    };
    let (mut ours, mut theirs) = (documents(&*source.room).await?, documents(&*target.room).await?);
    ours.retain(is_carried);
    theirs.retain(is_carried);
    Ok((ours, theirs))
}

async fn carry_documents(
    source: &Source,
    target: &Target,
    counts: &mut Counts,
) -> Result<(), Down> {
    let (ours, theirs) = carried(source, target).await?;
    counts.documents = ours.len() as u64;
    for key in theirs.keys().filter(|it| !ours.contains_key(*it)) {
        target.room.write(Write::DropDocument(key.clone())).await?;
    }
    for (key, document) in ours {
        if theirs.get(&key) != Some(&document) {
            target.room.write(Write::Document(key, document)).await?;
        }
    }
    Ok(())
}

/// Every data key of the source, wrapped anew; keys that were destroyed there are destroyed here.
async fn keys(source: &Source, target: &Target, counts: &mut Counts) -> Result<(), Down> {
    let theirs = ids(target).await?;
    let (mut ours, mut after) = (BTreeSet::new(), None);
    loop {
        let page = source.keys.list(after, PAGE).await?;
        let n = page.len();
        after = page.last().map(|it| it.0);
        ours.extend(page.iter().map(|it| it.0));
        let new: Vec<(KeyId, [u8; 32])> =
            page.into_iter().filter(|it| !theirs.contains(&it.0)).collect();
        if !new.is_empty() {
            target.keys.put(&new).await?;
        }
        if n < PAGE {
            break;
        }
    }
    counts.keys = ours.len() as u64;
    let gone: Vec<KeyId> = theirs.difference(&ours).copied().collect();
    for some in gone.chunks(PAGE) {
        target.keys.remove(some).await?;
    }
    Ok(())
}

async fn ids(target: &Target) -> Result<BTreeSet<KeyId>, Down> {
    let (mut ids, mut after) = (BTreeSet::new(), None);
    loop {
        let page = target.keys.list(after, PAGE).await?;
        let n = page.len();
        after = page.last().map(|it| it.0);
        ids.extend(page.into_iter().map(|it| it.0));
        if n < PAGE {
            return Ok(ids);
        }
    }
}

// ---- the end -----------------------------------------------------------------------------

/// Everything is on both sides, and the same.
async fn compare(
    source: &Source,
    target: &Target,
    rounds: u64,
) -> Result<(Counts, Vec<SessionId>), CopyError> {
    let mut counts = Counts { rounds, ..Counts::default() };
    let mut sessions = Vec::new();
    for bucket in 0..BUCKETS {
        let ours = source.room.sessions(bucket).await?;
        if ours != target.room.sessions(bucket).await? {
            return Err(CopyError::Differs(format!("the sessions of bucket {bucket} differ")));
        }
        for session in ours {
            let ours = source.room.beside(session).await?;
            if ours != target.room.beside(session).await? {
                return Err(CopyError::Differs(format!("{session} differs")));
            }
            let Some(ours) = ours else { continue };
            sessions.push(session);
            counts.sessions += 1;
            counts.rows += ours.rows.1;
            counts.segments += ours.segments.len() as u64;
            counts.blobs += ours.blobs.len() as u64;
        }
    }
    let (ours, theirs) = carried(source, target).await?;
    if ours != theirs {
        return Err(CopyError::Differs("the documents differ".to_owned()));
    }
    counts.documents = ours.len() as u64;
    let theirs = ids(target).await?;
    let (mut n_keys, mut after) = (0, None);
    loop {
        let page = source.keys.list(after, PAGE).await?;
        if let Some((id, _)) = page.iter().find(|it| !theirs.contains(&it.0)) {
            return Err(CopyError::Differs(format!("data key {id} is missing")));
        }
        n_keys += page.len();
        after = page.last().map(|it| it.0);
        if page.len() < PAGE {
            break;
        }
    }
    if n_keys != theirs.len() {
        return Err(CopyError::Differs(
            "the target has data keys that the source has not".to_owned(),
        ));
    }
    counts.keys = n_keys as u64;
    Ok((counts, sessions))
}

/// Opens the target as a server would, and every row in it. Then it is nobody's copy any more.
async fn verify(to: &End, sessions: &[SessionId]) -> Result<(u64, u64), CopyError> {
    let store = open::unfinished(&to.url, to.settings.clone()).await?;
    let (mut rows, mut erased) = (0, 0);
    for &session in sessions {
        let verdict = store.log.verify(session).await?;
        let kept = store.archive.verify(session).await?;
        for verdict in std::iter::once(verdict).chain(kept.into_iter().map(|it| it.verdict)) {
            if let Some(broken) = verdict.broken {
                return Err(CopyError::Differs(format!("{session} does not verify: {broken}")));
            }
            rows += verdict.rows;
            erased += verdict.erased;
        }
    }
    let (project, kind, id) = MARK;
    let mark = store.registry.get(project, kind, id).await?;
    let put = Put {
        project: project.to_owned(),
        kind: kind.to_owned(),
        id: id.to_owned(),
        expect: mark.map(|it| it.revision),
        body: DONE.into(),
        now: (to.settings.now)(),
        expires_at: None,
    };
    store.registry.put(put).await.map_err(|err| match err {
        PutError::Down(down) => CopyError::Down(down),
        PutError::Conflict(_) => {
            CopyError::Differs("somebody else writes to the target".to_owned())
        }
    })?;
    store.upkeep.close().await?;
    Ok((rows, erased))
}

impl From<Down> for CopyError {
    fn from(down: Down) -> CopyError {
        CopyError::Down(down)
    }
}

impl From<OpenError> for CopyError {
    fn from(err: OpenError) -> CopyError {
        CopyError::Open(err)
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CopyError::Open(err) => write!(f, "{err}"),
            CopyError::Refused(why) => f.write_str(why),
            CopyError::Differs(how) => write!(f, "the copy is not the same: {how}"),
            CopyError::Down(down) => write!(f, "{down}"),
        }
    }
}

impl std::error::Error for CopyError {}
