//! What becomes of an operation and of a field, in words that a test can hold against the server.

use super::sdk::{Field, Sdk};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// We act on it.
    Works,
    /// Accepted and without effect; the remark says why.
    Ignored,
    /// Kept, and given to a provider that speaks this API.
    Passed,
    /// Needs an offer whose provider runs it; refused by name where there is none.
    Provider,
    /// Refused by name.
    Refused,
    /// What it asks about is never there: `not_found`.
    Nothing,
    /// Not served by this release: `not_available_yet`.
    Later,
    /// There is no such address.
    Unknown,
}

impl Fate {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Fate::Works => "works",
            Fate::Ignored => "accepted, without effect",
            Fate::Passed => "passed on",
            Fate::Provider => "passed on, or refused",
            Fate::Refused => "refused",
            Fate::Nothing => "there are none",
            Fate::Later => "not available yet",
            Fate::Unknown => "not known here",
        }
    }
}

/// An operation, or all whose names begin so where it ends in `*`.
pub(crate) struct Op {
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
    pub(crate) about: &'static str,
    /// The fields; one that is not listed is told with what it is in. The longest name counts.
    pub(crate) fields: &'static [Told],
}

pub(crate) struct Told {
    /// `input[*]` is told of every kind of item of which nothing else is.
    pub(crate) name: &'static str,
    pub(crate) fate: Fate,
    pub(crate) about: &'static str,
}

pub(crate) const fn field(name: &'static str, fate: Fate, about: &'static str) -> Told {
    Told { name, fate, about }
}

impl Told {
    fn covers(&self, text: &str) -> bool {
        if let Some(object) = self.name.strip_suffix("[*]") {
            return text.strip_prefix(object).is_some_and(|it| it.starts_with('['));
        }
        let rest = text.strip_prefix(self.name);
        rest.is_some_and(|it| it.is_empty() || it.starts_with(['.', '[']))
    }
}

impl Op {
    pub(crate) fn covers(&self, operation: &str) -> bool {
        match self.name.strip_suffix('*') {
            // Of every method.
            Some(path) => operation
                .split_once(' ')
                .is_some_and(|(_, it)| it == path.trim_end_matches('/') || it.starts_with(path)),
            None => operation == self.name,
        }
    }

    pub(crate) fn told(&self, field: &Field) -> Option<&Told> {
        let covering = self.fields.iter().filter(|it| it.covers(&field.text));
        covering.max_by_key(|it| it.name.len())
    }

    /// Fields of the SDK that nobody has said anything about, and what is told of fields that are none.
    pub(crate) fn gaps(&self, sdk: &Sdk) -> Vec<String> {
        let mut gaps = Vec::new();
        let Some(operation) = sdk.operations.iter().find(|it| it.name == self.name) else {
            return gaps;
        };
        let fields = sdk.fields(operation);
        for field in fields.iter().filter(|it| self.told(it).is_none()) {
            gaps.push(format!("{}: nothing is told of `{}`", self.name, field.text));
        }
        for told in self.fields.iter().filter(|it| !it.about.starts_with(OURS)) {
            let is_used =
                fields.iter().any(|it| self.told(it).is_some_and(|it| it.name == told.name));
            if !is_used {
                gaps.push(format!("{}: the SDK has no `{}`", self.name, told.name));
            }
        }
        gaps
    }
}

/// How a remark begins about what the original does not have.
pub(crate) const OURS: &str = "ours: ";
