//! What has to be done now and then: sessions that were not to be stored leave memory, vaults that are deleted are gone
//! whatever happened meanwhile, and the store keeps its house.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everstate_kernel::ids::{Millis, SessionId};
use everstate_store::facts;
use tokio::time::MissedTickBehavior;

use crate::api::agents::vaults;
use crate::app::App;
use crate::claim::{KEPT_MS, REPEAT_MS};
use crate::retention;

/// Sessions in memory, by when they may go. They stay a while after their turn, for repeats of its request.
#[derive(Debug, Default)]
pub(crate) struct Fleeting(Mutex<BTreeSet<(Millis, SessionId)>>);

/// More are not kept, however long they were promised: a repeat is then told that its answer is gone.
const KEPT_MAX: usize = 20_000;
const SWEEP: Duration = Duration::from_secs(60);
/// How often a node looks at what others have named.
const LEARN: Duration = Duration::from_secs(5);

impl Fleeting {
    /// `keyed`: its request had an `Idempotency-Key`.
    pub(crate) fn keep(&self, session: SessionId, now: Millis, keyed: bool) {
        let ms = if keyed { KEPT_MS } else { REPEAT_MS };
        self.set().insert((now.saturating_add(ms), session));
    }

    fn due(&self, now: Millis) -> Vec<SessionId> {
        let mut set = self.set();
        let mut due = Vec::new();
        while set.first().is_some_and(|(until, _)| *until <= now || set.len() > KEPT_MAX) {
            due.extend(set.pop_first().map(|(_, session)| session));
        }
        due
    }

    fn set(&self) -> std::sync::MutexGuard<'_, BTreeSet<(Millis, SessionId)>> {
        self.0.lock().expect("nothing panics while it holds the list")
    }

    /// Forgets what may go.
    async fn sweep(&self, app: &App) {
        let now = app.clock.now();
        for session in self.due(now) {
            let works = match app.memory.host.look(session).await {
                Ok(state) => state.live.turn.is_some(),
                Err(_) => false,
            };
            if works {
                self.keep(session, now, false);
            } else if let Err(err) = app.memory.host.delete(session).await {
                tracing::warn!(%session, %err, "cannot forget a session");
            }
        }
    }
}

/// Goes on until it is dropped.
pub(crate) async fn run(app: Arc<App>) {
    let store = facts::keep(Arc::downgrade(&app.upkeep), app.clock.clone());
    let sweep = async {
        let mut ticks = tokio::time::interval(SWEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            app.fleeting.sweep(&app).await;
            if let Err(err) = vaults::finish_deletions(&app).await {
                tracing::warn!(%err, "vaults that are deleted are not gone yet; it is tried again");
            }
        }
    };
    let learn = async {
        let mut ticks = tokio::time::interval(LEARN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while app.settings.is_shared() {
            ticks.tick().await;
            if let Err(down) = app.stall.refresh().await {
                tracing::debug!(%down, "models that other nodes have named are learned later");
            }
        }
    };
    tokio::join!(store, sweep, learn, retention::sweep::run(app.clone()));
}

#[cfg(test)]
mod tests;
