//! What can be used without any configuration: providers whose key lies in the environment, and offers for models
//! that nobody wrote down.

use std::collections::BTreeMap;

use everstate_kernel::money::Price;
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_runtime::secret::SecretRef;
use reqwest::Url;

use crate::compatible::COMPATIBLE;
use crate::config::ProviderConfig;

/// A provider that was found, as if the configuration had named it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is called: the name of its kind.
    pub name: String,
    pub config: ProviderConfig,
    /// Where its credentials come from, in words.
    pub origin: String,
    /// Is any model usable through it by its mere name? Otherwise it is only worth mentioning: a prompt goes nowhere
    /// only because a key lies about.
    pub by_model_name: bool,
}

/// Looks through the environment. What the configuration names goes before it.
pub fn found(env: &dyn Fn(&str) -> Option<String>) -> Vec<Found> {
    let set = |name: &str| env(name).filter(|it| !it.trim().is_empty());
    let openai = openai(&set);
    let others = COMPATIBLE.iter().filter(|it| it.name != "openai").filter_map(|row| {
        let key_env = row.key_env.filter(|it| set(it).is_some())?;
        Some(Found {
            name: row.name.to_owned(),
            config: config(row.name, &[("key", env_ref(key_env))]),
            origin: format!("{key_env} in the environment"),
            by_model_name: false,
        })
    });
    openai.into_iter().chain(others).collect()
}

/// `OPENAI_API_KEY` and the variables beside it, as the official clients read them. An address alone will do: servers
/// that people run themselves often want no key.
fn openai(set: &dyn Fn(&str) -> Option<String>) -> Option<Found> {
    let (key, base_url) = (set("OPENAI_API_KEY"), set("OPENAI_BASE_URL"));
    let mut settings = Vec::new();
    let mut origin = Vec::new();
    if key.is_some() {
        settings.push(("key", env_ref("OPENAI_API_KEY")));
        origin.push("OPENAI_API_KEY");
    }
    if let Some(base_url) = &base_url {
        settings.push(("base_url", base_url.trim().to_owned()));
        origin.push("OPENAI_BASE_URL");
    }
    if origin.is_empty() {
        return None;
    }
    for (setting, name) in [("organization", "OPENAI_ORG_ID"), ("project", "OPENAI_PROJECT_ID")] {
        if let Some(text) = set(name) {
            settings.push((setting, text));
            origin.push(name);
        }
    }
    Some(Found {
        name: "openai".to_owned(),
        config: config("openai", &settings),
        origin: format!("{} in the environment", origin.join(", ")),
        by_model_name: true,
    })
}

fn env_ref(name: &str) -> String {
    SecretRef::Env(name.to_owned()).to_string()
}

fn config(kind: &str, settings: &[(&str, String)]) -> ProviderConfig {
    let value =
        |(name, text): &(&str, String)| ((*name).to_owned(), toml::Value::String(text.clone()));
    ProviderConfig { kind: kind.to_owned(), settings: settings.iter().map(value).collect() }
}

/// A fact of offers whose price nobody told us: they count as free, and say that they do not know.
pub const PRICE_KNOWN: &str = "price_known";

/// Ways to buy `model` from a found provider, best first. At its maker's own address there is one; elsewhere the
/// same address may speak either dialect, and an attempt that finds nothing there goes on to the next offer.
pub fn open_offers(found: &Found, model: &str) -> Vec<Offer> {
    let base_url = found.config.settings.get("base_url").and_then(toml::Value::as_str);
    let host = base_url.and_then(|it| Url::parse(it).ok()?.host_str().map(str::to_owned));
    let is_openai = base_url.is_none() || host.is_some_and(|it| it.ends_with(".openai.com"));
    let dialects: &[&str] = if is_openai { &["responses"] } else { &["responses", "chat"] };
    dialects.iter().map(|dialect| open_offer(&found.name, model, dialect)).collect()
}

/// An offer of which only the name is known: it may do everything, is told no limit, and costs nobody knows what.
pub fn open_offer(provider: &str, model: &str, dialect: &str) -> Offer {
    let id = match dialect {
        "responses" => format!("{provider}/global/{model}"),
        other => format!("{provider}/global/{model}/{other}"),
    };
    Offer {
        id,
        model: model.to_owned(),
        upstream_model: model.to_owned(),
        provider: provider.to_owned(),
        dialect: dialect.to_owned(),
        scope: Scope::Global,
        tier: None,
        price: Price::default(),
        // Nobody said how much fits: whoever serves it says so when it is too much.
        context_tokens: CONTEXT_TOKENS,
        output_tokens_max: OUTPUT_TOKENS_MAX,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: BTreeMap::from([(PRICE_KNOWN.to_owned(), false)]),
        crypto_domain: provider.to_owned(),
        cache_ttl_ms: 0,
    }
}

const CONTEXT_TOKENS: u64 = 10_000_000;
const OUTPUT_TOKENS_MAX: u64 = 1_000_000;

#[cfg(test)]
mod tests;
