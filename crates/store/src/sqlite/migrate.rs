//! Schemas and their versions. A file of a later release is refused before anything touches it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::digest;
use rusqlite::Connection;

use crate::open::OpenError;
use crate::sqlite::statements as sql;

/// A kind of file, and the steps that lead to its newest schema.
#[derive(Debug)]
pub(crate) struct Schema {
    what: &'static str,
    /// Marks the file as ours.
    application_id: u32,
    /// The n-th step, from 1, leads to version n. A step that was released is never changed.
    steps: &'static [&'static str],
    /// What is added where it is missing, and an earlier release does not mind: whoever goes back to that can.
    additions: &'static str,
}

pub(crate) static STATE: Schema = Schema {
    what: "state",
    application_id: 0x4576_5374,
    steps: &[include_str!("schema/state_0001.sql"), include_str!("schema/state_0002.sql")],
    additions: include_str!("schema/state_under_way.sql"),
};

pub(crate) static KEYS: Schema = Schema {
    what: "key",
    application_id: 0x4576_4b65,
    steps: &[include_str!("schema/keys_0001.sql")],
    additions: "",
};

impl Schema {
    pub(crate) fn version(&self) -> u32 {
        u32::try_from(self.steps.len()).expect("a handful of steps")
    }
}

/// Refuses what is not ours, or is newer than we are, by the first bytes of the file alone.
pub(crate) fn refuse_foreign(path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(100).read_to_end(&mut head)) {
        Ok(0) => return Ok(()),
        Ok(_) => {}
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(OpenError::Down(format!("cannot read {}: {err}", path.display()))),
    }
    let number = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|it| it.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    let (version, application_id) = (number(60), number(68));
    // A file that was made and cut off before its first schema was written carries no marks yet.
    let is_ours = application_id == schema.application_id || (application_id, version) == (0, 0);
    if !head.starts_with(b"SQLite format 3\0") || !is_ours {
        let (path, what) = (path.display(), schema.what);
        return Err(OpenError::Foreign(format!("{path} is no {what} file of Everstate")));
    }
    newer(path, schema, version)
}

fn newer(path: &Path, schema: &Schema, found: u32) -> Result<(), OpenError> {
    match found > schema.version() {
        true => Err(OpenError::Newer { path: path.to_owned(), found, known: schema.version() }),
        false => Ok(()),
    }
}

/// Files hold sealed contents and wrapped keys; still nobody else has to read them. Its name is flushed too: SQLite
/// flushes only what is inside.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(err),
        Ok(_) => flush_name(path),
    }
}

/// A folder and all that lead to it, with their names flushed.
pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_folder)?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(err) => Err(err),
        Ok(()) => flush_name(path),
    }
}

fn flush_name(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Brings a file to the newest schema, each step in a transaction of its own.
pub(crate) fn migrate(db: &mut Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let failed = |err: rusqlite::Error| {
        OpenError::Down(format!("cannot bring {} up to date: {err}", path.display()))
    };
    let found: u32 = db.pragma_query_value(None, "user_version", |it| it.get(0)).map_err(failed)?;
    newer(path, schema, found)?;
    if found > 0 {
        let mut done = db.prepare(sql::MIGRATIONS).map_err(failed)?;
        let done = done.query_map([], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?)));
        for step in done.map_err(failed)? {
            let (version, checksum) = step.map_err(failed)?;
            let text = version.checked_sub(1).and_then(|it| schema.steps.get(it as usize));
            if text.is_none_or(|it| checksum_of(it) != checksum) {
                let why = format!("step {version} of its schema is not the one we know");
                return Err(OpenError::Foreign(format!("{}: {why}", path.display())));
            }
        }
    }
    for (version, step) in (1u32..).zip(schema.steps).skip(found as usize) {
        let tx = db.transaction().map_err(failed)?;
        tx.execute_batch(sql::CREATE_MIGRATION).map_err(failed)?;
        tx.execute_batch(step).map_err(failed)?;
        tx.execute(sql::INSERT_MIGRATION, (version, checksum_of(step))).map_err(failed)?;
        tx.pragma_update(None, "application_id", schema.application_id).map_err(failed)?;
        tx.pragma_update(None, "user_version", version).map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    db.execute_batch(schema.additions).map_err(failed)
}

fn checksum_of(step: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, step.as_bytes()).as_ref().to_vec()
}

#[cfg(test)]
mod tests;
