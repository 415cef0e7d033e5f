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
use crate::shelf::{SEALED, sealed_under};

const KEY_LEN: usize = size_of::<crate::shelf::KeyId>();

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

    /// Nothing is sealed under the doomed any more. What cannot be destroyed now is destroyed by the upkeep.
    async fn destroy_doomed(&self) {
        let destroyed = async {
            let doomed = self.documents.shelf.doomed().await?;
            if doomed.is_empty() { Ok(()) } else { self.keys.destroy(doomed).await }
        };
        if let Err(down) = destroyed.await {
            tracing::warn!(%down, "data keys that are not needed any more are destroyed later");
        }
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
        loop {
            let text = key.seal(&place(&project, &kind, &id), &put.body);
            let body = [&key.id.to_be_bytes()[..], &text].concat().into();
            let sealed = Put { kind: kind_of(&kind), expect, body, ..put.clone() };
            match self.documents.put(sealed).await {
                Ok(revision) => {
                    self.keys.remember(&key);
                    if revision > 1 {
                        self.destroy_doomed().await;
                    }
                    return Ok(revision);
                }
                Err(PutError::Conflict(Some(there))) => {
                    let revision = there.revision;
                    let opened = self.open_newest(&project, &kind, there).await;
                    match opened.map_err(PutError::Down)? {
                        None if put.expect.is_none() => {
                            // What stands there cannot be read by anybody: as if it did not.
                            expect = Some(revision);
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
        self.documents.remove(project, &kind_of(kind), id).await?;
        self.destroy_doomed().await;
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
