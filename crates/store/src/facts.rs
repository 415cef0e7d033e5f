//! What keeps a store in order, and what can be said about it. The store starts none of it by itself: whoever opens
//! one gives [`keep`] a task.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use everstate_kernel::ids::{Millis, SessionId};
use everstate_runtime::ports::{Clock, Down};

use crate::blobs::GRACE;
use crate::blobs::claim::{claim, is_my_turn};
use crate::keys::blocking;
use crate::log::SealedLog;
use crate::shelf::{BlobName, Change, Now, Standing};

/// The house is kept this often.
const EVERY_MS: Millis = 20 * 60 * 1_000;
/// What is deleted within this time shares the flush that destroys its keys.
const GATHER_MS: Millis = 200;
/// The pause before keys that could not be destroyed are tried again.
const AGAIN_MS: Millis = 5_000;
/// How often one of the nodes puts the key store in order.
const TIDY_EVERY_MS: Millis = 60 * 60 * 1_000;
/// How often blobs are collected where that costs money: by one of the nodes.
const COLLECT_EVERY_MS: Millis = 6 * 60 * 60 * 1_000;

pub struct Upkeep {
    log: Arc<SealedLog>,
    now: Now,
    path: Option<PathBuf>,
    /// Keys were destroyed, and what they sealed may still take up room.
    unscrubbed: AtomicBool,
    /// Keys were destroyed, and their store may still hold what they were written on.
    untidy: AtomicBool,
}

/// For `doctor`.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// `None`: in memory.
    pub path: Option<PathBuf>,
    pub schema: u32,
    pub bytes: u64,
    /// How long a flush takes on that disk, the median of a few.
    pub flush: Option<Duration>,
    /// Where the keys come from, and where they are.
    pub keys: String,
    /// Where big bodies are, and why that place does not work, if it does not.
    pub blobs: String,
    pub blobs_down: Option<String>,
    /// The database server and its version, if there is one.
    pub server: Option<String>,
    /// What that server's settings mean for an acknowledged write, in sentences.
    pub promise: Vec<String>,
}

/// Does what has to be done now and then, until the store is dropped. Keys of what was deleted or erased are destroyed
/// at once, those that an earlier process left behind too.
pub async fn keep(upkeep: Weak<Upkeep>, clock: Arc<dyn Clock>) {
    let Some(doomed) = upkeep.upgrade().map(|it| Arc::clone(&it.log.doomed)) else { return };
    let mut next = clock.now() + EVERY_MS;
    loop {
        let Some(upkeep) = upkeep.upgrade() else { return };
        let destroyed = upkeep.destroy_doomed().await;
        if let Err(down) = &destroyed {
            tracing::warn!(%down, "keys of what was deleted are still there; it is tried again");
        }
        if clock.now() >= next {
            if let Err(down) = upkeep.run().await {
                tracing::warn!(%down, "the store could not be kept in order; it is tried again");
            }
            next = clock.now() + EVERY_MS;
        }
        drop(upkeep);
        let wait = if destroyed.is_err() { clock.now() + AGAIN_MS } else { next };
        tokio::select! {
            biased;
            () = doomed.notified() => clock.sleep_until(clock.now() + GATHER_MS).await,
            () = clock.sleep_until(wait.min(next)) => (),
        }
    }
}

impl Upkeep {
    pub(crate) fn new(log: Arc<SealedLog>, now: Now, path: Option<PathBuf>) -> Upkeep {
        // What an earlier process destroyed last, it may have left at that.
        let (unscrubbed, untidy) = (AtomicBool::new(true), AtomicBool::new(true));
        Upkeep { log, now, path, unscrubbed, untidy }
    }

    /// All of it, one after the other, whatever becomes of the others. Safe at any time; what fails is done the next
    /// time.
    pub async fn run(&self) -> Result<(), Down> {
        // Another node may have destroyed what is remembered here.
        self.log.forget_keys();
        let destroyed = self.flush_erasures().await;
        let tidied = self.tidy_in_turn().await;
        let expired = self.log.done(Change::RemoveExpired { now: (self.now)() }, None).await;
        let collected = self.collect_in_turn().await;
        destroyed.and(tidied).and(expired).and(collected)
    }

    async fn collect_in_turn(&self) -> Result<(), Down> {
        let is_shared = self.log.blobs.is_shared();
        let shelf = &*self.log.shelf;
        if is_shared && !is_my_turn(shelf, "collected", (self.now)(), COLLECT_EVERY_MS).await? {
            return Ok(());
        }
        self.collect_blobs(GRACE).await.map(drop)
    }

