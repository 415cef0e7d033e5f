//! What both directions of the Responses dialect know about its objects.

use everstate_kernel::item::Sealed;
use everstate_kernel::json::Json;

use crate::json::{Fields, Obj, is_null, tagged};
use crate::responses::NAME;

/// Fields of items that have a place of their own in the kernel's items, or none for good.
const KNOWN: &[&str] = &[
    "id",
    "type",
    "status",
    "role",
    "content",
    "summary",
    "encrypted_content",
    "name",
    "arguments",
    "call_id",
    "output",
];

/// An item's fields that we do not understand, under the dialect's name: they mean nothing to another.
pub(crate) fn item_extra(item: &Fields) -> Option<Json> {
    let mut extra = Obj::new();
    let mut any = false;
    for (name, json) in item.iter().filter(|(name, json)| !KNOWN.contains(name) && !is_null(json)) {
        extra.raw(name, json.text());
        any = true;
    }
    any.then(|| tagged(NAME, &extra.json()))
}

/// Sealed reasoning as a client sees it: who can read it goes along, so that it finds its way back.
/// `es1.` + length of the domain + `.` + domain + content.
pub(crate) fn seal(sealed: &Sealed) -> String {
    format!("es1.{}.{}{}", sealed.domain.len(), sealed.domain, sealed.content)
}

/// Reads what [`seal`] wrote. What came from elsewhere is kept, readable by nobody we know.
pub(crate) fn unseal(text: &str) -> Sealed {
    let parsed = || {
        let (length, rest) = text.strip_prefix("es1.")?.split_once('.')?;
        let length: usize = length.parse().ok()?;
        Some((rest.get(..length)?, rest.get(length..)?))
    };
    match parsed() {
        Some((domain, content)) => {
            Sealed { domain: domain.to_owned(), content: content.to_owned() }
        }
        None => Sealed { domain: UNKNOWN_DOMAIN.to_owned(), content: text.to_owned() },
    }
}

/// The domain of sealed reasoning that a client brought along from elsewhere. No offer has it.
pub(crate) const UNKNOWN_DOMAIN: &str = "unknown";
