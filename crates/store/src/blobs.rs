//! Big bodies, each an object of its own, sealed like a row. An object is durable before the append that names it,
//! and is collected some time after nothing names it any more.
//!
//! No two puts make the same name. So an object that nothing names after a while never will be named, and any node
//! may collect it, whatever the others are doing.

pub mod place;
pub(crate) mod claim;
mod trouble;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::Down;
use futures_util::StreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};

use crate::blobs::place::Place;
use crate::blobs::trouble::told;
use crate::keys::Keys;
use crate::postgres::connect::Target;
use crate::postgres::objects::PgObjects;
use crate::seal::{DataKey, FAST, compress, decompress, random};
use crate::shelf::{BlobName, KeyId};

/// How long an object that nothing names is left alone.
pub(crate) const GRACE: Duration = Duration::from_secs(60 * 60);
/// How soon after its put an object has to be named.
const NAMED_WITHIN: Duration = Duration::from_secs(45 * 60);
/// What is longer goes to a bucket in parts of this size, each with its own time and its own retries.
const PART: usize = 8 * 1024 * 1024;
/// Begins the paths of objects that say only that the place works.
const PROBE: &str = "probe";

pub(crate) struct Blobs {
    objects: Arc<dyn ObjectStore>,
    /// For messages.
    place: String,
    is_shared: bool,
    /// What is long goes there in parts.
    in_parts: bool,
}

/// An object that has been lying there for long.
#[derive(Debug)]
pub(crate) struct Old {
    path: Path,
    /// `None`: no blob, and nothing names it.
    pub(crate) blob: Option<(SessionId, BlobName)>,
}

impl Blobs {
    pub(crate) fn in_memory() -> Blobs {
        let place = "memory".to_owned();
        Blobs { objects: Arc::new(InMemory::new()), place, is_shared: false, in_parts: false }
    }

