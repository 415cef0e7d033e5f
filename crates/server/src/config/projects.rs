//! `[projects.NAME]`: what holds for one project. `[projects."*"]` is for every project that says nothing itself.

use std::collections::BTreeMap;
use std::fmt;

use everstate_kernel::money::Micros;
use everstate_kernel::slice::{Limit, Per};
use everstate_runtime::ledger::Limits;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::offers::Dollars;
use super::retention::RetentionConfig;
use crate::limits::Rates;

/// The name that stands for all others.
pub const EVERY: &str = "*";

pub type Projects = BTreeMap<String, ProjectConfig>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectConfig {
    /// What its sessions may spend on models.
    pub money: Option<MoneyConfig>,
    /// How much each of its keys may ask for.
    pub limits: Option<Rates>,
    /// How long what it leaves is kept.
    pub retention: RetentionConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoneyConfig {
    pub usd: Usd,
    /// Days and months begin at midnight UTC; a total never begins anew.
    pub per: Per,
}

/// US dollars, kept in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usd(pub Micros);

pub fn limits(projects: &Projects) -> Limits {
    let limit =
        |it: &ProjectConfig| it.money.as_ref().map(|it| Limit { amount: it.usd.0, per: it.per });
    let own = projects.iter().filter(|(name, _)| *name != EVERY);
    let own = own.filter_map(|(name, it)| Some((name.clone(), limit(it)?)));
    Limits { own: own.collect(), every: projects.get(EVERY).and_then(limit) }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Dollars(self.0).fmt(f)
    }
}

impl Serialize for Usd {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Usd, D::Error> {
        let text = match toml::Value::deserialize(from)? {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            _ => return Err(D::Error::custom("US dollars stand in quotes: \"50.00\"")),
        };
        // The same digits: a millionth of a dollar is the unit of both.
        let read = Dollars::parse(&text).map(|it| Usd(it.0));
        read.ok_or_else(|| {
            D::Error::custom(format!("`{text}` is no US dollars: at most six decimal places"))
        })
    }
}
