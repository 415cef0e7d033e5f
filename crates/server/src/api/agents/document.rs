//! Documents that clients name: agents, vaults, credentials. Their names, and making one exactly once.
//!
//! A name carries when it was made, so that a list can be gone on with after a document that was deleted meanwhile.

use bytes::Bytes;
use everstate_kernel::ids::{Millis, base32, from_base32};
use everstate_kernel::json::Json;
use everstate_runtime::ports::{Document, Order, Page as Piece, PageKey, Put, PutError, Registry};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pages::{self, Page, no_such};
use crate::app::App;
use crate::claim::Asked;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::Answer;
use crate::keys::random;

/// A sort of documents: how their names begin, and what messages call them.
#[derive(Debug)]
pub(super) struct Sort {
    pub prefix: &'static str,
    pub called: &'static str,
}

const TIME: usize = 6;
/// So that none of them reads as a session's.
const DRAWN: usize = 9;
/// So many are read at once where a filter leaves some out.
const PIECE: usize = 200;

impl Sort {
    pub(super) fn mint(&self, now: Millis) -> String {
        let time = &now.to_be_bytes()[size_of::<Millis>() - TIME..];
        format!("{}{}", self.prefix, base32(&[time, &random::<DRAWN>()].concat()))
    }

    /// When a document of this name was made, if it ever was.
    fn made_at(&self, id: &str) -> Option<Millis> {
        let bytes = from_base32(id.strip_prefix(self.prefix)?)?;
        let time = bytes.first_chunk::<TIME>().filter(|_| bytes.len() == TIME + DRAWN)?;
        Some(time.iter().fold(0, |at, byte| at << 8 | Millis::from(*byte)))
    }

    /// Where a list goes on. There need not be anything there any more.
    fn after(&self, after: Option<&str>) -> Result<Option<PageKey>> {
        let place = |it: &str| {
            let at = self.made_at(it).ok_or_else(|| no_such(it))?;
            Ok((at, it.to_owned()))
        };
        after.map(place).transpose()
    }

    pub(super) fn missing(&self, id: &str) -> ApiError {
        let text = format!("there is no {} `{}`", self.called, shown(id));
        ApiError::new(&codes::NOT_FOUND, text)
    }

    /// Makes one, unless this request repeats one that has.
    pub(super) async fn make(
        &self,
        app: &App,
        registry: &dyn Registry,
        kind: &str,
        asked: &Asked,
        body: &impl Serialize,
    ) -> Result<Document> {
        let (project, _) = asked.name();
        let _alone = app.gates.claim(&asked.name()).await;
        let id = app.claims.named(asked, &self.mint(app.clock.now())).await?;
        let broken = || ApiError::new(&codes::INTERNAL, "a claim names what was never to be made");
        let put = Put {
            project: project.to_owned(),
            kind: kind.to_owned(),
            expect: None,
            body: bytes(body),
            // As its name says, also if the process died between the claim and this.
            now: self.made_at(&id).ok_or_else(broken)?,
            expires_at: None,
            id,
        };
        match registry.put(put.clone()).await {
            Ok(revision) => Ok(Document {
                id: put.id,
                revision,
                created_at: put.now,
                updated_at: put.now,
                expires_at: None,
                body: put.body,
            }),
            Err(PutError::Conflict(Some(there))) => Ok(there),
            Err(PutError::Conflict(None)) => Err(broken()),
            Err(PutError::Down(down)) => Err(down.into()),
        }
    }

    /// A page of a project's documents. What `tell` has nothing to say of is left out, and takes up no place.
    pub(super) async fn page(
        &self,
        registry: &dyn Registry,
        (project, kind): (&str, &str),
        page: &Page,
        tell: impl Fn(&Document) -> Result<Option<Json>>,
    ) -> Result<Answer> {
        let order = if page.newest_first { Order::NewestFirst } else { Order::OldestFirst };
        let mut after = self.after(page.after.as_deref())?;
        let mut rows = Vec::new();
        loop {
            let limit = if rows.is_empty() { page.limit + 1 } else { PIECE };
            let piece = Piece { order, after, limit };
            let found = registry.page(project, kind, piece).await?;
            let is_last = found.len() < limit;
            after = found.last().map(|it| (it.created_at, it.id.clone()));
            for document in found {
                let Some(json) = tell(&document)? else { continue };
                if rows.len() == page.limit {
                    return Ok(pages::answer(&rows, true));
                }
                rows.push((document.id, json));
            }
            if is_last {
                return Ok(pages::answer(&rows, false));
            }
        }
    }
}

pub(super) fn bytes(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("a document has a JSON form").into()
}

pub(super) fn read<T: DeserializeOwned>(document: &Document) -> Result<T> {
    serde_json::from_slice(&document.body).map_err(|_| {
        // What it is that cannot be read may be a secret.
        ApiError::new(&codes::INTERNAL, format!("the document `{}` cannot be read", document.id))
    })
}

/// What is to be written over a document that was read.
pub(super) fn change(project: &str, kind: &str, old: &Document, body: Bytes, now: Millis) -> Put {
    Put {
        project: project.to_owned(),
        kind: kind.to_owned(),
        id: old.id.clone(),
        expect: Some(old.revision),
        body,
        now: now.max(old.updated_at),
        expires_at: None,
    }
}
