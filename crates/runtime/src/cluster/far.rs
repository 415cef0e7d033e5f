//! Sessions of other nodes: what is fed to them goes through their inbox, what is seen of them comes from the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everstate_kernel::ids::{ItemId, Millis, Seq, SessionId};
use everstate_kernel::input::Input;
use everstate_kernel::state::{Rejection, Session};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::errand::{self, Errand, Reply};
use super::{Cluster, lock, roll};
use crate::cache::Kept;
use crate::host::{Fed, FeedError, Inner, elsewhere};
use crate::load::{self, LoadError};
use crate::ports::{Down, PostOutcome};
use crate::table::{Mail, Nay};
use crate::tail::{Told, told};

/// The pauses between two looks for an outcome; they double.
const ASK_MS: Millis = 20;
const ASK_MAX_MS: Millis = 200;
/// The pause before an owner is told once more, and before one that could not be told is tried again.
const NUDGE_MS: Millis = 1_000;
const NUDGE_AGAIN_MS: Millis = 250;
/// How long a feed waits for a tail that is being opened, so that nothing is missed.
const OPENING_MS: Millis = 2_000;
/// How often something is posted that the store did not take.
const POSTS: u32 = 3;
/// Folds of other nodes' sessions that are kept.
const FOLDS_MAX: usize = 256;
const FOLDS_BYTES_MAX: u64 = 16 << 20;

impl Inner {
    /// Feeds through the inbox. The owner decides; what came of it is read from the log.
    pub(crate) async fn feed_far(
        self: &Arc<Inner>,
        session: SessionId,
        inputs: Vec<Input>,
        key: Option<String>,
    ) -> Result<Fed, FeedError> {
        let Some(cluster) = &self.cluster else { return Err(elsewhere().into()) };
        self.may_be_posted(session, &inputs).await?;
        let clock = &*self.ports.clock;
        let until = clock.monotonic() + cluster.node.wait_ms;
        self.tails_are_open(cluster, session).await;
        let n = cluster.n_errands.fetch_add(1, Ordering::SeqCst);
        let posted_as = errand::name(self.epoch.load(Ordering::SeqCst), n);
        self.post_far(session, &posted_as, Errand::write(&inputs, key.as_deref())).await?;
        let _waiting = Waiting::new(cluster);
        let nudged = Arc::new(Notify::new());
        let _nudging = self.keep_nudging(session, Arc::clone(&nudged));
        let mut pause = ASK_MS;
        loop {
            let why = match self.ports.log.outcome(session, &posted_as).await {
                Ok(Some(outcome)) => match self.fed(session, outcome).await {
                    Err(FeedError::Down(down)) => down,
                    done => return done,
                },
                Ok(None) => elsewhere(),
                Err(down) => down,
            };
            if clock.monotonic() >= until {
                return Err(FeedError::Down(Down(format!(
                    "what was posted to {session} has no outcome yet ({why}); \
                     it may still happen: ask again with the same key"
                ))));
            }
            tokio::select! {
                biased;
                () = nudged.notified() => (),
                () = clock.pause(pause) => pause = (pause * 2).min(ASK_MAX_MS),
            }
        }
    }

    /// The inbox is written. What is kept in memory only reaches its owner by no other way.
    pub(crate) async fn may_be_posted(
        &self,
        session: SessionId,
        inputs: &[Input],
    ) -> Result<(), FeedError> {
        let settings = &self.settings;
        let is_silent = |it: &Input| {
            matches!(it, Input::CallerLost { .. } | Input::Cancel { .. } | Input::Tick)
        };
        if settings.veiled.is_empty() || inputs.iter().all(is_silent) {
            return Ok(());
        }
        let is_veiled = match inputs.first() {
            Some(Input::Create(create)) => settings.is_veiled(&create.project),
            _ => match self.look_far(session).await {
                Ok(state) => state.about.as_ref().is_some_and(|it| settings.is_veiled(&it.project)),
                Err(FeedError::NotFound) => false,
                Err(err) => return Err(err),
            },
        };
        match is_veiled {
            false => Ok(()),
            true => Err(FeedError::Down(Down(format!(
                "what is said to {session} is kept in memory only, and another node has it: ask there"
            )))),
        }
    }

    async fn post_far(
        &self,
        session: SessionId,
        posted_as: &str,
        body: Vec<u8>,
    ) -> Result<(), Down> {
        let body = Bytes::from(body);
        let mut n_posts = 1;
        loop {
            match self.ports.log.post(session, posted_as, body.clone()).await {
                // Posting twice with one key is posting once.
                Err(_) if n_posts < POSTS => {
                    self.ports.clock.pause(ASK_MS << n_posts).await;
                    n_posts += 1;
                }
                done => return done,
            }
        }
    }

