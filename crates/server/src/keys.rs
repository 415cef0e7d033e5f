//! Projects, keys, and who is asking. A key's text is shown once and never kept; its SHA-256 is its name.
//!
//! What a principal may do with a session is decided by its project alone: names of other projects do not read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use everstate_kernel::ids::{Millis, base32};
use everstate_runtime::ports::{Clock, Down, Put, PutError, Registry};
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, Result, codes, shown};

/// Documents of the installation itself stand under this name, which no project may have.
pub(crate) const INSTALLATION: &str = "-";
/// The project that exists from the start.
pub(crate) const DEFAULT_PROJECT: &str = "default";

pub(crate) const PROJECT: &str = "project";
const KEY: &str = "key";
/// How long a key that was removed may still be good.
const TRUST_MS: Millis = 2_000;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub project: Arc<str>,
    /// Names the key in logs and claims; says nothing about its text.
    pub key: Arc<str>,
    pub name: Arc<str>,
    pub admin: bool,
}

/// A key as the registry keeps it, under its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyDoc {
    pub project: String,
    pub name: String,
    pub admin: bool,
    pub created_at: Millis,
}

/// The keys of this installation.
#[derive(Debug)]
pub(crate) struct Keys {
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    /// Hash of the admin key that came with the environment; it is in no store.
    given: Option<Hash>,
    seen: Mutex<HashMap<Hash, (Millis, Principal)>>,
}

type Hash = [u8; 32];

impl Keys {
    /// Makes sure that there is a project and an admin key. Returns the key if it was made just now: nobody can
    /// tell it again.
    pub(crate) async fn open(
        registry: Arc<dyn Registry>,
        clock: Arc<dyn Clock>,
        admin: Option<&str>,
    ) -> std::result::Result<(Keys, Option<String>), Down> {
        let keys =
            Keys { registry, clock, given: admin.map(hash), seen: Mutex::new(HashMap::new()) };
        keys.create_project(DEFAULT_PROJECT).await?;
        if admin.is_some() || keys.has_admin().await? {
            return Ok((keys, None));
        }
        let made = keys.create(DEFAULT_PROJECT, "admin", true).await?;
        Ok((keys, Some(made)))
    }

    async fn has_admin(&self) -> std::result::Result<bool, Down> {
        let documents = self.registry.documents(INSTALLATION, KEY, None, 1_000).await?;
        Ok(documents
            .iter()
            .filter_map(|it| serde_json::from_slice::<KeyDoc>(&it.body).ok())
            .any(|it| it.admin))
    }

    /// A project that is there already is left as it is.
    pub(crate) async fn create_project(&self, name: &str) -> std::result::Result<(), Down> {
        let body = serde_json::json!({ "name": name }).to_string();
        match self.put(PROJECT, name, body).await {
            Ok(()) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down),
        }
    }

    pub(crate) async fn projects(&self) -> std::result::Result<Vec<String>, Down> {
        let documents = self.registry.documents(INSTALLATION, PROJECT, None, 1_000).await?;
        let mut names: Vec<String> = documents.into_iter().map(|it| it.id).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) async fn has_project(&self, name: &str) -> std::result::Result<bool, Down> {
        Ok(self.registry.get(INSTALLATION, PROJECT, name).await?.is_some())
    }

    /// A new key. This is the only time its text is seen.
    pub(crate) async fn create(
        &self,
        project: &str,
        name: &str,
        admin: bool,
    ) -> std::result::Result<String, Down> {
        let text = format!("es_{}", base32(&random::<20>()));
        let doc = KeyDoc {
            project: project.to_owned(),
            name: name.to_owned(),
            admin,
            created_at: self.clock.now(),
        };
        let body = serde_json::to_string(&doc).expect("a key document has a JSON form");
        match self.put(KEY, &hex(&hash(&text)), body).await {
            Ok(()) => Ok(text),
            Err(PutError::Conflict(_)) => Err(Down("two keys came out the same".to_owned())),
            Err(PutError::Down(down)) => Err(down),
        }
    }

    /// All keys by their ids, without their texts.
    pub(crate) async fn list(&self) -> std::result::Result<Vec<(String, KeyDoc)>, Down> {
        let documents = self.registry.documents(INSTALLATION, KEY, None, 1_000).await?;
        Ok(documents
            .into_iter()
            .filter_map(|it| Some((it.id, serde_json::from_slice(&it.body).ok()?)))
            .collect())
    }

    pub(crate) async fn remove(&self, id: &str) -> std::result::Result<bool, Down> {
        let there = self.registry.get(INSTALLATION, KEY, id).await?.is_some();
        self.registry.remove(INSTALLATION, KEY, id).await?;
        self.seen.lock().expect("nothing panics while it holds the keys").clear();
        Ok(there)
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
            });
        }
        let now = self.clock.now();
        let seen = {
            let seen = self.seen.lock().expect("nothing panics while it holds the keys");
            seen.get(&hash).filter(|(at, _)| now < at + TRUST_MS).map(|(_, it)| it.clone())
        };
        if let Some(principal) = seen {
            return Ok(principal);
        }
        let id = hex(&hash);
        let found = self.registry.get(INSTALLATION, KEY, &id).await?;
        let doc = found.and_then(|it| serde_json::from_slice::<KeyDoc>(&it.body).ok());
        let Some(doc) = doc else {
            return Err(ApiError::new(
                &codes::INVALID_API_KEY,
                format!("this server does not know the API key {}", hint(text)),
            )
            .attempt("everstate explain invalid_api_key"));
        };
        let principal = Principal {
            project: doc.project.into(),
            key: id[..16].into(),
            name: doc.name.into(),
            admin: doc.admin,
        };
        let mut seen = self.seen.lock().expect("nothing panics while it holds the keys");
        seen.retain(|_, (at, _)| now < *at + TRUST_MS);
        seen.insert(hash, (now, principal.clone()));
        Ok(principal)
    }

    async fn put(&self, kind: &str, id: &str, body: String) -> std::result::Result<(), PutError> {
        let put = Put {
            project: INSTALLATION.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            expect: None,
            body: body.into(),
            now: self.clock.now(),
            expires_at: None,
        };
        self.registry.put(put).await.map(drop)
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
