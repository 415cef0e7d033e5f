//! A cluster that was never started, made once for all, and copied: making one takes a second, copying it a tenth.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{binaries, room};

/// A new folder with a data directory in it, the server's own.
pub(crate) fn copy(room: &Path) -> PathBuf {
    let template = template();
    sweep();
    let folder = fresh_folder(room, &format!("{PREFIX}{}-", std::process::id()));
    let copied = Command::new("cp").arg("-a").arg(&template).arg(folder.join("data")).status();
    assert!(copied.is_ok_and(|it| it.success()), "cannot copy {}", template.display());
    let data = folder.join("data");
    for (name, text) in [("server.crt", CERTIFICATE), ("server.key", KEY)] {
        let path = data.join(name);
        fs::write(&path, text).expect("it is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        give_to_server(&path);
    }
    give(&folder);
    folder
}

/// Of a process's folders, before its number.
const PREFIX: &str = "everstate-pg-of-";

/// Removes what processes left behind that were killed.
fn sweep() {
    for entry in fs::read_dir(room()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|it| it.strip_prefix(PREFIX));
        let pid = rest.and_then(|it| it.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|it| !Path::new(&format!("/proc/{it}")).exists()) {
            // Others may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// They protect nothing: everybody has them.
const CERTIFICATE: &str = include_str!("../tls/server.pem");
const KEY: &str = include_str!("../tls/server.key");

fn template() -> PathBuf {
    let version = Command::new(binaries::find("postgres")).arg("--version").output();
    let version = version.expect("postgres runs").stdout;
    let version: String =
        String::from_utf8_lossy(&version).chars().filter(char::is_ascii_alphanumeric).collect();
    let place = room().join(format!("everstate-pg-template-2-{version}"));
    if place.join("PG_VERSION").exists() {
        return place;
    }
    // Of several who make one at once, the first to be done gives it its name.
    let folder = fresh_folder(&room(), "everstate-pg-making-");
    give(&folder);
    let data = folder.join("data");
    let mut initdb = binaries::unprivileged(&binaries::find("initdb"), "KILL");
    initdb.arg("-D").arg(&data).args(["-U", "everstate", "-A", "trust", "-E", "UTF8"]);
    initdb.args(["--locale=C", "--no-instructions", "--no-sync"]);
    let output = initdb.output().expect("setpriv runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "initdb failed: {said}");
    let conf = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"));
    let wrote = conf.and_then(|mut it| std::io::Write::write_all(&mut it, CONF.as_bytes()));
    wrote.expect("its configuration can be written");
    if fs::rename(&data, &place).is_err() {
        assert!(place.join("PG_VERSION").exists(), "cannot make {}", place.display());
    }
    let _ = fs::remove_dir_all(&folder);
    place
}

/// Flushing stays on. What saves time here is only size. What it shares lies in its own folder, and goes with it.
const CONF: &str = "
shared_buffers = 32MB
max_connections = 200
min_wal_size = 32MB
max_wal_size = 512MB
autovacuum_naptime = 60s
dynamic_shared_memory_type = mmap
log_min_messages = warning
timezone = 'UTC'
";

fn fresh_folder(room: &Path, prefix: &str) -> PathBuf {
    let mut random = [0; 8];
    let read = File::open("/dev/urandom")
        .and_then(|mut it| std::io::Read::read_exact(&mut it, &mut random));
    read.expect("the system gives random bytes");
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = room.join(format!("{prefix}{name}"));
    fs::create_dir(&folder).expect("nobody else has this name");
    folder
}

/// To whoever runs the server. All may look for its socket in there.
fn give(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    give_to_server(folder);
}

fn give_to_server(path: &Path) {
    if let Some((uid, gid)) = binaries::owner() {
        chown(path, Some(uid), Some(gid)).expect("root may give it");
    }
}
