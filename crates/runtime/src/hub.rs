//! Who listens, and what they have not heard yet.
//!
//! Every listener has a queue of its own that grows with what it leaves unread, up to a bound; then it is emptied,
//! and the reader finds by the place of the next piece what it missed: rows it reads from the log.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstate_kernel::ids::{Seq, SessionId};
use tokio::sync::Notify;

use crate::tail::Told;

/// A piece of news, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// The last row before it.
    pub(crate) after: Seq,
    pub(crate) news: News,
}

#[derive(Clone, Debug)]
pub(crate) enum News {
    Told(Told),
    /// The log was read up to here: whoever has not heard of all its rows finds them there.
    Read,
    /// This host speaks for the session no more.
    Lost,
    /// There is no such session any more.
    Deleted,
}

#[derive(Debug)]
pub(crate) struct Hub {
    channels: Mutex<HashMap<SessionId, Channel>>,
    unread_max: usize,
}

#[derive(Debug, Default)]
struct Channel {
    ears: Vec<Arc<Ear>>,
}

#[derive(Debug, Default)]
struct Ear {
    unread: Mutex<VecDeque<Heard>>,
    more: Notify,
}

/// One listener. Dropping it ends the listening.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Arc<Hub>,
    session: SessionId,
    ear: Arc<Ear>,
}

impl Hub {
    pub(crate) fn new(unread_max: usize) -> Hub {
        Hub { channels: Mutex::default(), unread_max }
    }

    pub(crate) fn listen(self: &Arc<Hub>, session: SessionId) -> Listener {
        let ear = Arc::new(Ear::default());
        let mut channels = lock(&self.channels);
        let channel = channels.entry(session).or_default();
        channel.ears.push(Arc::clone(&ear));
        Listener { hub: Arc::clone(self), session, ear }
    }

    /// `after` is the last row before this piece.
    pub(crate) fn tell(&self, session: SessionId, after: Seq, news: impl FnOnce() -> News) {
        let channels = lock(&self.channels);
        let Some(channel) = channels.get(&session) else { return };
        let heard = Heard { after, news: news() };
        // Whoever speaks for the session now may tell something else.
        let is_void = matches!(heard.news, News::Lost);
        for ear in &channel.ears {
            let mut unread = lock(&ear.unread);
            if is_void || unread.len() >= self.unread_max {
                unread.clear();
            }
            unread.push_back(heard.clone());
            ear.more.notify_one();
        }
    }
}

impl Hub {
    /// Sends all listeners away.
    pub(crate) fn close(&self) {
        let sessions: Vec<SessionId> = lock(&self.channels).keys().copied().collect();
        sessions.into_iter().for_each(|it| self.tell(it, 0, || News::Lost));
    }
}

impl Listener {
    /// What was told and is unread.
    pub(crate) fn heard(&self) -> Option<Heard> {
        lock(&self.ear.unread).pop_front()
    }

    pub(crate) async fn next(&self) -> Heard {
        loop {
            if let Some(heard) = self.heard() {
                return heard;
            }
            self.ear.more.notified().await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut channels = lock(&self.hub.channels);
        if let Some(channel) = channels.get_mut(&self.session) {
            channel.ears.retain(|it| !Arc::ptr_eq(it, &self.ear));
            if channel.ears.is_empty() {
                channels.remove(&self.session);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
