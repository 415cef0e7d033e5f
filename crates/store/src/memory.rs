//! The shelf in memory: for tests, for stateless requests, and for what must not outlive the process.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{
    Document, Down, Head, ListKey, Listed, Listing, Order, PostOutcome, Projection,
};

use crate::row::SealedRow;
use crate::shelf::{
    Append, BlobName, Change, DocumentPage, Hold, Kept, KeyId, Rewrite, SEGMENTS_MAX, SealedPost,
    SealedSegment, SealedSnapshot, Shelf, Standing, Wrote, decide_put, is_expired, sealed_under,
};

#[derive(Debug, Default)]
pub(crate) struct MemoryShelf(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<SessionId, Session>,
    doomed: BTreeSet<KeyId>,
    documents: BTreeMap<DocKey, Document>,
    /// The same in the order of their making.
    made: BTreeSet<Made>,
    wakes: BTreeSet<(Millis, SessionId)>,
    ready: BTreeSet<SessionId>,
    listings: BTreeMap<Place, String>,
    under_way: BTreeSet<Place>,
}

/// Project, kind, id.
type DocKey = (String, String, String);
/// Project, kind, when it was made, id.
type Made = (String, String, Millis, String);
/// A session's place among those of its project.
type Place = (String, Millis, SessionId);

#[derive(Debug, Default)]
struct Session {
    data_key: KeyId,
    rows: BTreeMap<Seq, SealedRow>,
    segments: Vec<SealedSegment>,
    snapshot: Option<SealedSnapshot>,
    dedupe: BTreeMap<String, Seq>,
    /// In the order of posting; an entry without a body is settled.
    inbox: Vec<Entry>,
    blobs: BTreeSet<BlobName>,
    wake: Option<Millis>,
    listed: Option<(String, Millis)>,
}

#[derive(Debug)]
struct Entry {
    key: String,
    body: Option<(KeyId, Vec<u8>)>,
    outcome: Option<PostOutcome>,
}

impl Session {
    fn head(&self, id: SessionId) -> Option<Head> {
        let packed = || self.segments.last().map(|it| Head { seq: it.to, hash: it.hash });
        self.rows.values().next_back().map(|it| it.header.head(id)).or_else(packed)
    }

    fn keys(&self) -> BTreeSet<KeyId> {
        let rows = self.rows.values().map(|it| it.data_key);
        let segments = self.segments.iter().map(|it| it.data_key);
        let inbox = self.inbox.iter().filter_map(|it| Some(it.body.as_ref()?.0));
        let snapshot = self.snapshot.iter().map(|it| it.data_key);
        rows.chain(segments).chain(inbox).chain(snapshot).chain([self.data_key]).collect()
    }

    fn settle(&mut self, key: &str, outcome: PostOutcome) {
        if let Some(entry) = self.inbox.iter_mut().find(|it| it.key == key) {
            entry.body = None;
            entry.outcome = Some(outcome);
        }
    }
}

impl State {
    fn append(&mut self, append: Append) -> Wrote {
        let Append { session: id, row, key, consumed, projection, blobs } = append;
        let there = self.sessions.get(&id);
        if let Some(&seq) = key.as_ref().and_then(|key| there?.dedupe.get(key)) {
            return Wrote::Seen(seq);
        }
        let head = there.and_then(|it| it.head(id)).unwrap_or_default();
        if row.header.seq != head.seq + 1 || row.header.prev != head.hash {
            return Wrote::Fenced;
        }
        let (seq, head) = (row.header.seq, row.header.head(id));
        let fresh = Session { data_key: row.data_key, ..Session::default() };
        let session = self.sessions.entry(id).or_insert(fresh);
        session.rows.insert(seq, row);
        session.dedupe.extend(key.map(|key| (key, seq)));
        session.blobs.extend(blobs);
        for key in consumed {
            session.settle(&key, PostOutcome::Landed(seq));
        }
        if let Some(projection) = projection {
            self.project(id, projection);
        }
        Wrote::Landed(head)
    }

    fn project(&mut self, id: SessionId, projection: Projection) {
        let session = self.sessions.get_mut(&id).expect("its append has just landed");
        self.wakes.extend(projection.wake.map(|at| (at, id)));
        if let Some(at) = session.wake.filter(|_| session.wake != projection.wake) {
            self.wakes.remove(&(at, id));
        }
        session.wake = projection.wake;
        match projection.ready {
            true => self.ready.insert(id),
            false => self.ready.remove(&id),
        };
        if let Some(Listing { project, created_at, summary }) = projection.listing {
            let (project, at) = session.listed.get_or_insert((project, created_at)).clone();
            let place = (project, at, id);
            match Listing::is_under_way(&summary) {
                true => self.under_way.insert(place.clone()),
                false => self.under_way.remove(&place),
            };
            self.listings.insert(place, summary);
        }
    }

