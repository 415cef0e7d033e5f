//! Opening a store by its URL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everstate_kernel::ids::Millis;
use everstate_runtime::ports::{Down, Log, Registry};

use crate::archive::Archive;
use crate::blobs::Blobs;
use crate::blobs::place::Place;
use crate::copy::refuse_unfinished;
use crate::facts::Upkeep;
use crate::keys::Keys;
use crate::keys::file::KeyFile;
use crate::keys::source::KeySource;
use crate::keys::table::KeyTable;
use crate::lock;
use crate::log::SealedLog;
use crate::memory::MemoryShelf;
use crate::postgres::connect::Line;
use crate::postgres::{self, PgShelf, start};
use crate::registry::Documents;
use crate::sealed::Sealed;
use crate::shelf::{Now, Shelf};
use crate::sqlite::{SqliteShelf, migrate};

/// An open store. It is closed when the last of these is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    pub log: Arc<dyn Log>,
    pub registry: Arc<dyn Registry>,
    /// The same for what must not be read in a copy of the store: each content is sealed under a key of its own, and
    /// that key is destroyed when the content is replaced or removed. Such documents cannot expire.
    pub sealed: Arc<dyn Registry>,
    pub upkeep: Arc<Upkeep>,
    pub archive: Arc<Archive>,
    keys: Arc<Keys>,
}

impl Store {
    /// A secret of this installation, by its label: the same on every node that shares the data keys. It is derived
    /// from the key that wraps them and says nothing about it. A memory store has others in each process.
    pub fn secret(&self, label: &str) -> [u8; 32] {
        self.keys.secret(label)
    }
}

#[derive(Clone)]
pub struct Settings {
    /// Where the master key is; `None`: in a file beside the state.
    pub keys: Option<KeySource>,
    /// Where big bodies live. `None`: in a folder beside the state, or in the database.
    pub blobs: Option<Place>,
    /// The database for the data keys of a PostgreSQL store, if not the same: what is deleted there has to be gone
    /// from its backups too, so they should be kept for days, not for years.
    pub keys_url: Option<String>,
    /// How long a database that is not there is waited for at the start. Later a write waits for one too, but for no
    /// more than 10 seconds, before it is answered with `Down`.
    pub wait: Duration,
    /// Where the process can be reached, for whoever finds the store locked.
    pub address: String,
    pub flush: Flush,
    pub now: Arc<dyn Fn() -> Millis + Send + Sync>,
}

impl Default for Settings {
    fn default() -> Settings {
        let now = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |it| it.as_millis() as Millis)
        };
        Settings {
            keys: None,
            blobs: None,
            keys_url: None,
            wait: Duration::from_secs(30),
            address: String::new(),
            flush: Flush::Always,
            now: Arc::new(now),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({:?}, {:?})", self.keys, self.flush)
    }
}

/// Whether an acknowledged write survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    Always,
    /// It does not. For tests that show that the other tests would notice.
    Never,
}

impl Flush {
    pub(crate) fn pragma(self, always: &'static str) -> &'static str {
        match self {
            Flush::Always => always,
            Flush::Never => "OFF",
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, PartialEq)]
pub enum OpenError {
    BadUrl(String),
    /// Another process has it.
    Locked {
        path: PathBuf,
        pid: Option<u32>,
        address: String,
    },
    /// Written by a later release; it was not touched.
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// Not a file of ours.
    Foreign(String),
    /// The master key cannot be had, or is the wrong one.
    Key(String),
    /// The place of the blobs does not work, or is another's.
    Blobs(String),
    Down(String),
}

/// Opens `memory:`, `sqlite:PATH` or `postgres://...`. Waits for disks, and perhaps for a key service: not for a hot path.
pub async fn open(url: &str, settings: Settings) -> Result<Store, OpenError> {
    let store = unfinished(url, settings).await?;
    refuse_unfinished(&store).await?;
    Ok(store)
}

/// Is there a store? Only looks: nothing is made or changed.
pub async fn is_there(url: &str, settings: &Settings) -> Result<bool, OpenError> {
    match url.split_once(':') {
        Some(("sqlite", path)) => Ok(Path::new(path.strip_prefix("//").unwrap_or(path)).exists()),
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
            let (target, line) = start::reach(url, settings.wait).await?;
            let shown = target.to_string();
            Ok(postgres::migrate::look(&line, &shown, &postgres::migrate::STATE).await? > 0)
        }
        // What is not understood is opening's to say.
        _ => Ok(true),
    }
}

/// As [`open`], also if it is the target of a copy that is not finished.
pub(crate) async fn unfinished(url: &str, settings: Settings) -> Result<Store, OpenError> {
    match url.split_once(':') {
        Some(("memory", "")) => open_memory(settings),
        Some(("sqlite", path)) if !path.is_empty() => {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            // The folder beside a state is of that state alone. What a person names may be anybody's.
            let beside = path.with_extension("blobs");
            let named = settings.blobs.as_ref().is_some_and(|it| !it.is_folder(&beside));
            let store = open_sqlite(path, settings).await?;
            if named {
                claim_blobs(&store).await?;
            }
            Ok(store)
        }
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
            let named = settings.blobs.is_some();
            let store = open_postgres(url, settings).await?;
            if named {
                claim_blobs(&store).await?;
            }
            Ok(store)
        }
        _ => Err(OpenError::BadUrl(format!(
            "`{url}` names no store; try `sqlite:PATH`, `postgres://USER@HOST/DATABASE` or `memory:`"
        ))),
    }
}

