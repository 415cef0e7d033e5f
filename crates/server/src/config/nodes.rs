//! Who this node is among the others on the same store, and what of a store's address may be shown.

use std::net::SocketAddr;

use serde_json::json;
use url::Url;

use super::file::ServerConfig;
use super::{Flags, Pick, Set, Settings, Shown};
use crate::error::{ApiError, Result, codes};

/// What is known of it before the start.
#[derive(Clone, Debug)]
pub struct Node {
    /// `None`: the host's name and the port.
    pub name: Set<Option<String>>,
    /// `None`: where it listens, or the host's name if it listens everywhere.
    pub advertise: Set<Option<String>>,
    pub lease_ttl_ms: Set<u64>,
    pub store_wait_s: Set<u64>,
}

pub const LEASE_TTL_MS: u64 = 10_000;
/// Less leaves no time for a slow answer of the database; more leaves a lost node's sessions alone for too long.
const LEASE_TTL_MS_IS: std::ops::RangeInclusive<u64> = 500..=120_000;
pub const STORE_WAIT_S: u64 = 60;
const NAME_CHARS_MAX: usize = 64;

pub(super) fn load(pick: &Pick<'_>, flags: &Flags, file: &ServerConfig) -> Result<Node> {
    let name = pick.maybe("--node-name", flags.node.clone(), "EVERSTATE_NODE_NAME", &file.node);
    let advertise =
        pick.maybe("--advertise", flags.advertise.clone(), "EVERSTATE_ADVERTISE", &file.advertise);
    let lease_ttl_ms = pick.number("EVERSTATE_LEASE_TTL_MS", file.lease_ttl_ms, LEASE_TTL_MS)?;
    let store_wait_s = pick.number("EVERSTATE_STORE_WAIT_S", file.store_wait_s, STORE_WAIT_S)?;
    let invalid = |text: String| Err(ApiError::new(&codes::CONFIG_INVALID, text));
    if let Some(name) = name.value.as_ref().filter(|it| !is_name(it)) {
        return invalid(format!(
            "`{}` cannot be a node's name: 1 to {NAME_CHARS_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`",
            crate::error::shown(name)
        ));
    }
    if let Some(text) = &advertise.value {
        base_url(text)?;
    }
    if !LEASE_TTL_MS_IS.contains(&lease_ttl_ms.value) {
        return invalid(format!(
            "server.lease_ttl_ms is {}: it is from {} to {}",
            lease_ttl_ms.value,
            LEASE_TTL_MS_IS.start(),
            LEASE_TTL_MS_IS.end()
        ));
    }
    Ok(Node { name, advertise, lease_ttl_ms, store_wait_s })
}

fn is_name(name: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(plain)
}

/// `HOST:PORT` or `http://HOST:PORT`.
fn base_url(text: &str) -> Result<String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&whole).ok().filter(|it| {
        ["http", "https"].contains(&it.scheme())
            && it.has_host()
            && it.username().is_empty()
            && it.password().is_none()
            && it.query().is_none()
            && it.fragment().is_none()
            && it.path() == "/"
    });
    url.map(|it| it.as_str().trim_end_matches('/').to_owned()).ok_or_else(|| {
        let text = format!("`{}` is no address where other nodes reach this one", redacted(text));
        ApiError::new(&codes::CONFIG_INVALID, text).attempt("--advertise 10.0.0.7:7070")
    })
}

impl Node {
    pub(crate) fn name(&self, listen: SocketAddr) -> String {
        let made = || {
            let host = host_name();
            let host: String =
                host.chars().filter(|it| is_name(&it.to_string())).take(48).collect();
            format!("{}-{}", if host.is_empty() { "node" } else { &host }, listen.port())
        };
        self.name.value.clone().unwrap_or_else(made)
    }

    pub(crate) fn address(&self, listen: SocketAddr) -> Result<String> {
        match &self.advertise.value {
            Some(text) => base_url(text),
            None if listen.ip().is_unspecified() => {
                base_url(&format!("{}:{}", host_name(), listen.port()))
            }
            None => Ok(format!("http://{listen}")),
        }
    }