    /// What an errand's outcome means.
    async fn fed(&self, session: SessionId, outcome: PostOutcome) -> Result<Fed, FeedError> {
        let seq = match outcome {
            PostOutcome::Landed(seq) => seq,
            PostOutcome::Refused(text) => {
                return match Reply::read(&text) {
                    Some(Reply::No(err)) => Err(err),
                    Some(Reply::Nothing { seq }) => Ok(Fed { seq, events: Vec::new() }),
                    None => Err(FeedError::Down(Down(text))),
                };
            }
        };
        let rows = self.ports.log.read(session, seq.saturating_sub(1), 1).await?;
        match rows.into_iter().next().filter(|it| it.seq == seq).map(|it| told(session, it)) {
            Some(Ok(Told::Append(append))) => Ok(Fed { seq, events: append.events.clone() }),
            Some(Err(down)) => Err(down.into()),
            // It landed, and was deleted since.
            Some(Ok(Told::Frame { .. } | Told::Shown(_))) | None => Err(FeedError::NotFound),
        }
    }

    /// Tells the owner again and again, until the answer is dropped. `nudged` rings when an inbox was read.
    fn keep_nudging(self: &Arc<Inner>, session: SessionId, nudged: Arc<Notify>) -> AbortOnDrop {
        let inner = Arc::clone(self);
        let task = tokio::spawn(async move {
            let Some(cluster) = &inner.cluster else { return };
            let (mut n_failed, mut has_knocked) = (0, false);
            loop {
                let changed = cluster.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let pause = match inner.nudge(session).await {
                    Ok(()) => {
                        nudged.notify_one();
                        NUDGE_MS
                    }
                    Err(_) => {
                        n_failed += 1;
                        if n_failed > 1 && !has_knocked {
                            let (registry, now) = (&*inner.ports.registry, inner.ports.clock.now());
                            has_knocked = roll::put_knock(registry, session, now).await.is_ok();
                        }
                        NUDGE_AGAIN_MS
                    }
                };
                tokio::select! {
                    biased;
                    () = inner.ports.clock.pause(pause) => (),
                    () = changed, if pause == NUDGE_AGAIN_MS => (),
                }
            }
        });
        AbortOnDrop(task.abort_handle())
    }

    /// Has the inbox of a session read, by whoever works on it.
    async fn nudge(self: &Arc<Inner>, session: SessionId) -> Result<(), Down> {
        let Some(cluster) = &self.cluster else { return Err(elsewhere()) };
        if !self.is_far(session) {
            return self.read_inbox_of(session).await;
        }
        let mut done = Err(elsewhere());
        for peer in cluster.owners(session) {
            done = cluster.peers.nudge(&peer, session).await;
            if done.is_ok() {
                break;
            }
        }
        done
    }

    pub(crate) async fn read_inbox_of(self: &Arc<Inner>, session: SessionId) -> Result<(), Down> {
        let (reply, answer) = oneshot::channel();
        self.send(session, Mail::Inbox { reply: Some(reply) });
        answer.await.unwrap_or_else(|_| Err(elsewhere()))
    }

    /// Says once that something was posted; if nobody hears it, in writing.
    pub(crate) async fn knock(self: &Arc<Inner>, session: SessionId) {
        if self.nudge(session).await.is_err() {
            let now = self.ports.clock.now();
            if let Err(down) = roll::put_knock(&*self.ports.registry, session, now).await {
                tracing::debug!(%session, %down, "its owner finds later what was posted");
            }
        }
    }

    // ---- looking -------------------------------------------------------------------------

    /// The state as the log has it now.
    pub(crate) async fn look_far(&self, session: SessionId) -> Result<Arc<Session>, FeedError> {
        let log = &*self.ports.log;
        let Some(cluster) = &self.cluster else {
            return read(load::load(log, session).await).map(|it| it.state);
        };
        let Some(head) = log.head(session).await? else {
            lock(&cluster.folds).take(session);
            return Err(FeedError::NotFound);
        };
        let kept = lock(&cluster.folds).get(session).cloned();
        let kept = match kept {
            Some(kept) if kept.head == head => return Ok(kept.state),
            Some(kept) if kept.head.seq < head.seq => {
                read(load::go_on(log, session, (*kept.state).clone(), kept.head, kept.bytes).await)?
            }
            Some(_) | None => read(load::load(log, session).await)?,
        };
        let (state, now) = (Arc::clone(&kept.state), self.ports.clock.now());
        lock(&cluster.folds).put(session, kept, now, FOLDS_MAX, FOLDS_BYTES_MAX);
        Ok(state)
    }

