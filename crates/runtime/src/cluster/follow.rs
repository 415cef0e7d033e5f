//! Following a session wherever it is served: here, at another node, or in the log alone. It goes from one to the
//! other without a gap in what is kept and without a double.
//!
//! Pieces that are not on the log cannot be had a second time. Of an attempt of which some were missed no more are
//! passed on: what it said comes with the fact that settles it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everstate_kernel::ids::{Millis, Seq, SessionId, TurnNo};
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::oneshot;

use super::Cluster;
use super::far::{AbortOnDrop, Opening};
use crate::host::{Inner, elsewhere};
use crate::ports::{Down, Peer, Tail, TailAsk};
use crate::tail::{Break, Hears, PAGE, Pieces, Reader, Told, told};

/// How long after a failure the owner is asked for a live tail again.
const AGAIN_MS: Millis = 500;

/// What is to be followed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) session: SessionId,
    pub(crate) after: Seq,
    pub(crate) hears: Hears,
    /// The caller of this turn is here.
    pub(crate) attends: Option<TurnNo>,
}

/// Listening begins with this call where the session is served here; else before anything is fed through this host.
pub(crate) fn follow(inner: &Arc<Inner>, cluster: &Arc<Cluster>, wish: Wish) -> Tail {
    let mut follower = Follower {
        inner: Arc::clone(inner),
        cluster: Arc::clone(cluster),
        wish,
        last: wish.after,
        pieces: Pieces::new(wish.hears),
        source: Source::Over,
    };
    follower.source = follower.open();
    stream::unfold(follower, |mut it| async { Some((it.next().await?, it)) }).boxed()
}

/// The same for a peer: only while the session is served here.
pub(crate) fn follow_here(
    inner: &Arc<Inner>,
    session: SessionId,
    after: Seq,
    hears: Hears,
) -> Tail {
    let state = Some((Here::new(inner, session, after), Pieces::new(hears)));
    stream::unfold(state, |state| async {
        let (mut here, mut pieces) = state?;
        loop {
            return match here.next().await {
                Ok(Some(told)) if !pieces.take(&told) => continue,
                Ok(Some(told)) => Some((Ok(told), Some((here, pieces)))),
                Ok(None) => None,
                Err(Break::Lost) => Some((Err(elsewhere()), None)),
                Err(Break::Down(down)) => Some((Err(down), None)),
            };
        }
    })
    .boxed()
}

struct Follower {
    inner: Arc<Inner>,
    cluster: Arc<Cluster>,
    wish: Wish,
    /// The last row that was passed on.
    last: Seq,
    pieces: Pieces,
    source: Source,
}

enum Source {
    Here(Box<Here>),
    Opening { owners: Vec<Peer>, tail: oneshot::Receiver<Option<(Peer, Tail)>>, _task: AbortOnDrop },
    There { peer: Peer, tail: Tail },
    Log { unread: VecDeque<Told>, again_at: Millis },
    Over,
}

