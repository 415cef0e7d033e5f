//! Every POST is claimed before it does anything, so that a repeat of it gets the first one's object.
//!
//! The official clients repeat by themselves what they got no answer to, and send no key with it. So a claim has one
//! of two names: the caller's `Idempotency-Key`, or the request itself (API key, path, body), which counts as
//! a repeat only if the client says that it is one, and soon enough. What is claimed is a turn, or the name of a document.

use std::sync::Arc;

use axum::http::HeaderMap;
use everstate_kernel::ids::{Millis, SessionId, TurnNo};
use everstate_runtime::ports::{Clock, Document, Put, PutError, Registry};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ApiError, Result, codes};
use crate::keys::{Principal, hex, sha256};

const CLAIM: &str = "claim";
/// How long a claim is kept.
pub(crate) const KEPT_MS: Millis = 24 * 3_600_000;
/// How long a request without a key can be repeated.
pub(crate) const REPEAT_MS: Millis = 10 * 60_000;
const KEY_CHARS_MAX: usize = 255;

/// What a request was given, before it did anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub session: SessionId,
    pub turn: TurnNo,
    /// Kept in memory only (`store: false`).
    pub memory: bool,
    /// It may run tools with effects.
    pub risky: bool,
}

/// A document that a request was to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Named {
    document: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClaimDoc<T> {
    /// SHA-256 of method, path and body, in hexadecimal.
    body: String,
    target: T,
    at: Millis,
}

/// The claims of this installation.
#[derive(Debug)]
pub(crate) struct Claims {
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
}

/// One request, as far as a repeat of it has to be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    project: Arc<str>,
    id: String,
    body: String,
    /// The caller sent a key of its own.
    keyed: bool,
    /// The client says that it sends this again.
    repeat: bool,
}

impl Asked {
    pub(crate) fn read(
        who: &Principal,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Asked> {
        let text = |name: &str| headers.get(name).and_then(|it| it.to_str().ok());
        let body = sha256(&[path.as_bytes(), b"\n", body].concat());
        let same = [who.key.as_bytes(), b"\n", &body].concat();
        let key = match headers.get("idempotency-key") {
            None => None,
            Some(value) => Some(good_key(value.to_str().unwrap_or(""))?),
        };
        Ok(Asked {
            project: who.project.clone(),
            id: match key {
                // Hashed, so that a key of any length and letters is a good name of a document.
                Some(key) => format!("key/{}", hex(&sha256(key.as_bytes()))),
                None => format!("same/{}", hex(&sha256(&same))),
            },
            body: hex(&body),
            keyed: key.is_some(),
            repeat: text("x-stainless-retry-count")
                .and_then(|it| it.parse::<u32>().ok())
                .is_some_and(|it| it >= 1),
        })
    }

    /// What a request and its repeats have in common.
    pub(crate) fn name(&self) -> (&str, &str) {
        (&self.project, &self.id)
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.keyed
    }

    /// What this request's append is known by, so that it lands once. `turn` tells apart a repeat that was begun anew.
    pub(crate) fn append_key(&self, target: &Target) -> String {
        format!("{}/{}", self.id, target.turn)
    }
}

fn good_key(key: &str) -> Result<&str> {
    let good = !key.is_empty()
        && key.len() <= KEY_CHARS_MAX
        && key.chars().all(|it| (' '..='~').contains(&it));
    if good {
        return Ok(key);
    }
    let text = format!("an Idempotency-Key is 1 to {KEY_CHARS_MAX} printable ASCII characters");
    Err(ApiError::new(&codes::INVALID_VALUE, text).param("Idempotency-Key"))
}

pub(crate) enum Claimed<T = Target> {
    Ours(Earlier<T>),
    /// Somebody else was faster, and this request is a repeat of theirs.
    Theirs(Earlier<T>),
}

/// What was claimed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Earlier<T = Target> {
    pub target: T,
    revision: u64,
}

