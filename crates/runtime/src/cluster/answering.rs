//! What a node does for its peers: the other side of [`Peers`](crate::ports::Peers).

use std::sync::Arc;

use everstate_kernel::event::Event;
use everstate_kernel::ids::{ItemId, SessionId, TurnNo};
use everstate_kernel::input::Input;
use futures_util::StreamExt;

use super::follow::follow_here;
use crate::host::{Fed, FeedError, Host, Inner, down, elsewhere};
use crate::ports::{Down, Hello, Tail, TailAsk};
use crate::table::Nay;
use crate::tail::Told;

impl Host {
    /// Who this node is, from the moment it can be asked; `None` if it is none of many.
    pub fn hello(&self) -> Option<Hello> {
        let node = &self.inner.ports.membership.as_ref()?.node;
        Some(Hello { name: node.name.clone(), epoch: self.epoch() })
    }

    /// Reads the inbox of a session that is served here, also during a shutdown. An error if it is not.
    pub async fn nudged(&self, session: SessionId) -> Result<(), Down> {
        if self.inner.is_far(session) {
            return Err(elsewhere());
        }
        self.inner.read_inbox_of(session).await
    }

    /// A tail for a peer, of a session that is served here. An error if it is not, and when it is no more.
    pub async fn tail_for(self: &Arc<Host>, ask: TailAsk) -> Result<Tail, Down> {
        if self.inner.is_far(ask.session) || !self.inner.has_lease() {
            return Err(elsewhere());
        }
        let tail = follow_here(&self.inner, ask.session, ask.after);
        if ask.after > 0 && self.inner.ports.log.head(ask.session).await?.is_none() {
            // It was there, and was deleted before anybody listened.
            return Ok(futures_util::stream::empty().boxed());
        }
        let Some(turn) = ask.attends else { return Ok(tail) };
        let mut caller = FarCaller {
            inner: Arc::clone(&self.inner),
            session: ask.session,
            turn,
            is_answered: false,
        };
        Ok(tail.inspect(move |told| caller.hears(told)).boxed())
    }

    /// Erases for a peer, who has noted it.
    pub async fn erase_for(
        &self,
        session: SessionId,
        items: Vec<ItemId>,
    ) -> Result<Fed, FeedError> {
        self.inner.erase_here(session, items).await.map_err(no)
    }

    /// Deletes for a peer.
    pub async fn delete_for(&self, session: SessionId) -> Result<(), Down> {
        self.inner.table().parked.remove(&session);
        self.inner.delete_here(session).await.map_err(|nay| down(no(nay)))
    }
}

fn no(nay: Nay) -> FeedError {
    match nay {
        Nay::No(err) => err,
        Nay::Moved { .. } => FeedError::Down(elsewhere()),
    }
}

/// A caller at another node. It is there as long as its tail is.
struct FarCaller {
    inner: Arc<Inner>,
    session: SessionId,
    turn: TurnNo,
    is_answered: bool,
}

impl FarCaller {
    fn hears(&mut self, told: &Result<Told, Down>) {
        if let Ok(Told::Append(append)) = told {
            self.is_answered |= append
                .events
                .iter()
                .any(|it| matches!(it, Event::TurnEnded { turn, .. } if *turn == self.turn));
        }
    }
}

impl Drop for FarCaller {
    fn drop(&mut self) {
        // Outside of a runtime everything is being torn down, and the next owner closes the turn.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.is_answered || self.inner.is_stopped() {
            return;
        }
        let (inner, session, turn) = (Arc::clone(&self.inner), self.session, self.turn);
        runtime.spawn(async move {
            let lost = vec![Input::CallerLost { turn }];
            if let Err(err) = inner.feed(session, lost, None).await {
                tracing::debug!(%session, turn, %err, "a turn was not told that its caller is gone");
            }
        });
    }
}
