//! Runs the tools of the server's side. It knows nothing of sessions or models, only how to do one call.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use everstate_kernel::item::{Outcome, Part};
use everstate_kernel::tool::Tool;
use everstate_runtime::ports::{ToolReturn, ToolRun, Tools};
use everstate_runtime::secret::{SecretMissing, SecretRef};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::address::Reach;
use crate::fetch::Fetch;

pub mod address;
pub mod fetch;
mod schema;
pub mod http;

/// The label under which clients find the tools of our own configuration.
pub const LABEL: &str = "everstate";

/// A kind of tool, as a `[[tools]]` section names it.
#[derive(Debug)]
pub struct ToolKind {
    pub name: &'static str,
    pub about: &'static str,
    build: Build,
}

type Build = fn(Map<String, Value>, &mut Supplies<'_>) -> Result<Box<dyn Hand>, String>;

/// All there are. A section without a `kind` is of the first.
pub const TOOL_KINDS: &[ToolKind] =
    &[ToolKind { name: "http", about: "one HTTP request", build: http::build }];

/// What a kind of tool is made into.
#[async_trait]
pub(crate) trait Hand: Send + Sync + fmt::Debug {
    /// As a turn knows it.
    fn declared(&self) -> Tool;
    async fn run(&self, run: &ToolRun) -> ToolReturn;
}

/// How a reference becomes a secret; usually [`SecretRef::resolve`].
pub type Resolve<'a> = &'a dyn Fn(&SecretRef) -> Result<SecretString, SecretMissing>;

/// What a tool needs when it is made.
pub(crate) struct Supplies<'a> {
    pub(crate) resolve: Resolve<'a>,
    outside: Option<Fetch>,
    inside: Option<Fetch>,
}

impl Supplies<'_> {
    /// The fetch of this reach; made once, and only if a tool needs it.
    pub(crate) fn fetch(&mut self, reach: Reach) -> Result<Fetch, String> {
        let made = match reach {
            Reach::Outside => &mut self.outside,
            Reach::Inside => &mut self.inside,
        };
        if made.is_none() {
            *made = Some(Fetch::new(reach).map_err(|error| error.to_string())?);
        }
        Ok(made.clone().expect("it was just made"))
    }
}

/// A `[[tools]]` section as it was read; its kind knows its fields. Holds references to secrets, never secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolConfig(pub Map<String, Value>);

/// The tools of one configuration.
#[derive(Debug, Default)]
pub struct Toolbox(BTreeMap<String, Box<dyn Hand>>);

impl Toolbox {
    /// Checks every section, and reads its secrets.
    pub fn from_config(
        sections: Vec<ToolConfig>,
        resolve: Resolve<'_>,
    ) -> Result<Toolbox, ToolConfigError> {
        let mut supplies = Supplies { resolve, outside: None, inside: None };
        let mut hands = BTreeMap::new();
        for (n, ToolConfig(mut section)) in sections.into_iter().enumerate() {
            let name = section.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let wrong = |what: String| ToolConfigError { n: n + 1, name: name.clone(), what };
            if !is_name(&name) {
                let what = "a tool needs a name of 1 to 64 letters, digits, `_` and `-`";
                return Err(wrong(what.to_owned()));
            }
            let kind = kind_of(&mut section).map_err(wrong)?;
            let hand = (kind.build)(section, &mut supplies).map_err(wrong)?;
            if hands.insert(name.clone(), hand).is_some() {
                return Err(wrong("another tool has this name".to_owned()));
            }
        }
        Ok(Toolbox(hands))
    }

    /// The tools as a turn knows them, by name.
    pub fn declared(&self) -> Vec<Tool> {
        self.0.values().map(|it| it.declared()).collect()
    }
}

#[async_trait]
impl Tools for Toolbox {
    async fn run(&self, run: ToolRun) -> ToolReturn {
        match self.0.get(&run.name) {
            Some(hand) => hand.run(&run).await,
            None => {
                let text = format!("Nothing was sent: there is no tool `{}` here.", run.name);
                ToolReturn { outcome: Outcome::Failed, output: vec![Part::text(text)] }
            }
        }
    }
}

fn kind_of(section: &mut Map<String, Value>) -> Result<&'static ToolKind, String> {
    let Some(kind) = section.remove("kind") else { return Ok(&TOOL_KINDS[0]) };
    let found = TOOL_KINDS.iter().find(|it| kind == it.name);
    found.ok_or_else(|| {
        let known = TOOL_KINDS.iter().map(|it| it.name).collect::<Vec<_>>().join(", ");
        format!("there is no kind of tool {kind}; there are: {known}")
    })
}

fn is_name(name: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '-');
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}

/// A `[[tools]]` section that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolConfigError {
    /// Which of the sections, from 1.
    pub n: usize,
    /// May be empty.
    pub name: String,
    pub what: String,
}

impl fmt::Display for ToolConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tool {} (`{}`) cannot be used: {}", self.n, self.name, self.what)
    }
}

impl std::error::Error for ToolConfigError {}