    pub(crate) fn open(place: &Place) -> Result<Blobs, String> {
        let objects = place.open()?;
        let is_shared = place.is_shared();
        Ok(Blobs { objects, place: place.to_string(), is_shared, in_parts: is_shared })
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Several nodes may use it.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// In the database that keeps the log.
    pub(crate) fn in_database(target: &Arc<Target>) -> Blobs {
        let (objects, place) = (Arc::new(PgObjects::new(target)), format!("the {target}"));
        Blobs { objects, place, is_shared: true, in_parts: false }
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
        let sealed =
            [&key.id.to_be_bytes()[..], &key.seal(&seal_of(session, name), &text)].concat();
        self.upload(&path(session, name), sealed.into()).await.map_err(|err| {
            Down(format!("cannot keep a blob of {session} in {}: {}", self.place, told(&err)))
        })
    }

    async fn upload(&self, path: &Path, sealed: Bytes) -> object_store::Result<()> {
        if !self.in_parts || sealed.len() <= PART {
            return self.objects.put(path, sealed.into()).await.map(drop);
        }
        let mut upload = self.objects.put_multipart(path).await?;
        let all = async {
            for at in (0..sealed.len()).step_by(PART) {
                let part = sealed.slice(at..sealed.len().min(at + PART));
                upload.put_part(PutPayload::from(part)).await?;
            }
            upload.complete().await.map(drop)
        };
        let done = all.await;
        if done.is_err() {
            // Parts that stay behind cost money and harm nobody: the bucket's lifecycle ends them.
            let _ = upload.abort().await;
        }
        done
    }

    pub(crate) async fn get(
        &self,
        session: SessionId,
        name: BlobName,
        keys: &Keys,
    ) -> Result<Vec<u8>, Down> {
        let failed =
            |why: &str| Down(format!("cannot read a blob of {session} in {}: {why}", self.place));
        let got = self.objects.get(&path(session, name)).await;
        let sealed = match got {
            Ok(got) => got.bytes().await,
            Err(err) => Err(err),
        };
        let sealed = sealed.map_err(|err| failed(&told(&err)))?;
        let (id, sealed) = sealed.split_first_chunk::<8>().ok_or_else(|| failed("it is cut"))?;
        let id = KeyId::from_be_bytes(*id);
        let key = keys.find(id).await?.ok_or_else(|| failed("its key is gone"))?;
        let text = key.open(&seal_of(session, name), sealed);
        let body = text.and_then(|it| match it.split_first()? {
            (0, body) => Some(body.to_vec()),
            (1, packed) => decompress(packed),
            _ => None,
        });
        body.ok_or_else(|| failed("it is damaged and cannot be opened"))
    }

    /// Which key opens it; `None` if it is not there.
    pub(crate) async fn key_of(
        &self,
        session: SessionId,
        name: BlobName,
    ) -> Result<Option<KeyId>, Down> {
        let ranged = self.objects.get_range(&path(session, name), 0..8).await;
        match ranged {
            Ok(bytes) => Ok(bytes.first_chunk().map(|it| KeyId::from_be_bytes(*it))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(err) => Err(Down(format!("cannot look into {}: {}", self.place, told(&err)))),
        }
    }

    /// Takes a blob over from another place, sealed as it is, unless it is here.
    pub(crate) async fn carry(
        &self,
        from: &Blobs,
        session: SessionId,
        name: BlobName,
    ) -> Result<(), Down> {
        let path = path(session, name);
        match self.objects.head(&path).await {
            Ok(_) => return Ok(()),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(err) => {
                return Err(Down(format!("cannot look into {}: {}", self.place, told(&err))));
            }
        }
        let got = match from.objects.get(&path).await {
            Ok(got) => got.bytes().await,
            Err(err) => Err(err),
        };
        let sealed = got.map_err(|err| {
            Down(format!("cannot read a blob of {session} in {}: {}", from.place, told(&err)))
        })?;
        self.upload(&path, sealed).await.map_err(|err| {
            Down(format!("cannot keep a blob of {session} in {}: {}", self.place, told(&err)))
        })
    }

    /// Writes, reads and removes a little object. Answers the time by the clock of the place, in milliseconds.
    pub(crate) async fn probe(&self) -> Result<i64, Down> {
        let path = Path::from(format!("{PROBE}/{:016x}", u64::from_be_bytes(random())));
        let probe = async {
            self.objects.put(&path, PutPayload::from_static(b"it works")).await?;
            let got = self.objects.get(&path).await?;
            let at = got.meta.last_modified.timestamp_millis();
            got.bytes().await?;
            if let Some(listed) = self.objects.list(Some(&Path::from(PROBE))).next().await {
                listed?;
            }
            self.objects.delete(&path).await?;
            Ok(at)
        };
        probe.await.map_err(|err| Down(format!("cannot use {}: {}", self.place, told(&err))))
    }

    /// What has been lying there for longer than `grace`, by the clock of the place: who has a wrong one must not
    /// collect what is young.
    pub(crate) async fn older_than(&self, grace: Duration) -> Result<Vec<Old>, Down> {
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let now = self.probe().await?;
        let mut old = Vec::new();
        let mut all = self.objects.list(None);
        while let Some(object) = all.next().await {
            let object = object
                .map_err(|err| Down(format!("cannot list {}: {}", self.place, told(&err))))?;
            if now.saturating_sub(object.last_modified.timestamp_millis()) < grace {
                continue;
            }
            let blob = parse(&object.location);
            // What is not ours, nobody asked us to remove.
            if blob.is_some()
                || object.location.parts().next().is_some_and(|it| it.as_ref() == PROBE)
            {
                old.push(Old { path: object.location, blob });
            }
        }
        Ok(old)
    }

    pub(crate) async fn delete(&self, session: SessionId, name: BlobName) -> Result<(), Down> {
        self.remove_at(&path(session, name)).await
    }

    pub(crate) async fn remove(&self, old: &Old) -> Result<(), Down> {
        self.remove_at(&old.path).await
    }

    async fn remove_at(&self, path: &Path) -> Result<(), Down> {
        match self.objects.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(err) => {
                Err(Down(format!("cannot delete a blob in {}: {}", self.place, told(&err))))
            }
        }
    }
}

/// A process that stood still between a put and the append that names it must not name what was collected meanwhile.
pub(crate) fn still_fresh(put_at: Instant) -> Result<(), Down> {
    match put_at.elapsed() < NAMED_WITHIN {
        true => Ok(()),
        false => Err(Down("it took too long since its blobs were written; try again".to_owned())),
    }
}

fn seal_of(session: SessionId, name: BlobName) -> Vec<u8> {
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
        write!(f, "Blobs({})", self.place)
    }
}
