//! Stands where turns begin: nothing begins in a project that is held, beyond the turns a key may have at work, or
//! while it has no tokens left.
//!
//! Turns at work are counted from what the stores say of their sessions, and those that are about to begin here are
//! added. So nothing has to be given back, and a process that dies leaves nothing behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use everstate_kernel::event::{Append, Cost, Event};
use everstate_kernel::input::{By, TurnTerms};
use everstate_kernel::state::TurnedAway;
use everstate_runtime::ports::{Down, ListKey, Log, NoEntry, Pass, Turnstile};
use serde::Deserialize;

use super::Limits;
use super::holds::Holds;

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) limits: Arc<Limits>,
    pub(crate) holds: Arc<Holds>,
    /// Of stored sessions, and of those that are not.
    pub(crate) logs: Vec<Arc<dyn Log>>,
    pub(crate) entering: Arc<Entering>,
}

/// Turns that are about to begin, by their keys.
#[derive(Debug, Default)]
pub(crate) struct Entering(Mutex<HashMap<String, u64>>);

/// One of them.
struct Entry {
    entering: Arc<Entering>,
    key: String,
}

impl Entering {
    /// And how many there were before.
    fn enter(self: &Arc<Entering>, key: &str) -> (Entry, u64) {
        let mut map = self.map();
        let n = map.entry(key.to_owned()).or_default();
        *n += 1;
        (Entry { entering: self.clone(), key: key.to_owned() }, *n - 1)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut map = self.entering.map();
        match map.get_mut(&self.key) {
            Some(n) if *n > 1 => *n -= 1,
            Some(_) | None => drop(map.remove(&self.key)),
        }
    }
}

const PAGE: usize = 500;

/// What is read of a session's summary.
#[derive(Deserialize)]
struct Summary {
    state: String,
    #[serde(default)]
    by: Option<String>,
}

#[async_trait]
impl Turnstile for Gate {
    async fn enter(&self, project: &str, terms: &TurnTerms) -> Result<Pass, NoEntry> {
        if self.holds.holds(project).await.map_err(NoEntry::Down)? {
            return Err(NoEntry::Away(TurnedAway::Held));
        }
        let Some(by) = &terms.by else { return Ok(Box::new(())) };
        if let Err((per_min, again_ms)) = self.limits.has_tokens(by) {
            return Err(NoEntry::Away(TurnedAway::Tokens { per_min, again_ms }));
        }
        let Some(max) = by.turns_max else { return Ok(Box::new(())) };
        let (entry, n_before) = self.entering.enter(&by.key);
        let n_at_work = self.count(project, &by.key, max).await.map_err(NoEntry::Down)?;
        if n_before + n_at_work >= max {
            return Err(NoEntry::Away(TurnedAway::TurnsMax { max }));
        }
        Ok(Box::new(entry))
    }

    fn landed(&self, by: &By, append: &Append) {
        let tokens: u64 = append.events.iter().filter_map(cost).map(tokens).sum();
        if tokens > 0 {
            self.limits.used_tokens(by, tokens);
        }
    }
}

fn cost(event: &Event) -> Option<&Cost> {
    match event {
        Event::Replied { cost, .. }
        | Event::AttemptFailed { cost, .. }
        | Event::AttemptLost { cost, .. }
        | Event::AttemptDropped { cost, .. } => Some(cost),
        _ => None,
    }
}

fn tokens(cost: &Cost) -> u64 {
    cost.usage.input.saturating_add(cost.usage.output)
}

impl Gate {
    /// How many turns of a key are at work; from `max` on it does not matter how many. One that waits for somebody is
    /// not at work.
    async fn count(&self, project: &str, key: &str, max: u64) -> Result<u64, Down> {
        let mut n = 0;
        for log in &self.logs {
            let mut before = None;
            loop {
                let page = log.under_way(project, before, PAGE).await?;
                let summaries = page.iter().filter_map(|it| serde_json::from_str(&it.summary).ok());
                n += summaries
                    .filter(|it: &Summary| it.state == "running" && it.by.as_deref() == Some(key))
                    .count() as u64;
                match page.last() {
                    Some(last) if page.len() == PAGE && n < max => {
                        before =
                            Some(ListKey { created_at: last.created_at, session: last.session });
                    }
                    _ => break,
                }
            }
        }
        Ok(n)
    }
}
