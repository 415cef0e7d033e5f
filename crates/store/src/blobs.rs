//! Big bodies, each an object of its own, sealed like a row. An object is durable before the append that names it,
//! and is collected some time after nothing names it any more.

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::Down;
use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::keys::Keys;
use crate::seal::{DataKey, FAST, compress, decompress};
use crate::shelf::{BlobName, KeyId};

pub(crate) struct Blobs(Arc<dyn ObjectStore>);

impl Blobs {
    pub(crate) fn in_memory() -> Blobs {
        Blobs(Arc::new(InMemory::new()))
    }

    /// The folder has to be there. Objects and the folders that lead to them are flushed before a put returns.
    pub(crate) fn in_folder(folder: &FilePath) -> Result<Blobs, object_store::Error> {
        Ok(Blobs(Arc::new(LocalFileSystem::new_with_prefix(folder)?.with_fsync(true))))
    }

    pub(crate) async fn put(
        &self,
        session: SessionId,
        name: BlobName,
        key: &DataKey,
        body: &[u8],
    ) -> Result<(), Down> {
        let packed = compress(body, FAST);
        let text = match &packed {
            Some(packed) => [&[1][..], packed].concat(),
            None => [&[0][..], body].concat(),
        };
        // It says itself which key opens it: a row may be packed or copied, its blob stays as it is.
        let sealed = [&key.id.to_be_bytes()[..], &key.seal(&place(session, name), &text)].concat();
        let put = self.0.put(&path(session, name), sealed.into()).await;
        put.map(drop).map_err(|err| Down(format!("cannot keep a blob of {session}: {err}")))
    }

    pub(crate) async fn get(
        &self,
        session: SessionId,
        name: BlobName,
        keys: &Keys,
    ) -> Result<Vec<u8>, Down> {
        let failed = |why: &str| Down(format!("cannot read a blob of {session}: {why}"));
        let got = self.0.get(&path(session, name)).await.map_err(|it| failed(&it.to_string()))?;
        let sealed = got.bytes().await.map_err(|it| failed(&it.to_string()))?;
        let (id, sealed) = sealed.split_first_chunk::<8>().ok_or_else(|| failed("it is cut"))?;
        let id = KeyId::from_be_bytes(*id);
        let key = keys.find(id).await?.ok_or_else(|| failed("its key is gone"))?;
        let text = key.open(&place(session, name), sealed);
        let body = text.and_then(|it| match it.split_first()? {
            (0, body) => Some(body.to_vec()),
            (1, packed) => decompress(packed),
            _ => None,
        });
        body.ok_or_else(|| failed("it is damaged and cannot be opened"))
    }

    /// What has been lying there for longer than `grace`.
    pub(crate) async fn older_than(
        &self,
        grace: Duration,
    ) -> Result<Vec<(SessionId, BlobName)>, Down> {
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX));
        let mut old = Vec::new();
        let mut all = self.0.list(None);
        while let Some(object) = all.next().await {
            let object = object.map_err(|err| Down(format!("cannot list blobs: {err}")))?;
            if now.saturating_sub(object.last_modified.timestamp_millis()) >= grace {
                old.extend(parse(&object.location));
            }
        }
        Ok(old)
    }

    pub(crate) async fn delete(&self, session: SessionId, name: BlobName) -> Result<(), Down> {
        match self.0.delete(&path(session, name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(err) => Err(Down(format!("cannot delete a blob of {session}: {err}"))),
        }
    }
}

fn place(session: SessionId, name: BlobName) -> Vec<u8> {
    [b"blob", &session.0.to_be_bytes()[..], &name].concat()
}

fn path(session: SessionId, name: BlobName) -> Path {
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    Path::from(format!("{:04}/{session}/{name}", session.bucket()))
}

fn parse(path: &Path) -> Option<(SessionId, BlobName)> {
    let mut parts = path.parts().skip(1);
    let (session, name) = (parts.next()?, parts.next()?);
    let mut bytes = BlobName::default();
    for (n, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(name.as_ref().get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some((session.as_ref().parse().ok()?, bytes))
}

impl fmt::Debug for Blobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blobs({})", self.0)
    }
}
