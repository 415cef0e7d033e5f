//! Projects, keys, and who is asking. A key's text is shown once and never kept; its SHA-256 is its name.
//!
//! What a principal may do with a session is decided by its project alone: names of other projects do not read. What
//! kinds of things it may do at all is its scopes' business.

pub mod scope;
pub mod routes;
pub(crate) mod admission;
pub(crate) mod doc;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, rand};
use everstate_kernel::ids::{Millis, base32};
use everstate_runtime::ports::{Clock, Document, Down, Put, PutError, Registry};

use crate::error::{ApiError, Result, codes, shown};
use crate::limits::Rates;
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
/// When a key was last used.
const USED: &str = "key.used";
/// How long a node trusts what it read of a key.
pub(crate) const TRUST_MS: Millis = 900;
/// A key's last use is known as precisely as that.
const USED_MS: Millis = 600_000;
/// How long is remembered that a text was revoked or replaced.
const REMEMBERED_MS: Millis = 30 * 86_400_000;
const PAGE: usize = 1_000;

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

/// What a new key is to be.
#[derive(Clone, Debug)]
pub(crate) struct NewKey {
    pub project: String,
    pub name: String,
    pub role: Option<String>,
    pub scopes: Scopes,
    pub expires_at: Option<Millis>,
    pub limits: Option<Rates>,
}

/// A key and its text, which nobody can tell again.
#[derive(Debug)]
pub(crate) struct Made {
    pub id: String,
    pub text: String,
}

/// A key among others.
#[derive(Debug)]
pub(crate) struct Listed {
    pub id: String,
    pub doc: KeyDoc,
    /// Until when an earlier text is good.
    pub old_until: Option<Millis>,
    pub used_at: Option<Millis>,
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

/// One text of a key.
struct Entry {
    kind: &'static str,
    hash: String,
    revision: u64,
    doc: KeyDoc,
}

impl Entry {
    fn id(&self) -> &str {
        self.doc.id.as_deref().unwrap_or(&self.hash)
    }
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

    /// A project that is there already is left as it is.
    pub(crate) async fn create_project(&self, name: &str) -> std::result::Result<(), Down> {
        let body = serde_json::json!({ "name": name }).to_string();
        match self.put(PROJECT, name, None, body, None).await {
            Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down),
        }
    }

    pub(crate) async fn projects(&self) -> std::result::Result<Vec<String>, Down> {
        let documents = self.all(PROJECT).await?;
        let mut names: Vec<String> = documents.into_iter().map(|it| it.id).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) async fn has_project(&self, name: &str) -> std::result::Result<bool, Down> {
        Ok(self.registry.get(INSTALLATION, PROJECT, name).await?.is_some())
    }

    /// A new key. This is the only time its text is seen.
    pub(crate) async fn create(&self, new: NewKey) -> std::result::Result<Made, Down> {
        let (id, text) = (format!("key_{}", base32(&random::<10>())), fresh());
        let doc = KeyDoc {
            project: new.project,
            name: new.name,
            admin: new.scopes.has(Scope::Admin),
            created_at: self.clock.now(),
            id: Some(id.clone()),
            role: new.role,
            scopes: Some(new.scopes.words().into_iter().map(str::to_owned).collect()),
            expires_at: new.expires_at,
            hint: ending(&text),
            limits: new.limits,
            ..KeyDoc::default()
        };
        self.write(SCOPED, &hex(&hash(&text)), None, &doc).await?;
        Ok(Made { id, text })
    }

