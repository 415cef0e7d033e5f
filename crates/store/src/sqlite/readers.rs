//! Connections that read. They see what was committed when they begin, and stand in nobody's way.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use everstate_runtime::ports::Down;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::keys::blocking;

const READERS_MAX: usize = 4;

#[derive(Clone, Debug)]
pub(crate) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Readers {
        let free = Arc::new(Semaphore::new(READERS_MAX));
        Readers(Arc::new(Inner { path: path.to_owned(), idle: Mutex::default(), free }))
    }

    /// Everything that one call reads, it reads at one moment.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Down> {
        let free = Arc::clone(&self.0.free).acquire_owned().await;
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let _free = free;
            inner
                .run(read)
                .map_err(|err| Down(format!("cannot read from {}: {err}", inner.path.display())))
        })
        .await
    }
}

impl Inner {
    fn run<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let idle = self.idle.lock().expect("no one panics while holding it").pop();
        let mut db = match idle {
            Some(db) => db,
            None => self.connect()?,
        };
        let tx = db.transaction()?;
        let found = read(&tx)?;
        tx.finish()?;
        self.idle.lock().expect("no one panics while holding it").push(db);
        Ok(found)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.path, flags)?;
        db.pragma_update(None, "cache_size", -1_000)?;
        super::steady(&db)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        Ok(db)
    }
}
