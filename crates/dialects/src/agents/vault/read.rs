//! Vaults and credentials as clients write them. No complaint repeats a value that may be a secret, nor one that a
//! client may have put in the wrong place: it names the field, and says what belongs there.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeSet;

use everstate_kernel::json::Json;

use super::{
    Auth, Credential, CredentialPatch, Networking, Refresh, RefreshRotation, Rotation, Secret,
    TokenEndpointAuth, Vault, VaultPatch,
};
use crate::agents::request::{missing, only, read_pairs, within};
use crate::json::{Fields, is_null};
use crate::responses::request::check::{fields, invalid, list, text};
use crate::responses::request::{Complaint, read_object};

/// Of a name, in bytes.
const NAME_BYTES_MAX: usize = 256;
const SECRET_BYTES_MAX: usize = 64 << 10;
const URL_BYTES_MAX: usize = 2_048;
/// Of what an OAuth server is told beside secrets: a client's id, a resource, scopes.
const WORDS_BYTES_MAX: usize = 4_096;
const HOSTS_MAX: usize = 16;

/// `POST /v1/vaults`.
pub fn read_vault_create(body: &[u8]) -> Result<Vault, Complaint> {
    let body = read_object(body)?;
    only("", &body, &["name", "metadata"])?;
    Ok(Vault {
        name: body.get("name").map(read_name).transpose()?,
        metadata: read_pairs(&body)?.unwrap_or_default(),
    })
}

/// `POST /v1/vaults/{id}`.
pub fn read_vault_update(body: &[u8]) -> Result<VaultPatch, Complaint> {
    let body = read_object(body)?;
    only("", &body, &["name", "metadata"])?;
    let name = match body.said("name") {
        Some(json) if is_null(json) => Some(None),
        Some(json) => Some(Some(read_name(json)?)),
        None => None,
    };
    Ok(VaultPatch { name, metadata: read_pairs(&body)? })
}

/// `POST /v1/vaults/{id}/credentials`.
pub fn read_credential_create(body: &[u8]) -> Result<Credential, Complaint> {
    let body = read_object(body)?;
    only("", &body, &["name", "auth", "metadata"])?;
    Ok(Credential {
        name: read_name(body.get("name").ok_or_else(|| missing("name"))?)?,
        metadata: read_pairs(&body)?.unwrap_or_default(),
        auth: read_auth(&Part::of("auth", body.get("auth").ok_or_else(|| missing("auth"))?)?)?,
    })
}

/// `POST /v1/vaults/{id}/credentials/{id}`.
pub fn read_credential_update(body: &[u8]) -> Result<CredentialPatch, Complaint> {
    let body = read_object(body)?;
    only("", &body, &["auth", "metadata"])?;
    let auth = body.get("auth").map(|it| read_rotation(&Part::of("auth", it)?)).transpose()?;
    Ok(CredentialPatch { auth, metadata: read_pairs(&body)? })
}

fn read_name(json: &Json) -> Result<String, Complaint> {
    let name = text("name", json)?.trim().to_owned();
    match name.len() {
        1..=NAME_BYTES_MAX => Ok(name),
        n => {
            let message = format!(
                "Invalid 'name': it has 1 to {NAME_BYTES_MAX} bytes of UTF-8 after trimming, but this has {n}."
            );
            Err(invalid("name", message))
        }
    }
}

/// An object of the request and its place in it.
struct Part {
    param: String,
    fields: Fields,
}

impl Part {
    fn of(param: &str, json: &Json) -> Result<Part, Complaint> {
        Ok(Part { param: param.to_owned(), fields: fields(param, json)? })
    }

    fn only(&self, known: &[&str]) -> Result<(), Complaint> {
        only(&self.param, &self.fields, known)
    }

    fn at(&self, name: &str) -> String {
        within(&self.param, name)
    }

    fn required(&self, name: &str) -> Result<&Json, Complaint> {
        self.fields.get(name).ok_or_else(|| missing(&self.at(name)))
    }

    fn part(&self, name: &str) -> Result<Option<Part>, Complaint> {
        self.fields.get(name).map(|it| Part::of(&self.at(name), it)).transpose()
    }

