//! Where data may go. Constraints only ever add up: the tighter of two is both.

use serde::{Deserialize, Serialize};

use crate::offer::{Offer, Scope};

/// All must hold. Those recorded with a turn and those in force today are joined at each placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Require>,
    /// Counts the changes of the document these came from.
    #[serde(default)]
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Only these providers.
    Providers(Vec<String>),
    /// Never this provider.
    NotProvider(String),
    /// Processed in one of these geographies or regions. A global offer never is.
    Within(Vec<String>),
    /// The fact must be known to hold; unknown fails.
    Fact(String),
    /// The fact must be known not to hold; unknown fails.
    NoFact(String),
}

impl Constraints {
    /// The tighter of both.
    pub fn and(&self, other: &Constraints) -> Constraints {
        let mut require = self.require.clone();
        require.extend(other.require.iter().cloned());
        require.sort();
        require.dedup();
        Constraints { require, revision: self.revision.max(other.revision) }
    }

    /// The first requirement the offer does not meet.
    pub fn forbid<'a>(&'a self, offer: &Offer) -> Option<&'a Require> {
        self.require.iter().find(|it| !it.allows(offer))
    }
}

impl Require {
    pub fn allows(&self, offer: &Offer) -> bool {
        match self {
            Require::Providers(names) => names.contains(&offer.provider),
            Require::NotProvider(name) => offer.provider != *name,
            Require::Within(places) => match &offer.scope {
                Scope::Global => false,
                Scope::Geo(geo) => places.contains(geo),
                // `eu` covers `eu-central-1`.
                Scope::Region(region) => places.iter().any(|it| {
                    region == it
                        || region
                            .strip_prefix(it.as_str())
                            .is_some_and(|rest| rest.starts_with('-'))
                }),
            },
            Require::Fact(fact) => offer.facts.get(fact) == Some(&true),
            Require::NoFact(fact) => offer.facts.get(fact) == Some(&false),
        }
    }
}
