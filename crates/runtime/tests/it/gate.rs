//! The same ports as a process reaches them that can be stopped, and cut off from the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_kernel::input::Failure;
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use everstate_runtime::buckets::Buckets;
use everstate_runtime::market::Market;
use everstate_runtime::ports::{
    AppendError, Clock, Document, Down, Head, Landed, ListKey, Listed, Log, Model, NewRow, Page,
    PostOutcome, Posted, Prepared, Put, PutError, Redact, Registry, ReplyStream, Row, ToolReturn,
    ToolRun, Tools, Verdict,
};
use futures_util::StreamExt;
use tokio::sync::Notify;

use crate::clock::TestClock;

/// A process. While it is stopped none of its calls comes back, but what was sent happens.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_stopped: AtomicBool,
    goes_on: Notify,
    is_killed: AtomicBool,
    killed: Notify,
    /// The store cannot be reached: what is sent does not arrive, and answers get lost.
    is_cut: AtomicBool,
    /// Its wall clock is wrong by so much.
    skew_ms: AtomicI64,
}

impl Gate {
    pub(crate) fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::SeqCst);
    }

    pub(crate) fn go_on(&self) {
        self.0.is_stopped.store(false, Ordering::SeqCst);
        self.0.goes_on.notify_waiters();
    }

    /// Whoever waits for an answer of it hears that it is gone.
    pub(crate) fn kill(&self) {
        self.0.is_killed.store(true, Ordering::SeqCst);
        self.0.killed.notify_waiters();
    }

    pub(crate) async fn killed(&self) {
        let killed = self.0.killed.notified();
        tokio::pin!(killed);
        killed.as_mut().enable();
        if !self.0.is_killed.load(Ordering::SeqCst) {
            killed.await;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.is_stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn cut(&self, is_cut: bool) {
        self.0.is_cut.store(is_cut, Ordering::SeqCst);
    }

    pub(crate) fn skew(&self, ms: i64) {
        self.0.skew_ms.store(ms, Ordering::SeqCst);
    }

    pub(crate) async fn pass(&self) {
        loop {
            let goes_on = self.0.goes_on.notified();
            tokio::pin!(goes_on);
            goes_on.as_mut().enable();
            if !self.is_stopped() {
                return;
            }
            goes_on.await;
        }
    }

    async fn through<T>(&self, call: impl Future<Output = Result<T, Down>>) -> Result<T, Down> {
        self.pass().await;
        self.store_is_there()?;
        let done = call.await;
        self.pass().await;
        self.store_is_there()?;
        done
    }

    fn store_is_there(&self) -> Result<(), Down> {
        match self.0.is_cut.load(Ordering::SeqCst) {
            true => Err(Down("the store cannot be reached".to_owned())),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Gated<T: ?Sized> {
    pub(crate) gate: Gate,
    pub(crate) inner: Arc<T>,
}

impl<T: ?Sized> Gated<T> {
    pub(crate) fn new(gate: &Gate, inner: Arc<T>) -> Arc<Gated<T>> {
        Arc::new(Gated { gate: gate.clone(), inner })
    }
}

#[async_trait]
impl Log for Gated<dyn Log> {
    async fn append(&self, row: NewRow) -> Result<Landed, AppendError> {
        let call = async { Ok(self.inner.append(row).await) };
        self.gate.through(call).await.map_err(AppendError::Down)?
    }
    async fn read(&self, session: SessionId, after: Seq, limit: usize) -> Result<Vec<Row>, Down> {
        self.gate.through(self.inner.read(session, after, limit)).await
    }
    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down> {
        self.gate.through(self.inner.head(session)).await
    }
    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down> {
        self.gate.through(self.inner.seen(session, key)).await
    }
    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down> {
        self.gate.through(self.inner.due(buckets, now, limit)).await
    }
    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down> {
        self.gate.through(self.inner.next_due(buckets)).await
    }
    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down> {
        self.gate.through(self.inner.ready(buckets, after, limit)).await
    }
    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.gate.through(self.inner.list(project, before, limit)).await
    }
    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down> {
        self.gate.through(self.inner.under_way(project, before, limit)).await
    }
    async fn erase(&self, session: SessionId, redact: Redact) -> Result<(), Down> {
        self.gate.through(self.inner.erase(session, redact)).await
    }
    async fn delete(&self, session: SessionId) -> Result<(), Down> {
        self.gate.through(self.inner.delete(session)).await
    }
    async fn put_snapshot(&self, session: SessionId, at: Head, body: Bytes) -> Result<(), Down> {
        self.gate.through(self.inner.put_snapshot(session, at, body)).await
    }
    async fn snapshot(&self, session: SessionId) -> Result<Option<(Head, Bytes)>, Down> {
        self.gate.through(self.inner.snapshot(session)).await
    }
    async fn roll_up(&self, session: SessionId, through: Seq) -> Result<(), Down> {
        self.gate.through(self.inner.roll_up(session, through)).await
    }
    async fn post(&self, session: SessionId, key: &str, body: Bytes) -> Result<(), Down> {
        self.gate.through(self.inner.post(session, key, body)).await
    }
    async fn inbox(&self, session: SessionId) -> Result<Vec<Posted>, Down> {
        self.gate.through(self.inner.inbox(session)).await
    }
    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down> {
        self.gate.through(self.inner.outcome(session, key)).await
    }
    async fn settle(
        &self,
        session: SessionId,
        key: &str,
        outcome: PostOutcome,
    ) -> Result<(), Down> {
        self.gate.through(self.inner.settle(session, key, outcome)).await
    }
    async fn verify(&self, session: SessionId) -> Result<Verdict, Down> {
        self.gate.through(self.inner.verify(session)).await
    }
}

#[async_trait]
impl Registry for Gated<dyn Registry> {
    async fn get(&self, project: &str, kind: &str, id: &str) -> Result<Option<Document>, Down> {
        self.gate.through(self.inner.get(project, kind, id)).await
    }
    async fn put(&self, put: Put) -> Result<u64, PutError> {
        let call = async { Ok(self.inner.put(put).await) };
        self.gate.through(call).await.map_err(PutError::Down)?
    }
    async fn remove(&self, project: &str, kind: &str, id: &str) -> Result<(), Down> {
        self.gate.through(self.inner.remove(project, kind, id)).await
    }
    async fn page(&self, project: &str, kind: &str, page: Page) -> Result<Vec<Document>, Down> {
        self.gate.through(self.inner.page(project, kind, page)).await
    }
}

#[async_trait]
impl Tools for Gated<dyn Tools> {
    async fn run(&self, run: ToolRun) -> ToolReturn {
        self.gate.pass().await;
        let done = self.inner.run(run).await;
        self.gate.pass().await;
        done
    }
}

#[async_trait]
impl Model for Gated<dyn Model> {
    fn prepare(&self, offer: &Offer, request: &Request) -> Result<Prepared, Failure> {
        self.inner.prepare(offer, request)
    }

    async fn send(&self, offer: &Offer, prepared: Prepared) -> Result<ReplyStream, Failure> {
        self.gate.pass().await;
        let reply = self.inner.send(offer, prepared).await?;
        let gate = self.gate.clone();
        let gated = reply.then(move |piece| {
            let gate = gate.clone();
            async move {
                gate.pass().await;
                piece
            }
        });
        Ok(gated.boxed())
    }
}

pub(crate) fn gated_market(gate: &Gate, market: Market) -> Market {
    let models = market.models.into_iter();
    let models = models.map(|(name, it)| (name, Gated::new(gate, it) as Arc<dyn Model>)).collect();
    Market { models, ..market }
}

/// The clock of one process: its wall clock may be wrong, its monotonic one is not.
#[derive(Debug)]
pub(crate) struct ItsClock {
    pub(crate) gate: Gate,
    pub(crate) clock: TestClock,
}

impl ItsClock {
    fn skew(&self) -> i64 {
        self.gate.0.skew_ms.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Clock for ItsClock {
    fn now(&self) -> Millis {
        self.clock.now().saturating_add_signed(self.skew())
    }

    async fn sleep_until(&self, at: Millis) {
        self.clock.sleep_until(at.saturating_add_signed(-self.skew())).await;
        self.gate.pass().await;
    }

    fn monotonic(&self) -> Millis {
        self.clock.monotonic()
    }

    async fn pause(&self, ms: Millis) {
        self.clock.pause(ms).await;
        self.gate.pass().await;
    }
}
