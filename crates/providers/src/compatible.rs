//! Providers that speak a dialect we know over plain HTTPS, with a key: a row each.
//!
//! A row says only what is sure. What a server does differently from the row can be said in the configuration
//! (`quirks`), where whoever runs that server knows better.

pub(crate) mod client;

use std::collections::BTreeMap;
use std::sync::Arc;

use everstate_dialects::upstream::Quirks;
use everstate_runtime::secret::SecretRef;
use reqwest::Url;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::compatible::client::{Client, dialect};
use crate::config::{Timeouts, read};
use crate::kind::{Around, Credentials, Kind, Opened};

/// One kind of provider that needs no code of its own.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    /// Empty: the configuration has to say it.
    pub base_url: &'static str,
    pub dialect: &'static str,
    /// Where its key usually is. Only ever sent to the row's own address, unless the configuration names it.
    pub key_env: Option<&'static str>,
    pub quirks: fn() -> Quirks,
}

pub static COMPATIBLE: &[Row] = &[
    Row {
        name: "openai",
        base_url: OPENAI,
        dialect: "responses",
        key_env: Some("OPENAI_API_KEY"),
        quirks: Quirks::default,
    },
    // Any server that has `/chat/completions`.
    Row { name: "compatible", base_url: "", dialect: "chat", key_env: None, quirks: plain },
    // Servers that people run themselves, at the address each has by default.
    Row {
        name: "vllm",
        base_url: "http://127.0.0.1:8000/v1",
        dialect: "chat",
        key_env: None,
        quirks: plain,
    },
    Row {
        name: "ollama",
        base_url: "http://127.0.0.1:11434/v1",
        dialect: "chat",
        key_env: None,
        quirks: plain,
    },
    Row {
        name: "llama.cpp",
        base_url: "http://127.0.0.1:8080/v1",
        dialect: "chat",
        key_env: None,
        quirks: plain,
    },
    Row {
        name: "lm-studio",
        base_url: "http://127.0.0.1:1234/v1",
        dialect: "chat",
        key_env: None,
        quirks: plain,
    },
    // Services.
    Row {
        name: "openrouter",
        base_url: "https://openrouter.ai/api/v1",
        dialect: "chat",
        key_env: Some("OPENROUTER_API_KEY"),
        quirks: plain,
    },
    Row {
        name: "xai",
        base_url: "https://api.x.ai/v1",
        dialect: "chat",
        key_env: Some("XAI_API_KEY"),
        quirks: plain,
    },
    Row {
        name: "mistral",
        base_url: "https://api.mistral.ai/v1",
        dialect: "chat",
        key_env: Some("MISTRAL_API_KEY"),
        quirks: mistral,
    },
    Row {
        name: "deepseek",
        base_url: "https://api.deepseek.com/v1",
        dialect: "chat",
        key_env: Some("DEEPSEEK_API_KEY"),
        quirks: deepseek,
    },
    Row {
        name: "groq",
        base_url: "https://api.groq.com/openai/v1",
        dialect: "chat",
        key_env: Some("GROQ_API_KEY"),
        quirks: plain,
    },
    Row {
        name: "together",
        base_url: "https://api.together.xyz/v1",
        dialect: "chat",
        key_env: Some("TOGETHER_API_KEY"),
        quirks: plain,
    },
    Row {
        name: "fireworks",
        base_url: "https://api.fireworks.ai/inference/v1",
        dialect: "chat",
        key_env: Some("FIREWORKS_API_KEY"),
        quirks: plain,
    },
];

/// What every server understands that took over the chat API: the older words for the same things, and nothing that
/// only its inventor offers.
fn plain() -> Quirks {
    Quirks {
        max_tokens: true,
        no_developer_role: true,
        no_prompt_cache_key: true,
        ..Quirks::default()
    }
}

/// Refuses fields it does not know, and call ids of another form; usage comes without being asked for.
fn mistral() -> Quirks {
    Quirks { short_call_ids: true, no_stream_options: true, ..plain() }
}

/// Holds answers to JSON, but to no schema.
fn deepseek() -> Quirks {
    Quirks { no_json_schema: true, ..plain() }
}

const OPENAI: &str = "https://api.openai.com/v1";