    fn required_part(&self, name: &str) -> Result<Part, Complaint> {
        Part::of(&self.at(name), self.required(name)?)
    }

    /// One of these words, under the field `type`.
    fn kind(&self, words: &[&'static str]) -> Result<&'static str, Complaint> {
        let at = self.at("type");
        let word = text(&at, self.required("type")?)?;
        words.iter().copied().find(|it| *it == word).ok_or_else(|| {
            let words: Vec<String> = words.iter().map(|it| format!("'{it}'")).collect();
            invalid(&at, format!("Invalid '{at}': supported values are {}.", words.join(", ")))
        })
    }

    fn secret(&self, name: &str) -> Result<Option<Secret>, Complaint> {
        let at = self.at(name);
        let Some(json) = self.fields.get(name) else { return Ok(None) };
        let secret = text(&at, json)?;
        let wrong = |what: String| Err(invalid(&at, format!("Invalid '{at}': {what}.")));
        if secret.is_empty() {
            return wrong("it must not be empty".to_owned());
        }
        if secret.len() > SECRET_BYTES_MAX {
            return wrong(format!("it has at most {SECRET_BYTES_MAX} bytes"));
        }
        if secret.contains(['\r', '\n', '\0']) {
            return wrong("it must not contain carriage returns, newlines or NUL bytes".to_owned());
        }
        Ok(Some(Secret::new(secret)))
    }

    fn required_secret(&self, name: &str) -> Result<Secret, Complaint> {
        self.secret(name)?.ok_or_else(|| missing(&self.at(name)))
    }

    /// A URL that a secret may be sent to: with TLS, and without a secret of its own.
    fn https(&self, name: &str) -> Result<String, Complaint> {
        let at = self.at(name);
        let url = text(&at, self.required(name)?)?;
        if is_https(&url) {
            return Ok(url);
        }
        Err(invalid(
            &at,
            format!(
                "Invalid '{at}': it is an HTTPS URL with a host, without user, password or fragment, of at most {URL_BYTES_MAX} bytes."
            ),
        ))
    }

    /// What is sent along and is no secret.
    fn words(&self, name: &str) -> Result<Option<String>, Complaint> {
        let at = self.at(name);
        let Some(json) = self.fields.get(name) else { return Ok(None) };
        let words = text(&at, json)?;
        if words.is_empty() || words.len() > WORDS_BYTES_MAX || words.contains(char::is_control) {
            let message = format!(
                "Invalid '{at}': it has 1 to {WORDS_BYTES_MAX} bytes, and no control characters."
            );
            return Err(invalid(&at, message));
        }
        Ok(Some(words))
    }

    fn expires_at(&self) -> Result<Option<Option<String>>, Complaint> {
        let Some(json) = self.fields.said("expires_at") else { return Ok(None) };
        if is_null(json) {
            return Ok(Some(None));
        }
        let at = self.at("expires_at");
        let time = text(&at, json)?;
        if is_rfc3339(&time) {
            return Ok(Some(Some(time)));
        }
        let message = format!(
            "Invalid '{at}': it is a time as RFC 3339 writes it, such as 2026-11-23T07:10:00Z."
        );
        Err(invalid(&at, message))
    }
}

const KINDS: &[&str] = &["mcp_oauth", "static_bearer", "environment_variable"];
const METHODS: &[&str] = &["none", "client_secret_basic", "client_secret_post"];

fn read_auth(auth: &Part) -> Result<Auth, Complaint> {
    match auth.kind(KINDS)? {
        "mcp_oauth" => {
            auth.only(&["type", "mcp_server_url", "access_token", "expires_at", "refresh"])?;
            Ok(Auth::McpOauth {
                mcp_server_url: auth.https("mcp_server_url")?,
                access_token: auth.required_secret("access_token")?,
                expires_at: auth.expires_at()?.flatten(),
                refresh: auth.part("refresh")?.map(|it| read_refresh(&it)).transpose()?,
            })
        }
        "static_bearer" => {
            auth.only(&["type", "mcp_server_url", "token"])?;
            Ok(Auth::StaticBearer {
                mcp_server_url: auth.https("mcp_server_url")?,
                token: auth.required_secret("token")?,
            })
        }
        _ => {
            auth.only(&["type", "secret_name", "secret_value", "networking"])?;
            Ok(Auth::EnvironmentVariable {
                secret_name: read_variable(auth)?,
                secret_value: auth.required_secret("secret_value")?,
                networking: read_networking(&auth.required_part("networking")?)?,
            })
        }
    }
}

fn read_refresh(refresh: &Part) -> Result<Refresh, Complaint> {
    refresh.only(&[
        "client_id",
        "refresh_token",
        "token_endpoint",
        "token_endpoint_auth",
        "resource",
        "scope",
    ])?;
    let method = refresh.required_part("token_endpoint_auth")?;
    let token_endpoint_auth = match method.kind(METHODS)? {
        "none" => {
            method.only(&["type"])?;
            TokenEndpointAuth::None
        }
        kind => {
            method.only(&["type", "client_secret"])?;
            let client_secret = method.required_secret("client_secret")?;
            match kind {
                "client_secret_basic" => TokenEndpointAuth::ClientSecretBasic { client_secret },
                _ => TokenEndpointAuth::ClientSecretPost { client_secret },
            }
        }
    };
    Ok(Refresh {
        client_id: refresh.words("client_id")?.ok_or_else(|| missing(&refresh.at("client_id")))?,
        refresh_token: refresh.required_secret("refresh_token")?,
        token_endpoint: refresh.https("token_endpoint")?,
        token_endpoint_auth,
        resource: refresh.words("resource")?,
        scope: refresh.words("scope")?,
    })
}

fn read_rotation(auth: &Part) -> Result<Rotation, Complaint> {
    match auth.kind(KINDS)? {
        "mcp_oauth" => {
            auth.only(&["type", "access_token", "expires_at", "refresh"])?;
            Ok(Rotation::McpOauth {
                access_token: auth.secret("access_token")?,
                expires_at: auth.expires_at()?,
                refresh: auth.part("refresh")?.map(|it| read_refresh_rotation(&it)).transpose()?,
            })
        }
        "static_bearer" => {
            auth.only(&["type", "token"])?;
            Ok(Rotation::StaticBearer { token: auth.required_secret("token")? })
        }
        _ => {
            auth.only(&["type", "secret_value"])?;
            let secret_value = auth.required_secret("secret_value")?;
            Ok(Rotation::EnvironmentVariable { secret_value })
        }
    }
}

fn read_refresh_rotation(refresh: &Part) -> Result<RefreshRotation, Complaint> {
    refresh.only(&["refresh_token", "scope", "token_endpoint_auth"])?;
    let method = refresh.part("token_endpoint_auth")?;
    let token_endpoint_auth = match method {
        Some(method) => {
            let kind = method.kind(&METHODS[1..])?;
            method.only(&["type", "client_secret"])?;
            Some((kind, method.secret("client_secret")?))
        }
        None => None,
    };
    Ok(RefreshRotation {
        refresh_token: refresh.secret("refresh_token")?,
        scope: refresh.fields.said("scope").map(|_| refresh.words("scope")).transpose()?,
        token_endpoint_auth,
    })
}

// ---- where a secret may go ---------------------------------------------------------------

/// Names that the egress proxy and its certificates need themselves.
const RESERVED: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NODE_USE_ENV_PROXY",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
];
// Put together, so that nobody takes it for a variable that is read here.
const RESERVED_BEGINNINGS: &[&str] = &["CODEX_", concat!("EVERSTATE", "_")];

fn read_variable(auth: &Part) -> Result<String, Complaint> {
    let at = auth.at("secret_name");
    let name = text(&at, auth.required("secret_name")?)?;
    let good = (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with(|it: char| it.is_ascii_digit())
        && name.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    if !good {
        let message = format!(
            "Invalid '{at}': it has 1 to {NAME_BYTES_MAX} ASCII letters, digits and underscores, and begins with no digit."
        );
        return Err(invalid(&at, message));
    }
    let upper = name.to_ascii_uppercase();
    let is_reserved = RESERVED.contains(&upper.as_str())
        || RESERVED_BEGINNINGS.iter().any(|it| upper.starts_with(it));
    if is_reserved {
        let message = format!(
            "Invalid '{at}': names of the proxy, of certificates, and those that begin with 'CODEX_' or 'EVERSTATE_' are reserved."
        );
        return Err(invalid(&at, message));
    }
    Ok(name)
}

fn read_networking(networking: &Part) -> Result<Networking, Complaint> {
    if networking.kind(&["unrestricted", "limited"])? == "unrestricted" {
        networking.only(&["type"])?;
        return Ok(Networking::Unrestricted);
    }
    networking.only(&["type", "allowed_hosts"])?;
    let at = networking.at("allowed_hosts");
    let hosts = list(&at, networking.required("allowed_hosts")?)?;
    if !(1..=HOSTS_MAX).contains(&hosts.len()) {
        let message = format!(
            "Invalid '{at}': it has 1 to {HOSTS_MAX} hosts, but there are {}.",
            hosts.len()
        );
        return Err(invalid(&at, message));
    }
    let mut allowed_hosts = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, json) in hosts.iter().enumerate() {
        let at = format!("{at}[{i}]");
        let host = text(&at, json)?.to_ascii_lowercase();
        if !is_host(&host) {
            let message = format!(
                "Invalid '{at}': it is a host name or an IPv4 address, without scheme, path, port or wildcard."
            );
            return Err(invalid(&at, message));
        }
        if !seen.insert(host.clone()) {
            return Err(invalid(&at, format!("Invalid '{at}': this host is named twice.")));
        }
        allowed_hosts.push(host);
    }
    Ok(Networking::Limited { allowed_hosts })
}

/// In lower case.
fn is_host(host: &str) -> bool {
    let label = |it: &str| {
        (1..=63).contains(&it.len())
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-')
    };
    // What ends in a number is an address, and nothing else.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|it| it.is_ascii_digit());
    host.len() <= 253
        && host.split('.').all(label)
        && (!is_number || host.parse::<Ipv4Addr>().is_ok())
}

fn is_https(url: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_graphic() && !"\"<>\\^`{|}#".contains(it);
    if url.len() > URL_BYTES_MAX || !url.chars().all(is_plain) {
        return false;
    }
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = match authority.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((address, rest)) if address.parse::<Ipv6Addr>().is_ok() => {
            (None, rest.strip_prefix(':').or_else(|| rest.is_empty().then_some("443")))
        }
        Some(_) => return false,
        None => match authority.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(authority), Some("443")),
        },
    };
    let is_port = |it: &str| {
        it.bytes().all(|it| it.is_ascii_digit()) && it.parse::<u16>().is_ok_and(|it| it > 0)
    };
    scheme.eq_ignore_ascii_case("https")
        && host.is_none_or(|it| is_host(&it.to_ascii_lowercase()))
        && port.is_some_and(is_port)
}

