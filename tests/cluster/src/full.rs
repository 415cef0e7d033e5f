//! Logs append while the disk of their database fills up: what cannot be kept is not acknowledged, and it goes on when
//! there is room again. Nothing that was acknowledged is lost, also though PostgreSQL falls over where it cannot write
//! its own log.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everstate_runtime::ports::Log;
use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, Store, open};
use everstate_test_history::recorder::{Checked, History};
use everstate_test_history::storm::Storm;
use everstate_test_postgres::Cluster;

use crate::Wishes;

const NODES: usize = 3;
/// As large as the database needs to begin with, and a little more.
const ROOM: &str = "192m";
const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// So long nothing lands: it is full, and not only slow.
const STILL: Duration = Duration::from_secs(8);
/// A PostgreSQL that could not even start again in the meantime is started by whoever is on duty.
const STUCK: Duration = Duration::from_secs(20);

pub(crate) fn run(wishes: &Wishes) -> Result<String, String> {
    let disk = match Disk::make(&wishes.folder.join("disk")) {
        Ok(disk) => disk,
        Err(why) => return Ok(format!("skipped: no small disk can be made here: {why}\n")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|it| it.to_string())?.block_on(storm(wishes, &disk))
}

async fn storm(wishes: &Wishes, disk: &Disk) -> Result<String, String> {
    eprintln!("one PostgreSQL on a disk of {ROOM}");
    let cluster = Arc::new(Cluster::within(&disk.at, &[]));
    let url = cluster.fresh_database();
    let history = History::new();
    let mut stores: Vec<Store> = Vec::new();
    for _ in 0..NODES {
        stores.push(node(&url, &wishes.folder).await?);
    }
    let logs: Vec<Arc<dyn Log>> =
        stores.iter().map(|it| history.around(Arc::clone(&it.log))).collect();
    let storm = Storm {
        sessions: 12,
        callers: 12,
        operations: u64::MAX,
        patience: Duration::from_secs(15),
        ..Storm::new(u64::from(std::process::id()))
    };
    let raging = tokio::spawn({
        let (storm, logs) = (storm.clone(), logs.clone());
        async move { storm.rage(&logs).await }
    });
    let mut report = String::from(
        "| round | appended before | until nothing landed, s | started by hand | until it went on, s |\n\
         | ---: | ---: | ---: | --- | ---: |\n",
    );
    for round in 1..=wishes.rounds.unwrap_or(ROUNDS) {
        let before =
            landed_more(&storm, 300, PATIENCE).await.ok_or("nothing lands, though all is well")?;
        let began = Instant::now();
        let filler = disk.fill();
        while landed_more(&storm, 1, STILL).await.is_some() {
            if began.elapsed() > PATIENCE {
                return Err("appends land on a disk that is full".to_owned());
            }
            // It may have found a place that was free.
            disk.fill();
        }
        let filled = began.elapsed().saturating_sub(STILL).as_secs_f64();
        let refused = stores[0].registry.put(document(round)).await;
        if refused.is_ok() {
            return Err("a document was kept on a disk that is full".to_owned());
        }
        let began = Instant::now();
        disk.empty(&filler);
        let mut by_hand = "no";
        if landed_more(&storm, 1, STUCK).await.is_none() {
            by_hand = "yes";
            let cluster = Arc::clone(&cluster);
            let again = move || {
                cluster.kill();
                cluster.go_on();
            };
            tokio::task::spawn_blocking(again).await.map_err(|it| it.to_string())?;
        }
        landed_more(&storm, 1, PATIENCE)
            .await
            .ok_or("nothing lands, though there is room again")?;
        let again = began.elapsed().as_secs_f64();
        writeln!(report, "| {round} | {before} | {filled:.1} | {by_hand} | {again:.1} |").unwrap();
        eprintln!("round {round}: full after {filled:.1} s, went on after {again:.1} s");
    }
    storm.stop.store(true, Ordering::Relaxed);
    raging.await.map_err(|it| it.to_string())?;
    drop(stores);
    let store = node(&url, &wishes.folder).await?;
    history.settled();
    let log = history.around(Arc::clone(&store.log));
    storm.look(&*log).await?;
    let checked = history.check_what_landed().map_err(|it| it.to_string())?;
    let Checked { operations, landed, fenced, unknown, .. } = checked;
    writeln!(
        report,
        "\n{operations} operations counted: {landed} appends acknowledged, {fenced} fenced, of {unknown} nobody knew. \
         No acknowledged append is lost or doubled, every chain verifies."
    )
    .unwrap();
    Ok(report)
}

fn document(n: usize) -> everstate_runtime::ports::Put {
    everstate_runtime::ports::Put {
        project: "p".to_owned(),
        kind: "full".to_owned(),
        id: format!("round-{n}"),
        expect: None,
        body: vec![b'x'; 1 << 16].into(),
        now: 1,
        expires_at: None,
    }
}

async fn node(url: &str, folder: &Path) -> Result<Store, String> {
    let keys = Some(KeySource::File(folder.join("master.key")));
    let settings = Settings { keys, ..Settings::default() };
    open(url, settings).await.map_err(|it| it.to_string())
}

/// How many have landed when so many more have; `None` if that takes too long.
async fn landed_more(storm: &Storm, n: u64, patience: Duration) -> Option<u64> {
    let end = Instant::now() + patience;
    let wanted = storm.landed.load(Ordering::Relaxed) + n;
    while storm.landed.load(Ordering::Relaxed) < wanted {
        if Instant::now() > end {
            return None;
        }
        // tidy allows sleep: a program to be watched; who appends does not call back
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(storm.landed.load(Ordering::Relaxed))
}

/// A small file system of its own. It goes with whoever made it.
struct Disk {
    at: PathBuf,
}

impl Disk {
    fn make(at: &Path) -> Result<Disk, String> {
        fs::create_dir_all(at).map_err(|it| it.to_string())?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={ROOM},mode=0755"), "tmpfs"]).arg(at);
        let output = mount.stdin(Stdio::null()).output().map_err(|it| it.to_string())?;
        match output.status.success() {
            true => Ok(Disk { at: at.to_owned() }),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        }
    }

    /// Takes all that is left.
    fn fill(&self) -> PathBuf {
        let filler = self.at.join("filler");
        let file = File::options().create(true).append(true).open(&filler);
        let (mut file, chunk) = (file.expect("the disk is ours"), vec![0; 1 << 12]);
        while file.write_all(&chunk).is_ok() {}
        filler
    }

    fn empty(&self, filler: &Path) {
        fs::remove_file(filler).expect("it was made");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also if somebody looks into it still.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}
