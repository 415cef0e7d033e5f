//! Other processes: this program again, and the server that is measured.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::http::ask_once;

/// This program, sent on an errand.
pub(crate) fn errand(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(format!("errand:{name}")).args(arguments);
    command
}

/// Runs it to its end and gives back what it printed.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?} failed: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it until it prints a line, and gives it back running.
pub(crate) fn until_it_speaks(command: &mut Command) -> (Child, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!line.is_empty(), "{command:?} ended without a word");
    (child, line.trim().to_owned())
}

/// As `kill -9` does.
pub(crate) fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// What the system says about how busy it is, over one, five and fifteen minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
}

/// Makes every flush of a process take a millisecond longer: a library to be preloaded.
pub(crate) fn slow_flush(folder: &Path) -> PathBuf {
    const SOURCE: &str = include_str!("process/slow_flush.c");
    let (source, library) = (folder.join("slow_flush.c"), folder.join("slow_flush.so"));
    fs::write(&source, SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    assert!(gcc.status().expect("gcc is there").success(), "the library does not build");
    library
}

// ---- the server --------------------------------------------------------------------------

const KEY: &str = "bench-admin-key";

/// The same for all nodes. It guards nothing.
const MASTER_KEY: &str = "0000000000000000000000000000000000000000000000000000000000000001";

#[derive(Debug)]
pub(crate) struct Server {
    child: Option<Child>,
    pub(crate) port: u16,
    /// From the start of the process to its first "ready".
    pub(crate) ready_after: Duration,
}

impl Server {
    /// One on its own file.
    pub(crate) fn start(everstate: &Path, folder: &Path, config: &str) -> Server {
        let store = format!("sqlite:{}", folder.join("state.db").display());
        Server::run(everstate, folder, config, &store, "server")
    }

    /// One of many on a database. Its folder may be the others' too.
    pub(crate) fn node(
        everstate: &Path,
        folder: &Path,
        config: &str,
        url: &str,
        name: &str,
    ) -> Server {
        Server::run(everstate, folder, config, url, name)
    }

    fn run(everstate: &Path, folder: &Path, config: &str, store: &str, name: &str) -> Server {
        let port = free_port();
        let path = folder.join(format!("{name}.toml"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new(everstate);
        command.arg("serve").args(["--listen", &format!("127.0.0.1:{port}"), "--store", store]);
        if store.starts_with("postgres") {
            command.args(["--node-name", name]).env("EVERSTATE_MASTER_KEY", MASTER_KEY);
        }
        command.arg("--config").arg(path).current_dir(folder);
        command.env("EVERSTATE_ADMIN_KEY", KEY).env_remove("OPENAI_API_KEY");
        let said = folder.join(format!("{name}.log"));
        let log = fs::File::create(&said).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        loop {
            if let Ok((200, _)) = ask_once(port, "GET", "/readyz", "") {
                break;
            }
            if let Some(status) = child.try_wait().unwrap() {
                let said = fs::read_to_string(said).unwrap();
                panic!("the server ended ({status}): {said}");
            }
            assert!(began.elapsed() < Duration::from_secs(300), "the server is never ready");
            std::thread::sleep(Duration::from_millis(1));
        }
        Server { ready_after: began.elapsed(), child: Some(child), port }
    }

    /// A number from `/proc/PID/FILE`, such as `VmRSS`.
    pub(crate) fn proc(&self, file: &str, name: &str) -> u64 {
        let pid = self.child.as_ref().unwrap().id();
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let line = text.lines().find(|it| it.starts_with(name)).expect("the system says so");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time it has taken.
    pub(crate) fn worked(&self) -> Duration {
        let pid = self.child.as_ref().unwrap().id();
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            kill(child);
        }
    }
}

pub(crate) fn authorization() -> String {
    format!("Authorization: Bearer {KEY}\r\n")
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
