//! Many callers at once, of whom some are stale and some come again: what they hear could be the story of one log.

use std::sync::Arc;

use everstate_runtime::ports::Log;
use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, open};
use everstate_test_history::recorder::{Checked, History};
use everstate_test_history::storm::{Heard, Storm};
use everstate_test_postgres::{Cluster, Proxy, cluster};

use crate::stores::on_each;

#[test]
fn what_callers_hear_is_the_story_of_one_log() {
    on_each(async |place| {
        for seed in 1..=2 {
            let history = History::new();
            let log = history.around(Arc::clone(&place.store.log));
            let storm = Storm::new(seed);
            storm.rage(&[Arc::clone(&log)]).await;
            storm.look(&*log).await.unwrap();
            let checked = history.check().unwrap_or_else(|it| panic!("{it}"));
            // A storm that fences nobody tests nothing; and without faults everybody hears what became of it.
            assert!(checked.landed > 200 && checked.fenced > 10, "{checked:?}");
            assert_eq!((checked.sessions, checked.unknown), (4, 0));
            assert!(checked.operations > 1_600, "{checked:?}");
        }
    });
}

// ---- several nodes, and what goes wrong between them and the database --------------------

/// Lets a storm rage over nodes at these addresses of one database. What it hears must be the story of one log, and in
/// the end everything is looked at through the last of them.
fn rages(storm: Storm, urls: &[String]) -> Checked {
    // For one long run: so many times as long.
    let times = std::env::var("EVERSTATE_TEST_STORM").map_or(1, |it| it.parse().unwrap());
    let storm = Storm { operations: storm.operations * times, ..storm };
    let folder = tempfile::tempdir().unwrap();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let history = History::new();
        let mut logs: Vec<Arc<dyn Log>> = Vec::new();
        for url in urls {
            let keys = Some(KeySource::File(folder.path().join("master.key")));
            let store = open(url, Settings { keys, ..Settings::default() }).await.unwrap();
            logs.push(history.around(store.log));
        }
        storm.rage(&logs).await;
        storm.look(&**logs.last().unwrap()).await.unwrap();
        history.check().unwrap_or_else(|it| panic!("{it}"))
    })
}

#[test]
fn two_nodes_tell_the_story_of_one_log() {
    let Some(cluster) = cluster() else { return };
    let url = cluster.fresh_database();
    let checked = rages(Storm::new(11), &[url.clone(), url]);
    assert!(checked.landed > 300 && checked.fenced > 100, "{checked:?}");
}

/// A connection is cut when a request has arrived and its answer has not: was it done, or was it not?
#[test]
fn so_do_nodes_whose_answers_are_lost() {
    let Some(cluster) = cluster() else { return };
    let name = cluster.fresh_name();
    let proxy = Arc::new(Proxy::to(cluster.port()));
    let cut = Arc::clone(&proxy);
    let storm = Storm {
        operations: 300,
        heard: Heard(Arc::new(move |n| {
            if n == 20 {
                cut.cut_one_in(9);
            }
        })),
        ..Storm::new(12)
    };
    let through = format!("postgres://everstate@127.0.0.1:{}/{name}", proxy.port());
    let checked = rages(storm, &[through.clone(), through, cluster.url(&name)]);
    assert!(checked.landed > 300 && checked.fenced > 100, "{checked:?}");
    assert!(proxy.n_cut() > 20, "{}", proxy.n_cut());
}

#[test]
fn so_do_nodes_whose_database_is_killed() {
    if cluster().is_none() {
        return;
    }
    let cluster = Arc::new(Cluster::start());
    let url = cluster.fresh_database();
    let kill = Arc::clone(&cluster);
    let heard = Heard(Arc::new(move |n| {
        if n.is_multiple_of(150) {
            let cluster = Arc::clone(&kill);
            tokio::task::spawn_blocking(move || {
                cluster.kill();
                cluster.go_on();
            });
        }
    }));
    let storm = Storm { operations: 300, heard, ..Storm::new(13) };
    let checked = rages(storm, &[url.clone(), url]);
    assert!(checked.landed > 450 && checked.fenced > 50, "{checked:?}");
}
