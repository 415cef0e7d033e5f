//! A log and a registry in memory that can stumble, and that remember who wrote what.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::delta::Frame;
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_kernel::state::Session;
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{
    AppendError, Clock as _, Document, Down, Head, Landed, ListKey, Listed, Listing, Log, NewRow,
    Page, PostOutcome, Posted, Projection, Put, PutError, Redact, Registry, Row, RowKind, Verdict,
};

use crate::clock::TestClock;

/// What every host on this log shares.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    clock: TestClock,
    stored: Arc<Mutex<Stored>>,
}

#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) sessions: BTreeMap<SessionId, Rows>,
    pub(crate) documents: BTreeMap<(String, String, String), Document>,
    pub(crate) inbox: BTreeMap<SessionId, Vec<Posted>>,
    pub(crate) outcomes: BTreeMap<(SessionId, String), PostOutcome>,
    /// Hosts (by their numbers) that were fenced, where and when.
    pub(crate) fenced: BTreeMap<(u32, SessionId), Millis>,
    pub(crate) faults: Faults,
    pub(crate) n_appends: u64,
    pub(crate) n_reads: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    pub(crate) hash: [u8; 32],
    pub(crate) keys: BTreeMap<String, Seq>,
    pub(crate) projection: Option<Projection>,
    pub(crate) snapshot: Option<(Head, Bytes)>,
    pub(crate) rolled: Seq,
    newest_writer: u32,
    /// What its `Events` rows say.
    appends: Vec<Arc<Append>>,
}

/// How the log behaves. Milliseconds are drawn up to these bounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) rng: Rng,
    /// Nothing works.
    pub(crate) is_down: bool,
    /// Only rewriting fails.
    pub(crate) cannot_erase: bool,
    /// Only this session cannot be read.
    pub(crate) damaged: Option<SessionId>,
    /// How long a snapshot takes to get here.
    pub(crate) snapshot_ms: u64,
    /// So many appends land, and their callers hear that the disk is not there.
    pub(crate) unheard: u64,
    /// Of a hundred calls so many fail.
    pub(crate) down_percent: u64,
    /// Before the row lands, and between that and the acknowledgement.
    pub(crate) before_ms: u64,
    pub(crate) after_ms: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

impl Disk {
    pub(crate) fn new(clock: &TestClock) -> Disk {
        Disk { clock: clock.clone(), stored: Arc::default() }
    }

