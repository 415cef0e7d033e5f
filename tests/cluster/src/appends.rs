//! Three nodes' logs append through the failovers: nothing that was acknowledged may be lost.
//!
//! A PostgreSQL that has lost the leadership and was not told answers reads from before, until it hears of it; and it may
//! take an append for late. So while faults happen only what was acknowledged counts; in the end, when all is well,
//! everything is read and every answer counts.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use everstate_runtime::ports::Log;
use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, Store, open};
use everstate_test_history::recorder::{Checked, History};
use everstate_test_history::storm::Storm;

use crate::Wishes;
use crate::ensemble::Ensemble;

const NODES: usize = 3;

/// Until all is well again.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) fn run(wishes: &Wishes) -> Result<String, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|it| it.to_string())?.block_on(storm(wishes))
}

async fn storm(wishes: &Wishes) -> Result<String, String> {
    eprintln!("three etcd, three Patroni, three PostgreSQL");
    let (folder, careless) = (wishes.folder.clone(), wishes.careless);
    let mut ensemble = blocking(move || Ensemble::start(&folder, careless)).await;
    let history = History::new();
    let mut stores: Vec<Store> = Vec::new();
    for _ in 0..NODES {
        stores.push(node(&ensemble, &wishes.folder).await?);
    }
    let logs: Vec<Arc<dyn Log>> =
        stores.iter().map(|it| history.around(Arc::clone(&it.log))).collect();
    let storm = Storm {
        sessions: 12,
        callers: 12,
        operations: u64::MAX,
        patience: Duration::from_secs(8),
        ..Storm::new(u64::from(std::process::id()))
    };
    let raging = tokio::spawn({
        let (storm, logs) = (storm.clone(), logs.clone());
        async move { storm.rage(&logs).await }
    });
    let silence = Arc::new(Silence::default());
    let watching = tokio::spawn(Arc::clone(&silence).watch(storm.clone()));

    let mut report =
        String::from("| fault | until all was well, s | silence, s | appended since |\n");
    report.push_str("| --- | ---: | ---: | ---: |\n");
    silence.longest();
    for fault in wishes.faults() {
        // Some work in peace, so that each fault meets all in its stride.
        let before = landed_more(&storm, 200).await?;
        let began = Instant::now();
        ensemble = blocking(move || {
            let leader = ensemble.leader().expect("all was well");
            (fault.happens)(&mut ensemble, leader);
            ensemble
        })
        .await;
        let (back, well) = blocking(move || {
            let well = ensemble.wait_until_well_again(PATIENCE);
            (ensemble, well)
        })
        .await;
        ensemble = back;
        well.map_err(|it| format!("after `{}`: {it}", fault.name))?;
        let took = began.elapsed();
        let after = landed_more(&storm, 50).await?;
        writeln!(
            report,
            "| {} | {:.1} | {:.1} | {} |",
            fault.name,
            took.as_secs_f64(),
            silence.longest().as_secs_f64(),
            after - before
        )
        .unwrap();
        eprintln!("{}: {} appends landed", fault.name, after);
    }
    storm.stop.store(true, Ordering::Relaxed);
    raging.await.map_err(|it| it.to_string())?;
    watching.await.map_err(|it| it.to_string())?;
    // What is on its way lands, or never will.
    ensemble.wait_until_well(PATIENCE)?;
    drop(stores);
    let store = node(&ensemble, &wishes.folder).await?;
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

/// What a node has of the database. All have the same master key.
async fn node(ensemble: &Ensemble, folder: &Path) -> Result<Store, String> {
    let keys = Some(KeySource::File(folder.join("master.key")));
    let settings = Settings { keys, ..Settings::default() };
    open(&ensemble.url(), settings).await.map_err(|it| it.to_string())
}

/// Waits until so many more have landed.
async fn landed_more(storm: &Storm, n: u64) -> Result<u64, String> {
    let end = Instant::now() + PATIENCE;
    let wanted = storm.landed.load(Ordering::Relaxed) + n;
    while storm.landed.load(Ordering::Relaxed) < wanted {
        if Instant::now() > end {
            return Err("nothing lands any more, though all is well".to_owned());
        }
        pause().await;
    }
    Ok(storm.landed.load(Ordering::Relaxed))
}

/// How long nothing landed, at most, since somebody asked.
#[derive(Debug, Default)]
struct Silence(Mutex<Duration>);

impl Silence {
    async fn watch(self: Arc<Silence>, storm: Storm) {
        let (mut since, mut last) = (Instant::now(), 0);
        while !storm.stop.load(Ordering::Relaxed) {
            let landed = storm.landed.load(Ordering::Relaxed);
            if landed > last {
                (last, since) = (landed, Instant::now());
            }
            {
                let mut longest = self.0.lock().unwrap();
                *longest = longest.max(since.elapsed());
            }
            pause().await;
        }
    }

    fn longest(&self) -> Duration {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

async fn pause() {
    // tidy allows sleep: a program to be watched; who appends does not call back
    tokio::time::sleep(Duration::from_millis(20)).await;
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}
