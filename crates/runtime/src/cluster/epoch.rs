//! Epochs of sessions, where buckets change hands: the revision that gave the bucket to its owner, then the owner's
//! process. They grow with every owner of a session, and tell which process it was.

/// Processes are numbered below this.
const PROCESSES: u64 = 1 << 32;

/// With which a process adopts the sessions of a bucket that it has had since a revision.
pub(crate) fn epoch(since: u64, process: u64) -> u64 {
    since * PROCESSES + process % PROCESSES
}

/// The process that owned a session under this epoch.
pub(crate) fn process_of(epoch: u64) -> u64 {
    epoch % PROCESSES
}
