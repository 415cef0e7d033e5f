//! How often and how much a key may ask: what is configured, what is left, and what an answer says of it.
//!
//! Requests and tokens are counted in buckets of this process, which forgets them when it dies; each node has its part
//! of a limit. Turns at work are counted from the store (`turnstile`).

mod bucket;
pub(crate) mod holds;
pub(crate) mod turnstile;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use axum::http::{HeaderMap, HeaderValue};
use everstate_kernel::ids::Millis;
use everstate_kernel::input::By;
use everstate_runtime::host::Host;
use everstate_runtime::ports::Clock;
use serde::{Deserialize, Serialize};

use crate::config::projects::{EVERY, Projects};
use crate::error::{ApiError, Result, codes};
use crate::keys::Principal;
use bucket::{Bucket, Left};

/// Absent is no limit, or the project's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_min: Option<u64>,
    /// Input and output tokens a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_min: Option<u64>,
    /// Turns at work at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns_max: Option<u64>,
}

impl Rates {
    /// These, and where they say nothing, those.
    fn or(self, others: Rates) -> Rates {
        Rates {
            requests_per_min: self.requests_per_min.or(others.requests_per_min),
            tokens_per_min: self.tokens_per_min.or(others.tokens_per_min),
            turns_max: self.turns_max.or(others.turns_max),
        }
    }

    /// What cannot be meant.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let all = [
            ("requests_per_min", self.requests_per_min),
            ("tokens_per_min", self.tokens_per_min),
            ("turns_max", self.turns_max),
        ];
        all.iter().find(|it| it.1 == Some(0) || it.1.is_some_and(|it| it > RATE_MAX)).map(|it| it.0)
    }
}

/// More is no limit.
pub(crate) const RATE_MAX: u64 = 1_000_000_000_000;

/// What keys may ask for, and what they have asked for.
#[derive(Debug)]
pub(crate) struct Limits {
    own: BTreeMap<String, Rates>,
    every: Rates,
    clock: Arc<dyn Clock>,
    /// Knows how many nodes share a limit.
    host: Weak<Host>,
    spent: Mutex<HashMap<String, Spent>>,
}

/// Of one key.
#[derive(Debug)]
struct Spent {
    requests: Bucket,
    tokens: Bucket,
}

/// A key that asked nothing for so long has full buckets again, and is forgotten.
const FORGOTTEN_MS: Millis = 120_000;
const KEYS_MAX: usize = 10_000;

impl Limits {
    pub(crate) fn new(projects: &Projects, clock: Arc<dyn Clock>, host: &Arc<Host>) -> Limits {
        let own = projects.iter().filter_map(|(name, it)| Some((name.clone(), it.limits?)));
        let own: BTreeMap<String, Rates> = own.collect();
        let every = own.get(EVERY).copied().unwrap_or_default();
        Limits { own, every, clock, host: Arc::downgrade(host), spent: Mutex::default() }
    }

    /// What holds for a key: its own word comes first, then its project's.
    pub(crate) fn of(&self, who: &Principal) -> Rates {
        let project = self.own.get(&*who.project).copied().unwrap_or(self.every);
        who.rates.or(project)
    }

    /// As it is written into a turn.
    pub(crate) fn by(&self, who: &Principal) -> By {
        let Rates { tokens_per_min, turns_max, .. } = self.of(who);
        By { key: who.key.to_string(), tokens_per_min, turns_max }
    }

    /// One request more.
    pub(crate) fn ask(&self, who: &Principal) -> Result<()> {
        let Some(limit) = self.of(who).requests_per_min else { return Ok(()) };
        let (share, now) = (self.share(limit), self.clock.monotonic());
        let taken = self.spent_of(&who.key, now, |it| it.requests.take(share, 1, now));
        taken.map_err(|again_ms| {
            ApiError::new(
                &codes::KEY_LIMIT_REACHED,
                format!("the key `{}` may ask {limit} times a minute", who.name),
            )
            .why(self.parts(limit))
            .retry_after_ms(again_ms)
        })
    }

