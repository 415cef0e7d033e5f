//! A PostgreSQL of our own, on the disk that is measured, with its flushes real. It refuses to run as root, so it runs as
//! nobody if we are.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::process::{free_port, kill, output};

const NOBODY: u32 = 65_534;

/// What is not as PostgreSQL has it by itself.
pub(crate) const SETTINGS: &[&str] = &[
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "max_connections=400",
    "shared_preload_libraries=pg_stat_statements",
];

#[derive(Debug)]
pub(crate) struct Database {
    server: Option<Child>,
    folder: PathBuf,
    pub(crate) port: u16,
}

impl Database {
    pub(crate) fn start(folder: &Path) -> Database {
        // Whoever runs it has to get through to its own folder.
        let folder = folder.join("postgresql");
        fs::create_dir_all(&folder).unwrap();
        for above in folder.ancestors().take_while(|it| *it != std::env::temp_dir()) {
            fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap();
        }
        if is_root() {
            chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = folder.join("data");
        let mut initdb = unprivileged("initdb");
        initdb.arg("-D").arg(&data).args(["-U", "bench", "-A", "trust", "-E", "UTF8"]);
        output(initdb.args(["--locale=C", "--no-instructions"]));
        let port = free_port();
        let mut postgres = unprivileged("postgres");
        postgres.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        postgres.args(["-c", "listen_addresses=127.0.0.1"]);
        postgres.arg("-c").arg(format!("unix_socket_directories={}", folder.display()));
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        let mut server = postgres.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(server.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("ready to accept connections") {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "PostgreSQL does not start");
        }
        std::thread::spawn(move || std::io::copy(&mut said.by_ref(), &mut std::io::sink()));
        let database = Database { server: Some(server), folder, port };
        database.ask("postgres", "CREATE EXTENSION pg_stat_statements");
        database
    }

    pub(crate) fn version() -> String {
        let said = output(Command::new(program("postgres")).arg("--version"));
        said.split_whitespace().last().unwrap_or_default().trim_end_matches(')').to_owned()
    }

    /// A new database; its URL.
    pub(crate) fn create(&self, name: &str) -> String {
        self.ask("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgresql://bench@127.0.0.1:{}/{name}", self.port)
    }

    /// One statement; what it says, without headings.
    pub(crate) fn ask(&self, database: &str, statement: &str) -> String {
        let mut psql = Command::new(program("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "bench"]);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-c", statement]);
        output(&mut psql).trim().to_owned()
    }

    /// PostgreSQL's own client for load, with a script.
    pub(crate) fn pgbench(
        &self,
        database: &str,
        script: &Path,
        clients: u64,
        lasts: u64,
    ) -> String {
        let mut pgbench = Command::new(program("pgbench"));
        pgbench.args(["-n", "-h", "127.0.0.1", "-U", "bench", "-p", &self.port.to_string()]);
        pgbench.args(["-M", "prepared", "-j", "2", "-c", &clients.to_string()]);
        pgbench.args(["-T", &lasts.to_string(), "-f"]).arg(script).arg(database);
        output(&mut pgbench)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // At once, but in order: the processes of connections go with it.
        let pid = server.id().to_string();
        let _ = Command::new("kill").args(["-INT", &pid]).status();
        if server.wait().is_err() {
            kill(server);
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn unprivileged(name: &str) -> Command {
    let program = program(name);
    let mut command = Command::new("setpriv");
    if is_root() {
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
        command.args(ids).arg("--clear-groups");
    }
    command.arg("--").arg(program).current_dir("/").env("LC_ALL", "C");
    command
}

fn program(name: &str) -> PathBuf {
    let named = std::env::var_os("EVERSTATE_TEST_POSTGRES_BIN").map(PathBuf::from);
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = debian.map(|it| it.path().join("bin")).collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all =
        named.into_iter().chain(folders.into_iter().rev()).chain(std::env::split_paths(&path));
    let found = all.find(|it| it.join("initdb").exists());
    let folder = found.expect("PostgreSQL is there: try `apt-get install postgresql-15`");
    folder.join(name)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}
