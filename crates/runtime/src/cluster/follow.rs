//! Following a session wherever it is served: here, at another node, or in the log alone. It goes from one to the
//! other without a gap and without a double.
//!
//! Pieces that are not on the log cannot be had a second time. Where some may have been missed, the stream ends with
//! an error, never as if all had been told.

use std::collections::VecDeque;
use std::sync::Arc;

use everstate_kernel::event::Event;
use everstate_kernel::ids::{Millis, Seq, SessionId, TurnNo};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::oneshot;

use super::Cluster;
use super::far::{AbortOnDrop, Opening};
use crate::host::{Inner, elsewhere};
use crate::ports::{Down, Peer, Tail, TailAsk};
use crate::tail::{Break, PAGE, Reader, Told, told};

/// How long after a failure the owner is asked for a live tail again.
const AGAIN_MS: Millis = 1_000;

/// Listening begins with this call where the session is served here; else before anything is fed through this host.
pub(crate) fn follow(
    inner: &Arc<Inner>,
    cluster: &Arc<Cluster>,
    session: SessionId,
    after: Seq,
    attends: Option<TurnNo>,
) -> Tail {
    let mut follower = Follower {
        inner: Arc::clone(inner),
        cluster: Arc::clone(cluster),
        session,
        attends,
        last: after,
        in_foreground: false,
        has_listened: false,
        source: Source::Over,
    };
    follower.source = follower.open();
    stream::unfold(follower, |mut it| async { Some((it.next().await?, it)) }).boxed()
}

/// The same for a peer: only while the session is served here.
pub(crate) fn follow_here(inner: &Arc<Inner>, session: SessionId, after: Seq) -> Tail {
    let here =
        Here { inner: Arc::clone(inner), session, reader: Reader::new(inner, session, after) };
    stream::unfold(Some(here), |here| async {
        let mut here = here?;
        match here.next().await {
            Ok(Some(told)) => Some((Ok(told), Some(here))),
            Ok(None) => None,
            Err(Break::Lost) => Some((Err(elsewhere()), None)),
            Err(Break::Slow(down) | Break::Down(down)) => Some((Err(down), None)),
        }
    })
    .boxed()
}

struct Follower {
    inner: Arc<Inner>,
    cluster: Arc<Cluster>,
    session: SessionId,
    attends: Option<TurnNo>,
    /// The last row that was passed on.
    last: Seq,
    /// A turn is under way whose pieces are not kept.
    in_foreground: bool,
    /// What comes from the log from here on happens now, and is not history.
    has_listened: bool,
    source: Source,
}

enum Source {
    Here(Box<Here>),
    Opening { peer: Peer, tail: oneshot::Receiver<Result<Tail, Down>>, _task: AbortOnDrop },
    There { peer: Peer, tail: Tail },
    Log { unread: VecDeque<Told>, again_at: Millis },
    Over,
}

/// One thing that happened at the source.
enum Next {
    Told(Told),
    /// The source has run dry: look for another.
    Dry,
    Opened(Tail),
    /// Nothing came of the opening: the log is read meanwhile.
    Unheard,
    /// The owner is asked again.
    Reopen,
    Deleted,
    Failed(Down),
}

impl Follower {
    async fn next(&mut self) -> Option<Result<Told, Down>> {
        loop {
            let next = match &mut self.source {
                Source::Over => return None,
                Source::Here(here) => match here.next().await {
                    Ok(Some(told)) => Next::Told(told),
                    Ok(None) => Next::Deleted,
                    Err(Break::Lost) => Next::Dry,
                    Err(Break::Slow(down)) => Next::Failed(down),
                    Err(Break::Down(_)) => {
                        // The store is away: the stream pauses, and goes on.
                        self.inner.ports.clock.pause(self.cluster.node.read_ms).await;
                        continue;
                    }
                },
                Source::Opening { peer, tail, .. } => {
                    let opened = tokio::select! {
                        biased;
                        opened = tail => opened.unwrap_or_else(|_| Err(elsewhere())),
                        () = gone(&self.cluster, self.session, peer) => Err(elsewhere()),
                    };
                    match opened {
                        Ok(tail) => Next::Opened(tail),
                        Err(_) => Next::Unheard,
                    }
                }
                Source::There { peer, tail } => tokio::select! {
                    biased;
                    told = tail.next() => match told {
                        Some(Ok(told)) => Next::Told(told),
                        Some(Err(_)) => Next::Dry,
                        None => Next::Deleted,
                    },
                    () = gone(&self.cluster, self.session, peer) => Next::Dry,
                },
                Source::Log { .. } => self.next_from_log().await,
            };
            match next {
                Next::Told(told) if told.seq().is_some_and(|it| it <= self.last) => (),
                Next::Told(told) => return self.pass(told),
                Next::Deleted => self.source = Source::Over,
                Next::Failed(down) => return self.end(down),
                Next::Dry if self.inner.is_stopped() => return self.end(elsewhere()),
                Next::Dry if self.in_foreground => return self.end(missed(self.session)),
                Next::Dry => {
                    self.has_listened = true;
                    self.source = Source::Log { unread: VecDeque::new(), again_at: 0 };
                }
                Next::Unheard => {
                    let again_at = self.inner.ports.clock.monotonic() + AGAIN_MS;
                    self.source = Source::Log { unread: VecDeque::new(), again_at };
                }
                Next::Reopen => self.source = self.open(),
                Next::Opened(tail) => {
                    let Source::Opening { peer, .. } =
                        std::mem::replace(&mut self.source, Source::Over)
                    else {
                        continue;
                    };
                    self.source = Source::There { peer, tail };
                }
            }
        }
    }