async fn claim_blobs(store: &Store) -> Result<(), OpenError> {
    store.upkeep.claim_blobs().await.map_err(|down| OpenError::Blobs(down.0))
}

fn open_memory(settings: Settings) -> Result<Store, OpenError> {
    if let Some(place) = settings.blobs {
        return Err(OpenError::BadUrl(format!(
            "`memory:` keeps nothing that outlives it, so blobs in {place} would be nobody's: \
             name another store, or no place for blobs"
        )));
    }
    let shelf = Arc::new(MemoryShelf::default());
    Ok(assemble(shelf, Keys::in_memory(), Blobs::in_memory(), settings.now, None))
}

async fn open_sqlite(path: PathBuf, settings: Settings) -> Result<Store, OpenError> {
    let now = Arc::clone(&settings.now);
    let at = path.clone();
    let opened = tokio::task::spawn_blocking(move || sqlite_parts(&at, settings)).await;
    let parts = opened.unwrap_or_else(|err| Err(OpenError::Down(err.to_string())));
    let (shelf, file, blobs) = parts?;
    let down = |err: Down| OpenError::Down(format!("cannot open {}: {err}", path.display()));
    let keys = Keys::in_store(Arc::new(file)).await.map_err(down)?;
    Ok(assemble(Arc::new(shelf), keys, blobs, now, Some(path)))
}

async fn open_postgres(url: &str, settings: Settings) -> Result<Store, OpenError> {
    let Some(source) = settings.keys else {
        return Err(OpenError::Key(
            "a store on PostgreSQL has no place of its own for the master key, and all nodes need the same: \
             name one, such as env:EVERSTATE_MASTER_KEY, file:PATH or command:COMMAND"
                .to_owned(),
        ));
    };
    let (target, line) = start::reach(url, settings.wait).await?;
    let (keys_target, keys_line) = match &settings.keys_url {
        Some(url) => start::reach(url, settings.wait).await?,
        None => (Arc::clone(&target), Line::new(&target)),
    };
    // The keys come first, so that a crash in between leaves no state without them.
    let schemas = [
        (&*keys_target, &keys_line, &postgres::migrate::KEYS),
        (&*target, &line, &postgres::migrate::STATE),
    ];
    start::bring_up_to_date(&schemas).await?;
    let table = KeyTable::open(&keys_target, keys_line, &source).await?;
    let down = |err: Down| OpenError::Down(format!("cannot open the {keys_target}: {err}"));
    let keys = Keys::in_store(Arc::new(table)).await.map_err(down)?;
    let blobs = match &settings.blobs {
        Some(place) => Blobs::open(place).map_err(OpenError::Blobs)?,
        None => Blobs::in_database(&target),
    };
    Ok(assemble(Arc::new(PgShelf::new(&target)), keys, blobs, settings.now, None))
}

fn sqlite_parts(
    path: &Path,
    settings: Settings,
) -> Result<(SqliteShelf, KeyFile, Blobs), OpenError> {
    let beside = |name: &str| path.with_file_name(name);
    let down =
        |err: &dyn fmt::Display| OpenError::Down(format!("cannot open {}: {err}", path.display()));
    // A file of a later release is refused before anything is made or touched.
    migrate::refuse_foreign(path, &migrate::STATE)?;
    migrate::refuse_foreign(&beside("keys.db"), &migrate::KEYS)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    migrate::make_folder(folder).map_err(|err| down(&err))?;
    let lock = lock::take(path, &settings.address)?;
    let source = settings.keys.unwrap_or_else(|| KeySource::File(beside("master.key")));
    let keys = beside("keys.db");
    if path.exists() && !keys.exists() {
        return Err(OpenError::Key(format!(
            "the data keys, {}, are missing; without them nothing in {} can be read: bring them back from the same copy",
            keys.display(),
            path.display()
        )));
    }
    // The keys come first, so that a crash in between leaves no state without them.
    let file = KeyFile::open(&keys, &source, settings.flush)?;
    let shelf = SqliteShelf::open(path, settings.flush, lock)?;
    let place = settings.blobs.unwrap_or_else(|| Place::folder(path.with_extension("blobs")));
    let blobs = Blobs::open(&place).map_err(OpenError::Blobs)?;
    Ok((shelf, file, blobs))
}

fn assemble(
    shelf: Arc<dyn Shelf>,
    keys: Keys,
    blobs: Blobs,
    now: Now,
    path: Option<PathBuf>,
) -> Store {
    let keys = Arc::new(keys);
    let log = Arc::new(SealedLog::new(Arc::clone(&shelf), Arc::clone(&keys), blobs));
    let documents = || Documents { shelf: Arc::clone(&shelf), now: Arc::clone(&now) };
    let registry = Arc::new(documents());
    let sealed = Arc::new(Sealed { documents: documents(), keys: Arc::clone(&keys) });
    let upkeep = Arc::new(Upkeep::new(Arc::clone(&log), now, path));
    let archive = Arc::new(Archive::new(Arc::clone(&log)));
    Store { log, registry, sealed, upkeep, archive, keys }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::BadUrl(why) | OpenError::Foreign(why) | OpenError::Down(why) => {
                f.write_str(why)
            }
            OpenError::Key(why) | OpenError::Blobs(why) => f.write_str(why),
            OpenError::Locked { path, pid, address } => {
                write!(f, "{} is in use", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " by process {pid}")?;
                }
                if !address.is_empty() {
                    write!(f, " at {address}")?;
                }
                f.write_str("; use that one, or stop it first")
            }
            OpenError::Newer { path, found, known } => write!(
                f,
                "{} was written by a later release (schema {found}, this one knows {known}); \
                 it was not touched: use that release",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}
