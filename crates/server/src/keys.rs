//! Projects, keys, and who is asking. A key's text is shown once and never kept; its SHA-256 is its name.
//!
//! What a principal may do with a session is decided by its project alone: names of other projects do not read. What
//! kinds of things it may do at all is its scopes' business.

pub mod scope;
pub mod routes;
pub(crate) mod admission;
pub(crate) mod book;
pub(crate) mod doc;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use everstate_kernel::ids::Millis;
use everstate_runtime::ports::{Clock, Down, Put, PutError, Registry};

use crate::error::{ApiError, Result, codes, shown};
use crate::limits::Rates;
use book::{Entry, fresh, note};
use doc::{KeyDoc, Standing};
use scope::{Scope, Scopes};

/// Documents of the installation itself stand under this name, which no project may have.
pub(crate) const INSTALLATION: &str = "-";
/// The project that exists from the start.
pub(crate) const DEFAULT_PROJECT: &str = "default";

pub(crate) const PROJECT: &str = "project";
/// Keys that may do all that there was when there were no scopes.
const KEY: &str = "key";
/// All others. A node of the first release does not look here: it would not see what they may not do.
const SCOPED: &str = "key.scoped";
/// How long a node trusts what it read of a key.
pub(crate) const TRUST_MS: Millis = 900;
/// A key's last use is known as precisely as that.
const USED_MS: Millis = 600_000;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub project: Arc<str>,
    /// Names the key in logs and claims; says nothing about its text.
    pub key: Arc<str>,
    pub name: Arc<str>,
    pub admin: bool,
    pub scopes: Scopes,
    /// What the key itself says of its limits.
    pub rates: Rates,
}

/// The keys of this installation.
#[derive(Debug)]
pub(crate) struct Keys {
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    /// Hash of the admin key that came with the environment; it is in no store.
    given: Option<Hash>,
    seen: Mutex<HashMap<Hash, Seen>>,
    /// Up to when the last use of each key was written down.
    noted: Mutex<HashMap<Arc<str>, Millis>>,
}

type Hash = [u8; 32];

/// A key that was read a moment ago.
#[derive(Debug)]
struct Seen {
    /// By a clock that nobody sets.
    until: Millis,
    good_until: Option<Millis>,
    principal: Principal,
}

impl Keys {
    /// Makes sure that there is a project and an admin key. Returns the key if it was made just now: nobody can
    /// tell it again.
    pub(crate) async fn open(
        registry: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
        admin: Option<&str>,
    ) -> std::result::Result<(Keys, Option<String>), Down> {
        let given = admin.map(hash);
        let keys = Keys { registry, clock, given, seen: Mutex::default(), noted: Mutex::default() };
        keys.create_project(DEFAULT_PROJECT).await?;
        if admin.is_some() || keys.has_admin().await? {
            return Ok((keys, None));
        }
        let doc = KeyDoc {
            project: DEFAULT_PROJECT.to_owned(),
            name: "admin".to_owned(),
            admin: true,
            created_at: keys.clock.now(),
            ..KeyDoc::default()
        };
        // An earlier release reads it too: there is nothing that it may not do.
        let text = fresh();
        keys.write(KEY, &hex(&hash(&text)), None, &doc).await?;
        Ok((keys, Some(text)))
    }

    async fn has_admin(&self) -> std::result::Result<bool, Down> {
        let now = self.clock.now();
        let rules = |it: &Entry| {
            matches!(it.doc.standing(now), Standing::Good(_)) && it.doc.scopes().has(Scope::Admin)
        };
        Ok(self.entries().await?.iter().any(rules))
    }

