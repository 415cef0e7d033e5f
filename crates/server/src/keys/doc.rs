//! A key as the registry keeps it, under the hash of its text.

use everstate_kernel::ids::Millis;
use serde::{Deserialize, Serialize};

use crate::keys::scope::{Scopes, role};
use crate::limits::Rates;

/// Documents of the first release say no more than project, name, `admin` and a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyDoc {
    pub project: String,
    pub name: String,
    #[serde(default)]
    pub admin: bool,
    pub created_at: Millis,
    /// Stays when the text changes; without one, the key goes by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Millis>,
    /// The key has another text, and this one is good until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_until: Option<Millis>,
    /// The last letters of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What it says of its limits; the rest is its project's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Rates>,
}

/// May a text be used?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Until then, if it ends.
    Good(Option<Millis>),
    Expired(Millis),
    Revoked(Millis),
    Replaced(Millis),
}

impl KeyDoc {
    /// Words of a later release give nothing here.
    pub(crate) fn scopes(&self) -> Scopes {
        match (&self.scopes, self.admin) {
            (Some(words), _) => words
                .iter()
                .filter_map(|it| Scopes::read([it.as_str()]).ok())
                .fold(Scopes::default(), |all, it| Scopes::of([all.list(), it.list()].concat())),
            (None, true) => Scopes::all(),
            (None, false) => role("member").map(|it| (it.scopes)()).unwrap_or_default(),
        }
    }

    pub(crate) fn standing(&self, now: Millis) -> Standing {
        let over = |at: Option<Millis>| at.filter(|at| *at <= now);
        if let Some(at) = self.revoked_at {
            return Standing::Revoked(at);
        }
        if let Some(at) = over(self.replaced_until) {
            return Standing::Replaced(at);
        }
        if let Some(at) = over(self.expires_at) {
            return Standing::Expired(at);
        }
        Standing::Good(self.expires_at.into_iter().chain(self.replaced_until).min())
    }
}

/// `30d`, `12h`, `15m` or `90s`, in milliseconds.
pub(crate) fn span(text: &str) -> Option<Millis> {
    let unit = match text.chars().last()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let number: Millis = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(unit).filter(|it| *it <= SPAN_MAX)
}

/// A hundred years.
const SPAN_MAX: Millis = 36_525 * 86_400_000;
