//! Documents that are kept sealed, each content under a data key of its own: credentials, and what else nobody should
//! find in a copy of the tables.
//!
//! They stand beside the others, under kinds that begin with [`SEALED`]. The change that replaces or removes one dooms
//! its key; the key leaves the key store at once, and with that every copy of the content is nothing but noise, in
//! backups too. A document whose key is gone is as good as removed: it came back with an old copy of the tables.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everstate_runtime::ports::{Document, Down, Page, Put, PutError, Registry};

use crate::keys::Keys;
use crate::registry::Documents;
use crate::shelf::{KeyId, SEALED, sealed_under};

const KEY_LEN: usize = size_of::<KeyId>();

pub(crate) struct Sealed {
    pub(crate) documents: Documents,
    pub(crate) keys: Arc<Keys>,
}

/// What a sealed content belongs to: nothing can stand in another document's place.
fn place(project: &str, kind: &str, id: &str) -> Vec<u8> {
    let parts =
        [project, kind, id].map(|it| [&(it.len() as u32).to_be_bytes(), it.as_bytes()].concat());
    [&b"everstate document 1\0"[..], &parts.concat()].concat()
}

fn kind_of(kind: &str) -> String {
    format!("{SEALED}{kind}")
}

impl Sealed {
    /// `None`: its key is gone.
    async fn open(
        &self,
        project: &str,
        kind: &str,
        sealed: &Document,
    ) -> Result<Option<Document>, Down> {
        let id = &sealed.id;
        let damaged = || Down(format!("the sealed document {kind}/{id} is damaged"));
        let key = sealed_under(SEALED, &sealed.body).ok_or_else(damaged)?;
        let Some(key) = self.keys.find(key).await? else { return Ok(None) };
        let body = key.open(&place(project, kind, id), &sealed.body[KEY_LEN..]);
        let body = Bytes::from(body.ok_or_else(damaged)?);
        Ok(Some(Document { body, ..sealed.clone() }))
    }

    /// Looks again where a key is gone: the content may just have been replaced.
    async fn open_newest(
        &self,
        project: &str,
        kind: &str,
        mut sealed: Document,
    ) -> Result<Option<Document>, Down> {
        loop {
            if let Some(opened) = self.open(project, kind, &sealed).await? {
                return Ok(Some(opened));
            }
            let again = self.documents.get(project, &kind_of(kind), &sealed.id).await?;
            match again.filter(|it| it.revision != sealed.revision) {
                Some(newer) => sealed = newer,
                None => return Ok(None),
            }
        }
    }

    /// The key of a content that is doomed by now. Of other keys that are doomed somebody may just be reading; they, and
    /// what cannot be destroyed now, are left to the upkeep.
    async fn destroy(&self, old: Option<KeyId>) {
        let Some(key) = old else { return };
        if let Err(down) = self.keys.destroy(vec![key]).await {
            tracing::warn!(%down, "a data key that is not needed any more is destroyed later");
        }
    }

    /// What a document is sealed under, as it stands, and its revision.
    async fn key_of(&self, at: (&str, &str, &str)) -> Result<Option<(KeyId, u64)>, Down> {
        let found = self.documents.get(at.0, &kind_of(at.1), at.2).await?;
        Ok(found.and_then(|it| Some((sealed_under(SEALED, &it.body)?, it.revision))))
    }
}

#[async_trait]
impl Registry for Sealed {
    async fn get(&self, project: &str, kind: &str, id: &str) -> Result<Option<Document>, Down> {
        match self.documents.get(project, &kind_of(kind), id).await? {
            Some(sealed) => self.open_newest(project, kind, sealed).await,
            None => Ok(None),
        }
    }

    async fn put(&self, put: Put) -> Result<u64, PutError> {
        if put.expires_at.is_some() {
            // Whatever removes it by its time would leave its key behind.
            return Err(PutError::Down(Down("a sealed document cannot expire".to_owned())));
        }
        let (project, kind, id) = (put.project.clone(), put.kind.clone(), put.id.clone());
        let key = self.keys.take().await.map_err(PutError::Down)?;
        let mut expect = put.expect;
        let mut old = match expect {
            Some(_) => self.key_of((&project, &kind, &id)).await.map_err(PutError::Down)?,
            None => None,
        };
        loop {
            let text = key.seal(&place(&project, &kind, &id), &put.body);
            let body = [&key.id.to_be_bytes()[..], &text].concat().into();
            let sealed = Put { kind: kind_of(&kind), expect, body, ..put.clone() };
            match self.documents.put(sealed).await {
                Ok(revision) => {
                    self.keys.remember(&key);
                    let replaced = old.filter(|(_, it)| Some(*it) == expect);
                    self.destroy(replaced.map(|(key, _)| key)).await;
                    return Ok(revision);
                }
                Err(PutError::Conflict(Some(there))) => {
                    let revision = there.revision;
                    let opened = self.open_newest(&project, &kind, there).await;
                    match opened.map_err(PutError::Down)? {
                        None if put.expect.is_none() => {
                            // What stands there cannot be read by anybody: as if it did not.
                            (expect, old) = (Some(revision), None);
                        }
                        opened => {
                            self.keys.give_back(key);
                            return Err(PutError::Conflict(opened));
                        }
                    }
                }
                Err(PutError::Conflict(None)) => {
                    self.keys.give_back(key);
                    return Err(PutError::Conflict(None));
                }
                // It may have landed: the key stays, and is nobody's if it has not.
                Err(PutError::Down(down)) => return Err(PutError::Down(down)),
            }
        }
    }

    async fn remove(&self, project: &str, kind: &str, id: &str) -> Result<(), Down> {
        let old = self.key_of((project, kind, id)).await?;
        self.documents.remove(project, &kind_of(kind), id).await?;
        self.destroy(old.map(|(key, _)| key)).await;
        Ok(())
    }

    async fn page(&self, project: &str, kind: &str, page: Page) -> Result<Vec<Document>, Down> {
        let Page { order, mut after, limit } = page;
        let mut found = Vec::new();
        while found.len() < limit {
            let n = limit - found.len();
            let ask = Page { order, after, limit: n };
            let sealed = self.documents.page(project, &kind_of(kind), ask).await?;
            let n_sealed = sealed.len();
            after = sealed.last().map(|it| (it.created_at, it.id.clone()));
            for it in sealed {
                found.extend(self.open_newest(project, kind, it).await?);
            }
            if n_sealed < n {
                break;
            }
        }
        Ok(found)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({:?})", self.documents)
    }
}
