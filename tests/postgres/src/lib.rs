//! A real PostgreSQL for tests, on loopback: a cluster is made once, copied for each test process, and ends with it,
//! however it ends. It keeps its own rules: it flushes, and it runs as somebody without rights.
//!
//! Where PostgreSQL is not installed a test fails and says how to get it, unless `EVERSTATE_TEST_SKIP` lists
//! `postgres`: then [`cluster`] answers `None`, and the test says `skipped: `.

mod binaries;
mod starter;
mod template;
mod proxy;
mod bouncer;
mod dump;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

pub use crate::bouncer::Bouncer;
pub use crate::proxy::Proxy;

/// How long a server may take to start: after a kill it first reads its log.
const START: Duration = Duration::from_secs(60);

/// The process's own cluster, started by whoever asks first and shared by all who hold it. `None` if these tests are
/// to be skipped; that was said.
pub fn cluster() -> Option<Arc<Cluster>> {
    static SHARED: OnceLock<Mutex<Weak<Cluster>>> = OnceLock::new();
    if skipped() {
        return None;
    }
    let shared = SHARED.get_or_init(Mutex::default);
    let mut shared = shared.lock().expect("starting one does not panic half-way");
    if let Some(cluster) = shared.upgrade() {
        return Some(cluster);
    }
    let cluster = Arc::new(Cluster::start());
    *shared = Arc::downgrade(&cluster);
    Some(cluster)
}

/// Says so, so that whoever runs the tests can count it.
fn skipped() -> bool {
    let skip = std::env::var("EVERSTATE_TEST_SKIP").unwrap_or_default();
    let is = skip.split(',').any(|it| it.trim() == "postgres");
    if is {
        said("skipped: postgres is listed in EVERSTATE_TEST_SKIP");
    }
    is
}

#[allow(clippy::print_stdout, reason = "whoever runs the tests counts these lines")]
fn said(line: &str) {
    println!("{line}");
}

/// A running server with a data directory of its own.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    server: Mutex<Option<Child>>,
    n_databases: AtomicU32,
    settings: Vec<String>,
}

impl Cluster {
    /// One that nobody else uses: for tests that kill it.
    pub fn start() -> Cluster {
        Cluster::with(&[])
    }

    /// One with settings of its own (`name=value`).
    pub fn with(settings: &[&str]) -> Cluster {
        Cluster::within(&room(), settings)
    }

    /// The same, with all it has in a folder below this one.
    pub fn within(room: &Path, settings: &[&str]) -> Cluster {
        let folder = template::copy(room);
        let cluster = Cluster {
            port: free_port(),
            folder,
            server: Mutex::default(),
            n_databases: AtomicU32::new(0),
            settings: settings.iter().map(ToString::to_string).collect(),
        };
        cluster.go_on();
        cluster
    }

    /// One that offers TLS, with a certificate for `localhost` and `127.0.0.1`.
    pub fn with_tls() -> Cluster {
        Cluster::with(&["ssl=on", "ssl_cert_file=server.crt", "ssl_key_file=server.key"])
    }

    /// Whose certificates the one of such a cluster is.
    pub fn ca() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tls/ca.pem")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps everything, its log included.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// `postgres://...` of a new, empty database, over TCP.
    pub fn fresh_database(&self) -> String {
        self.url(&self.fresh_name())
    }

    /// A new, empty database: its name.
    pub fn fresh_name(&self) -> String {
        let n = self.n_databases.fetch_add(1, Ordering::SeqCst);
        let name = format!("test_{n}");
        self.sql(
            "postgres",
            &format!("CREATE DATABASE {name} TEMPLATE template0 STRATEGY wal_log"),
        );
        name
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://everstate@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs a statement in a database, by PostgreSQL's own client. What it prints, unaligned, without headings.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let mut psql = Command::new(binaries::find("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "everstate", "-d", database, "-h"]);
        psql.arg(&self.folder).args(["-p", &self.port.to_string(), "-c", statement]);
        let output = psql.output().expect("psql runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Runs a script in a database, all of it or nothing.
    pub fn load(&self, database: &str, script: &str) {
        let mut psql = Command::new(binaries::find("psql"));
        psql.args(["-XAtq1", "-v", "ON_ERROR_STOP=1", "-U", "everstate", "-d", database, "-h"]);
        psql.arg(&self.folder).args(["-p", &self.port.to_string(), "-f", "-"]);
        psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut psql = psql.spawn().expect("psql runs");
        let mut stdin = psql.stdin.take().expect("it was piped");
        // It reads all before it says much.
        stdin.write_all(script.as_bytes()).expect("psql reads");
        drop(stdin);
        let output = psql.wait_with_output().expect("psql ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the script fails: {said}");
    }

    /// As the power cut would end it, but for the disk.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// The server and all its connections stand still. What it was asked, it answers when it goes on.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let server = self.server.lock().expect("nobody panics while holding it");
        let pids = server.as_ref().map(|it| family(it.id())).unwrap_or_default();
        let pids = pids.iter().map(ToString::to_string);
        let _ = Command::new("kill").arg(format!("-{signal}")).args(pids).status();
    }

    /// Ends it at once and in order: whoever is connected is cut off.
    pub fn stop(&self) {
        self.end("INT");
    }

    fn end(&self, signal: &str) {
        let mut server = self.server.lock().expect("nobody panics while holding it");
        let Some(mut child) = server.take() else { return };
        // All of its processes: those of connections would go on for a moment.
        let pids = if signal == "KILL" { family(child.id()) } else { vec![child.id()] };
        let pids = pids.iter().map(ToString::to_string);
        let _ = Command::new("kill")
            .arg(format!("-{signal}"))
            .args(pids)
            .stderr(Stdio::null())
            .status();
        child.wait().expect("it ends");
    }

    /// Starts it (again), and returns when it takes connections.
    pub fn go_on(&self) {
        let mut server = self.server.lock().expect("nobody panics while holding it");
        assert!(server.is_none(), "it runs already");
        // The processes of one that was killed hold on to its memory for a moment; then it refuses to start.
        let until = Instant::now() + START;
        loop {
            match self.try_start() {
                Ok(child) => {
                    *server = Some(child);
                    return;
                }
                Err(why) => assert!(Instant::now() < until, "PostgreSQL does not start: {why}"),
            }
        }
    }

    fn try_start(&self) -> Result<Child, String> {
        let mut command = binaries::unprivileged(&binaries::find("postgres"), "QUIT");
        command.arg("-D").arg(self.folder.join("data"));
        command.args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        for it in &self.settings {
            command.args(["-c", it]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = starter::spawn(command).map_err(|err| err.to_string())?;
        let mut lines = BufReader::new(child.stderr.take().expect("it was piped"));
        let (mut said, mut line) = (String::new(), String::new());
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            if line.contains("ready to accept connections") {
                // What it says afterwards is read, so that it never waits to be heard.
                std::thread::spawn(move || {
                    std::io::copy(&mut lines.by_ref(), &mut std::io::sink())
                });
                return Ok(child);
            }
            said.push_str(&line);
            line.clear();
        }
        let _ = child.wait();
        Err(said)
    }
}

impl Drop for Cluster {
    /// At once, but so that it takes along what it holds of the system.
    fn drop(&mut self) {
        self.thaw();
        self.end("QUIT");
        // What is left of it lies in the memory of the machine.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A process and its children.
fn family(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|it| it.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// Nobody listens there; somebody else may a moment later, and then the start fails and says so.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

/// Where big and short-lived files go: into memory, if the machine has such a place.
pub(crate) fn room() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}
