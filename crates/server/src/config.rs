//! `everstate.toml` and what stands above it: a flag beats an `EVERSTATE_...` variable, that beats the file, that
//! beats the default. All of it is checked before any of it is used, and each value remembers where it came from.
//!
//! What the settings of a provider or a tool mean is left to their own rooms.

pub mod file;
pub mod nodes;
pub mod offers;
pub mod projects;
pub mod retention;
pub mod telemetry;

use std::fmt;
use std::path::{Path, PathBuf};

use everstate_kernel::agent::Limits;
use everstate_kernel::policy::Constraints;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::error::{ApiError, Result, codes};
use crate::keys::project_name;
use file::File;

/// What the command line says. `None` leaves it to the others.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub store: Option<String>,
    pub blobs: Option<String>,
    pub keys: Option<String>,
    pub node: Option<String>,
    pub advertise: Option<String>,
}

/// Everything a server is told before it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    pub listen: Set<String>,
    /// `sqlite:PATH`, `memory:` or `postgres://...`. May hold a password: shown only as [`Settings::store_shown`].
    pub store: Set<String>,
    /// A folder or `s3://BUCKET/PREFIX`; `None`: with the store.
    pub blobs: Set<Option<String>>,
    /// Where the data keys are, if not with the state. May hold a password too.
    pub keys: Set<Option<String>>,
    pub node: nodes::Node,
    pub body_max_bytes: Set<u64>,
    pub admin_key: Set<Option<SecretString>>,
    /// Where traces are sent, if anywhere.
    pub telemetry: Option<telemetry::Traces>,
    pub file: File,
    /// The configuration file, if there is one.
    pub path: Option<PathBuf>,
    /// Paths in the configuration are relative to this directory.
    pub dir: PathBuf,
    /// Where the command was started.
    pub here: PathBuf,
}

/// A value, and who set it.
#[derive(Clone, Debug)]
pub struct Set<T> {
    pub value: T,
    pub origin: Origin,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Env(&'static str),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) => write!(f, "flag {name}"),
            Origin::Env(name) => write!(f, "env {name}"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// The environment as `load` reads it.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

pub const FILE: &str = "everstate.toml";
pub const LISTEN: &str = "127.0.0.1:7070";
pub const STORE: &str = "sqlite:./.everstate/state.db";
pub const BODY_MAX_BYTES: u64 = 64 << 20;

/// Reads and checks everything. `here` is the directory the command was started in.
pub fn load(flags: &Flags, env: Env<'_>, here: &Path) -> Result<Settings> {
    let path = match flags.config.clone().or_else(|| env("EVERSTATE_CONFIG").map(PathBuf::from)) {
        Some(named) => Some(here.join(named)),
        None => here.ancestors().map(|it| it.join(FILE)).find(|it| it.is_file()),
    };
    let file = match &path {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|err| {
                let text = format!("cannot read the configuration {}: {err}", path.display());
                ApiError::new(&codes::CONFIG_NOT_FOUND, text)
            })?;
            file::read(&text, path)?
        }
        None => File::default(),
    };
    let dir = path.as_deref().and_then(Path::parent).unwrap_or(here).to_path_buf();
    let pick = Pick { env, path: path.as_deref() };
    let server = &file.server;
    let listen =
        pick.text("--listen", flags.listen.clone(), "EVERSTATE_LISTEN", &server.listen, LISTEN);
    let store = pick.text("--store", flags.store.clone(), "EVERSTATE_STORE", &server.store, STORE);
    let blobs = pick.maybe("--blobs", flags.blobs.clone(), "EVERSTATE_BLOBS", &server.blobs);
    let keys = pick.maybe("--keys", flags.keys.clone(), "EVERSTATE_KEYS", &server.keys);
    let node = nodes::load(&pick, flags, server)?;
    let body_max_bytes =
        pick.number("EVERSTATE_BODY_MAX_BYTES", server.body_max_bytes, BODY_MAX_BYTES)?;
    let admin_key = match env("EVERSTATE_ADMIN_KEY").filter(|it| !it.is_empty()) {
        Some(key) if key.len() < ADMIN_KEY_CHARS_MIN => {
            return Err(ApiError::new(
                &codes::CONFIG_INVALID,
                format!("EVERSTATE_ADMIN_KEY is shorter than {ADMIN_KEY_CHARS_MIN} characters"),
            )
            .why("whoever guesses it may read and do everything")
            .attempt("export EVERSTATE_ADMIN_KEY=$(openssl rand -hex 20)"));
        }
        Some(key) => {
            Set { value: Some(SecretString::from(key)), origin: Origin::Env("EVERSTATE_ADMIN_KEY") }
        }
        None => Set { value: None, origin: Origin::Default },
    };
    let telemetry = telemetry::load(&pick, &file.telemetry)?;
    let here = here.to_path_buf();
    let settings = Settings {
        listen,
        store,
        blobs,
        keys,
        node,
        body_max_bytes,
        admin_key,
        telemetry,
        file,
        path,
        dir,
        here,
    };
    settings.check()?;
    Ok(settings)
}

const ADMIN_KEY_CHARS_MIN: usize = 8;

struct Pick<'a> {
    env: Env<'a>,
    path: Option<&'a Path>,
}

