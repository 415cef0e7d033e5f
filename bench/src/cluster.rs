//! What the nodes do that share a PostgreSQL: its parts, and what they have in common.

use std::path::Path;
use std::time::{Duration, Instant};

use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, Store, open};

use crate::http;
use crate::process::Server;

pub(crate) mod logs;
pub(crate) mod turns;
pub(crate) mod peers;
pub(crate) mod takeover;
pub(crate) mod idle;

/// A store on PostgreSQL. The master key lies in the folder: all nodes have the same.
pub(crate) async fn store(url: &str, folder: &Path) -> Store {
    let keys = Some(KeySource::File(folder.join("master.key")));
    open(url, Settings { keys, ..Settings::default() }).await.unwrap()
}

/// Until every bucket of the cluster is where it belongs.
pub(crate) async fn settle(node: &Server) {
    let mut last = String::new();
    let mut since = Instant::now();
    let end = Instant::now() + Duration::from_secs(120);
    while since.elapsed() < Duration::from_secs(4) {
        assert!(Instant::now() < end, "the nodes never come to rest: {last}");
        let (_, told) = http::ask_once(node.port, "GET", "/everstate/v1/nodes", "").unwrap();
        // What counts the time is left out.
        let told: String = told.split(',').filter(|it| it.contains("buckets")).collect();
        if told != last {
            (last, since) = (told, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
