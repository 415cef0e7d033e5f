//! Shutting down: what is under way may end, what can wait is left to the next owner, and nobody is left hanging.
//! One of many goes on to pass requests to the others, until the last one is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everstate_kernel::ids::Millis;

use crate::host::{Host, Inner};
use crate::table::Mail;

/// How long the last words may take.
const LAST_WORDS_MS: Millis = 2_000;

/// How many requests are being answered.
#[derive(Debug, Default)]
pub(crate) struct Requests(AtomicUsize);

/// A request that is being answered here. While it is held a shutdown waits for it, as it does for turns.
#[derive(Debug)]
pub struct Held(Arc<Inner>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.requests.0.fetch_sub(1, Ordering::SeqCst);
        self.0.left.notify_waiters();
    }
}

impl Host {
    /// Somebody asks for something that a shutdown should not cut off.
    pub fn hold(&self) -> Held {
        self.inner.requests.0.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(&self.inner))
    }

    /// Takes no more inputs for itself, starts nothing for turns that go on without their caller, and waits for what runs. After
    /// the time is up, turns with a caller end as such, and everything stops. What finished lands, until the end.
    pub async fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        self.tell_all(|| Mail::Reconsider);
        let clock = &self.inner.ports.clock;
        if let Some(cluster) = &self.inner.cluster {
            cluster.begin_to_leave();
        }
        let in_time = self.quiet_by(clock.now() + self.inner.settings.drain_ms).await;
        if !in_time {
            self.tell_all(|| Mail::Close);
            self.quiet_by(clock.now() + LAST_WORDS_MS).await;
        }
        if let Some(ledger) = self.inner.ledger.get() {
            ledger.close().await;
        }
        if let Some(cluster) = &self.inner.cluster {
            // Others wait for less when they know; if the store is away, they find out by themselves.
            tokio::select! {
                biased;
                () = cluster.leave() => (),
                () = clock.pause(LAST_WORDS_MS) => (),
            }
        }
        self.inner.stop();
    }

    fn tell_all(&self, mail: impl Fn() -> Mail) {
        for slot in self.inner.table().live.values() {
            slot.mail.send(mail()).ok();
        }
    }

    /// Waits until no session is at work and no request held; `false` if the time was up first.
    async fn quiet_by(&self, deadline: Millis) -> bool {
        loop {
            let left = self.inner.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            let is_held = self.inner.requests.0.load(Ordering::SeqCst) > 0;
            if !is_held && self.inner.table().live.is_empty() {
                return true;
            }
            tokio::select! {
                biased;
                () = left => (),
                () = self.inner.ports.clock.sleep_until(deadline) => return false,
            }
        }
    }
}