impl Pick<'_> {
    fn text(
        &self,
        flag_name: &'static str,
        flag: Option<String>,
        env_name: &'static str,
        file: &Option<String>,
        default: &str,
    ) -> Set<String> {
        let Set { value, origin } = self.maybe(flag_name, flag, env_name, file);
        Set { value: value.unwrap_or_else(|| default.to_owned()), origin }
    }

    /// What has no default that could be written down.
    fn maybe(
        &self,
        flag_name: &'static str,
        flag: Option<String>,
        env_name: &'static str,
        file: &Option<String>,
    ) -> Set<Option<String>> {
        if let Some(value) = flag {
            return Set { value: Some(value), origin: Origin::Flag(flag_name) };
        }
        if let Some(value) = (self.env)(env_name).filter(|it| !it.is_empty()) {
            return Set { value: Some(value), origin: Origin::Env(env_name) };
        }
        match file {
            Some(value) => Set { value: Some(value.clone()), origin: self.file() },
            None => Set { value: None, origin: Origin::Default },
        }
    }

    fn number(&self, env_name: &'static str, file: Option<u64>, default: u64) -> Result<Set<u64>> {
        if let Some(text) = (self.env)(env_name).filter(|it| !it.is_empty()) {
            let value = text.parse().map_err(|_| {
                ApiError::new(&codes::CONFIG_INVALID, format!("{env_name} is no whole number"))
            })?;
            return Ok(Set { value, origin: Origin::Env(env_name) });
        }
        Ok(match file {
            Some(value) => Set { value, origin: self.file() },
            None => Set { value: default, origin: Origin::Default },
        })
    }

    fn file(&self) -> Origin {
        self.path.map_or(Origin::Default, |it| Origin::File(it.to_path_buf()))
    }
}

impl Settings {
    pub fn limits(&self) -> Limits {
        self.file.limits.over(&Limits::default())
    }

    /// What projects may spend.
    pub fn budgets(&self) -> everstate_runtime::ledger::Limits {
        projects::limits(&self.file.projects)
    }

    pub fn constraints(&self) -> Constraints {
        self.file.policy.constraints()
    }

