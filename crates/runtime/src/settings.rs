//! How much a host keeps, how long it waits, and how much it does at once; and who it is among others.

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::ids::Millis;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// A session nobody touches leaves memory after so long.
    pub linger_ms: Millis,
    /// Folded sessions kept in memory, by number and by bytes of their items.
    pub cached_max: usize,
    pub cached_bytes_max: u64,
    /// A resumable turn's deltas are gathered for so long, or until they are so many bytes; the first is not held.
    pub flush_ms: Millis,
    pub flush_bytes: usize,
    /// What an attempt may hold back while the store does not take it...
    pub held_bytes_max: usize,
    /// ...and for how long, before it is given up.
    pub stall_ms: Millis,
    /// Requests that one offer may have under way without a first word.
    pub starts_per_offer: usize,
    /// Sessions that are loaded and adopted at the same time when a host starts.
    pub adopt_at_once: usize,
    /// A snapshot is made after so many appends, or half as many as there are items, whichever is more.
    pub snapshot_appends: u64,
    /// Closed history is packed when it has grown by so many rows.
    pub roll_up_rows: u64,
    /// How long the stream of an ended turn can be resumed. Its frames are not packed away before.
    pub stream_kept_ms: Millis,
    /// The same for the projects that say it themselves, or `*` for all others.
    pub streams_kept: BTreeMap<String, Millis>,
    /// Projects of which nothing is written but facts; `*` is all that are not named in `unveiled`.
    pub veiled: BTreeSet<String>,
    pub unveiled: BTreeSet<String>,
    /// What a slow reader may leave unread before it is sent to the log.
    pub unread_max: usize,
    /// How long a caller is expected back whose answer was cut off, or whose node is gone.
    pub expected_back_ms: Millis,
    /// How long a shutdown waits for what is under way.
    pub drain_ms: Millis,
    /// The clock of sleeping sessions is looked at this often, whatever was promised.
    pub poll_ms: Millis,
}

impl Default for HostSettings {
    fn default() -> HostSettings {
        HostSettings {
            linger_ms: 30_000,
            cached_max: 4096,
            cached_bytes_max: 64 << 20,
            flush_ms: 30,
            flush_bytes: 4 << 10,
            held_bytes_max: 256 << 10,
            stall_ms: 10_000,
            starts_per_offer: 64,
            adopt_at_once: 128,
            snapshot_appends: 64,
            roll_up_rows: 1000,
            stream_kept_ms: 86_400_000,
            streams_kept: BTreeMap::new(),
            veiled: BTreeSet::new(),
            unveiled: BTreeSet::new(),
            unread_max: 4096,
            expected_back_ms: 10_000,
            drain_ms: 30_000,
            poll_ms: 60_000,
        }
    }
}

impl HostSettings {
    /// How long a project's streams can be resumed.
    pub(crate) fn stream_kept_ms_of(&self, project: &str) -> Millis {
        let said = self.streams_kept.get(project).or_else(|| self.streams_kept.get("*"));
        said.copied().unwrap_or(self.stream_kept_ms)
    }

    /// Is nothing of this project written but facts?
    pub(crate) fn is_veiled(&self, project: &str) -> bool {
        let by_all = || self.veiled.contains("*") && !self.unveiled.contains(project);
        !self.veiled.is_empty() && (self.veiled.contains(project) || by_all())
    }
}

/// One of many equal nodes. All nodes of a cluster must agree on `lease_ms`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// Stable: a node that is started again under its name gets back what it had. No two may run under one name.
    pub name: String,
    /// Where the others reach it: a base URL, as `http://10.0.0.7:8080`.
    pub address: String,
    /// The release, to be shown.
    pub version: String,
    /// A node that was silent for so long has lost its sessions.
    pub lease_ms: Millis,
    /// How often it says that it lives.
    pub beat_ms: Millis,
    /// How often it looks at the others.
    pub look_ms: Millis,
    /// How long an input for a session of another node waits for its outcome.
    pub wait_ms: Millis,
    /// How long what is under way may go on when its session moves to another node.
    pub hand_over_ms: Millis,
    /// How often the log is read where the owner's live tail cannot be had.
    pub read_ms: Millis,
}

impl NodeSettings {
    pub fn new(name: &str, address: &str, version: &str) -> NodeSettings {
        NodeSettings {
            name: name.to_owned(),
            address: address.to_owned(),
            version: version.to_owned(),
            lease_ms: 10_000,
            beat_ms: 2_000,
            look_ms: 1_000,
            wait_ms: 10_000,
            hand_over_ms: 30_000,
            read_ms: 200,
        }
    }
}