    /// Who sent this `Authorization` header?
    pub(crate) async fn admit(&self, header: Option<&str>) -> Result<Principal> {
        let text = header
            .and_then(|it| it.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, text)| text.trim())
            .filter(|it| !it.is_empty())
            .ok_or_else(|| {
                ApiError::new(&codes::INVALID_API_KEY, "no API key was sent")
                    .why("the request has no `Authorization: Bearer KEY` header")
                    .attempt("everstate explain invalid_api_key")
            })?;
        let hash = hash(text);
        // Hashes are compared, so that the time it takes says nothing about the key.
        if self.given.is_some_and(|it| verify_slices_are_equal(&it, &hash).is_ok()) {
            return Ok(Principal {
                project: DEFAULT_PROJECT.into(),
                key: "admin".into(),
                name: "admin".into(),
                admin: true,
                scopes: Scopes::all(),
                rates: Rates::default(),
            });
        }
        let (now, monotonic) = (self.clock.now(), self.clock.monotonic());
        let known = self.seen().get(&hash).and_then(|it| {
            let good = monotonic < it.until && it.good_until.is_none_or(|at| now < at);
            good.then(|| it.principal.clone())
        });
        if let Some(principal) = known {
            self.note_use(&principal.key, now);
            return Ok(principal);
        }
        let id = hex(&hash);
        let mut found = self.registry.get(INSTALLATION, SCOPED, &id).await?;
        if found.is_none() {
            found = self.registry.get(INSTALLATION, KEY, &id).await?;
        }
        let doc = found.and_then(|it| serde_json::from_slice::<KeyDoc>(&it.body).ok());
        let Some(doc) = doc else {
            return Err(ApiError::new(
                &codes::INVALID_API_KEY,
                format!("this server does not know the API key {}", hint(text)),
            )
            .attempt("everstate explain invalid_api_key"));
        };
        let good_until = match doc.standing(now) {
            Standing::Good(until) => until,
            not => return Err(no_good(&doc, not, text, now)),
        };
        let scopes = doc.scopes();
        let principal = Principal {
            project: doc.project.into(),
            key: doc.id.map_or_else(|| id[..16].into(), Into::into),
            name: doc.name.into(),
            admin: scopes.has(Scope::Admin),
            scopes,
            rates: doc.limits.unwrap_or_default(),
        };
        let entry = Seen { until: monotonic + TRUST_MS, good_until, principal: principal.clone() };
        let mut seen = self.seen();
        seen.retain(|_, it| monotonic < it.until);
        seen.insert(hash, entry);
        drop(seen);
        self.note_use(&principal.key, now);
        Ok(principal)
    }

    /// In the background, and only now and then: when a key was last used is worth no waiting.
    fn note_use(&self, key: &Arc<str>, now: Millis) {
        let at = now - now % USED_MS;
        {
            let mut noted = self.noted.lock().expect("nothing panics while it holds the times");
            if noted.insert(key.clone(), at).is_some_and(|before| before >= at) {
                return;
            }
        }
        let (registry, id) = (self.registry.clone(), key.to_string());
        tokio::spawn(async move {
            let noted = note(&*registry, &id, at, now).await;
            if let Err(down) = noted {
                tracing::debug!(%down, key = id, "when it was used is not written down");
            }
        });
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Hash, Seen>> {
        self.seen.lock().expect("nothing panics while it holds the keys")
    }
}

/// Whoever has the right text may know what became of it.
fn no_good(doc: &KeyDoc, standing: Standing, text: &str, now: Millis) -> ApiError {
    let (hint, name) = (hint(text), &doc.name);
    let told = |what: String| ApiError::new(&codes::INVALID_API_KEY, what);
    match standing {
        Standing::Expired(at) => told(format!("the API key {hint} has expired"))
            .why(format!("`{name}` was good until {} ago", age(now, at)))
            .attempt("everstate key create NAME"),
        Standing::Revoked(at) => told(format!("the API key {hint} was revoked"))
            .why(format!("`{name}` was revoked {} ago", age(now, at))),
        Standing::Replaced(at) => told(format!("the API key {hint} was replaced by another text"))
            .why(format!("`{name}` was rotated; this text was good until {} ago", age(now, at))),
        Standing::Good(_) => told(format!("the API key {hint} cannot be used")),
    }
}

/// In words, roughly.
fn age(now: Millis, at: Millis) -> String {
    let s = now.saturating_sub(at) / 1_000;
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}

/// What may be a project's name: short, and safe in keys, paths and listings.
pub(crate) fn project_name(name: &str) -> Result<&str> {
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|it: char| it.is_ascii_lowercase())
        && name.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-');
    if good {
        return Ok(name);
    }
    let text = format!(
        "`{}` cannot be a project's name: 1 to 64 of a-z, 0-9 and `-`, beginning with a letter",
        shown(name)
    );
    Err(ApiError::new(&codes::INVALID_VALUE, text).param("name"))
}

/// Something of the installation's own that is drawn once and then stays the same, such as its naming key.
pub(crate) async fn drawn_once(
    registry: &dyn Registry,
    now: Millis,
    id: &str,
) -> std::result::Result<[u8; 32], Down> {
    let drawn = random::<32>();
    let put = Put {
        project: INSTALLATION.to_owned(),
        kind: "drawn".to_owned(),
        id: id.to_owned(),
        expect: None,
        body: drawn.to_vec().into(),
        now,
        expires_at: None,
    };
    match registry.put(put).await {
        Ok(_) => Ok(drawn),
        Err(PutError::Conflict(Some(document))) => document.body[..]
            .try_into()
            .map_err(|_| Down(format!("the registry's `{id}` is not 32 bytes long"))),
        Err(PutError::Conflict(None)) => Err(Down(format!("the registry's `{id}` came and went"))),
        Err(PutError::Down(down)) => Err(down),
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

pub(crate) fn sha256(bytes: &[u8]) -> Hash {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn hash(text: &str) -> Hash {
    sha256(text.as_bytes())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// The end of a key, for people who have several.
fn hint(text: &str) -> String {
    let n = text.chars().count();
    if n < 12 || !text.is_ascii() {
        return "that was sent".to_owned();
    }
    format!("...{}", &text[n - 4..])
}

#[cfg(test)]
mod tests;
