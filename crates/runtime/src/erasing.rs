//! Erasing that outlives us: what is to go is written down first, so that the start after a crash finishes it.

use std::sync::Arc;

use bytes::Bytes;
use everstate_kernel::ids::{ItemId, Millis, SessionId};
use everstate_kernel::state::Rejection;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::host::{Fed, FeedError, Host, Inner, closed};
use crate::keep;
use crate::ports::{Down, Put, PutError};
use crate::table::{Mail, Nay};

const KIND: &str = "erasing";
const PAGE: usize = 256;
/// The pause before an erasure that could not be finished is tried again; it doubles.
const AGAIN_MS: Millis = 1_000;
const AGAIN_MAX_MS: Millis = 60_000;

/// An erasure that was asked for and is not known to be done.
#[derive(Debug, Serialize, Deserialize)]
struct Pending {
    session: SessionId,
    items: Vec<ItemId>,
}

impl Host {
    /// Erases items, and all that has to go with them, from the session and from its log. Once begun it is finished,
    /// if not by this process then by the next.
    pub async fn erase(&self, session: SessionId, items: Vec<ItemId>) -> Result<Fed, FeedError> {
        self.admit(session, None)?;
        let Some(first) = items.iter().min() else {
            return Ok(Fed { seq: 0, events: Vec::new() });
        };
        let id = format!("{session}.{}.{}", first.turn, first.idx);
        let pending = Pending { session, items };
        self.note(&id, &pending).await?;
        let done = self.inner.carry_out(&pending).await;
        // Refused is settled too: whoever asked knows that nothing was begun.
        if !matches!(done, Err(FeedError::Down(_) | FeedError::Draining)) {
            self.inner.forget(&id).await?;
        }
        done
    }

    /// Packs the turns that ended before this, and drops their streams. `false` if there are none.
    pub async fn drop_streams(
        &self,
        session: SessionId,
        ended_before: Millis,
    ) -> Result<bool, FeedError> {
        let state = self.look(session).await?;
        let log = &*self.inner.ports.log;
        Ok(keep::roll_up(log, session, &state, ended_before).await?.is_some())
    }

    async fn note(&self, id: &str, pending: &Pending) -> Result<(), Down> {
        let put = Put {
            project: String::new(),
            kind: KIND.to_owned(),
            id: id.to_owned(),
            expect: None,
            body: Bytes::from(serde_json::to_vec(pending).expect("names have a JSON form")),
            now: self.inner.ports.clock.now(),
            expires_at: None,
        };
        match self.inner.ports.registry.put(put).await {
            // Noted before, and not finished: it is the same erasure.
            Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down),
        }
    }
}

impl Inner {
    /// Finishes what an earlier process began, or another node asked for, of the sessions that are served here.
    pub(crate) async fn finish_erasures(self: &Arc<Inner>) -> Result<(), Down> {
        let mut before = None;
        loop {
            let found = self.ports.registry.documents("", KIND, before, PAGE).await?;
            let n_found = found.len();
            before = found.last().map(|it| (it.created_at, it.id.clone()));
            for document in found {
                let pending: Pending = serde_json::from_slice(&document.body).map_err(|err| {
                    Down(format!("the registry's document {KIND}/{} is broken: {err}", document.id))
                })?;
                if self.is_far(pending.session) {
                    continue;
                }
                // In a cluster this is asked again and again by itself.
                if !self.finish(&document.id, &pending).await? && self.cluster.is_none() {
                    let (inner, id) = (Arc::clone(self), document.id);
                    self.spawn(async move { inner.finish_later(&id, &pending).await });
                }
            }
            if n_found < PAGE {
                return Ok(());
            }
        }
    }

    async fn carry_out(self: &Arc<Inner>, pending: &Pending) -> Result<Fed, FeedError> {
        match self.erase_here(pending.session, pending.items.clone()).await {
            Ok(fed) => Ok(fed),
            Err(Nay::No(err)) => Err(err),
            Err(Nay::Moved { .. }) => self.erase_far(pending.session, pending.items.clone()).await,
        }
    }

    pub(crate) async fn erase_here(
        self: &Arc<Inner>,
        session: SessionId,
        items: Vec<ItemId>,
    ) -> Result<Fed, Nay> {
        let (reply, answer) = oneshot::channel();
        self.send(session, Mail::Erase { items, reply });
        answer.await.unwrap_or_else(|_| Err(Nay::No(closed().into())))
    }

    /// `false` if its time has not come: the session is busy, or cannot be rewritten now.
    async fn finish(self: &Arc<Inner>, id: &str, pending: &Pending) -> Result<bool, Down> {
        match self.carry_out(pending).await {
            Err(
                FeedError::Rejected(Rejection::Busy { .. } | Rejection::Parked(_))
                | FeedError::Down(_)
                | FeedError::Draining,
            ) => Ok(false),
            // Refused for good is settled too: there is nothing to finish.
            Ok(_) | Err(FeedError::Rejected(_) | FeedError::NotFound | FeedError::Seen(_)) => {
                self.forget(id).await.map(|()| true)
            }
        }
    }

    async fn finish_later(self: &Arc<Inner>, id: &str, pending: &Pending) {
        let clock = &self.ports.clock;
        let mut pause = AGAIN_MS;
        loop {
            tracing::warn!(session = %pending.session, "what is to be erased is still there; tried again");
            clock.sleep_until(clock.now() + pause).await;
            pause = (pause * 2).min(AGAIN_MAX_MS);
            if let Ok(true) = self.finish(id, pending).await {
                return;
            }
        }
    }

    async fn forget(&self, id: &str) -> Result<(), Down> {
        self.ports.registry.remove("", KIND, id).await
    }
}