    fn pass(&mut self, told: Told) -> Option<Result<Told, Down>> {
        let is_from_log = matches!(self.source, Source::Log { .. });
        match &told {
            Told::Append(append) => {
                for event in &append.events {
                    match event {
                        Event::TurnStarted { terms, .. } => {
                            self.in_foreground = !terms.resumable;
                            if self.in_foreground && is_from_log && self.has_listened {
                                return self.end(missed(self.session));
                            }
                        }
                        Event::TurnEnded { .. } => self.in_foreground = false,
                        _ => (),
                    }
                }
            }
            Told::Frame { .. } => (),
            Told::Shown(_) => self.in_foreground = true,
        }
        self.last = told.seq().unwrap_or(self.last);
        Some(Ok(told))
    }

    fn end(&mut self, down: Down) -> Option<Result<Told, Down>> {
        self.source = Source::Over;
        Some(Err(down))
    }

    /// Where to listen from here on.
    fn open(&self) -> Source {
        let (inner, session) = (&self.inner, self.session);
        if !inner.is_far(session) {
            let reader = Reader::new(inner, session, self.last);
            return Source::Here(Box::new(Here { inner: Arc::clone(inner), session, reader }));
        }
        let Some(peer) = self.cluster.owners(session).into_iter().next() else {
            let again_at = inner.ports.clock.monotonic() + AGAIN_MS;
            return Source::Log { unread: VecDeque::new(), again_at };
        };
        let ask = TailAsk { session, after: self.last, attends: self.attends };
        let (cluster, to) = (Arc::clone(&self.cluster), peer.clone());
        let (opened, tail) = oneshot::channel();
        let opening = Opening::new(&self.cluster, session);
        let task = tokio::spawn(async move {
            opened.send(cluster.peers.tail(&to, ask).await).ok();
            drop(opening);
        });
        Source::Opening { peer, tail, _task: AbortOnDrop(task.abort_handle()) }
    }

    async fn next_from_log(&mut self) -> Next {
        let Source::Log { unread, again_at } = &mut self.source else { return Next::Dry };
        let (inner, clock) = (&self.inner, &*self.inner.ports.clock);
        loop {
            if let Some(told) = unread.pop_front() {
                return Next::Told(told);
            }
            if inner.is_stopped() {
                return Next::Failed(elsewhere());
            }
            match inner.ports.log.read(self.session, self.last, PAGE).await {
                Ok(rows) if !rows.is_empty() => {
                    for row in rows {
                        match told(self.session, row) {
                            Ok(told) => unread.push_back(told),
                            Err(down) => return Next::Failed(down),
                        }
                    }
                    continue;
                }
                Ok(_) if self.in_foreground => return Next::Failed(missed(self.session)),
                Ok(_) => (),
                Err(down) => {
                    tracing::debug!(session = %self.session, %down, "its log is read again shortly");
                    clock.pause(self.cluster.node.read_ms).await;
                    continue;
                }
            }
            if !inner.is_far(self.session) {
                return Next::Reopen;
            }
            self.has_listened = true;
            if clock.monotonic() >= *again_at {
                let is_there =
                    self.last == 0 || !matches!(inner.ports.log.head(self.session).await, Ok(None));
                return if is_there { Next::Reopen } else { Next::Deleted };
            }
            let changed = self.cluster.changed.notified();
            tokio::select! {
                biased;
                () = changed => (),
                () = clock.pause(self.cluster.node.read_ms) => (),
            }
        }
    }
}

/// Waits until a node is not one that works on the session any more.
async fn gone(cluster: &Cluster, session: SessionId, peer: &Peer) {
    loop {
        let changed = cluster.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if !cluster.owners(session).contains(peer) {
            return;
        }
        changed.await;
    }
}

/// A session that is served here.
struct Here {
    inner: Arc<Inner>,
    session: SessionId,
    reader: Reader,
}

impl Here {
    async fn next(&mut self) -> Result<Option<Told>, Break> {
        let told = tokio::select! {
            biased;
            told = self.reader.next() => told?,
            () = far(&self.inner, self.session) => return Err(Break::Lost),
        };
        // What is not on the log may be passed on only while nobody else can speak for the session.
        if let Some(Told::Shown(_)) = &told
            && !self.inner.has_lease()
        {
            tokio::select! {
                biased;
                () = far(&self.inner, self.session) => return Err(Break::Lost),
                () = self.inner.lease_held() => (),
            }
        }
        Ok(told)
    }
}

/// Waits until a session is not served here any more.
async fn far(inner: &Inner, session: SessionId) {
    let Some(cluster) = &inner.cluster else { return std::future::pending().await };
    loop {
        let changed = cluster.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if inner.is_far(session) {
            return;
        }
        changed.await;
    }
}

fn missed(session: SessionId) -> Down {
    Down(format!(
        "the node that spoke for {session} is gone: parts of a stream that is not kept are lost; \
         retrieve the answer when it is complete"
    ))
}