    fn rewrite(&mut self, rewrite: Rewrite) {
        let Some(session) = self.sessions.get_mut(&rewrite.session) else { return };
        self.doomed.extend(session.keys());
        let data_key = rewrite.data_key;
        for (seq, body) in rewrite.rows {
            if let Some(row) = session.rows.get_mut(&seq) {
                (row.data_key, row.body) = (data_key, body);
            }
        }
        for (key, body) in rewrite.inbox {
            if let Some(entry) = session.inbox.iter_mut().find(|it| it.key == key) {
                entry.body = Some((data_key, body));
            }
        }
        session.segments = rewrite.segments;
        session.blobs = rewrite.blobs.into_iter().collect();
        session.snapshot = None;
        session.data_key = data_key;
    }

    fn delete(&mut self, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.doomed.extend(session.keys());
        self.ready.remove(&id);
        if let Some(at) = session.wake {
            self.wakes.remove(&(at, id));
        }
        if let Some((project, at)) = session.listed {
            let place = (project, at, id);
            self.listings.remove(&place);
            self.under_way.remove(&place);
        }
    }

    fn remove_document(&mut self, at: &DocKey) {
        if let Some(document) = self.documents.remove(at) {
            let (project, kind, id) = at.clone();
            self.doomed.extend(sealed_under(&kind, &document.body));
            self.made.remove(&(project, kind, document.created_at, id));
        }
    }

    fn apply(&mut self, change: Change) -> Wrote {
        match change {
            Change::Append(append) => return self.append(*append),
            Change::Rewrite(rewrite) => self.rewrite(*rewrite),
            Change::Delete { session } => self.delete(session),
            Change::RollUp { session, segments, blobs, gone_blobs } => {
                if let Some(it) = self.sessions.get_mut(&session) {
                    let through = segments.last().map_or(0, |it| it.to);
                    it.rows = it.rows.split_off(&(through + 1));
                    it.segments.extend(segments);
                    it.blobs.extend(blobs);
                    it.blobs.retain(|name| !gone_blobs.contains(name));
                }
            }
            Change::Snapshot { session, snapshot } => {
                if let Some(it) = self.sessions.get_mut(&session) {
                    it.snapshot = Some(snapshot);
                }
            }
            Change::Post { session, key, data_key, body } => {
                let fresh = Session { data_key, ..Session::default() };
                let inbox = &mut self.sessions.entry(session).or_insert(fresh).inbox;
                if inbox.iter().all(|it| it.key != key) {
                    inbox.push(Entry { key, body: Some((data_key, body)), outcome: None });
                }
            }
            Change::Settle { session, key, outcome } => {
                if let Some(it) = self.sessions.get_mut(&session) {
                    it.settle(&key, outcome);
                }
            }
            Change::PutDocument(put) => {
                let at = (put.project.clone(), put.kind.clone(), put.id.clone());
                return match decide_put(self.documents.get(&at).cloned(), &put) {
                    Ok(document) => {
                        let revision = document.revision;
                        self.remove_document(&at);
                        let (project, kind, id) = at.clone();
                        self.made.insert((project, kind, document.created_at, id));
                        self.documents.insert(at, document);
                        Wrote::Revision(revision)
                    }
                    Err(there) => Wrote::Conflict(there),
                };
            }
            Change::RemoveDocument { project, kind, id } => {
                self.remove_document(&(project, kind, id));
            }
            Change::RemoveExpired { now } => {
                let expired = |(_, it): &(&DocKey, &Document)| is_expired(it.expires_at, now);
                let gone = self.documents.iter().filter(expired).map(|(at, _)| at.clone());
                for at in gone.collect::<Vec<DocKey>>() {
                    self.remove_document(&at);
                }
            }
            Change::KeysGone(keys) => self.doomed.retain(|key| !keys.contains(key)),
        }
        Wrote::Done
    }
}

/// Between these are the places of a page.
fn page(project: &str, before: Option<ListKey>) -> (Place, Place) {
    let before =
        before.map_or((Millis::MAX, SessionId(u128::MAX)), |it| (it.created_at, it.session));
    ((project.to_owned(), 0, SessionId(0)), (project.to_owned(), before.0, before.1))
}

fn listed_at(&(_, created_at, session): &Place, summary: &str) -> Listed {
    Listed { session, created_at, summary: summary.to_owned() }
}

impl MemoryShelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no one panics while holding the shelf")
    }

    fn session<T>(&self, id: SessionId, look: impl FnOnce(&Session) -> Option<T>) -> Option<T> {
        look(self.state().sessions.get(&id)?)
    }
}

#[async_trait]
impl Shelf for MemoryShelf {
    async fn write(&self, change: Change, _hold: Hold) -> Result<Wrote, Down> {
        Ok(self.state().apply(change))
    }

    async fn data_key(&self, session: SessionId) -> Result<Option<KeyId>, Down> {
        Ok(self.session(session, |it| Some(it.data_key)))
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        Ok(self.session(session, |it| it.head(session)))
    }