/// One thing that happened at the source.
enum Next {
    Told(Told),
    /// The source has run dry: look for another.
    Dry,
    Opened(Peer, Tail),
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
            let session = self.wish.session;
            let next = match &mut self.source {
                Source::Over => return None,
                Source::Here(here) => match here.next().await {
                    Ok(Some(told)) => Next::Told(told),
                    Ok(None) => Next::Deleted,
                    Err(Break::Lost) => Next::Dry,
                    Err(Break::Down(_)) => {
                        // The store is away: the stream pauses, and goes on.
                        self.inner.ports.clock.pause(self.cluster.node.read_ms).await;
                        continue;
                    }
                },
                Source::Opening { owners, tail, .. } => tokio::select! {
                    biased;
                    opened = tail => match opened {
                        Ok(Some((peer, tail))) => Next::Opened(peer, tail),
                        Ok(None) | Err(_) => Next::Unheard,
                    },
                    () = changed(&self.cluster, session, |now| now != owners) => Next::Dry,
                },
                Source::There { peer, tail } => tokio::select! {
                    biased;
                    told = tail.next() => match told {
                        Some(Ok(told)) => Next::Told(told),
                        Some(Err(_)) => Next::Dry,
                        None => Next::Deleted,
                    },
                    () = changed(&self.cluster, session, |now| !now.contains(peer)) => Next::Dry,
                },
                Source::Log { .. } => self.next_from_log().await,
            };
            match next {
                Next::Told(told) if told.seq().is_some_and(|it| it <= self.last) => (),
                Next::Told(told) if !self.pieces.take(&told) => (),
                Next::Told(told) => {
                    self.last = told.seq().unwrap_or(self.last);
                    return Some(Ok(told));
                }
                Next::Deleted => self.source = Source::Over,
                Next::Failed(down) => return self.end(down),
                Next::Dry if self.inner.is_stopped() => return self.end(elsewhere()),
                Next::Dry => self.source = Source::Log { unread: VecDeque::new(), again_at: 0 },
                Next::Unheard => self.source = self.log_for_now(),
                Next::Reopen => self.source = self.open(),
                Next::Opened(peer, tail) => self.source = Source::There { peer, tail },
            }
        }
    }

    fn end(&mut self, down: Down) -> Option<Result<Told, Down>> {
        self.source = Source::Over;
        Some(Err(down))
    }

    /// Where to listen from here on.
    fn open(&self) -> Source {
        let (inner, session) = (&self.inner, self.wish.session);
        if !inner.is_far(session) {
            return Source::Here(Box::new(Here::new(inner, session, self.last)));
        }
        // Who decides for it comes first; but who had it before may still be at work.
        let owners = self.cluster.owners(session);
        if owners.is_empty() {
            return self.log_for_now();
        }
        let ask = TailAsk {
            session,
            after: self.last,
            attends: self.wish.attends,
            process: inner.epoch.load(Ordering::SeqCst),
            kept_only: self.wish.hears == Hears::Kept,
        };
        let (cluster, to) = (Arc::clone(&self.cluster), owners.clone());
        let (opened, tail) = oneshot::channel();
        let opening = Opening::new(&self.cluster, session);
        let task = tokio::spawn(async move {
            let mut found = None;
            for peer in to {
                if let Ok(tail) = cluster.peers.tail(&peer, ask.clone()).await {
                    found = Some((peer, tail));
                    break;
                }
            }
            opened.send(found).ok();
            drop(opening);
        });
        Source::Opening { owners, tail, _task: AbortOnDrop(task.abort_handle()) }
    }

    fn log_for_now(&self) -> Source {
        let again_at = self.inner.ports.clock.monotonic() + AGAIN_MS;
        Source::Log { unread: VecDeque::new(), again_at }
    }

    async fn next_from_log(&mut self) -> Next {
        let Source::Log { unread, again_at } = &mut self.source else { return Next::Dry };
        let (inner, clock) = (&self.inner, &*self.inner.ports.clock);
        let session = self.wish.session;
        loop {
            if let Some(told) = unread.pop_front() {
                return Next::Told(told);
            }
            if inner.is_stopped() {
                return Next::Failed(elsewhere());
            }
            match inner.ports.log.read(session, self.last, PAGE).await {
                Ok(rows) if !rows.is_empty() => {
                    for row in rows {
                        match told(session, row) {
                            Ok(told) => unread.push_back(told),
                            Err(down) => return Next::Failed(down),
                        }
                    }
                    continue;
                }
                Ok(_) => (),
                Err(down) => {
                    tracing::debug!(%session, %down, "its log is read again shortly");
                    clock.pause(self.cluster.node.read_ms).await;
                    continue;
                }
            }
            if !inner.is_far(session) {
                return Next::Reopen;
            }
            if clock.monotonic() >= *again_at {
                let is_there =
                    self.last == 0 || !matches!(inner.ports.log.head(session).await, Ok(None));
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

/// Waits until those who may work on a session, but for this node, are such.
async fn changed(cluster: &Cluster, session: SessionId, are: impl Fn(&Vec<Peer>) -> bool) {
    loop {
        let changed = cluster.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        if are(&cluster.owners(session)) {
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
    /// It is another's by now. What was told before is still to be heard.
    has_moved: bool,
}

impl Here {
    fn new(inner: &Arc<Inner>, session: SessionId, after: Seq) -> Here {
        let reader = Reader::new(inner, session, after);
        Here { inner: Arc::clone(inner), session, reader, has_moved: false }
    }

    async fn next(&mut self) -> Result<Option<Told>, Break> {
        let mut told = None;
        if !self.has_moved {
            tokio::select! {
                biased;
                it = self.reader.next() => told = Some(it?),
                () = far(&self.inner, self.session) => {
                    self.has_moved = true;
                    self.reader.wait_no_more();
                }
            }
        }
        let told = match told {
            Some(told) => told,
            None => self.reader.next().await?,
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
