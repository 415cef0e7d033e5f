//! Other programs: started as somebody who is not root (PostgreSQL refuses to run as root), stopped, continued, killed.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Who runs the database, where we are root.
const USER: &str = "postgres";

/// Made for whoever runs the database.
pub(crate) fn make_folder(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    if is_root() {
        let status = Command::new("chown").arg(USER).arg(folder).status().unwrap();
        assert!(status.success(), "{} cannot be given to {USER}", folder.display());
    }
}

/// A command that runs as nobody special.
pub(crate) fn command(program: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let user = format!("--reuid={USER}");
    command.args([user.as_str(), &format!("--regid={USER}"), "--clear-groups", program]);
    command
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|it| it.strip_prefix("Uid:"));
    ids.and_then(|it| it.split_whitespace().nth(1)).is_some_and(|it| it == "0")
}

/// Starts it; what it says goes to a file.
pub(crate) fn start(command: &mut Command, log: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    let again = log.try_clone().unwrap();
    command.stdin(Stdio::null()).stdout(again).stderr(log);
    command.spawn().unwrap_or_else(|err| panic!("cannot run {command:?}: {err}"))
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Kill,
    Stop,
    Continue,
}

/// To processes that we started. One that is gone already hears nothing.
pub(crate) fn signal(pids: &[u32], signal: Signal) {
    let word = match signal {
        Signal::Kill => "-KILL",
        Signal::Stop => "-STOP",
        Signal::Continue => "-CONT",
    };
    for pid in pids {
        let _ = Command::new("kill").args([word, &pid.to_string()]).stderr(Stdio::null()).status();
    }
}

/// A process and all that came of it, itself first.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything.
        let parent = stat.rsplit(')').next().and_then(|it| it.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|it| it.parse::<u32>().ok()) {
            parents.push((child, parent));
        }
    }
    let mut family = vec![pid];
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(parents.iter().filter(|(_, it)| *it == parent).map(|(child, _)| *child));
        at += 1;
    }
    family
}

/// What happens to other people's programs takes its time.
pub(crate) fn pause(time: std::time::Duration) {
    // tidy allows sleep: a program to be watched; nobody here calls back
    std::thread::sleep(time);
}

/// Different ones: all are held until all are found.
pub(crate) fn free_ports(n: usize) -> Vec<u16> {
    let held: Vec<TcpListener> =
        (0..n).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|it| it.local_addr().unwrap().port()).collect()
}
