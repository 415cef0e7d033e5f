//! Data keys: one for each session, minted ahead, kept apart from what they seal, so that deleting a key here
//! deletes what any backup of the state still holds.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use everstate_runtime::ports::Down;

use crate::keys::file::KeyFile;
use crate::seal::{DataKey, random};
use crate::shelf::KeyId;

pub(crate) mod file;
pub mod source;

/// How many keys one flush makes.
const BATCH: usize = 256;
/// With fewer left, the next batch is made in the background.
const LOW: usize = 128;
/// How many opened keys are kept in memory.
const OPENED_MAX: usize = 8_192;

/// Hands out keys that are already on disk, and opens those that were handed out before.
pub(crate) struct Keys {
    /// `None`: keys live in memory only.
    file: Option<Arc<KeyFile>>,
    state: Mutex<State>,
    minting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    fresh: VecDeque<Arc<DataKey>>,
    opened: HashMap<KeyId, Arc<DataKey>>,
    /// For keys in memory.
    last: KeyId,
}

impl Keys {
    pub(crate) fn in_memory() -> Keys {
        Keys { file: None, state: Mutex::default(), minting: tokio::sync::Mutex::default() }
    }

    /// Makes the first batch, so that no session has to wait for one.
    pub(crate) fn in_file(file: KeyFile) -> Result<Keys, Down> {
        let fresh = mint(&file)?;
        let keys = Keys { file: Some(Arc::new(file)), ..Keys::in_memory() };
        keys.state().fresh.extend(fresh);
        Ok(keys)
    }

    /// A key that nothing is sealed under yet, and that is on disk.
    pub(crate) async fn take(self: &Arc<Keys>) -> Result<Arc<DataKey>, Down> {
        loop {
            let (taken, left) = {
                let mut state = self.state();
                if self.file.is_none() {
                    state.last += 1;
                    let key = Arc::new(DataKey::new(state.last, random()));
                    state.opened.insert(key.id, Arc::clone(&key));
                    return Ok(key);
                }
                (state.fresh.pop_front(), state.fresh.len())
            };
            match taken {
                Some(key) => {
                    if left == LOW {
                        let keys = Arc::clone(self);
                        tokio::spawn(async move { keys.refill(LOW).await });
                    }
                    return Ok(key);
                }
                None => self.refill(0).await?,
            }
        }
    }

    /// The key was taken and not used.
    pub(crate) fn give_back(&self, key: Arc<DataKey>) {
        self.state().fresh.push_back(key);
    }

    /// A key that was handed out before; `None` if it was destroyed.
    pub(crate) async fn find(&self, id: KeyId) -> Result<Option<Arc<DataKey>>, Down> {
        if let Some(key) = self.state().opened.get(&id) {
            return Ok(Some(Arc::clone(key)));
        }
        let Some(file) = self.file.clone() else { return Ok(None) };
        let Some(secret) = blocking(move || file.find(id)).await? else { return Ok(None) };
        let key = Arc::new(DataKey::new(id, secret));
        self.remember(&key);
        Ok(Some(key))
    }

    pub(crate) fn remember(&self, key: &Arc<DataKey>) {
        let mut state = self.state();
        if self.file.is_some() && state.opened.len() >= OPENED_MAX {
            let some: Vec<KeyId> = state.opened.keys().take(OPENED_MAX / 8).copied().collect();
            some.iter().for_each(|id| drop(state.opened.remove(id)));
        }
        state.opened.insert(key.id, Arc::clone(key));
    }

    /// Returns when nothing of them is left in any file.
    pub(crate) async fn destroy(&self, ids: Vec<KeyId>) -> Result<(), Down> {
        {
            let mut state = self.state();
            ids.iter().for_each(|id| drop(state.opened.remove(id)));
        }
        let Some(file) = self.file.clone() else { return Ok(()) };
        blocking(move || file.remove(&ids)).await
    }

    /// Keys that were minted ahead and not needed leave the file. For a clean end.
    pub(crate) async fn close(&self) -> Result<(), Down> {
        let unused: Vec<KeyId> = self.state().fresh.drain(..).map(|it| it.id).collect();
        self.destroy(unused).await
    }

    pub(crate) fn describe(&self) -> String {
        match &self.file {
            Some(file) => file.describe().to_owned(),
            None => "in memory only".to_owned(),
        }
    }

    async fn refill(&self, enough: usize) -> Result<(), Down> {
        let _one_at_a_time = self.minting.lock().await;
        if self.state().fresh.len() > enough {
            return Ok(());
        }
        let Some(file) = self.file.clone() else { return Ok(()) };
        let fresh = blocking(move || mint(&file)).await?;
        self.state().fresh.extend(fresh);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the keys")
    }
}

fn mint(file: &KeyFile) -> Result<Vec<Arc<DataKey>>, Down> {
    let secrets: Vec<[u8; 32]> = (0..BATCH).map(|_| random()).collect();
    let ids = file.add(&secrets)?;
    Ok(ids.into_iter().zip(secrets).map(|(id, it)| Arc::new(DataKey::new(id, it))).collect())
}

/// Runs what waits for a disk where waiting harms nobody.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Down> + Send + 'static,
) -> Result<T, Down> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(Down("the store is shutting down".to_owned())),
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.describe())
    }
}
