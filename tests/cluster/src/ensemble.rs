//! Three etcd, three Patroni, and the three PostgreSQL these look after, with synchronous replication in strict mode: a
//! commit is acknowledged when two of them have it on disk, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{self, Answer, Ask, LOOPBACK};
use crate::processes::{self, Signal, command, family, signal};

const N: usize = 3;
const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Within this time somebody has seen that something is wrong, if it is.
const NOTICED: Duration = Duration::from_secs(5);
/// Who has not come along by then does not come by itself.
const STUCK: Duration = Duration::from_secs(30);
pub(crate) const DATABASE: &str = "everstate";

#[derive(Debug)]
pub(crate) struct Ensemble {
    folder: PathBuf,
    careless: bool,
    etcds: Vec<Child>,
    /// Where etcd listens to clients.
    etcd_ports: Vec<u16>,
    pub(crate) members: Vec<Member>,
}

/// A Patroni and its PostgreSQL.
#[derive(Debug)]
pub(crate) struct Member {
    name: String,
    folder: PathBuf,
    patroni: Child,
    /// Where Patroni says how it is.
    rest: u16,
    port: u16,
}

/// How one of them stands, as its neighbours see it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) role: String,
    pub(crate) state: String,
    pub(crate) timeline: Option<u64>,
}

impl Ensemble {
    /// Starts everybody, and waits until all is well. Careless: nobody waits for a standby.
    pub(crate) fn start(folder: &Path, careless: bool) -> Ensemble {
        let ports = processes::free_ports(4 * N);
        let (clients, peers) = (&ports[..N], &ports[N..2 * N]);
        let cluster: Vec<String> =
            (0..N).map(|n| format!("etcd{n}=http://127.0.0.1:{}", peers[n])).collect();
        let etcds = (0..N).map(|n| {
            let client = format!("http://127.0.0.1:{}", clients[n]);
            let peer = format!("http://127.0.0.1:{}", peers[n]);
            let mut etcd = command("etcd");
            etcd.args(["--name", &format!("etcd{n}"), "--data-dir"]);
            etcd.arg(folder.join(format!("etcd{n}")));
            etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
            etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            etcd.args(["--initial-cluster", &cluster.join(",")]);
            processes::start(&mut etcd, &folder.join(format!("etcd{n}.log")))
        });
        let (etcds, etcd_ports) = (etcds.collect(), clients.to_vec());
        let hosts: Vec<String> = clients.iter().map(|it| format!("127.0.0.1:{it}")).collect();
        let members = (0..N).map(|n| {
            let (rest, port) = (ports[2 * N + n], ports[3 * N + n]);
            let name = format!("pg{n}");
            let config = config(&name, folder, &hosts.join(","), rest, port, careless);
            fs::write(folder.join(format!("{name}.yml")), config).unwrap();
            let patroni = start_patroni(folder, &name);
            Member { name, folder: folder.to_owned(), patroni, rest, port }
        });
        let members = members.collect();
        let ensemble = Ensemble { folder: folder.to_owned(), careless, etcds, etcd_ports, members };
        ensemble.wait_until_well(Duration::from_secs(120)).expect("it comes up");
        ensemble.create_database();
        ensemble
    }

    fn create_database(&self) {
        let leader = self.leader().expect("all is well");
        let port = self.members[leader].port.to_string();
        let mut createdb = command(&format!("{BIN}/createdb"));
        createdb.args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", DATABASE]);
        assert!(createdb.status().unwrap().success(), "the database cannot be made");
    }