/// What a `[providers.NAME]` of one of these kinds may say.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Up to and including the version: the dialect's path is put behind it.
    pub base_url: Option<String>,
    pub key: Option<SecretRef>,
    pub dialect: Option<String>,
    /// Sent as `OpenAI-Organization` and `OpenAI-Project`.
    pub organization: Option<String>,
    pub project: Option<String>,
    #[serde(default)]
    pub timeouts: Timeouts,
    /// An answer of more bytes is broken off.
    #[serde(default = "reply_max_bytes")]
    pub reply_max_bytes: u64,
    /// Laid over the row's.
    #[serde(default)]
    pub quirks: toml::Table,
}

/// 64 MiB.
fn reply_max_bytes() -> u64 {
    64 << 20
}

impl Kind for Row {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> String {
        let place = if self.base_url.is_empty() { "base_url is needed" } else { self.base_url };
        match self.key_env {
            Some(env) => format!("{place}, {}, key from {env}", self.dialect),
            None => format!("{place}, {}", self.dialect),
        }
    }

    fn check(&self, settings: &toml::Table) -> Result<(), String> {
        let settings: Settings = read(settings)?;
        settings.timeouts.check()?;
        if settings.reply_max_bytes == 0 {
            return Err("reply_max_bytes is 0: no answer would fit".to_owned());
        }
        self.url(&settings)?;
        dialect(settings.dialect.as_deref().unwrap_or(self.dialect))?;
        self.quirks(&settings).map(drop)
    }

    fn open(
        &self,
        name: &str,
        settings: &toml::Table,
        around: &Around<'_>,
    ) -> Result<Opened, String> {
        self.check(settings)?;
        let settings: Settings = read(settings)?;
        let base_url = self.url(&settings)?;
        let (key, credentials) = self.key(&settings, around);
        let dialect = dialect(settings.dialect.as_deref().unwrap_or(self.dialect))?;
        let client = Client::new(
            name,
            dialect,
            &base_url,
            self.quirks(&settings)?,
            key,
            &credentials,
            settings,
        )?;
        Ok(Opened {
            model: Arc::new(client),
            dialect: dialect.name(),
            credentials,
            facts: BTreeMap::new(),
            base_url: Some(base_url.to_string()),
        })
    }
}

impl Row {
    fn url(&self, settings: &Settings) -> Result<Url, String> {
        let text = settings.base_url.as_deref().unwrap_or(self.base_url);
        if text.is_empty() {
            return Err("base_url is missing, such as \"http://127.0.0.1:8000/v1\"".to_owned());
        }
        // The text is not repeated before it is known to hold no password.
        let url = Url::parse(text).map_err(|it| format!("base_url is no URL: {it}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "base_url contains a user name or password: use `key` for secrets".to_owned()
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("base_url has a part after `?` or `#`: it ends with the version".to_owned());
        }
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(format!("base_url is `{url}`: it has to begin with https:// or http://"));
        }
        Ok(url)
    }

    /// The key, and where it is from.
    fn key(&self, settings: &Settings, around: &Around<'_>) -> (Option<SecretString>, Credentials) {
        let usual = || {
            let own = settings.base_url.as_deref().is_none_or(|it| same_address(it, self.base_url));
            self.key_env.filter(|_| own).map(|env| SecretRef::Env(env.to_owned()))
        };
        let Some(from) = settings.key.clone().or_else(usual) else {
            return (None, Credentials::NotNeeded);
        };
        let from = match from {
            SecretRef::File(path) => SecretRef::File(around.dir.join(path)),
            SecretRef::Env(name) => SecretRef::Env(name),
        };
        match from.resolve_with(around.env) {
            Ok(key) => {
                let origin = match &from {
                    SecretRef::Env(name) => format!("{name} in the environment"),
                    SecretRef::File(path) => format!("the file {}", path.display()),
                };
                (Some(key), Credentials::From(origin))
            }
            Err(missing) => (None, Credentials::Missing(missing.to_string())),
        }
    }

    fn quirks(&self, settings: &Settings) -> Result<Quirks, String> {
        let mut table = toml::Table::try_from((self.quirks)()).map_err(|it| it.to_string())?;
        table.extend(settings.quirks.clone());
        read(&table).map_err(|it| format!("quirks: {it}"))
    }
}

fn same_address(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}