    pub(crate) fn stored(&self) -> MutexGuard<'_, Stored> {
        self.stored.lock().unwrap()
    }

    /// As one host sees it.
    pub(crate) fn of(&self, host: u32) -> Arc<HostLog> {
        Arc::new(HostLog { disk: self.clone(), host })
    }

    pub(crate) fn row(&self, session: SessionId, seq: Seq) -> Option<Row> {
        let stored = self.stored();
        stored.sessions.get(&session)?.rows.iter().find(|it| it.seq == seq).cloned()
    }

    pub(crate) fn rows(&self, session: SessionId) -> Vec<Row> {
        self.stored().sessions.get(&session).map(|it| it.rows.clone()).unwrap_or_default()
    }

    pub(crate) fn appends(&self, session: SessionId) -> Vec<Arc<Append>> {
        self.stored().sessions.get(&session).map(|it| it.appends.clone()).unwrap_or_default()
    }

    pub(crate) fn has(&self, session: SessionId, what: impl Fn(&Event) -> bool) -> bool {
        self.appends(session).iter().any(|it| it.events.iter().any(&what))
    }

    pub(crate) fn fold(&self, session: SessionId) -> Session {
        Session::replay(self.appends(session).iter().map(|it| &**it))
    }

    /// The kinds of events, a line for each row.
    pub(crate) fn story(&self, session: SessionId) -> String {
        let mut story = String::new();
        for row in self.rows(session) {
            let line = match row.kind {
                RowKind::Events => {
                    let append = Append::decode(row.seq, &row.body).unwrap();
                    append.events.iter().map(Event::kind).collect::<Vec<_>>().join(" ")
                }
                RowKind::Frame => {
                    let frame: Frame = serde_json::from_slice(&row.body).unwrap();
                    format!("frame of {}, {} deltas", frame.attempt, frame.deltas.len())
                }
            };
            story.push_str(&format!("{} {line}\n", row.seq));
        }
        story
    }

    /// Takes the time a call takes; an error if it fails.
    async fn stumble(&self, ms: impl Fn(&Faults) -> u64) -> Result<(), Down> {
        let pause = {
            let mut stored = self.stored();
            let bound = ms(&stored.faults);
            stored.faults.rng.below(bound + 1)
        };
        if pause > 0 {
            self.clock.pause(pause).await;
        }
        let faults = &mut self.stored().faults;
        if faults.is_down || faults.rng.percent(faults.down_percent) {
            return Err(Down("the disk is not there".to_owned()));
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct HostLog {
    disk: Disk,
    host: u32,
}

impl HostLog {
    async fn check(&self) -> Result<(), Down> {
        self.disk.stumble(|it| it.before_ms / 4).await
    }
}

#[async_trait]
impl Log for HostLog {
    async fn append(&self, row: NewRow) -> Result<Landed, AppendError> {
        self.disk.stumble(|it| it.before_ms).await.map_err(AppendError::Down)?;
        let now = self.disk.clock.now();
        let head = self.disk.stored().land(self.host, row, now)?;
        let pause = {
            let faults = &mut self.disk.stored().faults;
            if faults.unheard > 0 {
                faults.unheard -= 1;
                return Err(AppendError::Down(Down("the disk gave no answer".to_owned())));
            }
            let bound = faults.after_ms;
            faults.rng.below(bound + 1)
        };
        if pause > 0 {
            self.disk.clock.pause(pause).await;
        }
        Ok(Landed { head })
    }

    async fn read(&self, session: SessionId, after: Seq, limit: usize) -> Result<Vec<Row>, Down> {
        self.check().await?;
        let mut stored = self.disk.stored();
        stored.n_reads += 1;
        if stored.faults.damaged == Some(session) {
            return Err(Down("it cannot be opened".to_owned()));
        }
        let rows = stored.sessions.get(&session).map(|it| it.rows.as_slice()).unwrap_or_default();
        Ok(rows.iter().filter(|it| it.seq > after).take(limit).cloned().collect())
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        self.check().await?;
        let stored = self.disk.stored();
        let rows = stored.sessions.get(&session);
        Ok(rows.map(|it| Head { seq: it.rows.last().map_or(0, |it| it.seq), hash: it.hash }))
    }

    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        self.check().await?;
        Ok(self.disk.stored().sessions.get(&session).and_then(|it| it.keys.get(key).copied()))
    }

    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        self.check().await?;
        let mut due = self.disk.stored().wakes();
        due.retain(|(id, at)| *at <= now && buckets.hold(*id));
        due.truncate(limit);
        Ok(due)
    }

    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        self.check().await?;
        Ok(self.disk.stored().wakes().iter().find(|it| buckets.hold(it.0)).map(|it| it.1))
    }

    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        self.check().await?;
        let stored = self.disk.stored();
        let ready = stored.sessions.iter().filter(|(id, rows)| {
            after.is_none_or(|it| **id > it)
                && buckets.hold(**id)
                && rows.projection.as_ref().is_some_and(|it| it.ready)
        });
        Ok(ready.map(|(id, _)| *id).take(limit).collect())
    }

    async fn list(
        &self,
        project: &str,
        _before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        let stored = self.disk.stored();
        let listed = stored.sessions.iter().filter_map(|(&session, rows)| {
            let listing = rows.projection.as_ref()?.listing.as_ref()?;
            let (created_at, summary) = (listing.created_at, listing.summary.clone());
            (listing.project == project).then_some(Listed { session, created_at, summary })
        });
        Ok(listed.take(limit).collect())
    }

    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        let mut listed = self.list(project, before, usize::MAX).await?;
        listed.retain(|it| Listing::is_under_way(&it.summary));
        listed.truncate(limit);
        Ok(listed)
    }

    async fn erase(&self, session: SessionId, redact: Redact) -> Result<(), Down> {
        self.check().await?;
        let mut stored = self.disk.stored();
        if stored.faults.cannot_erase {
            return Err(Down("it cannot be rewritten now".to_owned()));
        }
        let Some(rows) = stored.sessions.get_mut(&session) else { return Ok(()) };
        for row in &mut rows.rows {
            if let Some(left) = redact(row.kind, row.seq, &row.body) {
                row.body = Bytes::from(left);
                row.erased = true;
                if let Some(append) = rows.appends.iter_mut().find(|it| it.seq == row.seq) {
                    *append = Arc::new(Append::decode(row.seq, &row.body).unwrap());
                }
            }
        }
        rows.snapshot = None;
        Ok(())
    }

    async fn delete(&self, session: SessionId) -> Result<(), Down> {
        self.check().await?;
        self.disk.stored().sessions.remove(&session);
        Ok(())
    }

    async fn put_snapshot(&self, session: SessionId, at: Head, body: Bytes) -> Result<(), Down> {
        self.check().await?;
        let pause = self.disk.stored().faults.snapshot_ms;
        self.disk.clock.pause(pause).await;
        if let Some(rows) = self.disk.stored().sessions.get_mut(&session) {
            rows.snapshot = Some((at, body));
        }
        Ok(())
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<(Head, Bytes)>, Down> {
        self.check().await?;
        Ok(self.disk.stored().sessions.get(&session).and_then(|it| it.snapshot.clone()))
    }

    async fn roll_up(&self, session: SessionId, through: Seq) -> Result<(), Down> {
        self.check().await?;
        if let Some(rows) = self.disk.stored().sessions.get_mut(&session) {
            rows.rows.retain(|it| it.seq > through || it.kind == RowKind::Events);
            rows.rolled = through;
        }
        Ok(())
    }

    async fn post(&self, session: SessionId, key: &str, body: Bytes) -> Result<(), Down> {
        self.check().await?;
        let mut stored = self.disk.stored();
        let posts = stored.inbox.entry(session).or_default();
        if posts.iter().all(|it| it.key != key) {
            posts.push(Posted { key: key.to_owned(), body });
        }
        Ok(())
    }

    async fn inbox(&self, session: SessionId) -> Result<Vec<Posted>, Down> {
        self.check().await?;
        Ok(self.disk.stored().inbox.get(&session).cloned().unwrap_or_default())
    }

    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        Ok(self.disk.stored().outcomes.get(&(session, key.to_owned())).cloned())
    }

    async fn settle(
        &self,
        session: SessionId,
        key: &str,
        outcome: PostOutcome,
    ) -> Result<(), Down> {
        self.check().await?;
        self.disk.stored().settle(session, key, outcome);
        Ok(())
    }

    async fn verify(&self, _session: SessionId) -> Result<Verdict, Down> {
        Err(Down("nothing here is chained".to_owned()))
    }
}