    /// All keys, newest first, without their texts; those of one project, if one is named.
    pub(crate) async fn list(
        &self,
        project: Option<&str>,
    ) -> std::result::Result<Vec<Listed>, Down> {
        let used = self.all(USED).await?;
        let used: BTreeMap<String, Millis> =
            used.into_iter().filter_map(|it| Some((it.id, read_time(&it.body)?))).collect();
        let mut keys: BTreeMap<String, Listed> = BTreeMap::new();
        for it in self.entries().await? {
            if project.is_some_and(|project| project != it.doc.project) {
                continue;
            }
            let id = it.id().to_owned();
            let old_until = it.doc.replaced_until;
            let used_at = used.get(&id).copied();
            match keys.get_mut(&id) {
                None => {
                    keys.insert(id.clone(), Listed { id, doc: it.doc, old_until, used_at });
                }
                Some(known) => {
                    known.old_until = known.old_until.max(old_until);
                    // The text that was not replaced speaks for the key.
                    if old_until.is_none() {
                        known.doc = it.doc;
                    }
                }
            }
        }
        let mut keys: Vec<Listed> = keys.into_values().collect();
        keys.sort_by(|a, b| (b.doc.created_at, &b.id).cmp(&(a.doc.created_at, &a.id)));
        Ok(keys)
    }

    /// Ends a key with all its texts, here at once, and at other nodes when they look again. `false`: there is none of
    /// this name, or it is another project's.
    pub(crate) async fn revoke(
        &self,
        id: &str,
        project: Option<&str>,
    ) -> std::result::Result<bool, Down> {
        let now = self.clock.now();
        let texts = self.texts(id, project).await?;
        let found = !texts.is_empty();
        for it in texts {
            let revoked = |doc: &mut KeyDoc| doc.revoked_at = doc.revoked_at.or(Some(now));
            self.change(it, id, revoked).await?;
        }
        self.seen().clear();
        Ok(found)
    }

    /// Another text for the same key. The old one is good for `grace` more. `None`: there is no such key, or it is not
    /// good any more.
    pub(crate) async fn rotate(
        &self,
        id: &str,
        project: Option<&str>,
        grace: Millis,
    ) -> std::result::Result<Option<Made>, Down> {
        let now = self.clock.now();
        let mut old = self.texts(id, project).await?;
        old.retain(|it| it.doc.replaced_until.is_none());
        old.retain(|it| matches!(it.doc.standing(now), Standing::Good(_)));
        let Some(last) = old.last() else { return Ok(None) };
        let text = fresh();
        let doc = KeyDoc {
            id: Some(id.to_owned()),
            scopes: Some(last.doc.scopes().words().into_iter().map(str::to_owned).collect()),
            hint: ending(&text),
            ..last.doc.clone()
        };
        self.write(SCOPED, &hex(&hash(&text)), None, &doc).await?;
        for it in old {
            self.change(it, id, |doc| doc.replaced_until = Some(now.saturating_add(grace))).await?;
        }
        self.seen().clear();
        Ok(Some(Made { id: id.to_owned(), text }))
    }

    /// All texts of a key.
    async fn texts(
        &self,
        id: &str,
        project: Option<&str>,
    ) -> std::result::Result<Vec<Entry>, Down> {
        let mut entries = self.entries().await?;
        entries.retain(|it| it.id() == id && project.is_none_or(|name| name == it.doc.project));
        Ok(entries)
    }

    async fn entries(&self) -> std::result::Result<Vec<Entry>, Down> {
        let mut entries = Vec::new();
        for kind in [KEY, SCOPED] {
            for it in self.all(kind).await? {
                if let Ok(doc) = serde_json::from_slice(&it.body) {
                    entries.push(Entry { kind, hash: it.id, revision: it.revision, doc });
                }
            }
        }
        Ok(entries)
    }

    async fn all(&self, kind: &str) -> std::result::Result<Vec<Document>, Down> {
        let mut all: Vec<Document> = Vec::new();
        let mut before = None;
        loop {
            let page = self.registry.documents(INSTALLATION, kind, before, PAGE).await?;
            let n_found = page.len();
            before = page.last().map(|it| (it.created_at, it.id.clone()));
            all.extend(page);
            if n_found < PAGE {
                return Ok(all);
            }
        }
    }

