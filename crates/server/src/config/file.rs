//! The file itself: its sections, and mistakes told with the line they are in. An unknown key is a mistake, and
//! a line is never shown beyond its key, because what follows may be a secret.

use std::collections::BTreeMap;
use std::path::Path;

use everstate_kernel::agent::Limits;
use everstate_kernel::policy::{Constraints, Require};
use everstate_providers::config::ProviderConfig;
use everstate_runtime::secret::BadSecretRef;
use everstate_tools::ToolConfig;
use serde::{Deserialize, Serialize};

use super::offers::OfferConfig;
use super::projects::Projects;
use super::telemetry::TelemetryConfig;
use crate::error::{ApiError, Result, codes};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    pub server: ServerConfig,
    pub providers: BTreeMap<String, ProviderConfig>,
    pub offers: Vec<OfferConfig>,
    pub tools: Vec<ToolConfig>,
    pub limits: LimitsConfig,
    pub projects: Projects,
    pub policy: PolicyConfig,
    pub telemetry: TelemetryConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    pub listen: Option<String>,
    pub store: Option<String>,
    /// Where big bodies live: a folder, or `s3://BUCKET/PREFIX`.
    pub blobs: Option<String>,
    pub body_max_bytes: Option<u64>,
    /// Where the key that wraps all data keys is: `env:NAME`, `file:PATH` or `command:COMMAND`.
    pub master_key: Option<String>,
    /// Where the data keys are, if not with the state: `postgres://...`.
    pub keys: Option<String>,
    /// Of many: this node's name, the same after a restart.
    pub node: Option<String>,
    /// Of many: where the others reach this node.
    pub advertise: Option<String>,
    /// Of many, and the same for all: a node that was silent for so long has lost its sessions.
    pub lease_ttl_ms: Option<u64>,
    /// How long a start waits for a database that does not answer.
    pub store_wait_s: Option<u64>,
}

/// Limits of every turn, where they are not the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    pub steps_max: Option<u32>,
    pub attempts_max: Option<u32>,
    pub restarts_max: Option<u32>,
    pub calls_max: Option<u32>,
    pub bytes_max: Option<u64>,
    pub tokens_max: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_max: Option<u64>,
    pub work_ms_max: Option<u64>,
    pub approval_ms_max: Option<u64>,
    pub backoff_ms: Option<u64>,
    pub hedge_after_ms: Option<u64>,
}

impl LimitsConfig {
    pub fn over(&self, base: &Limits) -> Limits {
        Limits {
            steps_max: self.steps_max.unwrap_or(base.steps_max),
            attempts_max: self.attempts_max.unwrap_or(base.attempts_max),
            restarts_max: self.restarts_max.unwrap_or(base.restarts_max),
            calls_max: self.calls_max.unwrap_or(base.calls_max),
            bytes_max: self.bytes_max.unwrap_or(base.bytes_max),
            tokens_max: self.tokens_max.unwrap_or(base.tokens_max),
            cost_max: self.cost_max.or(base.cost_max),
            work_ms_max: self.work_ms_max.unwrap_or(base.work_ms_max),
            approval_ms_max: self.approval_ms_max.unwrap_or(base.approval_ms_max),
            backoff_ms: self.backoff_ms.unwrap_or(base.backoff_ms),
            hedge_after_ms: self.hedge_after_ms.or(base.hedge_after_ms),
        }
    }
}

/// Where data may go. Everything said here has to hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Counts the changes of this section.
    pub revision: u64,
    /// Only these providers.
    pub providers: Vec<String>,
    pub not_providers: Vec<String>,
    /// Processed in one of these geographies or regions.
    pub within: Vec<String>,
    /// Facts that must be known to hold.
    pub facts: Vec<String>,
    /// Facts that must be known not to hold.
    pub no_facts: Vec<String>,
}

