//! What a node does for its peers: the other side of [`Peers`](crate::ports::Peers).

use std::sync::Arc;

use everstate_kernel::event::Event;
use everstate_kernel::ids::{ItemId, SessionId, TurnNo};
use futures_util::StreamExt;

use super::follow::follow_here;
use crate::attend::FarCaller;
use crate::host::{Fed, FeedError, Host, down, elsewhere};
use crate::ports::{Down, Hello, Tail, TailAsk};
use crate::table::Nay;
use crate::tail::{Hears, Told};

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
        let hears = if ask.kept_only { Hears::Kept } else { Hears::All };
        let tail = follow_here(&self.inner, ask.session, ask.after, hears);
        if ask.after > 0 && self.inner.ports.log.head(ask.session).await?.is_none() {
            // It was there, and was deleted before anybody listened.
            return Ok(futures_util::stream::empty().boxed());
        }
        let Some(turn) = ask.attends else { return Ok(tail) };
        let mut caller = FarCaller::new(&self.inner, ask.session, turn, ask.process);
        Ok(tail.inspect(move |told| caller.hears(is_end(told, turn))).boxed())
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

fn is_end(told: &Result<Told, Down>, turn: TurnNo) -> bool {
    let is_end = |it: &Event| matches!(it, Event::TurnEnded { turn: it, .. } if *it == turn);
    matches!(told, Ok(Told::Append(append)) if append.events.iter().any(is_end))
}