    // ---- what cannot be posted ---------------------------------------------------------------

    pub(crate) async fn erase_far(
        self: &Arc<Inner>,
        session: SessionId,
        items: Vec<ItemId>,
    ) -> Result<Fed, FeedError> {
        let Some(cluster) = &self.cluster else { return Err(elsewhere().into()) };
        let until = self.ports.clock.monotonic() + cluster.node.wait_ms;
        loop {
            let done = match cluster.owners(session).first() {
                Some(owner) if self.is_far(session) => {
                    cluster.peers.erase(owner, session, items.clone()).await
                }
                Some(_) | None => match self.erase_here(session, items.clone()).await {
                    Ok(fed) => Ok(fed),
                    Err(Nay::No(err)) => Err(err),
                    Err(Nay::Moved { .. }) => Err(elsewhere().into()),
                },
            };
            match done {
                Err(FeedError::Down(_)) if self.may_try_again(until) => (),
                done => return done,
            }
            self.ports.clock.pause(NUDGE_AGAIN_MS).await;
        }
    }

    pub(crate) async fn delete_far(self: &Arc<Inner>, session: SessionId) -> Result<(), Down> {
        let Some(cluster) = &self.cluster else { return Err(elsewhere()) };
        let until = self.ports.clock.monotonic() + cluster.node.wait_ms;
        self.tails_are_open(cluster, session).await;
        loop {
            let done = match cluster.owners(session).first() {
                Some(owner) if self.is_far(session) => cluster.peers.delete(owner, session).await,
                Some(_) | None => match self.delete_here(session).await {
                    Ok(()) => Ok(()),
                    Err(Nay::No(err)) => Err(crate::host::down(err)),
                    Err(Nay::Moved { .. }) => Err(elsewhere()),
                },
            };
            match done {
                Err(_) if self.may_try_again(until) => (),
                done => return done,
            }
            self.ports.clock.pause(NUDGE_AGAIN_MS).await;
        }
    }

    fn may_try_again(&self, until: Millis) -> bool {
        self.ports.clock.monotonic() + NUDGE_AGAIN_MS < until
    }

    // ---- tails on their way ------------------------------------------------------------------

    /// Waits until tails of this session that were begun here are listened to.
    async fn tails_are_open(&self, cluster: &Cluster, session: SessionId) {
        let clock = &*self.ports.clock;
        let all_open = async {
            loop {
                let opened = cluster.opened.notified();
                tokio::pin!(opened);
                opened.as_mut().enable();
                if !lock(&cluster.opening).contains_key(&session) {
                    return;
                }
                opened.await;
            }
        };
        tokio::select! {
            biased;
            () = all_open => (),
            () = clock.pause(OPENING_MS) => (),
        }
    }
}

fn read(loaded: Result<Option<load::Loaded>, LoadError>) -> Result<Kept, FeedError> {
    match loaded {
        Ok(Some(loaded)) => Ok(Kept {
            state: Arc::new(loaded.state),
            head: loaded.head,
            rolled: Seq::default(),
            since_snapshot: loaded.since_snapshot,
            bytes: loaded.bytes,
        }),
        Ok(None) => Err(FeedError::NotFound),
        Err(LoadError::Down(down)) => Err(FeedError::Down(down)),
        Err(LoadError::Broken(reason)) => Err(FeedError::Rejected(Rejection::Parked(reason))),
    }
}

/// A tail on its way to its owner. Dropped when it is there, or will not be.
pub(super) struct Opening {
    cluster: Arc<Cluster>,
    session: SessionId,
}

impl Opening {
    pub(super) fn new(cluster: &Arc<Cluster>, session: SessionId) -> Opening {
        *lock(&cluster.opening).entry(session).or_default() += 1;
        Opening { cluster: Arc::clone(cluster), session }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let mut opening = lock(&self.cluster.opening);
        if let Some(n) = opening.get_mut(&self.session) {
            *n -= 1;
            if *n == 0 {
                opening.remove(&self.session);
            }
        }
        drop(opening);
        self.cluster.opened.notify_waiters();
    }
}

/// An errand without an outcome.
struct Waiting<'a>(&'a Cluster);

impl Waiting<'_> {
    fn new(cluster: &Cluster) -> Waiting<'_> {
        cluster.n_posted.fetch_add(1, Ordering::SeqCst);
        Waiting(cluster)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.n_posted.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A task that ends with whoever waits for it.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub(crate) AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
