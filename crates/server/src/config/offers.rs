//! `[[offers]]`: ways to buy a model, as people write them down. Prices are decimal US dollars per million tokens.

use std::collections::BTreeMap;
use std::fmt;

use everstate_kernel::money::Price;
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferConfig {
    /// The name a request asks for.
    pub model: String,
    /// Which of `[providers.NAME]` serves it.
    pub provider: String,
    /// What the provider calls it, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_model: Option<String>,
    #[serde(default)]
    pub scope: ScopeConfig,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    #[serde(default)]
    pub price: PriceConfig,
    #[serde(default = "context_tokens")]
    pub context_tokens: u64,
    #[serde(default = "output_tokens_max")]
    pub output_tokens_max: u64,
    /// What it can do, where that is less than everything: `can = ["tools", "images", "schema", "reasoning"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Vec<Can>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, bool>,
    /// Who can read its sealed reasoning; the provider's name unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crypto_domain: Option<String>,
    #[serde(default)]
    pub cache_ttl_ms: u64,
}

fn context_tokens() -> u64 {
    128_000
}

fn output_tokens_max() -> u64 {
    16_384
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Can {
    Tools,
    Images,
    Schema,
    Reasoning,
}

/// `"global"`, `{ geo = "eu" }` or `{ region = "eu-central-1" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(Default)]
pub enum ScopeConfig {
    #[default]
    Global,
    Geo(String),
    Region(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PriceConfig {
    pub input: Dollars,
    pub cached: Option<Dollars>,
    pub cache_write: Option<Dollars>,
    pub output: Dollars,
}

/// US dollars per million tokens, kept as pico-USD per token, which is the same number a million times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dollars(pub u64);

impl OfferConfig {
    pub fn id(&self) -> String {
        let scope = match &self.scope {
            ScopeConfig::Global => "global",
            ScopeConfig::Geo(place) | ScopeConfig::Region(place) => place,
        };
        let tier = self.tier.as_ref().map(|it| format!("/{it}")).unwrap_or_default();
        format!("{}/{scope}/{}{tier}", self.provider, self.model)
    }

    /// `dialect` and `facts` are its provider's, for what the offer itself does not say.
    pub fn offer(&self, dialect: &str, facts: &BTreeMap<String, bool>) -> Offer {
        let can = |it| self.can.as_ref().is_none_or(|can| can.contains(&it));
        let mut all_facts = facts.clone();
        all_facts.extend(self.facts.iter().map(|(name, holds)| (name.clone(), *holds)));
        let input = self.price.input.0;
        Offer {
            id: self.id(),
            model: self.model.clone(),
            upstream_model: self.upstream_model.clone().unwrap_or_else(|| self.model.clone()),
            provider: self.provider.clone(),
            dialect: self.dialect.clone().unwrap_or_else(|| dialect.to_owned()),
            scope: match &self.scope {
                ScopeConfig::Global => Scope::Global,
                ScopeConfig::Geo(geo) => Scope::Geo(geo.clone()),
                ScopeConfig::Region(region) => Scope::Region(region.clone()),
            },
            tier: self.tier.clone(),
            price: Price {
                input,
                // What is not told is dear: a cache is never assumed to be cheaper than it is.
                cached: self.price.cached.map_or(input, |it| it.0),
                cache_write: self.price.cache_write.map_or(input, |it| it.0),
                output: self.price.output.0,
            },
            context_tokens: self.context_tokens,
            output_tokens_max: self.output_tokens_max,
            can: Capabilities {
                tools: can(Can::Tools),
                images: can(Can::Images),
                schema: can(Can::Schema),
                reasoning: can(Can::Reasoning),
            },
            facts: all_facts,
            crypto_domain: self.crypto_domain.clone().unwrap_or_else(|| self.provider.clone()),
            cache_ttl_ms: self.cache_ttl_ms,
        }
    }
}

impl Dollars {
    /// Reads a decimal number exactly; at most six places after the point.
    pub fn parse(text: &str) -> Option<Dollars> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |it: &str| it.bytes().all(|it| it.is_ascii_digit());
        let good = !whole.is_empty() && digits(whole) && digits(part) && part.len() <= 6;
        if !good || text.ends_with('.') {
            return None;
        }
        let whole = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?;
        let part = format!("{part:0<6}").parse::<u64>().ok()?;
        whole.checked_add(part).map(Dollars)
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl Serialize for Dollars {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dollars {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Dollars, D::Error> {
        let text = match toml::Value::deserialize(from)? {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            _ => return Err(D::Error::custom("a price is a number, best in quotes: \"2.50\"")),
        };
        Dollars::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "`{text}` is no price: US dollars per million tokens, at most six decimal places"
            ))
        })
    }
}
