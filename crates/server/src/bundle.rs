//! The form in which a session travels: `docs/bundles.md` says it field by field.
//!
//! Two layers. A *case* is a short head and numbered chunks, sealed to a recipient or plain ([`case`], [`seal`]). What
//! the chunks hold, put together, is a row of *records* ([`record`]). What is exported and what becomes of it is left
//! to the door.

pub mod seal;
pub mod case;
pub mod record;
pub(crate) mod intake;

use crate::error::{ApiError, codes};

/// The version this release writes, and the newest it reads.
pub const VERSION: u32 = 1;

/// A bundle's first line, without its version.
pub(crate) const MAGIC: &str = "everstate bundle ";

/// No bundle is larger: bytes of the file.
pub const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What is wrong with a bundle, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It ends before its end.
    Cut,
    /// Something in it is not as it was written.
    Damaged(String),
    /// Written by a later release: what this one does not know.
    Newer(String),
    /// Sealed to somebody else: this recipient.
    SealedTo(String),
    /// Larger than bundles may be.
    TooLarge(String),
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bad::Cut => f.write_str("the bundle is cut: it ends before its end"),
            Bad::Damaged(why) => write!(f, "the bundle is damaged: {why}"),
            Bad::Newer(what) => {
                write!(
                    f,
                    "the bundle was written by a later release: {what}; this one reads version {VERSION}"
                )
            }
            Bad::SealedTo(recipient) => write!(f, "the bundle is sealed to {recipient}"),
            Bad::TooLarge(what) => write!(f, "the bundle is too large: {what}"),
        }
    }
}

impl std::error::Error for Bad {}

impl From<Bad> for ApiError {
    fn from(bad: Bad) -> ApiError {
        let code = match &bad {
            Bad::Cut | Bad::Damaged(_) => &codes::BUNDLE_DAMAGED,
            Bad::Newer(_) => &codes::BUNDLE_NEWER,
            Bad::SealedTo(_) => &codes::BUNDLE_SEALED,
            Bad::TooLarge(_) => &codes::BODY_TOO_LARGE,
        };
        let err = ApiError::new(code, bad.to_string());
        match bad {
            Bad::SealedTo(_) => err.attempt("everstate session import FILE --identity FILE"),
            Bad::Cut | Bad::Damaged(_) | Bad::Newer(_) | Bad::TooLarge(_) => err,
        }
    }
}

#[cfg(test)]
mod tests;
