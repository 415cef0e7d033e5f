//! Data keys: one for each session, minted ahead, kept apart from what they seal, so that deleting a key here
//! deletes what any backup of the state still holds.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use everstate_runtime::ports::Down;

use crate::seal::{DataKey, random};
use crate::shelf::KeyId;

pub(crate) mod file;
pub(crate) mod table;
pub mod source;

/// Where data keys outlive the process, each wrapped by one key, and that by the master key.
#[async_trait]
pub(crate) trait KeyStore: Send + Sync {
    /// Where it is and what opens it, in words.
    fn describe(&self) -> &str;
    /// What the data keys are wrapped by. The same for all who share the store.
    fn wrapping(&self) -> &DataKey;
    /// Durable when it returns. One flush for all of them.
    async fn add(&self, secrets: &[[u8; 32]]) -> Result<Vec<KeyId>, Down>;
    async fn find(&self, id: KeyId) -> Result<Option<[u8; 32]>, Down>;
    async fn remove(&self, ids: &[KeyId]) -> Result<(), Down>;
    /// Leaves nothing on its pages of what was removed. It may take a while, and hold up who looks for a key.
    async fn tidy(&self) -> Result<(), Down>;
    /// Keys in the order of their names, after `after`, at most `limit`.
    async fn list(
        &self,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<(KeyId, [u8; 32])>, Down>;
    /// Keys of another store, under the names they have there. Those that are here stay as they are.
    async fn put(&self, keys: &[(KeyId, [u8; 32])]) -> Result<(), Down>;
}

/// How many keys one flush makes.
const BATCH: usize = 256;
/// With fewer left, the next batch is made in the background.
const LOW: usize = 128;
/// How many opened keys are kept in memory.
const OPENED_MAX: usize = 8_192;

/// Hands out keys that are already on disk, and opens those that were handed out before.
pub(crate) struct Keys {
    /// `None`: keys live in memory only.
    store: Option<Arc<dyn KeyStore>>,
    /// Drawn for this process, where there is no store to share.
    own: DataKey,
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
        let (state, minting) = (Mutex::default(), tokio::sync::Mutex::default());
        Keys { store: None, own: DataKey::new(0, random()), state, minting }
    }

    /// Makes the first batch, so that no session has to wait for one.
    pub(crate) async fn in_store(store: Arc<dyn KeyStore>) -> Result<Keys, Down> {
        let fresh = mint(&*store).await?;
        let keys = Keys { store: Some(store), ..Keys::in_memory() };
        keys.state().fresh.extend(fresh);
        Ok(keys)
    }

    /// A secret for something else, by its label. All who share the key store get the same.
    pub(crate) fn secret(&self, label: &str) -> [u8; 32] {
        self.store.as_ref().map_or(&self.own, |it| it.wrapping()).derive(label)
    }

    /// A key that nothing is sealed under yet, and that is on disk.
    pub(crate) async fn take(self: &Arc<Keys>) -> Result<Arc<DataKey>, Down> {
        loop {
            let (taken, left) = {
                let mut state = self.state();
                if self.store.is_none() {
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
        let Some(store) = &self.store else { return Ok(None) };
        let Some(secret) = store.find(id).await? else { return Ok(None) };
        let key = Arc::new(DataKey::new(id, secret));
        self.remember(&key);
        Ok(Some(key))
    }

    pub(crate) fn remember(&self, key: &Arc<DataKey>) {
        let mut state = self.state();
        if self.store.is_some() && state.opened.len() >= OPENED_MAX {
            let some: Vec<KeyId> = state.opened.keys().take(OPENED_MAX / 8).copied().collect();
            some.iter().for_each(|id| drop(state.opened.remove(id)));
        }
        state.opened.insert(key.id, Arc::clone(key));
    }

    /// Returns when they can be had no more. In a file nothing is left of them; see [`Keys::tidy`] for a server.
    pub(crate) async fn destroy(&self, ids: Vec<KeyId>) -> Result<(), Down> {
        {
            let mut state = self.state();
            ids.iter().for_each(|id| drop(state.opened.remove(id)));
        }
        match &self.store {
            Some(store) => store.remove(&ids).await,
            None => Ok(()),
        }
    }

    /// Leaves nothing of destroyed keys where they were kept.
    pub(crate) async fn tidy(&self) -> Result<(), Down> {
        match &self.store {
            Some(store) => store.tidy().await,
            None => Ok(()),
        }
    }

    /// Drops what is kept open, where it can be opened again.
    pub(crate) fn forget(&self) {
        if self.store.is_some() {
            self.state().opened.clear();
        }
    }

    /// Keys that were minted ahead and not needed leave the file. For a clean end.
    pub(crate) async fn close(&self) -> Result<(), Down> {
        let unused: Vec<KeyId> = self.state().fresh.drain(..).map(|it| it.id).collect();
        self.destroy(unused).await
    }

    pub(crate) fn describe(&self) -> String {
        match &self.store {
            Some(store) => store.describe().to_owned(),
            None => "in memory only".to_owned(),
        }
    }

    async fn refill(&self, enough: usize) -> Result<(), Down> {
        let _one_at_a_time = self.minting.lock().await;
        if self.state().fresh.len() > enough {
            return Ok(());
        }
        let Some(store) = &self.store else { return Ok(()) };
        let fresh = mint(&**store).await?;
        self.state().fresh.extend(fresh);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the keys")
    }
}

async fn mint(store: &dyn KeyStore) -> Result<Vec<Arc<DataKey>>, Down> {
    let secrets: Vec<[u8; 32]> = (0..BATCH).map(|_| random()).collect();
    let ids = store.add(&secrets).await?;
    Ok(ids.into_iter().zip(secrets).map(|(id, it)| Arc::new(DataKey::new(id, it))).collect())
}

/// Names for new keys, and the keys as they are stored.
fn wrap_all(wrapping: &DataKey, secrets: &[[u8; 32]]) -> Vec<(KeyId, Vec<u8>)> {
    // Drawn, not counted: after a key store was brought back from a backup, a new key must not have the name of one
    // that came later and was lost.
    let name = || KeyId::from_be_bytes(random()) & KeyId::MAX;
    secrets.iter().map(|it| wrap_one(wrapping, name(), it)).collect()
}

fn wrap_one(wrapping: &DataKey, id: KeyId, secret: &[u8; 32]) -> (KeyId, Vec<u8>) {
    (id, wrapping.seal(&id.to_be_bytes(), secret))
}

fn unwrap_one(wrapping: &DataKey, id: KeyId, wrapped: &[u8]) -> Result<[u8; 32], Down> {
    let opened = wrapping.open(&id.to_be_bytes(), wrapped);
    let secret = opened.and_then(|it| it.try_into().ok());
    secret.ok_or_else(|| Down(format!("data key {id} is damaged")))
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
