//! Starting: a new epoch, then everything that was under way when the last owner stopped.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everstate_kernel::ids::{Millis, SessionId};
use futures_util::stream::{self, StreamExt};
use tokio::sync::oneshot;

use crate::buckets::Buckets;
use crate::host::{Host, Inner, closed};
use crate::ledger;
use crate::ports::{Down, Put, PutError};
use crate::table::Mail;
use crate::timers;

const PAGE: usize = 1024;
/// The pause before a session that could not be taken over is tried again; it doubles.
const AGAIN_MS: Millis = 250;
const AGAIN_MAX_MS: Millis = 60_000;

/// Why a host did not start.
#[derive(Clone, Debug, PartialEq)]
pub enum StartError {
    /// The store cannot be asked now. Starting again goes on where this start stopped.
    Down(Down),
    /// It must not join this cluster, and why: another node runs under its name, or it is too old to read the rows.
    Refused(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Down(down) => write!(f, "{down}"),
            StartError::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StartError {}

impl From<Down> for StartError {
    fn from(down: Down) -> StartError {
        StartError::Down(down)
    }
}

impl Host {
    /// Takes a new epoch, adopts every session that wants work, and runs the timers. Those that cannot be read now are
    /// tried again later; those that want nothing are adopted when they are first touched. Inputs can be fed while this goes on, from the moment the epoch is known.
    pub async fn start(&self) -> Result<(), StartError> {
        let inner = &self.inner;
        if inner.cluster.is_some() {
            return self.join().await;
        }
        // Called again after a failure, it goes on where it was.
        if self.epoch() == 0 {
            let epoch = next_epoch(inner).await?;
            inner.begin(epoch);
            inner.spawn(timers::run(Arc::clone(inner)));
        }
        let mut after = None;
        while adopt_page(inner, &Buckets::all(), &mut after).await? {}
        inner.finish_erasures().await?;
        // What the predecessor left under way has been taken over by now.
        inner.run_ledger();
        Ok(())
    }

    /// Of this process; 0 before it has started.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch.load(Ordering::SeqCst)
    }
}

impl Inner {
    /// This process goes by this epoch from here on.
    pub(crate) fn begin(&self, epoch: u64) {
        if let Some(ledger) = self.ledger.get().filter(|it| it.is_stored()) {
            ledger.begin(epoch);
        }
        self.epoch.store(epoch, Ordering::SeqCst);
    }

    pub(crate) fn run_ledger(self: &Arc<Inner>) {
        if let Some(ledger) = self.ledger.get() {
            self.spawn(ledger::run(Arc::clone(ledger)));
        }
    }
}

/// Adopts the next of those that want work; `false` if there are no more.
pub(crate) async fn adopt_page(
    inner: &Arc<Inner>,
    buckets: &Buckets,
    after: &mut Option<SessionId>,
) -> Result<bool, Down> {
    let ready = inner.ports.log.ready(buckets, *after, PAGE).await?;
    *after = ready.last().copied().or(*after);
    let n_ready = ready.len();
    let waiting = inner.cluster.as_ref().map(|it| it.n_ready());
    if let Some(waiting) = waiting {
        waiting.fetch_add(n_ready, Ordering::SeqCst);
    }
    stream::iter(ready)
        .for_each_concurrent(inner.settings.adopt_at_once, |session| async move {
            let adopted = adopt(inner, session).await;
            if let Some(waiting) = waiting {
                waiting.fetch_sub(1, Ordering::SeqCst);
            }
            if let Err(down) = adopted {
                tracing::warn!(%session, %down, "cannot be taken over now; tried again");
                inner.spawn(adopt_later(Arc::clone(inner), session));
            }
        })
        .await;
    Ok(n_ready == PAGE)
}

async fn adopt(inner: &Arc<Inner>, session: SessionId) -> Result<(), Down> {
    let (reply, answer) = oneshot::channel();
    inner.send(session, Mail::Adopt { reply });
    answer.await.unwrap_or_else(|_| Err(closed()))
}

/// A session that cannot be read, for a while or for good, is no reason for its neighbours to wait.
pub(crate) async fn adopt_later(inner: Arc<Inner>, session: SessionId) {
    let clock = Arc::clone(&inner.ports.clock);
    let mut pause = AGAIN_MS;
    loop {
        clock.sleep_until(clock.now() + pause).await;
        match adopt(&inner, session).await {
            Ok(()) => return,
            Err(down) => tracing::warn!(%session, %down, "still cannot be taken over"),
        }
        pause = (pause * 2).min(AGAIN_MAX_MS);
    }
}

/// One more than any process before, by compare-and-set.
pub(crate) async fn next_epoch(inner: &Inner) -> Result<u64, Down> {
    loop {
        let found = inner.ports.registry.get("", "node", "epoch").await?;
        let last = match &found {
            Some(document) => {
                let text = String::from_utf8_lossy(&document.body);
                text.trim().parse::<u64>().map_err(|_| {
                    Down(format!("the registry's document node/epoch is no number: {text:?}"))
                })?
            }
            None => 0,
        };
        let put = Put {
            project: String::new(),
            kind: "node".to_owned(),
            id: "epoch".to_owned(),
            expect: found.map(|it| it.revision),
            body: Bytes::from((last + 1).to_string()),
            now: inner.ports.clock.now(),
            expires_at: None,
        };
        match inner.ports.registry.put(put).await {
            Ok(_) => return Ok(last + 1),
            Err(PutError::Conflict(_)) => (),
            Err(PutError::Down(down)) => return Err(down),
        }
    }
}
