//! Locks for sessions. What only adds to a session may go side by side; what rewrites it goes alone.

use std::fmt;
use std::sync::Arc;

use everstate_kernel::ids::SessionId;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// A few hundred locks for all sessions: two sessions may share one, which costs a little waiting.
pub(crate) struct Stripes(Vec<Arc<RwLock<()>>>);

impl Stripes {
    pub(crate) fn new() -> Stripes {
        Stripes((0..256).map(|_| Arc::default()).collect())
    }

    pub(crate) async fn shared(&self, session: SessionId) -> OwnedRwLockReadGuard<()> {
        Arc::clone(self.of(session)).read_owned().await
    }

    pub(crate) async fn alone(&self, session: SessionId) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(self.of(session)).write_owned().await
    }

    fn of(&self, session: SessionId) -> &Arc<RwLock<()>> {
        &self.0[usize::from(session.bucket()) % self.0.len()]
    }
}

impl fmt::Debug for Stripes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripes({})", self.0.len())
    }
}
