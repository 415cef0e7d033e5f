//! One process owns a store: an exclusive lock of the operating system on a file beside it. It ends with the process.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::open::OpenError;

/// Held as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file gives the lock up")] File);

/// Says in the file who has it, for whoever comes second.
pub(crate) fn take(state: &Path, address: &str) -> Result<Lock, OpenError> {
    let path = PathBuf::from(format!("{}.lock", state.display()));
    let failed = |err: io::Error| OpenError::Down(format!("cannot lock {}: {err}", path.display()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            let mut lines = text.lines();
            let pid = lines.next().and_then(|it| it.parse().ok());
            let address = lines.next().unwrap_or_default().to_owned();
            return Err(OpenError::Locked { path: state.to_owned(), pid, address });
        }
        Err(TryLockError::Error(err)) => return Err(failed(err)),
    }
    let mut say = || -> io::Result<()> {
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        write!(file, "{}\n{address}\n", std::process::id())
    };
    say().map_err(failed)?;
    Ok(Lock(file))
}