impl Claims {
    pub(crate) fn new(registry: Arc<dyn Registry>, clock: Arc<dyn Clock>) -> Claims {
        Claims { registry, clock }
    }

    /// The request this one repeats, if it does.
    pub(crate) async fn earlier(&self, asked: &Asked) -> Result<Option<Earlier>> {
        let found = self.registry.get(&asked.project, CLAIM, &asked.id).await?;
        self.judge(asked, found)
    }

    /// Claims `target` for this request. `instead` is what an earlier try was given, where that came to nothing.
    pub(crate) async fn claim(
        &self,
        asked: &Asked,
        target: &Target,
        instead: Option<&Earlier>,
    ) -> Result<Claimed> {
        self.claim_for(asked, target, instead.map(|it| it.revision)).await
    }

    /// The name of the document that this request is to make: `fresh`, or what the request it repeats was given.
    pub(crate) async fn named(&self, asked: &Asked, fresh: &str) -> Result<String> {
        let target = Named { document: fresh.to_owned() };
        match self.claim_for(asked, &target, None).await? {
            Claimed::Ours(claimed) | Claimed::Theirs(claimed) => Ok(claimed.target.document),
        }
    }

    async fn claim_for<T: Clone + Serialize + DeserializeOwned>(
        &self,
        asked: &Asked,
        target: &T,
        mut expect: Option<u64>,
    ) -> Result<Claimed<T>> {
        let now = self.clock.now();
        let doc = ClaimDoc { body: asked.body.clone(), target: target.clone(), at: now };
        loop {
            let put = Put {
                project: asked.project.to_string(),
                kind: CLAIM.to_owned(),
                id: asked.id.clone(),
                expect,
                body: serde_json::to_vec(&doc).expect("a claim has a JSON form").into(),
                now,
                expires_at: Some(now + KEPT_MS),
            };
            match self.registry.put(put).await {
                Ok(revision) => {
                    return Ok(Claimed::Ours(Earlier { target: target.clone(), revision }));
                }
                Err(PutError::Down(down)) => return Err(down.into()),
                Err(PutError::Conflict(standing)) => {
                    let revision = standing.as_ref().map(|it| it.revision);
                    if let Some(earlier) = self.judge(asked, standing)? {
                        return Ok(Claimed::Theirs(earlier));
                    }
                    // What stands there is no obstacle (too old, or an equal request that is not repeated).
                    expect = revision;
                }
            }
        }
    }

    /// Nothing came of it, and nothing was written: a repeat is as good as the first.
    pub(crate) async fn forget(&self, asked: &Asked) -> Result<()> {
        Ok(self.registry.remove(&asked.project, CLAIM, &asked.id).await?)
    }

    fn judge<T: DeserializeOwned>(
        &self,
        asked: &Asked,
        found: Option<Document>,
    ) -> Result<Option<Earlier<T>>> {
        let now = self.clock.now();
        let Some(found) = found.filter(|it| it.expires_at.is_none_or(|at| now < at)) else {
            return Ok(None);
        };
        let unreadable =
            |err| ApiError::new(&codes::INTERNAL, format!("a claim cannot be read: {err}"));
        // What another request was given may be of another sort.
        let doc: ClaimDoc<Value> = serde_json::from_slice(&found.body).map_err(unreadable)?;
        let earlier = || {
            let target = serde_json::from_value(doc.target.clone()).map_err(unreadable)?;
            Ok(Some(Earlier { target, revision: found.revision }))
        };
        if asked.keyed {
            if doc.body != asked.body {
                return Err(ApiError::new(
                    &codes::IDEMPOTENCY_KEY_REUSED,
                    "this Idempotency-Key was used for another request",
                )
                .param("Idempotency-Key")
                .why("method, path and body have to be the same for 24 hours")
                .attempt("send a new key with a new request"));
            }
            return earlier();
        }
        let repeats = asked.repeat && now < doc.at.saturating_add(REPEAT_MS);
        if repeats { earlier() } else { Ok(None) }
    }
}
