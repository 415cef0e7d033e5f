//! Tokens and money, in integers: prices in millionths of a millionth of a US dollar per token (pico-USD),
//! amounts in millionths of a dollar (micro-USD).

use serde::{Deserialize, Serialize};

use crate::item::is_default;

/// Micro-USD.
pub type Micros = u64;

/// What an answer used, in tokens, as its provider counted. `input` includes `cached` and `cache_write`;
/// `output` includes `reasoning`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub input: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub cached: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub cache_write: u64,
    pub output: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub reasoning: u64,
    /// Our estimate, for an answer whose provider did not live to count it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub estimated: bool,
}

impl Usage {
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    pub fn add(&mut self, other: &Usage) {
        self.input = self.input.saturating_add(other.input);
        self.cached = self.cached.saturating_add(other.cached);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
        self.output = self.output.saturating_add(other.output);
        self.reasoning = self.reasoning.saturating_add(other.reasoning);
        self.estimated |= other.estimated;
    }
}

/// Pico-USD per token: $1 per million tokens is 1,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    pub input: u64,
    pub cached: u64,
    pub cache_write: u64,
    pub output: u64,
}

impl Price {
    /// What `usage` costs, in micro-USD, rounded up.
    pub fn cost(&self, usage: &Usage) -> Micros {
        let fresh = usage.input.saturating_sub(usage.cached).saturating_sub(usage.cache_write);
        let pico = [
            (fresh, self.input),
            (usage.cached, self.cached),
            (usage.cache_write, self.cache_write),
            (usage.output, self.output),
        ]
        .iter()
        .fold(0u128, |sum, &(n, price)| sum + u128::from(n) * u128::from(price));
        u64::try_from(pico.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}