    /// A key that is deleted from a table is not yet gone from its pages, where the key store is a server's.
    async fn tidy_in_turn(&self) -> Result<(), Down> {
        let shelf = &*self.log.shelf;
        if !self.untidy.load(Ordering::SeqCst)
            || !is_my_turn(shelf, "tidied", (self.now)(), TIDY_EVERY_MS).await?
        {
            return Ok(());
        }
        self.untidy.store(false, Ordering::SeqCst);
        let tidied = self.log.keys.tidy().await;
        if tidied.is_err() {
            self.untidy.store(true, Ordering::SeqCst);
        }
        tidied
    }

    /// Destroys the data keys of what was erased or deleted: from here on nobody can read it, wherever it still lies.
    pub async fn destroy_doomed(&self) -> Result<(), Down> {
        let doomed = self.log.shelf.doomed().await?;
        if doomed.is_empty() {
            return Ok(());
        }
        self.log.keys.destroy(doomed.clone()).await?;
        self.unscrubbed.store(true, Ordering::SeqCst);
        self.untidy.store(true, Ordering::SeqCst);
        // Forgotten last: what fails on the way is done again the next time.
        self.log.done(Change::KeysGone(doomed), None).await
    }

    /// As [`Upkeep::destroy_doomed`], and then nothing of it is in any file either, sealed or not.
    pub async fn flush_erasures(&self) -> Result<(), Down> {
        self.destroy_doomed().await?;
        if !self.unscrubbed.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        let scrubbed = self.log.shelf.scrub().await;
        if scrubbed.is_err() {
            self.unscrubbed.store(true, Ordering::SeqCst);
        }
        scrubbed
    }

    /// Gives back to the system what is not needed: free pages and the write-ahead log.
    pub async fn compact(&self) -> Result<(), Down> {
        self.log.shelf.scrub().await
    }

    /// Makes sure that the place of the blobs works, and is ours.
    pub(crate) async fn claim_blobs(&self) -> Result<(), Down> {
        claim(&self.log.blobs, &*self.log.shelf, (self.now)()).await
    }

    /// Deletes blobs that are older than `grace` and that nothing names. Returns how many. Nobody may be between
    /// writing a blob and naming it for as long as `grace`.
    pub async fn collect_blobs(&self, grace: Duration) -> Result<usize, Down> {
        let mut gone = 0;
        for old in self.log.blobs.older_than(grace).await? {
            let named = match old.blob {
                Some((session, name)) => {
                    // Whoever is writing there in this process comes to an end first.
                    let _alone = self.log.stripes.alone(session).await;
                    self.log.pending.pieces(session).contains(&name)
                        || self.log.shelf.has_blob(session, name).await?
                }
                None => false,
            };
            if !named {
                if let Some((session, name)) = old.blob {
                    self.destroy_key_of(session, name).await?;
                }
                self.log.blobs.remove(&old).await?;
                gone += usize::from(old.blob.is_some());
            }
        }
        Ok(gone)
    }

    /// Of a write that came to nothing: its blob may be kept by the place in an older version, and was sealed under a
    /// key that nobody would ever think of again.
    async fn destroy_key_of(&self, session: SessionId, name: BlobName) -> Result<(), Down> {
        let _alone = self.log.stripes.alone(session).await;
        let Some(key) = self.log.blobs.key_of(session, name).await? else { return Ok(()) };
        match self.log.shelf.keys_in_use(session).await?.contains(&key) {
            true => Ok(()),
            false => self.log.keys.destroy(vec![key]).await,
        }
    }

    /// For a clean end: everything is in its place, and keys made ahead are given up.
    pub async fn close(&self) -> Result<(), Down> {
        self.flush_erasures().await?;
        self.log.keys.close().await?;
        self.log.shelf.scrub().await
    }

    pub async fn facts(&self) -> Result<Facts, Down> {
        let flush = match self.path.clone() {
            Some(path) => Some(blocking(move || measure_flush(&path)).await?),
            None => None,
        };
        let Standing { schema, bytes, server, promise } = self.log.shelf.standing().await?;
        let keys = self.log.keys.describe();
        let blobs = self.log.blobs.place().to_owned();
        let blobs_down = self.log.blobs.probe().await.err().map(|it| it.0);
        let path = self.path.clone();
        Ok(Facts { path, schema, bytes, flush, keys, blobs, blobs_down, server, promise })
    }
}

fn measure_flush(state: &Path) -> Result<Duration, Down> {
    let path = state.with_file_name(".flush-probe");
    let measure = || -> std::io::Result<Duration> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&path)?;
        let mut took = Vec::new();
        for _ in 0..9 {
            file.write_all(&[0; 8192])?;
            let start = Instant::now();
            file.sync_data()?;
            took.push(start.elapsed());
        }
        took.sort();
        Ok(took[took.len() / 2])
    };
    let measured = measure();
    // A probe that stays behind harms nobody.
    let _ = std::fs::remove_file(&path);
    measured.map_err(|err| Down(format!("cannot measure a flush at {}: {err}", path.display())))
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upkeep({:?})", self.path)
    }
}

#[cfg(test)]
mod tests;
