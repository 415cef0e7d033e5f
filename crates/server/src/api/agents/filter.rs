//! What lists are narrowed by: metadata, and of vaults and credentials whether they are in use.

use std::collections::{BTreeMap, BTreeSet};

use super::pages::Asked;
use crate::error::{ApiError, Result, codes, shown};

const PAIRS_MAX: usize = 16;
const KEY_CHARS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 512;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// All of them have to fit.
    metadata: BTreeMap<String, String>,
    /// `None`: both.
    statuses: Option<BTreeSet<Status>>,
}

/// Nothing is ever archived: this API has no operation that does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Active,
    Archived,
}

impl Filter {
    pub(super) fn read(asked: &Asked) -> Result<Filter> {
        let mut filter = Filter { metadata: metadata(asked)?, statuses: None };
        for (name, value) in asked {
            if name == "status" || name == "status[]" {
                filter.statuses.get_or_insert_default().insert(status(value)?);
            }
        }
        Ok(filter)
    }

    pub(super) fn takes(&self, metadata: &BTreeMap<String, String>) -> bool {
        self.statuses.as_ref().is_none_or(|it| it.contains(&Status::Active))
            && self.metadata.iter().all(|(key, value)| metadata.get(key) == Some(value))
    }
}

/// The pairs that are asked for as `metadata[key]=value`.
pub(super) fn metadata(asked: &Asked) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for (name, value) in asked {
        if let Some(key) = name.strip_prefix("metadata[") {
            narrow(&mut pairs, key.strip_suffix(']').unwrap_or(key), value)?;
        }
    }
    Ok(pairs)
}

fn narrow(pairs: &mut BTreeMap<String, String>, key: &str, value: &str) -> Result<()> {
    let wrong = |what: String| {
        let param = format!("metadata.{}", shown(key));
        let text = format!("Invalid '{param}': {what}.");
        Err(ApiError::new(&codes::INVALID_VALUE, text).param(param))
    };
    if !(1..=KEY_CHARS_MAX).contains(&key.chars().count()) {
        return wrong(format!("a key has 1 to {KEY_CHARS_MAX} letters"));
    }
    if value.chars().count() > VALUE_CHARS_MAX {
        return wrong(format!("a value has at most {VALUE_CHARS_MAX} letters"));
    }
    let before = pairs.insert(key.to_owned(), value.to_owned());
    if before.is_some_and(|it| it != value) {
        return wrong("it is asked for with two values, and has only one".to_owned());
    }
    if pairs.len() > PAIRS_MAX {
        return wrong(format!("a list is narrowed by at most {PAIRS_MAX} pairs"));
    }
    Ok(())
}

fn status(word: &str) -> Result<Status> {
    match word {
        "active" => Ok(Status::Active),
        "archived" => Ok(Status::Archived),
        other => {
            let text =
                format!("Invalid 'status': it is 'active' or 'archived', not '{}'.", shown(other));
            Err(ApiError::new(&codes::INVALID_VALUE, text).param("status"))
        }
    }
}

#[cfg(test)]
mod tests;