fn is_rfc3339(time: &str) -> bool {
    fn number(text: &str) -> Option<u32> {
        text.bytes().all(|it| it.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    }
    let read = || {
        let (date, rest) = time.split_at_checked(10)?;
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let (clock, rest) = rest.split_at_checked(8)?;
        let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else { return None };
        let [hour, minute, second] = clock.split(':').collect::<Vec<_>>()[..] else { return None };
        if [year, month, day, hour, minute, second].map(str::len) != [4, 2, 2, 2, 2, 2] {
            return None;
        }
        let (year, month, day) = (number(year)?, number(month)?, number(day)?);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if is_leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let fits = (1..=days).contains(&day)
            && number(hour)? <= 23
            && number(minute)? <= 59
            && number(second)? <= 60;
        let zone = match rest.strip_prefix('.') {
            Some(fraction) => {
                let end = fraction.find(|it: char| !it.is_ascii_digit())?;
                (1..=9).contains(&end).then(|| &fraction[end..])?
            }
            None => rest,
        };
        let offset = |it: &str| {
            let (hour, minute) = it.split_once(':')?;
            let long = hour.len() == 2 && minute.len() == 2;
            Some(long && number(hour)? <= 23 && number(minute)? <= 59)
        };
        let in_zone = zone.eq_ignore_ascii_case("z")
            || zone.strip_prefix(['+', '-']).and_then(offset).unwrap_or(false);
        Some(fits && in_zone)
    };
    read().unwrap_or(false)
}
