//! The key store on disk: a small database beside the state, with a life and backups of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use everstate_runtime::ports::Down;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use crate::keys::source::KeySource;
use crate::keys::{KeyStore, blocking, unwrap_one, wrap_all, wrap_one};
use crate::open::{Flush, OpenError};
use crate::seal::DataKey;
use crate::shelf::KeyId;
use crate::sqlite::migrate::{self, KEYS};
use crate::sqlite::statements as sql;

pub(crate) struct KeyFile {
    db: Arc<Mutex<Connection>>,
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
        // No page of it in a file that somebody else names.
        db.pragma_update(None, "temp_store", "MEMORY").map_err(down)?;
        db.busy_timeout(std::time::Duration::from_secs(10)).map_err(down)?;
        migrate::migrate(&mut db, path, &KEYS)?;
        let wrapped: Option<Vec<u8>> =
            db.query_row(sql::WRAPPING_KEY, [], |it| it.get(0)).optional().map_err(down)?;
        let key = match wrapped {
            Some(wrapped) => source.unwrap(&wrapped).map_err(OpenError::Key)?,
            None => {
                let (key, wrapped) = source.make().map_err(OpenError::Key)?;
                db.execute(sql::INSERT_WRAPPING_KEY, [wrapped]).map_err(down)?;
                key
            }
        };
        Ok(KeyFile::new(db, key, path, source))
    }

    /// Of a store that somebody else may have open: to read, and nothing else.
    pub(crate) fn open_beside(path: &Path, source: &KeySource) -> Result<KeyFile, OpenError> {
        let down = |err: rusqlite::Error| {
            OpenError::Down(format!("cannot open {}: {err}", path.display()))
        };
        let db =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(down)?;
        db.busy_timeout(std::time::Duration::from_secs(10)).map_err(down)?;
        let wrapped: Vec<u8> = db.query_row(sql::WRAPPING_KEY, [], |it| it.get(0)).map_err(down)?;
        let key = source.unwrap(&wrapped).map_err(OpenError::Key)?;
        Ok(KeyFile::new(db, key, path, source))
    }

    fn new(db: Connection, key: [u8; 32], path: &Path, source: &KeySource) -> KeyFile {
        let describe = format!("{}; data keys in {}", source.describe(), path.display());
        KeyFile { db: Arc::new(Mutex::new(db)), wrapping: DataKey::new(0, key), describe }
    }
}

#[async_trait]
impl KeyStore for KeyFile {
    fn describe(&self) -> &str {
        &self.describe
    }

    fn wrapping(&self) -> &DataKey {
        &self.wrapping
    }

    async fn add(&self, secrets: &[[u8; 32]]) -> Result<Vec<KeyId>, Down> {
        let wrapped = wrap_all(&self.wrapping, secrets);
        let db = Arc::clone(&self.db);
        let add = move || -> rusqlite::Result<Vec<KeyId>> {
            let mut db = locked(&db);
            let tx = db.transaction()?;
            for row in &wrapped {
                tx.prepare_cached(sql::INSERT_DATA_KEY)?.execute((row.0, &row.1))?;
            }
            tx.commit()?;
            Ok(wrapped.into_iter().map(|it| it.0).collect())
        };
        let cannot = |err| Down(format!("cannot write new data keys: {err}"));
        blocking(move || add().map_err(cannot)).await
    }

    async fn find(&self, id: KeyId) -> Result<Option<[u8; 32]>, Down> {
        let db = Arc::clone(&self.db);
        let find = move || -> rusqlite::Result<Option<Vec<u8>>> {
            let db = locked(&db);
            let mut found = db.prepare_cached(sql::DATA_KEY)?;
            found.query_row([id], |row| row.get(0)).optional()
        };
        let cannot = move |err| Down(format!("cannot read data key {id}: {err}"));
        let found = blocking(move || find().map_err(cannot)).await?;
        found.map(|it| unwrap_one(&self.wrapping, id, &it)).transpose()
    }

    async fn remove(&self, ids: &[KeyId]) -> Result<(), Down> {
        let (db, ids) = (Arc::clone(&self.db), ids.to_vec());
        let remove = move || -> rusqlite::Result<()> {
            let mut db = locked(&db);
            let tx = db.transaction()?;
            for id in ids {
                tx.prepare_cached(sql::DELETE_DATA_KEY)?.execute([id])?;
            }
            tx.commit()
        };
        let cannot = |err| Down(format!("cannot destroy data keys: {err}"));
        blocking(move || remove().map_err(cannot)).await
    }

    /// What is removed is written over in the same change, and the journal is cut.
    async fn tidy(&self) -> Result<(), Down> {
        Ok(())
    }

    async fn list(
        &self,
        after: Option<KeyId>,
        limit: usize,
    ) -> Result<Vec<(KeyId, [u8; 32])>, Down> {
        let db = Arc::clone(&self.db);
        let params = (after.unwrap_or(KeyId::MIN), limit as i64);
        let list = move || -> rusqlite::Result<Vec<(KeyId, Vec<u8>)>> {
            let db = locked(&db);
            let mut found = db.prepare_cached(sql::DATA_KEYS)?;
            found.query_map(params, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let cannot = |err| Down(format!("cannot read data keys: {err}"));
        let found = blocking(move || list().map_err(cannot)).await?;
        found.into_iter().map(|(id, it)| Ok((id, unwrap_one(&self.wrapping, id, &it)?))).collect()
    }

    async fn put(&self, keys: &[(KeyId, [u8; 32])]) -> Result<(), Down> {
        let db = Arc::clone(&self.db);
        let wrapped: Vec<(KeyId, Vec<u8>)> =
            keys.iter().map(|(id, it)| wrap_one(&self.wrapping, *id, it)).collect();
        let put = move || -> rusqlite::Result<()> {
            let mut db = locked(&db);
            let tx = db.transaction()?;
            for row in &wrapped {
                tx.prepare_cached(sql::PUT_DATA_KEY)?.execute((row.0, &row.1))?;
            }
            tx.commit()
        };
        let cannot = |err| Down(format!("cannot write data keys: {err}"));
        blocking(move || put().map_err(cannot)).await
    }
}

fn locked(db: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    db.lock().expect("no one panics while holding the key file")
}