impl PolicyConfig {
    pub fn constraints(&self) -> Constraints {
        let mut require = Vec::new();
        if !self.providers.is_empty() {
            require.push(Require::Providers(self.providers.clone()));
        }
        require.extend(self.not_providers.iter().cloned().map(Require::NotProvider));
        if !self.within.is_empty() {
            require.push(Require::Within(self.within.clone()));
        }
        require.extend(self.facts.iter().cloned().map(Require::Fact));
        require.extend(self.no_facts.iter().cloned().map(Require::NoFact));
        Constraints { require, revision: self.revision }
    }
}

/// Reads the whole file, or says what is wrong with it, where, and what was probably meant.
pub fn read(text: &str, path: &Path) -> Result<File> {
    toml::from_str(text).map_err(|err| told(text, path, &err))
}

fn told(text: &str, path: &Path, err: &toml::de::Error) -> ApiError {
    let message = err.message();
    let name = path
        .file_name()
        .map_or_else(|| path.display().to_string(), |it| it.to_string_lossy().into_owned());
    let place = err.span().map(|span| Place::of(text, span.start));
    let at = place.as_ref().map(|it| format!(" (line {})", it.line)).unwrap_or_default();
    if let Some((unknown, known)) = unknown_field(message) {
        let mut error = ApiError::new(
            &codes::UNKNOWN_KEY,
            format!("{name} has a key that does not exist: `{unknown}`{at}; nothing was changed"),
        );
        if let Some(place) = &place {
            error = error.why(place.excerpt(&unknown));
        }
        if let Some(meant) = nearest(&unknown, &known) {
            error = error.why(format!("did you mean `{meant}`?"));
        }
        return error.why(format!("known here: {}", known.join(", ")));
    }
    let code = if message == BadSecretRef::Literal.to_string()
        || message.contains("does not belong into a configuration file")
    {
        &codes::LITERAL_SECRET
    } else {
        &codes::CONFIG_INVALID
    };
    let section = place.map(|it| it.excerpt("")).filter(|it| !it.is_empty());
    let mut error = ApiError::new(code, format!("{name} cannot be used{at}: {message}"));
    if let Some(section) = section {
        error = error.why(section);
    }
    error
}

/// A place in the file, with what may be shown of it: its line's key, and its section.
struct Place {
    line: usize,
    section: Option<String>,
    key: String,
}

impl Place {
    fn of(text: &str, at: usize) -> Place {
        let before = text.get(..at).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let lines: Vec<&str> = text.lines().collect();
        let is_section = |it: &&&str| it.trim_start().starts_with('[');
        let section = lines.iter().take(line).rev().find(is_section).map(|it| it.trim().to_owned());
        let key = lines.get(line - 1).and_then(|it| it.split('=').next()).unwrap_or("").trim_end();
        let key = if key.trim_start().starts_with('[') { "" } else { key };
        Place { line, section, key: key.to_owned() }
    }

    fn excerpt(&self, unknown: &str) -> String {
        let section = self.section.as_deref().unwrap_or("");
        let caret = self
            .key
            .find(unknown)
            .filter(|_| !unknown.is_empty())
            .map(|at| format!("\n{:>4} | {}{}", "", " ".repeat(at), "^".repeat(unknown.len())));
        let key = match self.key.trim() {
            "" => String::new(),
            _ => format!("\n{:>4} | {} = ...{}", self.line, self.key, caret.unwrap_or_default()),
        };
        format!("{section}{key}").trim_start_matches('\n').to_owned()
    }
}

/// Takes apart what serde says about a field it does not know.
fn unknown_field(message: &str) -> Option<(String, Vec<String>)> {
    let at = message.find("unknown field `")?;
    let rest = &message[at + "unknown field `".len()..];
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((unknown.to_owned(), known))
}

/// The known word that differs in the fewest letters, if that is few.
fn nearest<'a>(word: &str, known: &'a [String]) -> Option<&'a String> {
    known
        .iter()
        .map(|it| (distance(word, it), it))
        .filter(|(far, it)| *far <= 1 + it.len() / 4)
        .min_by_key(|(far, _)| *far)
        .map(|(_, it)| it)
}

pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
