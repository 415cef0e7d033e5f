//! Offers: the ways to buy a model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::money::Price;

/// One way to buy a model: model x provider x surface x scope x tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// Unique; reads `provider/scope/model`, as in `openai/global/gpt-5.4`.
    pub id: OfferId,
    /// The name a request asks for.
    pub model: String,
    /// What the provider calls it; sent in the request.
    pub upstream_model: String,
    /// Which configured provider serves it.
    pub provider: String,
    pub dialect: String,
    pub scope: Scope,
    #[serde(default)]
    pub tier: Option<String>,
    pub price: Price,
    /// Tokens of input and output together that fit.
    pub context_tokens: u64,
    pub output_tokens_max: u64,
    pub can: Capabilities,
    /// Facts for a policy to ask about, such as `residency:eu` or `training`; what is not here is unknown.
    #[serde(default)]
    pub facts: BTreeMap<String, bool>,
    /// Who can read what this offer seals (encrypted reasoning). Offers with the same domain can hand it on.
    pub crypto_domain: String,
    /// How long the provider keeps a prompt's prefix warm after its last use, in milliseconds; 0 is never.
    #[serde(default)]
    pub cache_ttl_ms: u64,
}

pub type OfferId = String;

/// Where a prompt may be processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Anywhere. Never satisfies a region.
    Global,
    /// Somewhere in this geography, such as `eu`.
    Geo(String),
    Region(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub tools: bool,
    pub images: bool,
    /// Answers held to a JSON Schema.
    pub schema: bool,
    pub reasoning: bool,
}