    /// Changes what is said of a text, whoever else does so too. A text that everybody could read before is from here
    /// on only read by those who know what was changed.
    async fn change(
        &self,
        entry: Entry,
        id: &str,
        how: impl Fn(&mut KeyDoc),
    ) -> std::result::Result<(), Down> {
        let Entry { kind, hash, revision, mut doc } = entry;
        doc.id = Some(id.to_owned());
        let mut expect = (kind == SCOPED).then_some(revision);
        loop {
            how(&mut doc);
            match self.write(SCOPED, &hash, expect, &doc).await {
                Ok(()) => break,
                Err(Taken::Down(down)) => return Err(down),
                Err(Taken::Conflict(None)) => expect = None,
                Err(Taken::Conflict(Some(there))) => {
                    expect = Some(there.revision);
                    doc = serde_json::from_slice(&there.body)
                        .map_err(|err| Down(format!("a key cannot be read: {err}")))?;
                }
            }
        }
        if kind == KEY {
            self.registry.remove(INSTALLATION, KEY, &hash).await?;
        }
        Ok(())
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

    /// A text that is no good any more is remembered for a while, so that its holder can be told why.
    async fn write(
        &self,
        kind: &str,
        hash: &str,
        expect: Option<u64>,
        doc: &KeyDoc,
    ) -> std::result::Result<(), Taken> {
        let body = serde_json::to_string(doc).expect("a key document has a JSON form");
        let ends = [doc.expires_at, doc.revoked_at, doc.replaced_until];
        let gone_at = ends.into_iter().flatten().min().map(|it| it.saturating_add(REMEMBERED_MS));
        match self.put(kind, hash, expect, body, gone_at).await {
            Ok(_) => Ok(()),
            Err(PutError::Conflict(there)) => Err(Taken::Conflict(there)),
            Err(PutError::Down(down)) => Err(Taken::Down(down)),
        }
    }

    async fn put(
        &self,
        kind: &str,
        id: &str,
        expect: Option<u64>,
        body: String,
        expires_at: Option<Millis>,
    ) -> std::result::Result<u64, PutError> {
        let put = Put {
            project: INSTALLATION.to_owned(),
            kind: kind.to_owned(),
            id: id.to_owned(),
            expect,
            body: body.into(),
            now: self.clock.now(),
            expires_at,
        };
        self.registry.put(put).await
    }
}

/// Why a key's document was not written.
enum Taken {
    Conflict(Option<Document>),
    Down(Down),
}

impl From<Taken> for Down {
    fn from(taken: Taken) -> Down {
        match taken {
            Taken::Conflict(_) => Down("two keys came out the same".to_owned()),
            Taken::Down(down) => down,
        }
    }
}

/// A use is remembered for so long.
const USE_KEPT_MS: Millis = 400 * 86_400_000;

async fn note(
    registry: &dyn Registry,
    id: &str,
    at: Millis,
    now: Millis,
) -> std::result::Result<(), Down> {
    let there = registry.get(INSTALLATION, USED, id).await?;
    if there.as_ref().and_then(|it| read_time(&it.body)).is_some_and(|before| before >= at) {
        return Ok(());
    }
    let put = Put {
        project: INSTALLATION.to_owned(),
        kind: USED.to_owned(),
        id: id.to_owned(),
        expect: there.map(|it| it.revision),
        body: at.to_string().into(),
        now,
        expires_at: Some(now.saturating_add(USE_KEPT_MS)),
    };
    match registry.put(put).await {
        // Another node notes about the same.
        Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
        Err(PutError::Down(down)) => Err(down),
    }
}

fn read_time(body: &[u8]) -> Option<Millis> {
    std::str::from_utf8(body).ok()?.parse().ok()
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

/// A new text.
fn fresh() -> String {
    format!("es_{}", base32(&random::<20>()))
}

fn ending(text: &str) -> Option<String> {
    text.len().checked_sub(4).map(|at| text[at..].to_owned())
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
