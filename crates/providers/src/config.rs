//! `[providers.NAME]` of the configuration: a kind, and the settings which that kind understands.
//!
//! The file itself is read by the server; the settings of a kind are the business of that kind's own file.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::kind;

/// One configured provider. Reading it checks its kind and its settings, so that a mistake shows when the file is
/// read, not when the first prompt leaves.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProviderConfig {
    pub kind: String,
    /// Everything but the kind.
    #[serde(flatten)]
    pub settings: toml::Table,
}

impl<'de> Deserialize<'de> for ProviderConfig {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ProviderConfig, D::Error> {
        let mut settings = toml::Table::deserialize(from)?;
        let known = || kind::all().map(|it| it.name()).collect::<Vec<_>>().join(", ");
        let name = match settings.remove("kind") {
            Some(toml::Value::String(name)) => name,
            Some(_) => return Err(D::Error::custom("`kind` has to be a word in quotes")),
            None => return Err(D::Error::custom(format!("`kind` is missing: one of {}", known()))),
        };
        let Some(kind) = kind::find(&name) else {
            let text = format!("there is no kind of provider `{name}`: known are {}", known());
            return Err(D::Error::custom(text));
        };
        kind.check(&settings).map_err(D::Error::custom)?;
        Ok(ProviderConfig { kind: name, settings })
    }
}

/// How long a provider may take, in milliseconds. Each starts when the request is put on its way, except `idle_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect_ms: u64,
    /// Until the first piece of the answer is there.
    pub first_token_ms: u64,
    /// Between two signs of life, later on.
    pub idle_ms: u64,
    /// Until the end of the answer.
    pub total_ms: u64,
}

impl Default for Timeouts {
    /// Generous, because models that think may be silent for minutes.
    fn default() -> Timeouts {
        Timeouts {
            connect_ms: 10_000,
            first_token_ms: 300_000,
            idle_ms: 300_000,
            total_ms: 3_600_000,
        }
    }
}

impl Timeouts {
    pub(crate) fn check(&self) -> Result<(), String> {
        let all = [
            ("connect_ms", self.connect_ms),
            ("first_token_ms", self.first_token_ms),
            ("idle_ms", self.idle_ms),
            ("total_ms", self.total_ms),
        ];
        match all.iter().find(|(_, ms)| !(1..=TIMEOUT_MS_MAX).contains(ms)) {
            Some((name, ms)) => {
                Err(format!("timeouts.{name} is {ms}: it has to be from 1 to {TIMEOUT_MS_MAX}"))
            }
            None => Ok(()),
        }
    }
}

/// A day.
const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// Reads a kind's settings out of its table, strictly.
pub(crate) fn read<T: serde::de::DeserializeOwned>(settings: &toml::Table) -> Result<T, String> {
    // `message` leaves out the excerpt of the input, which might be a secret written in the wrong place.
    settings.clone().try_into().map_err(|it: toml::de::Error| it.message().to_owned())
}