    /// Will nodes on other machines look for this one on theirs? Whoever said so means it.
    pub(crate) fn is_only_here(&self, address: &str) -> bool {
        let host = Url::parse(address).ok();
        let is_loopback = match host.as_ref().and_then(Url::host) {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        self.advertise.value.is_none() && is_loopback
    }

    pub(super) fn shown(&self) -> Vec<Shown> {
        vec![
            Shown::new("server.node", json!(self.name.value), &self.name.origin),
            Shown::new("server.advertise", json!(self.advertise.value), &self.advertise.origin),
            Shown::new(
                "server.lease_ttl_ms",
                json!(self.lease_ttl_ms.value),
                &self.lease_ttl_ms.origin,
            ),
            Shown::new(
                "server.store_wait_s",
                json!(self.store_wait_s.value),
                &self.store_wait_s.origin,
            ),
        ]
    }
}

fn host_name() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let said = said.trim();
    match said.is_empty() {
        false => said.to_owned(),
        true => {
            std::env::var("HOSTNAME").ok().filter(|it| !it.is_empty()).unwrap_or("localhost".into())
        }
    }
}

impl Settings {
    /// Can other nodes use the same store?
    pub fn is_shared(&self) -> bool {
        ["postgres://", "postgresql://"].iter().any(|it| self.store.value.starts_with(it))
    }

    /// The store's address without its password.
    pub fn store_shown(&self) -> String {
        redacted(&self.store.value)
    }

    pub fn keys_shown(&self) -> Option<String> {
        self.keys.value.as_deref().map(redacted)
    }

    /// A text about the stores, without their passwords.
    pub(crate) fn without_passwords(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for url in [Some(&self.store.value), self.keys.value.as_ref()].into_iter().flatten() {
            text = text.replace(url.as_str(), &redacted(url));
            for password in passwords(url) {
                text = text.replace(&password, HIDDEN);
            }
        }
        text
    }
}

const HIDDEN: &str = "***";

pub(super) fn has_password(url: &str) -> bool {
    redacted(url) != url
}

/// An address without what only its owner may know: whatever stands between `:` and `@` before the host, and the
/// values of parameters that are called after a password.
pub(crate) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may hold an `@`, a `/` or a `?` that nobody escaped: the last `@` is the one that counts.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, rest),
    };
    let (host, query) = match rest.split_once('?') {
        Some((host, query)) => (host, Some(query)),
        None => (rest, None),
    };
    let rest = match user.map(|it| it.split_once(':').ok_or(it)) {
        Some(Ok((user, _))) => format!("{user}:{HIDDEN}@{host}"),
        Some(Err(user)) => format!("{user}@{host}"),
        None => host.to_owned(),
    };
    let Some(query) = query else { return format!("{scheme}://{rest}") };
    let parts: Vec<String> = query
        .split('&')
        .map(|it| match it.split_once('=') {
            Some((name, _)) if name.to_lowercase().contains("password") => {
                format!("{name}={HIDDEN}")
            }
            _ => it.to_owned(),
        })
        .collect();
    format!("{scheme}://{rest}?{}", parts.join("&"))
}

/// As they were written, and as they were meant.
fn passwords(url: &str) -> Vec<String> {
    let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    let query = rest.split_once('?').map_or("", |it| it.1);
    let before = user.split_once(':').map(|it| it.1);
    let named = query
        .split('&')
        .filter_map(|it| it.split_once('='))
        .filter_map(|(name, value)| name.to_lowercase().contains("password").then_some(value));
    let written: Vec<&str> = before.into_iter().chain(named).filter(|it| it.len() > 2).collect();
    let meant = written.iter().filter_map(|it| {
        let pair = format!("p={}", it.replace('+', "%2B"));
        let decoded = url::form_urlencoded::parse(pair.as_bytes()).next();
        decoded.map(|(_, value)| value.into_owned())
    });
    written.iter().map(|it| (*it).to_owned()).chain(meant).collect()
}

#[cfg(test)]
mod tests;