    /// An address that finds whoever leads.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> =
            self.members.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        let options = "target_session_attrs=read-write&connect_timeout=2";
        format!("postgres://postgres@{}/{DATABASE}?{options}", hosts.join(","))
    }

    /// How everybody stands, as the first who answers sees it.
    fn standings(&self) -> Option<Vec<Standing>> {
        let text = self.members.iter().find_map(|it| http::get((LOOPBACK, it.rest), "/cluster"))?;
        let told: Value = serde_json::from_str(&text).ok()?;
        let of = |name: &str| {
            let told = told["members"].as_array()?.iter().find(|it| it["name"] == name)?;
            Some(Standing {
                role: told["role"].as_str()?.to_owned(),
                state: told["state"].as_str()?.to_owned(),
                timeline: told["timeline"].as_u64(),
            })
        };
        self.members.iter().map(|it| of(&it.name)).collect()
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        self.standings()?.iter().position(|it| it.role == "leader" && it.state == "running")
    }

    pub(crate) fn synchronous(&self) -> Option<usize> {
        self.standings()?.iter().position(|it| it.role == "sync_standby")
    }

    /// One leads, one follows synchronously, all are on the same timeline.
    pub(crate) fn is_well(&self) -> bool {
        let Some(all) = self.standings() else { return false };
        let n_of = |role: &str| all.iter().filter(|it| it.role == role).count();
        let same = all.iter().all(|it| it.timeline.is_some() && it.timeline == all[0].timeline);
        let running = all.iter().all(|it| it.state == "running" || it.state == "streaming");
        let follows = self.careless || n_of("sync_standby") == 1;
        n_of("leader") == 1 && follows && same && running
    }

    /// After a fault, which is not noticed at once: until all is well again.
    pub(crate) fn wait_until_well_again(&self, patience: Duration) -> Result<(), String> {
        let end = Instant::now() + NOTICED;
        while self.is_well() && Instant::now() < end {
            processes::pause(Duration::from_millis(50));
        }
        self.wait_until_well(patience)
    }

    pub(crate) fn wait_until_well(&self, patience: Duration) -> Result<(), String> {
        let began = Instant::now();
        let mut helped = began;
        while !self.is_well() {
            if began.elapsed() > patience {
                let told = format!("{:?}", self.standings());
                return Err(format!("the ensemble does not come to rest: {told}"));
            }
            if helped.elapsed() > STUCK {
                helped = Instant::now();
                self.help();
            }
            processes::pause(Duration::from_millis(200));
        }
        Ok(())
    }

    /// What whoever is on duty would do. One that was killed as the leader now and then stays behind on its old timeline,
    /// and its Patroni does not see it: it is copied from the leader again. And Patroni 3.0 can leave a note behind that
    /// somebody who leads no more was followed by nobody; the new leader takes it for another's word and never writes who
    /// follows itself, although PostgreSQL waits for it. The note is taken away.
    fn help(&self) {
        let Some(all) = self.standings() else { return };
        let newest = all.iter().filter_map(|it| it.timeline).max();
        let mut is_behind = false;
        for (member, standing) in self.members.iter().zip(&all) {
            if standing.role != "leader" && standing.timeline < newest {
                is_behind = true;
                eprintln!("{} stays behind, and is copied again", member.name);
                let (path, body) = ("/reinitialize", "{\"force\": true}");
                let ask =
                    Ask { at: (LOOPBACK, member.rest), method: "POST", path, key: None, body };
                let _ = ask.send().and_then(Answer::text);
            }
        }
        if !is_behind && all.iter().any(|it| it.role == "leader") {
            eprintln!("nobody is named who follows: the old note of it is taken away");
            // The key `/service/everstate/sync`.
            let (path, body) =
                ("/v3/kv/deleterange", r#"{"key": "L3NlcnZpY2UvZXZlcnN0YXRlL3N5bmM="}"#);
            for port in &self.etcd_ports {
                let ask = Ask { at: (LOOPBACK, *port), method: "POST", path, key: None, body };
                if ask.send().is_ok_and(|it| it.status == 200) {
                    return;
                }
            }
        }
    }
}

impl Member {
    /// The first process of its PostgreSQL, if it runs.
    pub(crate) fn postgres(&self) -> Option<u32> {
        let path = self.folder.join(&self.name).join("postmaster.pid");
        let pid: u32 = fs::read_to_string(path).ok()?.lines().next()?.trim().parse().ok()?;
        // A file that was left behind may name somebody else by now.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (name.trim() == "postgres").then_some(pid)
    }

    pub(crate) fn patroni(&self) -> u32 {
        self.patroni.id()
    }

    /// Everything of it: Patroni, PostgreSQL and the processes these have started.
    pub(crate) fn everything(&self) -> Vec<u32> {
        let mut all = family(self.patroni());
        all.extend(self.postgres().into_iter().flat_map(family));
        all
    }

    /// After it was killed.
    pub(crate) fn restart_patroni(&mut self) {
        self.patroni.wait().unwrap();
        self.patroni = start_patroni(&self.folder, &self.name);
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for member in &mut self.members {
            let all = member.everything();
            signal(&all, Signal::Kill);
            let _ = member.patroni.wait();
        }
        for etcd in &mut self.etcds {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
        let _ = fs::remove_file(self.folder.join("pgpass"));
    }
}

fn start_patroni(folder: &Path, name: &str) -> Child {
    let mut patroni = command("patroni");
    patroni.arg(folder.join(format!("{name}.yml"))).env("HOME", folder).current_dir(folder);
    processes::start(&mut patroni, &folder.join(format!("{name}.log")))
}

/// Short times, so that a failover takes seconds; the leader's key lives for ten.
fn config(name: &str, folder: &Path, etcds: &str, rest: u16, port: u16, careless: bool) -> String {
    let (folder, synchronous) = (folder.display(), !careless);
    format!(
        "scope: everstate
name: {name}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
etcd3: {{hosts: '{etcds}'}}
watchdog: {{mode: 'off'}}
bootstrap:
  dcs:
    ttl: 10
    loop_wait: 2
    retry_timeout: 3
    maximum_lag_on_failover: 104857600
    master_start_timeout: 0
    synchronous_mode: {synchronous}
    synchronous_mode_strict: {synchronous}
    postgresql:
      use_pg_rewind: true
      parameters:
        wal_log_hints: 'on'
        max_connections: 120
        shared_buffers: 64MB
        synchronous_commit: 'on'
        wal_sender_timeout: 5s
        wal_receiver_timeout: 5s
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}, data-checksums]
postgresql:
  listen: 127.0.0.1:{port}
  connect_address: 127.0.0.1:{port}
  data_dir: {folder}/{name}
  bin_dir: {BIN}
  pgpass: {folder}/{name}.pgpass
  authentication:
    superuser: {{username: postgres, password: on-loopback-only}}
    replication: {{username: replicator, password: on-loopback-only}}
    rewind: {{username: rewinder, password: on-loopback-only}}
  parameters: {{unix_socket_directories: {folder}}}
  pg_hba:
  - local all all trust
  - host all all 127.0.0.1/32 trust
  - host replication all 127.0.0.1/32 trust
"
    )
}
