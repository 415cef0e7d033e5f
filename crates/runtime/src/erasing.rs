//! Erasing that outlives us: what is to go is written down first, so that the start after a crash finishes it.

use bytes::Bytes;
use everstate_kernel::ids::{ItemId, SessionId};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::host::{Fed, FeedError, Host, closed};
use crate::ports::{Down, Put, PutError};
use crate::table::Mail;

const KIND: &str = "erasing";
const PAGE: usize = 256;

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
        self.carry_out(&id, pending).await
    }

    /// Finishes what an earlier process began.
    pub(crate) async fn finish_erasures(&self) -> Result<(), Down> {
        loop {
            let found = self.inner.ports.registry.documents("", KIND, None, PAGE).await?;
            let n_found = found.len();
            for document in found {
                let pending = serde_json::from_slice(&document.body).map_err(|err| {
                    Down(format!("the registry's document {KIND}/{} is broken: {err}", document.id))
                })?;
                match self.carry_out(&document.id, pending).await {
                    Err(FeedError::Down(down)) => return Err(down),
                    Ok(_)
                    | Err(
                        FeedError::Rejected(_)
                        | FeedError::NotFound
                        | FeedError::Seen(_)
                        | FeedError::Draining,
                    ) => (),
                }
            }
            if n_found < PAGE {
                return Ok(());
            }
        }
    }

    async fn carry_out(&self, id: &str, pending: Pending) -> Result<Fed, FeedError> {
        let (reply, answer) = oneshot::channel();
        self.inner.send(pending.session, Mail::Erase { items: pending.items, reply });
        let done = answer.await.unwrap_or_else(|_| Err(FeedError::Down(closed())));
        // Refused is settled too: there is nothing to finish.
        if !matches!(done, Err(FeedError::Down(_))) {
            self.inner.ports.registry.remove("", KIND, id).await?;
        }
        done
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