impl Stored {
    fn land(&mut self, host: u32, row: NewRow, now: Millis) -> Result<Head, AppendError> {
        let rows = self.sessions.entry(row.session).or_default();
        if let Some(seq) = row.key.as_ref().and_then(|it| rows.keys.get(it)) {
            return Err(AppendError::Seen(*seq));
        }
        let last = rows.rows.last().map_or(0, |it| it.seq);
        if row.seq != last + 1 || row.prev != rows.hash {
            // Whoever was fenced may adopt the session again.
            if rows.newest_writer != host {
                self.fenced.entry((host, row.session)).or_insert(now);
            }
            return Err(AppendError::Fenced);
        }
        if row.kind == RowKind::Events {
            let mut hasher = DefaultHasher::new();
            (rows.hash, row.seq, &row.body[..]).hash(&mut hasher);
            rows.appends.push(Arc::new(Append::decode(row.seq, &row.body).unwrap()));
            rows.hash[..8].copy_from_slice(&hasher.finish().to_be_bytes());
        }
        if let Some(key) = row.key {
            rows.keys.insert(key, row.seq);
        }
        if row.projection.is_some() {
            rows.projection = row.projection;
        }
        rows.newest_writer = host;
        self.fenced.remove(&(host, row.session));
        let (seq, hash) = (row.seq, rows.hash);
        rows.rows.push(Row {
            seq,
            kind: row.kind,
            version: 1,
            at: row.at,
            hash,
            body: row.body,
            erased: false,
        });
        for key in row.consumed {
            self.settle(row.session, &key, PostOutcome::Landed(seq));
        }
        self.n_appends += 1;
        Ok(Head { seq, hash })
    }

    fn settle(&mut self, session: SessionId, key: &str, outcome: PostOutcome) {
        if let Some(posts) = self.inbox.get_mut(&session) {
            posts.retain(|it| it.key != key);
        }
        self.outcomes.insert((session, key.to_owned()), outcome);
    }

    fn wakes(&self) -> Vec<(SessionId, Millis)> {
        let wakes = self.sessions.iter().filter_map(|(&id, rows)| {
            rows.projection.as_ref().and_then(|it| it.wake).map(|at| (id, at))
        });
        let mut wakes: Vec<_> = wakes.collect();
        wakes.sort_by_key(|it| it.1);
        wakes
    }
}

#[async_trait]
impl Registry for HostLog {
    async fn get(&self, project: &str, kind: &str, id: &str) -> Result<Option<Document>, Down> {
        self.check().await?;
        Ok(self.disk.stored().documents.get(&key(project, kind, id)).cloned())
    }

    async fn put(&self, put: Put) -> Result<u64, PutError> {
        self.check().await.map_err(PutError::Down)?;
        let mut stored = self.disk.stored();
        let key = key(&put.project, &put.kind, &put.id);
        let found = stored.documents.get(&key).cloned();
        if found.as_ref().map(|it| it.revision) != put.expect {
            return Err(PutError::Conflict(found));
        }
        let revision = put.expect.unwrap_or(0) + 1;
        let document = Document {
            id: put.id,
            revision,
            created_at: put.now,
            updated_at: put.now,
            expires_at: put.expires_at,
            body: put.body,
        };
        stored.documents.insert(key, document);
        Ok(revision)
    }

    async fn remove(&self, project: &str, kind: &str, id: &str) -> Result<(), Down> {
        self.disk.stored().documents.remove(&key(project, kind, id));
        Ok(())
    }

    async fn page(&self, project: &str, kind: &str, page: Page) -> Result<Vec<Document>, Down> {
        self.check().await?;
        let stored = self.disk.stored();
        let of_kind = stored.documents.iter().filter(|((p, k, _), _)| p == project && k == kind);
        Ok(of_kind.map(|(_, it)| it.clone()).take(page.limit).collect())
    }
}

fn key(project: &str, kind: &str, id: &str) -> (String, String, String) {
    (project.to_owned(), kind.to_owned(), id.to_owned())
}
