//! Where the master key comes from: a command that asks a key service, the environment, or a file of our own.
//! It wraps one key, and that wraps the data keys; so a new master key means wrapping one key again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use crate::seal::{DataKey, random};
use crate::sqlite::migrate;

/// Where the master key is.
///
/// A command is given to `sh -c` with ` wrap` or ` unwrap` after it. `wrap` reads a key (64 hexadecimal digits and a
/// newline) and prints one line of text that only `unwrap` has to understand; `unwrap` reads that line and prints
/// the 64 digits. It ends with 0 if it did, and says on its standard error why if it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    Command(String),
    /// The name of an environment variable with 32 bytes in hexadecimal or base 64.
    Env(String),
    /// Made on first use, readable by its owner only.
    File(PathBuf),
}

/// `command:...`, `env:NAME` or `file:PATH`. The error says what it should look like.
impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<KeySource, String> {
        match text.split_once(':') {
            Some(("command", command)) if !command.is_empty() => {
                Ok(KeySource::Command(command.to_owned()))
            }
            Some(("env", name)) if !name.is_empty() => Ok(KeySource::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(KeySource::File(path.into())),
            // What was given may be the key itself: it is not repeated.
            _ => {
                Err("a master key is named by `command:COMMAND`, `env:NAME` or `file:PATH`"
                    .to_owned())
            }
        }
    }
}

impl KeySource {
    /// Which it is, in words. Says nothing secret.
    pub fn describe(&self) -> String {
        match self {
            KeySource::Command(command) => format!("master key of the command `{command}`"),
            KeySource::Env(name) => format!("master key in the environment variable {name}"),
            KeySource::File(path) => format!("master key in the file {}", path.display()),
        }
    }

    /// A key that nothing is wrapped by yet, and itself wrapped.
    pub(crate) fn make(&self) -> Result<([u8; 32], Vec<u8>), String> {
        let key = random();
        let wrapped = self.wrap(&key)?;
        // A service that cannot open what it wrapped is found out before anything is sealed.
        match self.unwrap(&wrapped)? == key {
            true => Ok((key, wrapped)),
            false => Err(format!("the {} does not open what it wrapped", self.describe())),
        }
    }

    /// Wraps a key that is used for the first time.
    pub(crate) fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>, String> {
        match self {
            KeySource::Command(command) => {
                let line = run(command, "wrap", &hex(key))?;
                if line.is_empty() {
                    return Err(format!("`{command} wrap` printed nothing"));
                }
                Ok(line.into_bytes())
            }
            KeySource::Env(name) => Ok(master(env_key(name)?).seal(WRAP, key)),
            KeySource::File(path) => Ok(master(file_key(path, true)?).seal(WRAP, key)),
        }
    }

    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], String> {
        let wrong = || format!("the {} is not the one that was used before", self.describe());
        match self {
            KeySource::Command(command) => {
                let line = String::from_utf8(wrapped.to_vec()).map_err(|_| wrong())?;
                let text = run(command, "unwrap", &line)?;
                key_of(&text).ok_or_else(|| {
                    format!("`{command} unwrap` printed something else than 64 hexadecimal digits")
                })
            }
            KeySource::Env(name) => opened(env_key(name)?, wrapped).ok_or_else(wrong),
            KeySource::File(path) => opened(file_key(path, false)?, wrapped).ok_or_else(wrong),
        }
    }
}

const WRAP: &[u8] = b"everstate key wrapping key 1";

fn master(key: [u8; 32]) -> DataKey {
    DataKey::new(0, key)
}

fn opened(key: [u8; 32], wrapped: &[u8]) -> Option<[u8; 32]> {
    master(key).open(WRAP, wrapped)?.try_into().ok()
}

fn env_key(name: &str) -> Result<[u8; 32], String> {
    let text = std::env::var(name).map_err(|_| {
        format!("the environment variable {name} is not set; it holds the master key")
    })?;
    key_of(text.trim()).ok_or_else(|| {
        format!(
            "the environment variable {name} holds no key: give 32 bytes in hexadecimal or base 64"
        )
    })
}

fn file_key(path: &Path, may_make: bool) -> Result<[u8; 32], String> {
    let shown = path.display();
    match File::open(path) {
        Ok(mut file) => {
            let mode = file.metadata().map_err(|err| format!("cannot look at {shown}: {err}"))?;
            let mode = mode.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(format!(
                    "the key file {shown} can be read by others (mode {mode:04o}); \
                     try `chmod 600 {shown}`, and think about who may have read it"
                ));
            }
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(|err| format!("cannot read {shown}: {err}"))?;
            key_of(text.trim()).ok_or_else(|| {
                format!("the file {shown} holds no key: expected 64 hexadecimal digits")
            })
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound && may_make => {
            make_file(path).map_err(|err| format!("cannot make the key file {shown}: {err}"))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Err(format!(
            "the key file {shown} is missing; without it nothing that was stored can be read: \
             bring it back from where you keep a copy"
        )),
        Err(err) => Err(format!("cannot open the key file {shown}: {err}")),
    }
}

/// Whole and flushed under its name, or not there at all.
fn make_file(path: &Path) -> io::Result<[u8; 32]> {
    let key: [u8; 32] = random();
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    migrate::make_folder(folder)?;
    let half = path.with_extension("half");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    writeln!(file, "{}", hex(&key))?;
    file.sync_all()?;
    fs::rename(&half, path)?;
    File::open(folder)?.sync_all()?;
    Ok(key)
}

fn run(command: &str, verb: &str, input: &str) -> Result<String, String> {
    let name = format!("{command} {verb}");
    let failed = |why: String| format!("the key command `{name}` failed: {why}");
    let mut child = Command::new("sh")
        .args(["-c", &name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| failed(err.to_string()))?;
    let mut stdin = child.stdin.take().expect("it was piped");
    // A command that does not want its input closes it; what it printed tells more than the broken pipe.
    let _ = writeln!(stdin, "{input}");
    drop(stdin);
    let output = child.wait_with_output().map_err(|err| failed(err.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| failed("no text".to_owned()))?;
    Ok(text.trim().to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 bytes in hexadecimal or base 64.
fn key_of(text: &str) -> Option<[u8; 32]> {
    let (alphabet, bits): (&[u8], u32) = match text.len() {
        64 => (b"0123456789abcdef", 4),
        _ => (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 6),
    };
    let lower = text.to_ascii_lowercase();
    let text = if bits == 4 { &lower } else { text.trim_end_matches('=') };
    let (mut out, mut held, mut n_held) = (Vec::new(), 0u32, 0);
    for letter in text.bytes() {
        let digit = alphabet.iter().position(|&it| it == letter)?;
        held = held << bits | u32::try_from(digit).ok()?;
        n_held += bits;
        if n_held >= 8 {
            n_held -= 8;
            out.push((held >> n_held & 255) as u8);
        }
    }
    out.try_into().ok()
}

#[cfg(test)]
mod tests;
