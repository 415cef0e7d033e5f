//! PgBouncer in transaction mode in front of a cluster: no two statements need to meet the same session.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;

use crate::{Cluster, binaries, free_port, starter};

#[derive(Debug)]
pub struct Bouncer {
    child: Child,
    port: u16,
    folder: PathBuf,
    cluster: Arc<Cluster>,
}

impl Bouncer {
    pub fn before(cluster: &Arc<Cluster>) -> Bouncer {
        let port = free_port();
        let folder = cluster.folder.join(format!("bouncer-{port}"));
        fs::create_dir(&folder).expect("the port is ours, and so is the name");
        let users = folder.join("users.txt");
        let conf = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = transaction\n\
             default_pool_size = 5\nmax_client_conn = 500\nserver_fast_close = 1\n",
            cluster.port,
            users.display(),
        );
        let ini = folder.join("pgbouncer.ini");
        fs::write(&users, "\"everstate\" \"\"\n").expect("the folder is there");
        fs::write(&ini, conf).expect("the folder is there");
        if let Some((uid, gid)) = binaries::owner() {
            for path in [&folder, &users, &ini] {
                chown(path, Some(uid), Some(gid)).expect("root may give it");
            }
        }
        let mut command = binaries::unprivileged(&binaries::pgbouncer(), "KILL");
        command.arg(&ini).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = starter::spawn(command).expect("setpriv runs");
        let mut lines = BufReader::new(child.stderr.take().expect("it was piped"));
        let (mut said, mut line) = (String::new(), String::new());
        loop {
            assert!(lines.read_line(&mut line).is_ok_and(|n| n > 0), "PgBouncer ended: {said}");
            if line.contains("process up") {
                break;
            }
            said.push_str(&line);
            line.clear();
        }
        std::thread::spawn(move || std::io::copy(&mut lines.by_ref(), &mut std::io::sink()));
        Bouncer { child, port, folder, cluster: Arc::clone(cluster) }
    }

    /// `postgres://...` of a new, empty database behind it.
    pub fn fresh_database(&self) -> String {
        let name = self.cluster.fresh_name();
        format!("postgres://everstate@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
