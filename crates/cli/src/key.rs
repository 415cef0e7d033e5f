//! Where the key to the server comes from: the environment, or the file that `dev` keeps beside its state.

use std::io::Write;
use std::path::{Path, PathBuf};

use everstate_kernel::ids::base32;

use crate::fault::{Fault, codes};

/// The directory in which `dev` keeps everything.
pub(crate) const DIR: &str = ".everstate";
pub(crate) const KEY_FILE: &str = "key";
pub(crate) const URL_FILE: &str = "url";

/// A text, and where it was found.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) text: String,
    pub(crate) origin: String,
}

/// The key for talking to a server.
pub(crate) fn of_environment(here: &Path) -> Option<Found> {
    let of_env = |name: &str| {
        let text = std::env::var(name).ok().filter(|it| !it.is_empty())?;
        Some(Found { text, origin: name.to_owned() })
    };
    of_env("EVERSTATE_KEY")
        .or_else(|| of_env("EVERSTATE_ADMIN_KEY"))
        .or_else(|| find(here, KEY_FILE))
}

/// A file of `.everstate`, here or in the nearest directory above that has one.
pub(crate) fn find(here: &Path, name: &str) -> Option<Found> {
    let path = here.ancestors().map(|it| it.join(DIR).join(name)).find(|it| it.is_file())?;
    let text = std::fs::read_to_string(&path).ok()?.trim().to_owned();
    (!text.is_empty()).then(|| Found { text, origin: path.display().to_string() })
}

/// The key in this file, which is made if it is not there; only its owner may read it.
pub(crate) fn keep(dir: &Path) -> Result<String, Fault> {
    let path = dir.join(KEY_FILE);
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let key = fresh();
    write_private(&path, &key)?;
    Ok(key)
}

pub(crate) fn fresh() -> String {
    let mut bytes = [0; 20];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives random bytes");
    format!("es_{}", base32(&bytes))
}

/// Writes a line that only its owner may read.
pub(crate) fn write_private(path: &PathBuf, text: &str) -> Result<(), Fault> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let wrote = options.open(path).and_then(|mut it| writeln!(it, "{text}"));
    wrote.map_err(|err| Fault::new(&codes::FILE, format!("cannot write {}: {err}", path.display())))
}
