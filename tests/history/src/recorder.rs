//! A `Log` that writes down what it is asked and what it answers, and passes everything on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::buckets::Buckets;
use everstate_runtime::ports::{
    AppendError, Down, Head, Landed, ListKey, Listed, Log, NewRow, PostOutcome, Posted, Redact,
    Row, Verdict,
};

use crate::operation::{Answer, Ask, Content, Moment, Operation, ReadRow};
use crate::search::{Illegal, check, what_landed};

/// Everything that was asked of the logs that record here, in one order of time.
#[derive(Debug, Default)]
pub struct History(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    now: Moment,
    sessions: BTreeMap<SessionId, Vec<Operation>>,
    /// Rewritten or deleted: what the log says of them afterwards is not what was appended.
    rewritten: BTreeSet<SessionId>,
    /// From here on nothing fails any more.
    settled: Moment,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub sessions: usize,
    pub operations: usize,
    /// Appends that were told to have landed.
    pub landed: usize,
    pub fenced: usize,
    /// Appends of which nobody knows.
    pub unknown: usize,
    /// Sessions that were erased in, packed or deleted: they are not checked.
    pub left_out: usize,
}

impl History {
    pub fn new() -> Arc<History> {
        Arc::default()
    }

    /// The same log, recorded. Several may record in one history: nodes that share a database, say.
    pub fn around(self: &Arc<History>, log: Arc<dyn Log>) -> Arc<dyn Log> {
        Arc::new(Recorder { log, history: Arc::clone(self) })
    }

    /// One session's operations, in the order in which they were asked.
    pub fn of(&self, session: SessionId) -> Vec<Operation> {
        self.record().sessions.get(&session).cloned().unwrap_or_default()
    }

    /// From here on nothing fails any more, and every answer is true.
    pub fn settled(&self) {
        let mut record = self.record();
        record.settled = record.now;
    }

    /// Is what happened to each session a possible story of a log? The error is a story that is none.
    pub fn check(&self) -> Result<Checked, Illegal> {
        self.check_those(|all, _| all.to_vec())
    }

    /// The same for a log that may answer from the past until all is settled, as a database does that was replaced and
    /// has not heard of it. Until then only what was acknowledged counts.
    pub fn check_what_landed(&self) -> Result<Checked, Illegal> {
        self.check_those(what_landed)
    }

    fn check_those(
        &self,
        counting: impl Fn(&[Operation], Moment) -> Vec<Operation>,
    ) -> Result<Checked, Illegal> {
        let record = self.record();
        let mut checked = Checked { left_out: record.rewritten.len(), ..Checked::default() };
        for (session, operations) in &record.sessions {
            if !record.rewritten.contains(session) {
                checked.count(operations);
                let counting = counting(operations, record.settled);
                check(&counting).map_err(|it| it.of(*session))?;
            }
        }
        Ok(checked)
    }

    fn ask(&self, session: SessionId, ask: Ask) -> usize {
        let mut record = self.record();
        record.now += 1;
        let asked = record.now;
        let operations = record.sessions.entry(session).or_default();
        operations.push(Operation { asked, ask, answered: None });
        operations.len() - 1
    }

    fn answer(&self, session: SessionId, n: usize, answer: Answer) {
        let mut record = self.record();
        record.now += 1;
        let now = record.now;
        let operation = record.sessions.get_mut(&session).and_then(|it| it.get_mut(n));
        operation.expect("it was asked").answered = Some((now, answer));
    }

    fn rewritten(&self, session: SessionId) {
        self.record().rewritten.insert(session);
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.lock().expect("no one panics while holding it")
    }
}

impl Checked {
    fn count(&mut self, operations: &[Operation]) {
        self.sessions += 1;
        self.operations += operations.len();
        for it in operations.iter().filter(|it| matches!(it.ask, Ask::Append { .. })) {
            match it.answered {
                Some((_, Answer::Landed(_))) => self.landed += 1,
                Some((_, Answer::Fenced)) => self.fenced += 1,
                None => self.unknown += 1,
                Some(_) => {}
            }
        }
    }
}

#[derive(Debug)]
struct Recorder {
    log: Arc<dyn Log>,
    history: Arc<History>,
}

#[async_trait]
impl Log for Recorder {
    async fn append(&self, row: NewRow) -> Result<Landed, AppendError> {
        let session = row.session;
        let ask = Ask::Append {
            seq: row.seq,
            prev: row.prev,
            content: Content::of(row.kind, &row.body),
            key: row.key.clone(),
        };
        let n = self.history.ask(session, ask);
        let result = self.log.append(row).await;
        let answer = match &result {
            Ok(landed) => Answer::Landed(landed.head),
            Err(AppendError::Fenced) => Answer::Fenced,
            Err(AppendError::Seen(seq)) => Answer::Seen(*seq),
            Err(AppendError::Down(_)) => return result,
        };
        self.history.answer(session, n, answer);
        result
    }

    async fn read(&self, session: SessionId, after: Seq, limit: usize) -> Result<Vec<Row>, Down> {
        let n = self.history.ask(session, Ask::Read { after, limit });
        let rows = self.log.read(session, after, limit).await?;
        let read = |it: &Row| ReadRow {
            seq: it.seq,
            content: Content::of(it.kind, &it.body),
            hash: it.hash,
        };
        self.history.answer(session, n, Answer::Rows(rows.iter().map(read).collect()));
        Ok(rows)
    }

    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        let n = self.history.ask(session, Ask::Head);
        let head = self.log.head(session).await?;
        self.history.answer(session, n, Answer::Head(head));
        Ok(head)
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
        self.history.rewritten(session);
        self.log.erase(session, redact).await
    }

    async fn delete(&self, session: SessionId) -> Result<(), Down> {
        self.history.rewritten(session);
        self.log.delete(session).await
    }

    async fn put_snapshot(&self, session: SessionId, at: Head, body: Bytes) -> Result<(), Down> {
        self.log.put_snapshot(session, at, body).await
    }

    async fn snapshot(&self, session: SessionId) -> Result<Option<(Head, Bytes)>, Down> {
        self.log.snapshot(session).await
    }

    async fn roll_up(&self, session: SessionId, through: Seq) -> Result<(), Down> {
        self.history.rewritten(session);
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
