//! The clock of sessions that sleep: a task of the host asks the log whose time has come.
//!
//! A session at work looks at the clock by itself. Nothing is kept in memory for one that sleeps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everstate_kernel::ids::{Millis, SessionId};
use tokio::sync::Notify;

use crate::host::Inner;
use crate::table::Mail;

/// Sessions looked at in one go.
const PAGE: usize = 256;
/// The pause before the log is asked again for what seemed to be due.
const AGAIN_MS: Millis = 250;
/// A session whose time had come and that did not care is asked again after so long.
const IDLE_MS: Millis = 60_000;

#[derive(Debug)]
pub(crate) struct Timers {
    /// When the log is asked next.
    next: AtomicU64,
    sooner: Notify,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers { next: AtomicU64::new(u64::MAX), sooner: Notify::new() }
    }
}

impl Timers {
    /// There are sessions that nobody here has asked about.
    pub(crate) fn look_now(&self) {
        self.sooner.notify_one();
    }

    /// A session that wants to be woken then has fallen asleep.
    pub(crate) fn promise(&self, wake: Millis) {
        if wake < self.next.load(Ordering::SeqCst) {
            self.sooner.notify_one();
        }
    }
}

pub(crate) async fn run(inner: Arc<Inner>) {
    let clock = Arc::clone(&inner.ports.clock);
    let mut asked: HashMap<(SessionId, Millis), Millis> = HashMap::new();
    loop {
        let now = clock.now();
        asked.retain(|_, at| *at + IDLE_MS > now);
        let again_at = look(&inner, now, &mut asked).await;
        inner.table().cache.prune(now.saturating_sub(inner.settings.linger_ms));
        let prune_at = match inner.table().cache.is_empty() {
            true => Millis::MAX,
            false => now + inner.settings.linger_ms.max(AGAIN_MS),
        };
        let at = again_at.min(prune_at).min(now + inner.settings.poll_ms);
        inner.timers.next.store(at, Ordering::SeqCst);
        tokio::select! {
            biased;
            () = clock.sleep_until(at) => (),
            () = inner.timers.sooner.notified() => (),
        }
    }
}

/// Wakes what is due, and says when to look again.
async fn look(
    inner: &Arc<Inner>,
    now: Millis,
    asked: &mut HashMap<(SessionId, Millis), Millis>,
) -> Millis {
    let serving = inner.table().share.serving.clone();
    if serving.is_empty() {
        return Millis::MAX;
    }
    let due = match inner.ports.log.due(&serving, now, PAGE).await {
        Ok(due) => due,
        Err(down) => {
            tracing::warn!(%down, "cannot ask the log whose time has come; asking again");
            return now + 4 * AGAIN_MS;
        }
    };
    for (session, wake) in due {
        let is_live = inner.table().live.contains_key(&session);
        if !is_live && asked.insert((session, wake), now).is_none() {
            inner.send(session, Mail::Tick);
        }
    }
    match inner.ports.log.next_due(&serving).await {
        Ok(Some(next)) => next.max(now + AGAIN_MS),
        Ok(None) => Millis::MAX,
        Err(_) => now + 4 * AGAIN_MS,
    }
}
