//! The two ends of a copy, opened: the source beside whoever is at work there, the target for us alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::blobs::Blobs;
use crate::blobs::place::Place;
use crate::copy::room::{ReadRoom, WriteRoom};
use crate::copy::{CopyError, End};
use crate::keys::KeyStore;
use crate::keys::file::KeyFile;
use crate::keys::source::KeySource;
use crate::keys::table::KeyTable;
use crate::lock;
use crate::open::{OpenError, Settings};
use crate::postgres::connect::Line;
use crate::postgres::room::PgRoom;
use crate::postgres::{self, start};
use crate::sqlite::migrate;
use crate::sqlite::room::{FileRoom, FileSource};

pub(crate) struct Source {
    pub(crate) room: Arc<dyn ReadRoom>,
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) blobs: Blobs,
}

pub(crate) struct Target {
    pub(crate) room: Arc<dyn WriteRoom>,
    pub(crate) keys: Arc<dyn KeyStore>,
    pub(crate) blobs: Blobs,
}

enum Where {
    File(PathBuf),
    Database,
}

fn place(url: &str) -> Result<Where, CopyError> {
    match url.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            Ok(Where::File(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
        }
        Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Ok(Where::Database),
        _ => Err(CopyError::Open(OpenError::BadUrl(
            "a store is copied between `sqlite:PATH` and `postgres://USER@HOST/DATABASE`"
                .to_owned(),
        ))),
    }
}

impl Source {
    pub(crate) async fn open(end: &End) -> Result<Source, CopyError> {
        match place(&end.url)? {
            Where::File(path) => {
                let settings = end.settings.clone();
                let opened =
                    tokio::task::spawn_blocking(move || file_source(&path, settings)).await;
                opened.unwrap_or_else(|err| Err(OpenError::Down(err.to_string()).into()))
            }
            Where::Database => {
                let (room, keys, blobs) = database(end, false).await?;
                Ok(Source { room: Arc::new(room), keys, blobs })
            }
        }
    }
}

impl Target {
    pub(crate) async fn open(end: &End) -> Result<Target, CopyError> {
        match place(&end.url)? {
            Where::File(path) => {
                let settings = end.settings.clone();
                let opened =
                    tokio::task::spawn_blocking(move || file_target(&path, settings)).await;
                opened.unwrap_or_else(|err| Err(OpenError::Down(err.to_string()).into()))
            }
            Where::Database => {
                let (room, keys, blobs) = database(end, true).await?;
                Ok(Target { room: Arc::new(room), keys, blobs })
            }
        }
    }
}

fn blobs(settings: &Settings, path: &Path) -> Result<Blobs, OpenError> {
    let beside = || Place::folder(path.with_extension("blobs"));
    let place = settings.blobs.clone().unwrap_or_else(beside);
    Blobs::open(&place).map_err(OpenError::Blobs)
}

fn file_source(path: &Path, settings: Settings) -> Result<Source, CopyError> {
    let keys = path.with_file_name("keys.db");
    for (file, schema) in [(path, &migrate::STATE), (&keys, &migrate::KEYS)] {
        if !file.exists() {
            let text = format!("there is no store at {}", file.display());
            return Err(OpenError::Down(text).into());
        }
        migrate::refuse_foreign(file, schema)?;
    }
    let source =
        settings.keys.clone().unwrap_or_else(|| KeySource::File(path.with_file_name("master.key")));
    let keys = KeyFile::open_beside(&keys, &source)?;
    let blobs = blobs(&settings, path)?;
    Ok(Source { room: Arc::new(FileSource::open(path)?), keys: Arc::new(keys), blobs })
}

fn file_target(path: &Path, settings: Settings) -> Result<Target, CopyError> {
    let beside = |name: &str| path.with_file_name(name);
    migrate::refuse_foreign(path, &migrate::STATE)?;
    migrate::refuse_foreign(&beside("keys.db"), &migrate::KEYS)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let cannot = |err| OpenError::Down(format!("cannot make {}: {err}", folder.display()));
    migrate::make_folder(folder).map_err(cannot)?;
    let lock = lock::take(path, "")?;
    let source = settings.keys.clone().unwrap_or_else(|| KeySource::File(beside("master.key")));
    let keys = KeyFile::open(&beside("keys.db"), &source, settings.flush)?;
    let room = FileRoom::open(path, settings.flush, lock)?;
    let blobs = blobs(&settings, path)?;
    Ok(Target { room: Arc::new(room), keys: Arc::new(keys), blobs })
}

async fn database(
    end: &End,
    is_target: bool,
) -> Result<(PgRoom, Arc<dyn KeyStore>, Blobs), CopyError> {
    let settings = &end.settings;
    let Some(source) = &settings.keys else {
        let text = "a store on PostgreSQL has no place of its own for the master key: name one";
        return Err(OpenError::Key(text.to_owned()).into());
    };
    let (target, line) = start::reach(&end.url, settings.wait).await?;
    let (keys_target, keys_line) = match &settings.keys_url {
        Some(url) => start::reach(url, settings.wait).await?,
        None => (Arc::clone(&target), Line::new(&target)),
    };
    let schemas = [
        (&*keys_target, &keys_line, &postgres::migrate::KEYS),
        (&*target, &line, &postgres::migrate::STATE),
    ];
    for (target, line, schema) in schemas {
        postgres::migrate::look(line, &target.to_string(), schema).await?;
    }
    if is_target {
        start::bring_up_to_date(&schemas).await?;
    }
    let keys = KeyTable::open(&keys_target, keys_line, source).await?;
    let blobs = match &settings.blobs {
        Some(place) => Blobs::open(place).map_err(OpenError::Blobs)?,
        None => Blobs::in_database(&target),
    };
    let room = PgRoom::new(&target);
    Ok((room, Arc::new(keys), blobs))
}
