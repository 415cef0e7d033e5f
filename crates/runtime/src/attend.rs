//! Who waits for the answers of foreground turns, here and at other nodes. A turn whose last caller is gone is told so.
//!
//! A caller that goes says so, and is gone at once. One that is lost with its node, or whose answer was cut off by us,
//! is expected back for a while: its client asks again, perhaps elsewhere, and is answered by the turn that goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstate_kernel::ids::{Seq, SessionId, TurnNo};
use everstate_kernel::input::Input;
use futures_util::StreamExt;

use crate::cluster::far::AbortOnDrop;
use crate::cluster::follow::{Wish, follow};
use crate::host::{Host, Inner};
use crate::tail::Hears;

/// Callers by the turns they wait for.
#[derive(Debug, Default)]
pub(crate) struct Callers(Mutex<HashMap<(SessionId, TurnNo), Crowd>>);

/// Those who wait for one turn.
#[derive(Debug, Default)]
struct Crowd {
    n_here: usize,
    /// Says so to the node that has the session, if that is another.
    attending: Option<AbortOnDrop>,
    /// Processes of other nodes at which callers wait.
    there: BTreeMap<u64, There>,
}

#[derive(Debug, Default)]
struct There {
    n_tails: usize,
    /// How often it was lost.
    n_lost: u64,
}

impl Crowd {
    fn is_empty(&self) -> bool {
        self.n_here == 0 && self.there.is_empty()
    }
}

/// One caller's wait at this node. Dropped before it was [`answered`](Attendance::answered), the caller is gone.
#[derive(Debug)]
pub struct Attendance {
    inner: Arc<Inner>,
    session: SessionId,
    turn: TurnNo,
    is_answered: bool,
}

impl Host {
    /// A caller waits here for this turn, which was begun by the append `began`. While somebody does, at any node, the
    /// turn goes on; when the last one goes it ends as one whose caller is gone.
    pub fn attend(&self, session: SessionId, turn: TurnNo, began: Seq) -> Attendance {
        let inner = &self.inner;
        let mut callers = inner.callers.lock();
        let crowd = callers.entry((session, turn)).or_default();
        crowd.n_here += 1;
        if let Some(cluster) = &inner.cluster
            && crowd.attending.is_none()
            && inner.is_far(session)
        {
            let wish = Wish { session, after: began, hears: Hears::Kept, attends: Some(turn) };
            let mut tail = follow(inner, cluster, wish);
            let task = tokio::spawn(async move { while let Some(Ok(_)) = tail.next().await {} });
            crowd.attending = Some(AbortOnDrop(task.abort_handle()));
        }
        drop(callers);
        Attendance { inner: Arc::clone(inner), session, turn, is_answered: false }
    }
}

impl Attendance {
    /// The caller has what it waited for.
    pub fn answered(&mut self) {
        self.is_answered = true;
    }

    /// Its answer was cut off, and not by the caller, who is expected back for a while.
    pub fn cut_off(self) {
        let inner = Arc::clone(&self.inner);
        inner.spawn(async move {
            self.inner.ports.clock.pause(self.inner.settings.expected_back_ms).await;
        });
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        let is_last = {
            let mut callers = self.inner.callers.lock();
            let Some(crowd) = callers.get_mut(&(self.session, self.turn)) else { return };
            crowd.n_here = crowd.n_here.saturating_sub(1);
            if crowd.n_here == 0 {
                crowd.attending = None;
            }
            let is_last = crowd.is_empty();
            if is_last {
                callers.remove(&(self.session, self.turn));
            }
            is_last
        };
        if is_last && !self.is_answered {
            self.inner.caller_lost(self.session, self.turn);
        }
    }
}

impl Inner {
    /// Tells a turn that its last caller is gone.
    fn caller_lost(self: &Arc<Inner>, session: SessionId, turn: TurnNo) {
        // Outside of a runtime everything is being torn down, and the next owner closes the turn.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_stopped() {
            return;
        }
        let inner = Arc::clone(self);
        runtime.spawn(async move {
            let lost = vec![Input::CallerLost { turn }];
            if let Err(err) = inner.feed(session, lost, None).await {
                tracing::warn!(%session, turn, %err, "cannot tell a turn that its caller is gone");
            }
        });
    }

    /// A node says that the last caller there has gone. Is nobody left?
    pub(crate) fn caller_has_left(
        &self,
        session: SessionId,
        turn: TurnNo,
        process: Option<u64>,
    ) -> bool {
        let mut callers = self.callers.lock();
        let Some(crowd) = callers.get_mut(&(session, turn)) else { return true };
        if let Some(process) = process {
            crowd.there.remove(&process);
        }
        let is_last = crowd.is_empty();
        if is_last {
            callers.remove(&(session, turn));
        }
        is_last
    }
}

/// Callers at another node, for as long as its tail is there.
#[derive(Debug)]
pub(crate) struct FarCaller {
    inner: Arc<Inner>,
    session: SessionId,
    turn: TurnNo,
    process: u64,
    is_answered: bool,
}

impl FarCaller {
    pub(crate) fn new(
        inner: &Arc<Inner>,
        session: SessionId,
        turn: TurnNo,
        process: u64,
    ) -> FarCaller {
        let mut callers = inner.callers.lock();
        let crowd = callers.entry((session, turn)).or_default();
        crowd.there.entry(process).or_default().n_tails += 1;
        drop(callers);
        FarCaller { inner: Arc::clone(inner), session, turn, process, is_answered: false }
    }

    pub(crate) fn hears(&mut self, is_end: bool) {
        self.is_answered |= is_end;
    }

    /// When it was lost, and how often before; `None` if it is there still, or said that it goes.
    fn lose(&self) -> Option<u64> {
        let name = (self.session, self.turn);
        let mut callers = self.inner.callers.lock();
        let crowd = callers.get_mut(&name)?;
        let there = crowd.there.get_mut(&self.process)?;
        there.n_tails = there.n_tails.saturating_sub(1);
        if there.n_tails > 0 {
            return None;
        }
        there.n_lost += 1;
        let n_lost = there.n_lost;
        // Of a session that went elsewhere nothing is decided here.
        if self.is_answered || self.inner.is_far(self.session) {
            crowd.there.remove(&self.process);
            if crowd.is_empty() {
                callers.remove(&name);
            }
            return None;
        }
        Some(n_lost)
    }
}

impl Drop for FarCaller {
    fn drop(&mut self) {
        let Some(n_lost) = self.lose() else { return };
        let (inner, session, turn, process) =
            (Arc::clone(&self.inner), self.session, self.turn, self.process);
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.inner.spawn(async move {
            inner.ports.clock.pause(inner.settings.expected_back_ms).await;
            let is_last = {
                let mut callers = inner.callers.lock();
                let Some(crowd) = callers.get_mut(&(session, turn)) else { return };
                let is_back = |it: &There| it.n_tails > 0 || it.n_lost != n_lost;
                if crowd.there.get(&process).is_none_or(is_back) {
                    return;
                }
                crowd.there.remove(&process);
                let is_last = crowd.is_empty();
                if is_last {
                    callers.remove(&(session, turn));
                }
                is_last
            };
            if is_last {
                inner.caller_lost(session, turn);
            }
        });
    }
}

impl Callers {
    /// Nobody here has a say any more.
    pub(crate) fn forget(&self) {
        let all = std::mem::take(&mut *self.lock());
        drop(all);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(SessionId, TurnNo), Crowd>> {
        // Nothing that panics runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
