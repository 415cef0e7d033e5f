//! The registry over any shelf.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use everstate_runtime::ports::{Document, Down, Page, Put, PutError, Registry};

use crate::names::{self, is_name};
use crate::shelf::{Change, DocumentPage, Now, Shelf, Wrote, is_expired};

pub(crate) struct Documents {
    pub(crate) shelf: Arc<dyn Shelf>,
    pub(crate) now: Now,
}

#[async_trait]
impl Registry for Documents {
    async fn get(&self, project: &str, kind: &str, id: &str) -> Result<Option<Document>, Down> {
        if ![project, kind, id].into_iter().all(is_name) {
            return Ok(None);
        }
        let found = self.shelf.document(project, kind, id).await?;
        let now = (self.now)();
        Ok(found.filter(|it| !is_expired(it.expires_at, now)))
    }

    async fn put(&self, put: Put) -> Result<u64, PutError> {
        names::refuse([put.project.as_str(), &put.kind, &put.id]).map_err(PutError::Down)?;
        match self.shelf.write(Change::PutDocument(put), None).await.map_err(PutError::Down)? {
            Wrote::Revision(revision) => Ok(revision),
            Wrote::Conflict(there) => Err(PutError::Conflict(there)),
            other => Err(PutError::Down(Down(format!("a document became {other:?}")))),
        }
    }

    async fn remove(&self, project: &str, kind: &str, id: &str) -> Result<(), Down> {
        if ![project, kind, id].into_iter().all(is_name) {
            return Ok(());
        }
        let change = Change::RemoveDocument {
            project: project.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
        };
        self.shelf.write(change, None).await.map(drop)
    }

    async fn page(&self, project: &str, kind: &str, page: Page) -> Result<Vec<Document>, Down> {
        let after = page.after.as_ref().map(|(_, id)| id.as_str());
        if ![project, kind].into_iter().chain(after).all(is_name) {
            return Ok(Vec::new());
        }
        let now = (self.now)();
        let (project, kind) = (project.to_owned(), kind.to_owned());
        self.shelf.documents(DocumentPage { project, kind, page, now }).await
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Documents({:?})", self.shelf)
    }
}