    async fn rows(&self, session: SessionId, after: Seq, limit: usize) -> Result<Kept, Down> {
        let kept = self.session(session, |it| {
            let open = it.segments.iter().filter(|it| it.to > after);
            let segments: Vec<SealedSegment> = open.clone().take(SEGMENTS_MAX).cloned().collect();
            if open.count() > segments.len() {
                return Some(Kept { segments, rows: Vec::new(), more: true });
            }
            let rows = it.rows.range(after + 1..).take(limit).map(|(_, it)| it.clone());
            let rows: Vec<SealedRow> = rows.collect();
            let more = rows.len() == limit;
            Some(Kept { segments, rows, more })
        });
        Ok(kept.unwrap_or_default())
    }

    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        Ok(self.session(session, |it| it.dedupe.get(key).copied()))
    }

    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        let state = self.state();
        let due = state.wakes.iter().take_while(|(at, _)| *at <= now);
        let due = due.filter(|(_, id)| buckets.hold(*id)).take(limit);
        Ok(due.map(|&(at, id)| (id, at)).collect())
    }

    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        let state = self.state();
        Ok(state.wakes.iter().find(|(_, id)| buckets.hold(*id)).map(|&(at, _)| at))
    }

    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        let state = self.state();
        let later = state.ready.iter().filter(|&&id| after.is_none_or(|after| id > after));
        let later = later.filter(|it| buckets.hold(**it));
        Ok(later.take(limit).copied().collect())
    }

    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        let state = self.state();
        let (first, end) = page(project, before);
        let listed = state.listings.range(first..end).rev().take(limit);
        Ok(listed.map(|(place, summary)| listed_at(place, summary)).collect())
    }

    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        let state = self.state();
        let (first, end) = page(project, before);
        let places = state.under_way.range(first..end).rev().take(limit);
        let listed = places.filter_map(|it| Some(listed_at(it, state.listings.get(it)?)));
        Ok(listed.collect())
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<SealedSnapshot>, Down> {
        Ok(self.session(session, |it| it.snapshot.clone()))
    }

    async fn inbox(&self, session: SessionId) -> Result<Vec<SealedPost>, Down> {
        let waiting = |it: &Entry| {
            let (data_key, body) = it.body.clone()?;
            Some(SealedPost { key: it.key.clone(), data_key, body })
        };
        let posts = self.session(session, |it| Some(it.inbox.iter().filter_map(waiting).collect()));
        Ok(posts.unwrap_or_default())
    }

    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        Ok(self.session(session, |it| {
            it.inbox.iter().find(|it| it.key == key).and_then(|it| it.outcome.clone())
        }))
    }

    async fn has_blob(&self, session: SessionId, name: BlobName) -> Result<bool, Down> {
        Ok(self.session(session, |it| it.blobs.get(&name).copied()).is_some())
    }

    async fn keys_in_use(&self, session: SessionId) -> Result<Vec<KeyId>, Down> {
        Ok(self.session(session, |it| Some(it.keys().into_iter().collect())).unwrap_or_default())
    }

    async fn doomed(&self) -> Result<Vec<KeyId>, Down> {
        Ok(self.state().doomed.iter().copied().collect())
    }

    async fn document(
        &self,
        project: &str,
        kind: &str,
        id: &str,
    ) -> Result<Option<Document>, Down> {
        let at = (project.to_owned(), kind.to_owned(), id.to_owned());
        Ok(self.state().documents.get(&at).cloned())
    }

    async fn documents(&self, page: DocumentPage) -> Result<Vec<Document>, Down> {
        let state = self.state();
        let DocumentPage { project, kind, page, now } = page;
        let at = |at: Millis, id: String| (project.clone(), kind.clone(), at, id);
        // No document is made at the end of time, so this is after all of them.
        let (least, most) = (at(0, String::new()), at(Millis::MAX, String::new()));
        let after = page.after.map(|(made, id)| at(made, id));
        let living = |(project, kind, _, id): &Made| {
            let found = state.documents.get(&(project.clone(), kind.clone(), id.clone()));
            found.filter(|it| !is_expired(it.expires_at, now)).cloned()
        };
        Ok(match page.order {
            Order::NewestFirst => {
                let before = after.unwrap_or(most).max(least.clone());
                let them = state.made.range(least..before).rev();
                them.filter_map(living).take(page.limit).collect()
            }
            Order::OldestFirst => {
                let from = after.map_or(Bound::Included(least), Bound::Excluded);
                let them = state.made.range((from, Bound::Unbounded));
                let them = them.take_while(|it| it.0 == project && it.1 == kind);
                them.filter_map(living).take(page.limit).collect()
            }
        })
    }

    async fn scrub(&self) -> Result<(), Down> {
        Ok(())
    }

    async fn standing(&self) -> Result<Standing, Down> {
        Ok(Standing::default())
    }
}
