//! What this node has seen of its offers: who is cooling down, who said "too many requests", how fast they speak.
//!
//! Hints for the next choice, never facts: they are gone with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use everstate_kernel::ids::Millis;
use everstate_kernel::input::{Failure, FailureClass};
use everstate_kernel::offer::OfferId;
use everstate_kernel::plan::Observations;

/// An offer cools down after so many failures in a row.
const STRIKES: u32 = 2;
const COOL_FIRST_MS: Millis = 1_000;
const COOL_MAX_MS: Millis = 60_000;
/// What "too many requests" means if nobody says for how long.
const DRAINED_MS: Millis = 1_000;

#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    seen: Arc<Observations>,
    /// Failures in a row.
    strikes: BTreeMap<OfferId, u32>,
}

impl Health {
    /// As of `now`: what has cooled down is not in it.
    pub(crate) fn seen(&self, now: Millis) -> Arc<Observations> {
        let mut inner = self.lock();
        if inner.seen.cooling_until.values().any(|&until| until <= now) {
            let seen = Arc::make_mut(&mut inner.seen);
            seen.cooling_until.retain(|_, until| *until > now);
            let cooling = &seen.cooling_until;
            seen.rate_limited.retain(|it| cooling.contains_key(it));
        }
        Arc::clone(&inner.seen)
    }

    pub(crate) fn unserved(&self, offers: std::collections::BTreeSet<OfferId>) {
        Arc::make_mut(&mut self.lock().seen).no_credentials = offers;
    }

    pub(crate) fn spoke(&self, offer: &OfferId, after_ms: Millis) {
        let mut inner = self.lock();
        let speeds = &mut Arc::make_mut(&mut inner.seen).first_token_ms;
        let smoothed = speeds.get(offer).map_or(after_ms, |&it| (it * 4 + after_ms) / 5);
        speeds.insert(offer.clone(), smoothed);
    }

    pub(crate) fn answered(&self, offer: &OfferId) {
        self.lock().strikes.remove(offer);
    }

    pub(crate) fn failed(&self, offer: &OfferId, failure: &Failure, now: Millis) {
        let mut inner = self.lock();
        match failure.class {
            FailureClass::RateLimited => {
                let until = now + failure.retry_after_ms.unwrap_or(DRAINED_MS);
                let seen = Arc::make_mut(&mut inner.seen);
                seen.cooling_until.insert(offer.clone(), until);
                seen.rate_limited.insert(offer.clone());
            }
            FailureClass::Auth | FailureClass::QuotaExhausted => {
                let until = now + failure.retry_after_ms.unwrap_or(COOL_MAX_MS);
                Arc::make_mut(&mut inner.seen).cooling_until.insert(offer.clone(), until);
            }
            FailureClass::Overloaded | FailureClass::Timeout | FailureClass::Broken => {
                let strikes = inner.strikes.entry(offer.clone()).or_default();
                *strikes += 1;
                if *strikes >= STRIKES || failure.retry_after_ms.is_some() {
                    let doubled = COOL_FIRST_MS << (*strikes - 1).min(6);
                    let pause = failure.retry_after_ms.unwrap_or(doubled.min(COOL_MAX_MS));
                    Arc::make_mut(&mut inner.seen).cooling_until.insert(offer.clone(), now + pause);
                }
            }
            // Says something about the request, or about one model, and nothing about the offer's health.
            FailureClass::NotFoundHere
            | FailureClass::Refused
            | FailureClass::TooLong
            | FailureClass::Invalid => (),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Observations are hints: whatever a panic left behind will do.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
