//! Contents that are never written. The log underneath gets the facts alone; what was said stays here, in memory, and
//! whoever reads through this sees both as one. When the process ends, only the facts are left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::ids::{Millis, Seq, SessionId};

use crate::buckets::Buckets;
use crate::ports::{
    AppendError, Clock, Down, Head, Landed, ListKey, Listed, Log, NewRow, PostOutcome, Posted,
    Redact, Row, RowKind, Verdict,
};

/// So long after its last append the contents of a session are forgotten.
const KEPT_MS: Millis = 10 * 60 * 1_000;
/// More is not kept, however young: what was said longest ago goes first.
const BYTES_MAX: usize = 256 << 20;

/// A log that keeps in memory what must not be written.
pub struct Veil {
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    spoken: Mutex<Spoken>,
}

#[derive(Default)]
struct Spoken {
    sessions: BTreeMap<SessionId, Contents>,
    /// By when something was last said in them.
    by_age: BTreeSet<(Millis, SessionId)>,
    bytes: usize,
}

#[derive(Default)]
struct Contents {
    last_at: Millis,
    /// What was written, and what it stands for: a row that somebody else wrote there is left as it is.
    rows: BTreeMap<Seq, (Bytes, Bytes)>,
    bytes: usize,
}

impl Veil {
    pub fn over(log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Arc<dyn Log> {
        Arc::new(Veil { log, clock, spoken: Mutex::default() })
    }

    fn spoken(&self) -> MutexGuard<'_, Spoken> {
        // No code that can panic halfway through a change runs under this lock.
        self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spoken {
    fn keep(&mut self, session: SessionId, seq: Seq, facts: Bytes, contents: Bytes, now: Millis) {
        let mut kept = self.take(session);
        kept.last_at = now;
        kept.bytes += contents.len();
        if let Some((_, old)) = kept.rows.insert(seq, (facts, contents)) {
            kept.bytes -= old.len();
        }
        self.bytes += kept.bytes;
        self.by_age.insert((now, session));
        self.sessions.insert(session, kept);
        while let Some(&(at, oldest)) = self.by_age.first() {
            let is_old = at.saturating_add(KEPT_MS) <= now;
            if !is_old && (self.bytes <= BYTES_MAX || oldest == session) {
                break;
            }
            self.take(oldest);
        }
    }

    fn take(&mut self, session: SessionId) -> Contents {
        let kept = self.sessions.remove(&session).unwrap_or_default();
        self.by_age.remove(&(kept.last_at, session));
        self.bytes -= kept.bytes;
        kept
    }

    fn drop_row(&mut self, session: SessionId, seq: Seq) {
        if let Some(kept) = self.sessions.get_mut(&session)
            && let Some((_, contents)) = kept.rows.remove(&seq)
        {
            kept.bytes -= contents.len();
            self.bytes -= contents.len();
        }
    }

    /// With what was said, where that is known.
    fn lift(&self, session: SessionId, row: &mut Row) {
        let kept = self.sessions.get(&session).and_then(|it| it.rows.get(&row.seq));
        if let Some((facts, contents)) = kept
            && row.kind == RowKind::Events
            && *facts == row.body
        {
            row.body = contents.clone();
        }
    }
}

#[async_trait]
impl Log for Veil {
    async fn append(&self, row: NewRow) -> Result<Landed, AppendError> {
        self.log.append(row).await
    }

    async fn append_facts(&self, row: NewRow, contents: Bytes) -> Result<Landed, AppendError> {
        let (session, seq, now) = (row.session, row.seq, self.clock.now());
        // Before it lands: whoever hears of the row may read it at once.
        self.spoken().keep(session, seq, row.body.clone(), contents, now);
        let landed = self.log.append(row).await;
        if matches!(landed, Err(AppendError::Fenced | AppendError::Seen(_))) {
            self.spoken().drop_row(session, seq);
        }
        landed
    }

    async fn read(&self, session: SessionId, after: Seq, limit: usize) -> Result<Vec<Row>, Down> {
        let mut rows = self.log.read(session, after, limit).await?;
        let spoken = self.spoken();
        rows.iter_mut().for_each(|row| spoken.lift(session, row));
        Ok(rows)
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        self.log.head(session).await
    }

    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        self.log.seen(session, key).await
    }

    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        self.log.due(buckets, now, limit).await
    }

    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        self.log.next_due(buckets).await
    }

    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        self.log.ready(buckets, after, limit).await
    }

    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.log.list(project, before, limit).await
    }

    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.log.under_way(project, before, limit).await
    }

    async fn erase(&self, session: SessionId, redact: Redact) -> Result<(), Down> {
        self.spoken().take(session);
        self.log.erase(session, redact).await
    }

    async fn delete(&self, session: SessionId) -> Result<(), Down> {
        self.spoken().take(session);
        self.log.delete(session).await
    }

    async fn put_snapshot(&self, session: SessionId, at: Head, body: Bytes) -> Result<(), Down> {
        self.log.put_snapshot(session, at, body).await
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<(Head, Bytes)>, Down> {
        self.log.snapshot(session).await
    }

    async fn roll_up(&self, session: SessionId, through: Seq) -> Result<(), Down> {
        self.log.roll_up(session, through).await
    }

    async fn post(&self, session: SessionId, key: &str, body: Bytes) -> Result<(), Down> {
        self.log.post(session, key, body).await
    }

    async fn inbox(&self, session: SessionId) -> Result<Vec<Posted>, Down> {
        self.log.inbox(session).await
    }

    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        self.log.outcome(session, key).await
    }

    async fn settle(
        &self,
        session: SessionId,
        key: &str,
        outcome: PostOutcome,
    ) -> Result<(), Down> {
        self.log.settle(session, key, outcome).await
    }

    async fn verify(&self, session: SessionId) -> Result<Verdict, Down> {
        self.log.verify(session).await
    }
}

impl fmt::Debug for Veil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Veil({:?})", self.log)
    }
}
