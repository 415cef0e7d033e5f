//! The kinds of providers there are. Configuration, command line and contract tests read this list.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use everstate_runtime::ports::Model;

use crate::compatible::COMPATIBLE;
use crate::config::ProviderConfig;
use crate::rehearsal::Rehearsal;

/// Providers with ways of their own. Those that only differ by a row are in [`COMPATIBLE`].
pub static PROVIDERS: &[&dyn Kind] = &[&Rehearsal];

/// All kinds.
pub fn all() -> impl Iterator<Item = &'static dyn Kind> {
    COMPATIBLE.iter().map(|row| row as &dyn Kind).chain(PROVIDERS.iter().copied())
}

pub fn find(name: &str) -> Option<&'static dyn Kind> {
    all().find(|it| it.name() == name)
}

/// Makes a configured provider ready for use. `name` is what the configuration calls it.
pub fn open(
    name: &str,
    config: &ProviderConfig,
    around: &Around<'_>,
) -> Result<Opened, BadProvider> {
    let bad = |why: String| BadProvider { name: name.to_owned(), why };
    let kind = find(&config.kind).ok_or_else(|| bad(format!("no such kind: {}", config.kind)))?;
    kind.open(name, &config.settings, around).map_err(bad)
}

/// One kind of provider.
pub trait Kind: Sync {
    /// What `kind = "..."` says.
    fn name(&self) -> &'static str;

    /// One line for menus and reference pages.
    fn about(&self) -> String;

    /// Are these settings right, as far as can be told without looking at anything else?
    fn check(&self, settings: &toml::Table) -> Result<(), String>;

    fn open(
        &self,
        name: &str,
        settings: &toml::Table,
        around: &Around<'_>,
    ) -> Result<Opened, String>;
}

/// What a provider may look at while it is being opened.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Paths in the configuration are relative to this directory: the one the file is in.
    pub dir: &'a Path,
}

impl fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Around").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// A provider ready for use.
#[derive(Clone, Debug)]
pub struct Opened {
    pub model: Arc<dyn Model>,
    /// For its offers that name no dialect.
    pub dialect: &'static str,
    pub credentials: Credentials,
    /// What is true of every offer of it.
    pub facts: BTreeMap<String, bool>,
    /// Where requests go; `None` if they never leave this process.
    pub base_url: Option<String>,
}

/// Whether a provider can be asked at all, in words for people. Never the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    NotNeeded,
    /// Where they come from: `OPENAI_API_KEY in the environment`.
    From(String),
    /// They are not there; what to do about it.
    Missing(String),
}

/// A provider cannot be used as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadProvider {
    pub name: String,
    pub why: String,
}

impl fmt::Display for BadProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[providers.{}]: {}", self.name, self.why)
    }
}

impl std::error::Error for BadProvider {}