    /// What can only be told from the whole.
    fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(ApiError::new(&codes::CONFIG_INVALID, text));
        let mut ids = std::collections::BTreeSet::new();
        for offer in &self.file.offers {
            let known = self.file.providers.contains_key(&offer.provider)
                || offer.provider == REHEARSAL
                || offer.provider == OPENAI;
            if !known {
                return invalid(format!(
                    "the offer of `{}` names the provider `{}`, and there is no [providers.{}]",
                    offer.model, offer.provider, offer.provider
                ));
            }
            if !ids.insert(offer.id()) {
                return invalid(format!("two offers are both `{}`", offer.id()));
            }
        }
        for name in self.file.projects.keys().filter(|it| *it != projects::EVERY) {
            if let Err(err) = project_name(name) {
                return invalid(format!("[projects.{name}]: {err}"));
            }
        }
        for (name, project) in &self.file.projects {
            if let Some(key) = project.limits.and_then(|it| it.mistake()) {
                return invalid(format!(
                    "[projects.{name}.limits]: `{key}` is at least 1; leave it out for no limit"
                ));
            }
        }
        let urls = [
            ("store", "EVERSTATE_STORE", Some(&self.store.value), &self.store.origin),
            ("keys", "EVERSTATE_KEYS", self.keys.value.as_ref(), &self.keys.origin),
        ];
        for (key, variable, url, origin) in urls {
            let in_file = matches!(origin, Origin::File(_));
            if in_file && url.is_some_and(|it| nodes::has_password(it)) {
                let text = format!(
                    "server.{key} holds a password, which does not belong into a configuration file"
                );
                return Err(ApiError::new(&codes::LITERAL_SECRET, text)
                    .why("configuration is copied and shown, secrets must not be")
                    .attempt(format!("export {variable}=postgres://...")));
            }
        }
        if self.body_max_bytes.value == 0 {
            return invalid("server.body_max_bytes is 0: nothing could be said".to_owned());
        }
        Ok(())
    }

    /// Every value with its origin. Secrets are references, and the admin key is only said to be there.
    pub fn shown(&self) -> Vec<Shown> {
        let mut rows = vec![
            Shown::new("server.listen", json!(self.listen.value), &self.listen.origin),
            Shown::new("server.store", json!(self.store_shown()), &self.store.origin),
            Shown::new("server.keys", json!(self.keys_shown()), &self.keys.origin),
            Shown::new("server.blobs", json!(self.blobs.value), &self.blobs.origin),
            Shown::new(
                "server.body_max_bytes",
                json!(self.body_max_bytes.value),
                &self.body_max_bytes.origin,
            ),
            Shown::new(
                "admin_key",
                json!(self.admin_key.value.as_ref().map(|_| "(set)")),
                &self.admin_key.origin,
            ),
        ];
        rows.extend(self.node.shown());
        let file = self.path.clone().map_or(Origin::Default, Origin::File);
        if let Some(traces) = &self.telemetry {
            rows.extend(traces.shown(&file));
        }
        let tree = serde_json::to_value(&self.file).unwrap_or_default();
        let said = |section: &str| tree.get(section).filter(|it| !is_empty(it)).cloned();
        for section in ["providers", "offers", "tools", "projects", "policy"] {
            if let Some(value) = said(section) {
                flatten(section, &value, &file, &mut rows);
            }
        }
        let limits = serde_json::to_value(self.limits()).unwrap_or_default();
        for (name, value) in limits.as_object().into_iter().flatten() {
            let in_file = tree.pointer(&format!("/limits/{name}")).is_some_and(|it| !it.is_null());
            let origin = if in_file { &file } else { &Origin::Default };
            rows.push(Shown::new(&format!("limits.{name}"), value.clone(), origin));
        }
        rows
    }
}

/// The provider that always exists.
pub const REHEARSAL: &str = "rehearsal";
/// The provider found by `OPENAI_API_KEY`.
pub const OPENAI: &str = "openai";

/// One value of the configuration, as `config show` tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

impl Shown {
    fn new(key: &str, value: Value, origin: &Origin) -> Shown {
        Shown { key: key.to_owned(), value, origin: origin.clone() }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn flatten(key: &str, value: &Value, origin: &Origin, rows: &mut Vec<Shown>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                flatten(&format!("{key}.{name}"), value, origin, rows);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (place, value) in list.iter().enumerate() {
                flatten(&format!("{key}[{place}]"), value, origin, rows);
            }
        }
        plain => rows.push(Shown::new(key, plain.clone(), origin)),
    }
}

#[cfg(test)]
mod tests;
