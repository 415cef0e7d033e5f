//! The placement's question and its answer. The computing is `placement`'s; the words are the kernel's,
//! because the answer becomes a fact.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::{AttemptId, Millis};
use crate::item::is_default;
use crate::money::{Micros, Price};
use crate::offer::OfferId;
use crate::policy::Constraints;

/// What a step needs placed, read off the state.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub attempt: AttemptId,
    pub model: String,
    pub constraints: Constraints,
    pub needs: Needs,
    /// Where the session's last answer came from, and when: its prefix may be warm there.
    pub warm: Option<Warm>,
    /// Offers that failed in this step, and those a living sibling attempt uses.
    pub avoid: BTreeMap<OfferId, Avoid>,
    /// What the turn and the session may still spend, the less of both; absent is no limit.
    pub budget: Option<Micros>,
    /// In the middle of a tool loop only a forced move is made.
    pub in_tool_loop: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub tools: bool,
    pub images: bool,
    pub schema: bool,
    /// Estimated from the bytes of the request.
    pub input_tokens: u64,
    pub max_output_tokens: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warm {
    pub offer: OfferId,
    pub at: Millis,
    /// Tokens of the last request and answer: at best the next request's cached prefix.
    pub tokens: u64,
}

/// Why an offer is not to be tried again in this step, where another can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Avoid {
    /// It failed, and may do better later.
    Failed,
    /// It failed, and will fail again (no access, not found there).
    Hopeless,
    /// Another attempt of this step is on it.
    InUse,
}

/// Where an attempt goes, and why. On disk before the prompt leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub offer: OfferId,
    pub provider: String,
    /// What the provider calls the model.
    pub model: String,
    pub why: Why,
    /// Why not the others: each reason with the offers it excluded, by their places in the list of offers
    /// of `offers_revision`. Small enough to keep with every step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub against: BTreeMap<Reason, OfferSet>,
    /// The list of offers this was decided over.
    pub offers_revision: u64,
    pub policy_revision: u64,
    /// How many other offers could have served.
    pub others: u32,
    /// Taken at this price, so that the cost can be told later.
    pub price: Price,
    pub expected: Micros,
    pub reserved: Micros,
    /// Sent as the request's output limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// The answer's sealed parts can be read only there.
    pub crypto_domain: String,
    /// Hash of the encoded request up to the newest input, in hexadecimal.
    #[serde(default)]
    pub prefix: String,
    /// What the request could not take along, in words: foreign sealed reasoning and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<String>,
    /// Where the session was before, if this is a move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<OfferId>,
    /// What could be had of the project's budget, where that was less than the step could have cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_budget: Option<Micros>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Only this one could serve.
    OnlyOne,
    /// The least expected price of those that could serve.
    Cheapest,
    /// Its cache is warm, and leaving it would cost more.
    Warm,
    /// In a tool loop a session stays where it is.
    InToolLoop,
    /// The others failed in this step or are cooling down.
    Fallback,
    /// A second offer beside a slow first.
    Hedge,
}

/// Why an offer was not chosen. Written as one string, because it is a key: `dearer`, `constraint:within eu`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Reason {
    OtherModel,
    NoCredentials,
    NoTools,
    NoImages,
    NoSchema,
    ContextTooSmall,
    /// A constraint forbids it; the text names the constraint.
    Constraint(String),
    /// The budget does not allow even one step there.
    Budget,
    FailedInThisStep,
    InUseInThisStep,
    CoolingDown,
    RateLimited,
    /// It could have served.
    Dearer,
    ColdCache,
}

impl Reason {
    /// Those that are only a name.
    const NAMED: [(Reason, &str); 13] = [
        (Reason::OtherModel, "other_model"),
        (Reason::NoCredentials, "no_credentials"),
        (Reason::NoTools, "no_tools"),
        (Reason::NoImages, "no_images"),
        (Reason::NoSchema, "no_schema"),
        (Reason::ContextTooSmall, "context_too_small"),
        (Reason::Budget, "budget"),
        (Reason::FailedInThisStep, "failed_in_this_step"),
        (Reason::InUseInThisStep, "in_use_in_this_step"),
        (Reason::CoolingDown, "cooling_down"),
        (Reason::RateLimited, "rate_limited"),
        (Reason::Dearer, "dearer"),
        (Reason::ColdCache, "cold_cache"),
    ];
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        if let Reason::Constraint(text) = &reason {
            return format!("constraint:{text}");
        }
        let named = Reason::NAMED.iter().find(|(it, _)| *it == reason);
        named.expect("every other reason has a name in the list").1.to_owned()
    }
}

