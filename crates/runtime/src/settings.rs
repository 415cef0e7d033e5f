//! How much a host keeps, how long it waits, and how much it does at once.

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
    /// What a slow reader may leave unread before it is sent to the log.
    pub unread_max: usize,
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
            unread_max: 4096,
            drain_ms: 30_000,
            poll_ms: 60_000,
        }
    }
}
