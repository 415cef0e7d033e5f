//! What the nodes do that share a PostgreSQL: its parts, and what they have in common.

use std::path::Path;

use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, Store, open};

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
