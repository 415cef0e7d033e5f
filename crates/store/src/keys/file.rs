//! The key store on disk: a small database beside the state, with a life and backups of its own.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use everstate_runtime::ports::Down;
use rusqlite::{Connection, OptionalExtension};

use crate::keys::source::KeySource;
use crate::open::{Flush, OpenError};
use crate::seal::{DataKey, random};
use crate::shelf::KeyId;
use crate::sqlite::migrate::{self, KEYS};
use crate::sqlite::statements as sql;

pub(crate) struct KeyFile {
    db: Mutex<Connection>,
    /// Wraps the data keys; itself wrapped by the master key.
    wrapping: DataKey,
    describe: String,
}

impl KeyFile {
    pub(crate) fn open(
        path: &Path,
        source: &KeySource,
        flush: Flush,
    ) -> Result<KeyFile, OpenError> {
        let down = |err: rusqlite::Error| {
            OpenError::Down(format!("cannot open {}: {err}", path.display()))
        };
        let cannot = |err| OpenError::Down(format!("cannot make {}: {err}", path.display()));
        migrate::make_private(path).map_err(cannot)?;
        let mut db = Connection::open(path).map_err(down)?;
        // The journal is cut to nothing after each change, so that no old page keeps a destroyed key.
        db.pragma_update(None, "journal_mode", "TRUNCATE").map_err(down)?;
        db.pragma_update(None, "synchronous", flush.pragma("EXTRA")).map_err(down)?;
        db.pragma_update(None, "secure_delete", true).map_err(down)?;
        db.busy_timeout(std::time::Duration::from_secs(10)).map_err(down)?;
        migrate::migrate(&mut db, path, &KEYS)?;
        let wrapped: Option<Vec<u8>> =
            db.query_row(sql::WRAPPING_KEY, [], |it| it.get(0)).optional().map_err(down)?;
        let key = match wrapped {
            Some(wrapped) => source.unwrap(&wrapped).map_err(OpenError::Key)?,
            None => {
                let key = random();
                let wrapped = source.wrap(&key).map_err(OpenError::Key)?;
                // A service that cannot open what it wrapped is found out before anything is sealed.
                if source.unwrap(&wrapped).map_err(OpenError::Key)? != key {
                    return Err(OpenError::Key(format!(
                        "the {} does not open what it wrapped",
                        source.describe()
                    )));
                }
                db.execute(sql::INSERT_WRAPPING_KEY, [wrapped]).map_err(down)?;
                key
            }
        };
        let describe = format!("{}; data keys in {}", source.describe(), path.display());
        Ok(KeyFile { db: Mutex::new(db), wrapping: DataKey::new(0, key), describe })
    }

    pub(crate) fn describe(&self) -> &str {
        &self.describe
    }

    /// One flush for all of them.
    pub(crate) fn add(&self, secrets: &[[u8; 32]]) -> Result<Vec<KeyId>, Down> {
        let add = || -> rusqlite::Result<Vec<KeyId>> {
            let mut db = self.db();
            let tx = db.transaction()?;
            let mut ids = Vec::with_capacity(secrets.len());
            for secret in secrets {
                // Drawn, not counted: after this file was brought back from a backup, a new key must not have the
                // name of one that came later and was lost.
                let id = KeyId::from_be_bytes(random()) & KeyId::MAX;
                let wrapped = self.wrapping.seal(&id.to_be_bytes(), secret);
                tx.prepare_cached(sql::INSERT_DATA_KEY)?.execute((id, wrapped))?;
                ids.push(id);
            }
            tx.commit()?;
            Ok(ids)
        };
        add().map_err(|err| Down(format!("cannot write new data keys: {err}")))
    }

    pub(crate) fn find(&self, id: KeyId) -> Result<Option<[u8; 32]>, Down> {
        let found: rusqlite::Result<Option<Vec<u8>>> = {
            let db = self.db();
            let find = db.prepare_cached(sql::DATA_KEY);
            find.and_then(|mut it| it.query_row([id], |row| row.get(0)).optional())
        };
        let found = found.map_err(|err| Down(format!("cannot read data key {id}: {err}")))?;
        let Some(wrapped) = found else { return Ok(None) };
        let opened = self.wrapping.open(&id.to_be_bytes(), &wrapped);
        let secret = opened.and_then(|it| it.try_into().ok());
        secret.map(Some).ok_or_else(|| Down(format!("data key {id} is damaged")))
    }

    pub(crate) fn remove(&self, ids: &[KeyId]) -> Result<(), Down> {
        let remove = || -> rusqlite::Result<()> {
            let mut db = self.db();
            let tx = db.transaction()?;
            for id in ids {
                tx.prepare_cached(sql::DELETE_DATA_KEY)?.execute([id])?;
            }
            tx.commit()
        };
        remove().map_err(|err| Down(format!("cannot destroy data keys: {err}")))
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.db.lock().expect("no one panics while holding the key file")
    }
}
