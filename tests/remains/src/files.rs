//! Every file, as bytes that belong together.

use std::fs;
use std::path::Path;

/// Bytes, and where they are from.
pub(crate) struct Piece {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// Bodies in it are no longer than a page: what follows is something else.
    pub(crate) in_pages: bool,
}

/// All files below a folder. What goes while we look was on its way already.
pub(crate) fn read(folder: &Path) -> Vec<Piece> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(read(&path));
            continue;
        }
        let Ok(bytes) = fs::read(&path) else { continue };
        let name = path.display().to_string();
        // A record of PostgreSQL's log may go on on the next page, behind that page's header.
        let is_log = path.parent().is_some_and(|it| it.ends_with("pg_wal"));
        let bytes = if is_log { without_headers(&bytes) } else { bytes };
        let in_pages = is_log || is_database(&path);
        found.push(Piece { name, bytes, in_pages });
    }
    found
}

/// By SQLite's names, and by where PostgreSQL keeps tables.
fn is_database(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains(".db") || path.components().any(|it| it.as_os_str() == "base")
}

const LOG_PAGE: usize = 8192;
/// Of the first page of a file, and of the others.
const LOG_HEADERS: [usize; 2] = [40, 24];

fn without_headers(log: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(log.len());
    for (n, page) in log.chunks(LOG_PAGE).enumerate() {
        bytes.extend_from_slice(page.get(LOG_HEADERS[n.min(1)]..).unwrap_or_default());
    }
    bytes
}

/// All the places where `needle` stands.
pub(crate) fn places<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = needle[0];
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let at = from + bytes.get(from..)?.iter().position(|it| *it == first)?;
            from = at + 1;
            if bytes[at..].starts_with(needle) {
                return Some(at);
            }
        }
    })
}
