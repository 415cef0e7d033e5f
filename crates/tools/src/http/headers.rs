//! A tool's headers: what may be written down, and what has to be a reference to a secret.

use std::collections::BTreeMap;

use everstate_runtime::secret::{BadSecretRef, SecretRef};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::Resolve;

/// Ready to send.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    pub(crate) plain: HeaderMap,
    /// Marked sensitive, so that they are not shown.
    pub(crate) credentials: HeaderMap,
    /// The same secrets, to take them out of answers that repeat them.
    pub(crate) secrets: Vec<SecretString>,
}

/// Ours, or the connection's.
const RESERVED: [&str; 9] = [
    "idempotency-key",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "accept-encoding",
    "connection",
    "upgrade",
    "te",
];

/// A header with one of these in its name holds a secret.
const SECRET_WORDS: [&str; 11] = [
    "auth",
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "cookie",
    "api-key",
    "apikey",
    "signature",
    "private",
];

pub(crate) fn read(
    headers: &BTreeMap<String, String>,
    resolve: Resolve<'_>,
) -> Result<Headers, String> {
    let mut read = Headers::default();
    for (name, value) in headers {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("`{name}` is no name of a header"))?;
        if RESERVED.contains(&header.as_str()) {
            return Err(format!("the header `{name}` is set by everstate itself"));
        }
        let bad_value = || format!("the header `{name}` has characters that no header may have");
        match reference(value) {
            Ok(Some((scheme, secret))) => {
                let secret =
                    resolve(&secret).map_err(|error| format!("the header `{name}`: {error}"))?;
                let whole = format!("{scheme}{}", secret.expose_secret());
                let mut value = HeaderValue::from_str(&whole).map_err(|_| bad_value())?;
                value.set_sensitive(true);
                read.credentials.insert(header, value);
                read.secrets.push(secret);
            }
            Ok(None) if is_secret(header.as_str()) => {
                return Err(format!("the header `{name}`: {}", BadSecretRef::Literal));
            }
            Ok(None) => {
                let value = HeaderValue::from_str(value).map_err(|_| bad_value())?;
                read.plain.insert(header, value);
            }
            Err(error) => return Err(format!("the header `{name}`: {error}")),
        }
    }
    Ok(read)
}

/// `env:NAME`, or a scheme before it: `Bearer env:NAME`.
fn reference(value: &str) -> Result<Option<(&str, SecretRef)>, BadSecretRef> {
    let start = match value.split_once(' ') {
        Some((word, _)) if !word.contains(':') => word.len() + 1,
        Some(_) | None => 0,
    };
    let (scheme, rest) = value.split_at(start);
    match rest.parse() {
        Ok(secret) => Ok(Some((scheme, secret))),
        Err(BadSecretRef::Literal) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_secret(name: &str) -> bool {
    SECRET_WORDS.iter().any(|it| name.contains(it)) || name.ends_with("-key") || name == "key"
}

#[cfg(test)]
mod tests;
