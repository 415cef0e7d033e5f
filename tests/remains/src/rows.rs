//! Rows of SQLite's files as SQLite itself reads them: a long one lies in several pages, in any order.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::files::Piece;

/// So often a file is copied anew that was written to meanwhile.
const TRIES: usize = 20;

pub(crate) fn read(folder: &Path) -> Vec<Piece> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(read(&path));
        } else if path.extension().is_some_and(|it| it == "db") {
            let rows = (0..TRIES).find_map(|_| rows_of(&path).ok());
            found.extend(rows.expect("a database of ours can be read"));
        }
    }
    found
}

/// Read from a copy: nothing is locked, and nothing is changed by looking.
fn rows_of(path: &Path) -> rusqlite::Result<Vec<Piece>> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let copy = folder.path().join("copy.db");
    let beside = |path: &Path, suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    for suffix in ["", "-wal", "-journal"] {
        // Most files have only some of these.
        let _ = fs::copy(beside(path, suffix), beside(&copy, suffix));
    }
    let db = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table'")?;
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut pieces = Vec::new();
    for table in tables {
        let mut rows = db.prepare(&format!("SELECT * FROM \"{table}\""))?;
        let n_columns = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let mut bytes = Vec::new();
            for n in 0..n_columns {
                match row.get_ref(n)? {
                    ValueRef::Null | ValueRef::Real(_) => {}
                    ValueRef::Integer(it) => bytes.extend_from_slice(&it.to_be_bytes()),
                    ValueRef::Text(it) | ValueRef::Blob(it) => bytes.extend_from_slice(it),
                }
            }
            let name = format!("{} table {table}", path.display());
            pieces.push(Piece { name, bytes, in_pages: false });
        }
    }
    Ok(pieces)
}
