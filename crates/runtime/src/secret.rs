//! Where a secret is, never what it is: configuration holds references, and this reads what they point to.
//!
//! Who may see the secret, and when it is read again, is left to whoever holds the reference.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A reference to a secret, written `env:NAME` or `file:PATH`. Safe to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    Env(String),
    File(PathBuf),
}

impl SecretRef {
    /// Reads the secret. One line break at the end of a file does not belong to it.
    pub fn resolve(&self) -> Result<SecretString, SecretMissing> {
        self.resolve_with(|name| std::env::var(name).ok())
    }

    /// As [`resolve`](SecretRef::resolve), with this environment.
    pub fn resolve_with(
        &self,
        env: impl FnOnce(&str) -> Option<String>,
    ) -> Result<SecretString, SecretMissing> {
        match self {
            SecretRef::Env(name) => match env(name) {
                Some(secret) if !secret.is_empty() => Ok(SecretString::from(secret)),
                _ => Err(SecretMissing(format!(
                    "the environment variable `{name}` is not set or is empty: set it before starting"
                ))),
            },
            SecretRef::File(path) => {
                let shown = path.display();
                let text = std::fs::read_to_string(path).map_err(|source| {
                    SecretMissing(format!("cannot read the secret file `{shown}`: {source}"))
                })?;
                let secret = text.strip_suffix('\n').unwrap_or(&text);
                let secret = secret.strip_suffix('\r').unwrap_or(secret);
                if secret.is_empty() {
                    return Err(SecretMissing(format!("the secret file `{shown}` is empty")));
                }
                Ok(SecretString::from(secret))
            }
        }
    }
}

impl FromStr for SecretRef {
    type Err = BadSecretRef;

    fn from_str(text: &str) -> Result<SecretRef, BadSecretRef> {
        if let Some(name) = text.strip_prefix("env:") {
            let valid = !name.is_empty() && !name.contains(['=', '\0']) && name.trim() == name;
            return valid.then(|| SecretRef::Env(name.to_owned())).ok_or(BadSecretRef::NoName);
        }
        if let Some(path) = text.strip_prefix("file:") {
            let valid = !path.is_empty() && !path.contains('\0');
            return valid.then(|| SecretRef::File(path.into())).ok_or(BadSecretRef::NoPath);
        }
        if text.starts_with("vault:") {
            return Err(BadSecretRef::NotYet);
        }
        Err(BadSecretRef::Literal)
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SecretRef, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is no reference. It may be a secret itself, so it is never repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSecretRef {
    NoName,
    NoPath,
    NotYet,
    Literal,
}

impl fmt::Display for BadSecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadSecretRef::NoName => "`env:` needs the name of an environment variable after it",
            BadSecretRef::NoPath => "`file:` needs a path after it",
            BadSecretRef::NotYet => {
                "secrets from `vault:` are not available yet: use `env:NAME` or `file:PATH`"
            }
            BadSecretRef::Literal => {
                "a secret does not belong into a configuration file, where it is copied and shown: \
                 put it into an environment variable or a file, and write `env:NAME` or `file:PATH`"
            }
        })
    }
}

impl std::error::Error for BadSecretRef {}

/// There is no secret where the reference points, and why. Opaque; never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMissing(pub String);

impl fmt::Display for SecretMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SecretMissing {}

#[cfg(test)]
mod tests;
