//! What may be a name: of a document, of an input that was taken, of something that was posted. Alike in all stores,
//! though some could keep more: what has such a name is nowhere, and nothing is written under it.

use everstate_runtime::ports::Down;

/// Bytes. A row of an index of PostgreSQL has room for several of them.
const NAME_MAX: usize = 512;

pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && !text.contains('\0')
}

/// Before anything is sent: one that a database refuses would take along what is written beside it.
pub(crate) fn refuse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), Down> {
    match names.into_iter().find(|it| !is_name(it)) {
        None => Ok(()),
        Some(name) => Err(Down(format!(
            "not a name: {} bytes{}; a name has at most {NAME_MAX} and no NUL among them",
            name.len(),
            if name.contains('\0') { " with a NUL" } else { "" },
        ))),
    }
}