impl TryFrom<String> for Reason {
    type Error = String;

    fn try_from(text: String) -> Result<Reason, String> {
        if let Some(text) = text.strip_prefix("constraint:") {
            return Ok(Reason::Constraint(text.to_owned()));
        }
        let named = Reason::NAMED.into_iter().find(|(_, name)| *name == text);
        named
            .map(|(it, _)| it)
            .ok_or_else(|| format!("`{text}` is no reason to pass over an offer"))
    }
}

/// Places in a list of offers, as a bit set: bit `i` of byte `i / 8`. Written as ranges (`0-89,94`), or as `x` and
/// hexadecimal where that is shorter: it is kept with every step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferSet(Vec<u8>);

/// A set read from outside may not name a place beyond this.
const PLACES_MAX: usize = 1 << 16;

impl OfferSet {
    pub fn insert(&mut self, place: usize) {
        if self.0.len() <= place / 8 {
            self.0.resize(place / 8 + 1, 0);
        }
        self.0[place / 8] |= 1 << (place % 8);
    }

    pub fn contains(&self, place: usize) -> bool {
        self.0.get(place / 8).is_some_and(|byte| byte >> (place % 8) & 1 == 1)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|it| it.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn ranges(&self) -> String {
        let mut text = String::new();
        let mut place = 0;
        while place < self.0.len() * 8 {
            let first = place;
            while self.contains(place) {
                place += 1;
            }
            if place > first {
                let comma = if text.is_empty() { "" } else { "," };
                let last = place - 1;
                text += &if last == first {
                    format!("{comma}{first}")
                } else {
                    format!("{comma}{first}-{last}")
                };
            }
            place += 1;
        }
        text
    }

    fn from_ranges(text: &str) -> Option<OfferSet> {
        let mut set = OfferSet::default();
        for range in text.split(',').filter(|it| !it.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            if last >= PLACES_MAX {
                return None;
            }
            (first..=last).for_each(|it: usize| set.insert(it));
        }
        Some(set)
    }

    fn from_hex(text: &str) -> Option<OfferSet> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|it| it.to_digit(16).map(|it| it as u8)).collect();
        let digits = digits?;
        let bytes = digits.chunks(2).map(|it| it[0] << 4 | it.get(1).copied().unwrap_or(0));
        Some(OfferSet(bytes.take(PLACES_MAX / 8).collect()))
    }
}

impl Serialize for OfferSet {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let ranges = self.ranges();
        if ranges.len() <= self.0.len() * 2 + 1 {
            return to.serialize_str(&ranges);
        }
        let hex: String = self.0.iter().map(|it| format!("{it:02x}")).collect();
        to.collect_str(&format_args!("x{hex}"))
    }
}

impl<'de> Deserialize<'de> for OfferSet {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<OfferSet, D::Error> {
        let text = String::deserialize(from)?;
        let read = match text.strip_prefix('x') {
            Some(hex) => OfferSet::from_hex(hex),
            None => OfferSet::from_ranges(&text),
        };
        read.ok_or_else(|| {
            serde::de::Error::custom("an offer set is ranges, or `x` and hexadecimal")
        })
    }
}

/// No offer may or can serve. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoOffer {
    pub against: BTreeMap<Reason, OfferSet>,
    pub offers_revision: u64,
    /// When the first of them may serve again, if waiting helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_at: Option<Millis>,
    /// No offer has this model at all.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unknown_model: bool,
    /// What could be had of the project's budget, where that does not pay for the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_budget: Option<Micros>,
}

/// What this node has seen of its offers: never a fact, only a hint for the next choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observations {
    /// No use asking before this time.
    pub cooling_until: BTreeMap<OfferId, Millis>,
    /// Of those, the ones whose provider said "too many requests": a drained bucket, not a failure.
    pub rate_limited: BTreeSet<OfferId>,
    /// Offers whose credentials are missing.
    pub no_credentials: BTreeSet<OfferId>,
    /// Milliseconds to the first token, smoothed.
    pub first_token_ms: BTreeMap<OfferId, u64>,
}
