//! A node's own lease, judged by its own monotonic clock: without it nothing is shown, started or answered from memory.
//!
//! It is for liveness and for decency. What is true is guarded by the log: of two who append at one position, one wins.

use std::sync::atomic::{AtomicU64, Ordering};

use everstate_kernel::ids::Millis;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// It is over then. 0: there is none.
    until: AtomicU64,
    /// Rings when it is renewed or given up.
    changed: Notify,
}

impl Lease {
    pub(crate) fn holds(&self, now: Millis) -> bool {
        now < self.until.load(Ordering::SeqCst)
    }

    /// `began_at`: when the renewal was sent. It can only have been seen after that.
    pub(crate) fn renew(&self, began_at: Millis, lease_ms: Millis) {
        self.until.store(began_at + lease_ms, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Somebody else holds us dead, or we leave.
    pub(crate) fn give_up(&self) {
        self.until.store(0, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits until it holds.
    pub(crate) async fn held(&self, now: impl Fn() -> Millis) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.holds(now()) {
                return;
            }
            changed.await;
        }
    }
}
