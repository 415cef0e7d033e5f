//! The documents behind keys and projects: made, listed, rotated, revoked, written by compare-and-set.

use std::collections::BTreeMap;

use everstate_kernel::ids::{Millis, base32};
use everstate_runtime::ports::{Document, Down, Put, PutError, Registry};

use super::doc::{KeyDoc, Standing};
use super::scope::{Scope, Scopes};
use super::{INSTALLATION, KEY, Keys, PROJECT, SCOPED, hash, hex, random};
use crate::limits::Rates;

/// When a key was last used.
const USED: &str = "key.used";
/// How long is remembered that a text was revoked or replaced.
const REMEMBERED_MS: Millis = 30 * 86_400_000;
const PAGE: usize = 1_000;

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

/// One text of a key.
pub(super) struct Entry {
    kind: &'static str,
    hash: String,
    revision: u64,
    pub(super) doc: KeyDoc,
}

impl Entry {
    fn id(&self) -> &str {
        self.doc.id.as_deref().unwrap_or(&self.hash)
    }
}

impl Keys {
    /// A project that is there already is left as it is.
    pub(crate) async fn create_project(&self, name: &str) -> Result<(), Down> {
        let body = serde_json::json!({ "name": name }).to_string();
        match self.put(PROJECT, name, None, body, None).await {
            Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down),
        }
    }

    pub(crate) async fn projects(&self) -> Result<Vec<String>, Down> {
        let documents = self.all(PROJECT).await?;
        let mut names: Vec<String> = documents.into_iter().map(|it| it.id).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) async fn has_project(&self, name: &str) -> Result<bool, Down> {
        Ok(self.registry.get(INSTALLATION, PROJECT, name).await?.is_some())
    }

    /// A new key. This is the only time its text is seen.
    pub(crate) async fn create(&self, new: NewKey) -> Result<Made, Down> {
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
    pub(crate) async fn list(&self, project: Option<&str>) -> Result<Vec<Listed>, Down> {
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
    pub(crate) async fn revoke(&self, id: &str, project: Option<&str>) -> Result<bool, Down> {
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
    ) -> Result<Option<Made>, Down> {
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
    async fn texts(&self, id: &str, project: Option<&str>) -> Result<Vec<Entry>, Down> {
        let mut entries = self.entries().await?;
        entries.retain(|it| it.id() == id && project.is_none_or(|name| name == it.doc.project));
        Ok(entries)
    }

    pub(super) async fn entries(&self) -> Result<Vec<Entry>, Down> {
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

    async fn all(&self, kind: &str) -> Result<Vec<Document>, Down> {
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
    async fn change(&self, entry: Entry, id: &str, how: impl Fn(&mut KeyDoc)) -> Result<(), Down> {
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

    /// A text that is no good any more is remembered for a while, so that its holder can be told why.
    pub(super) async fn write(
        &self,
        kind: &str,
        hash: &str,
        expect: Option<u64>,
        doc: &KeyDoc,
    ) -> Result<(), Taken> {
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
    ) -> Result<u64, PutError> {
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
pub(super) enum Taken {
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

pub(super) async fn note(
    registry: &dyn Registry,
    id: &str,
    at: Millis,
    now: Millis,
) -> Result<(), Down> {
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

/// A new text.
pub(super) fn fresh() -> String {
    format!("es_{}", base32(&random::<20>()))
}

fn ending(text: &str) -> Option<String> {
    text.len().checked_sub(4).map(|at| text[at..].to_owned())
}