    /// Has a key tokens left? If not, when it has.
    pub(crate) fn has_tokens(&self, by: &By) -> std::result::Result<(), (u64, Millis)> {
        let Some(limit) = by.tokens_per_min else { return Ok(()) };
        let (share, now) = (self.share(limit), self.clock.monotonic());
        let left = self.spent_of(&by.key, now, |it| it.tokens.left(share, now));
        if left.amount > 0 { Ok(()) } else { Err((limit, left.again_ms)) }
    }

    /// Turns used so many. What is used beyond what there was is missing later.
    pub(crate) fn used_tokens(&self, by: &By, tokens: u64) {
        let Some(limit) = by.tokens_per_min else { return };
        let (share, now) = (self.share(limit), self.clock.monotonic());
        self.spent_of(&by.key, now, |it| it.tokens.owe(share, tokens, now));
    }

    /// What the answer to a request says of the limits that hold for it.
    pub(crate) fn tell(&self, who: &Principal, headers: &mut HeaderMap) {
        let rates = self.of(who);
        let now = self.clock.monotonic();
        let kinds = [(rates.requests_per_min, "requests"), (rates.tokens_per_min, "tokens")];
        for (limit, kind) in kinds {
            let Some(limit) = limit else { continue };
            let share = self.share(limit);
            let left = self.spent_of(&who.key, now, |it| match kind {
                "requests" => it.requests.left(share, now),
                _ => it.tokens.left(share, now),
            });
            for (name, value) in lines(kind, limit, left) {
                let value = HeaderValue::from_str(&value).expect("digits and letters");
                headers.insert(name, value);
            }
        }
    }

    /// This node's part of a limit. Rounded up, so that no node has nothing.
    fn share(&self, limit: u64) -> u64 {
        limit.min(RATE_MAX).div_ceil(self.n_nodes()).max(1)
    }

    fn n_nodes(&self) -> u64 {
        let Some(host) = self.host.upgrade() else { return 1 };
        let n_alive = host.nodes().iter().filter(|it| it.is_alive).count();
        n_alive.max(1) as u64
    }

    fn parts(&self, limit: u64) -> String {
        match self.n_nodes() {
            1 => format!("{limit} requests at once, refilled evenly over a minute"),
            n => {
                format!("{n} nodes share this limit, and each has its part: {}", self.share(limit))
            }
        }
    }

    fn spent_of<T>(&self, key: &str, now: Millis, look: impl FnOnce(&mut Spent) -> T) -> T {
        let mut spent = self.spent();
        if !spent.contains_key(key) {
            if spent.len() >= KEYS_MAX {
                let quiet = |it: &Bucket| it.at.saturating_add(FORGOTTEN_MS) < now;
                spent.retain(|_, it| !(quiet(&it.requests) && quiet(&it.tokens)));
            }
            let fresh = Spent { requests: Bucket::new(now), tokens: Bucket::new(now) };
            spent.insert(key.to_owned(), fresh);
        }
        look(spent.get_mut(key).expect("it was put there if it was missing"))
    }

    fn spent(&self) -> MutexGuard<'_, HashMap<String, Spent>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the API's own words.
fn lines(kind: &str, limit: u64, left: Left) -> [(axum::http::HeaderName, String); 3] {
    let name = |what: &str| {
        let name = format!("x-ratelimit-{what}-{kind}");
        axum::http::HeaderName::from_bytes(name.as_bytes()).expect("plain letters")
    };
    [
        (name("limit"), limit.to_string()),
        (name("remaining"), left.amount.to_string()),
        (name("reset"), clock_words(left.full_ms)),
    ]
}

/// `250ms`, `12s`, `1m3s`, as the API writes it.
fn clock_words(ms: Millis) -> String {
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    match ms.div_ceil(1_000) {
        s @ 0..60 => format!("{s}s"),
        s => format!("{}m{}s", s / 60, s % 60),
    }
}

#[cfg(test)]
mod tests;
