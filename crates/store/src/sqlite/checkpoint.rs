//! Moves what was written from the write-ahead log to its place in the main file, beside the writer.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use everstate_runtime::ports::Down;
use rusqlite::Connection;

/// Moved in the background from this many bytes on.
const MOVE: u64 = 8 * 1024 * 1024;
/// From here on the writer is held up for a moment, so that the log can begin anew.
const RESTART: u64 = 64 * 1024 * 1024;

/// How often the log is tried to be cut while somebody reads.
const PATIENCE: usize = 100;

pub(crate) struct Checkpoint {
    db: Mutex<Connection>,
    state: Mutex<State>,
    wake: Condvar,
    /// Held by the writer during a transaction, and here while the log is cut.
    pub(crate) writing: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// About how long the log is.
    wal: u64,
    closed: bool,
}

impl Checkpoint {
    pub(crate) fn start(db: Connection) -> (Arc<Checkpoint>, Thread) {
        // While it waits for a reader, the writer waits too: rather it tries again later.
        db.busy_timeout(Duration::from_millis(10)).expect("a timeout can be set");
        let checkpoint = Arc::new(Checkpoint {
            db: Mutex::new(db),
            state: Mutex::default(),
            wake: Condvar::new(),
            writing: Mutex::default(),
        });
        let theirs = Arc::clone(&checkpoint);
        let thread = std::thread::Builder::new().name("store-checkpoint".to_owned());
        let thread = thread.spawn(move || run(&theirs)).expect("a thread can be started");
        (checkpoint, Thread(Some(thread)))
    }

    /// The writer has flushed about so many bytes.
    pub(crate) fn wrote(&self, bytes: u64) {
        let mut state = lock(&self.state);
        let before = state.wal;
        state.wal += bytes;
        if before / MOVE != state.wal / MOVE {
            self.wake.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_one();
    }

    /// Gives free pages back, and leaves nothing in the log. The writer gets its turn in between.
    pub(crate) fn scrub(&self) -> Result<(), Down> {
        let db = lock(&self.db);
        let failed = |err| Down(format!("cannot clean the write-ahead log: {err}"));
        while self.give_back(&db).map_err(failed)? {
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..PATIENCE {
            if self.cut(&db).map_err(failed)? {
                return Ok(());
            }
            // A reader that began before holds the log open; it ends soon.
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Down("readers hold the write-ahead log open".to_owned()))
    }

    /// Are there more?
    fn give_back(&self, db: &Connection) -> rusqlite::Result<bool> {
        let _writing = lock(&self.writing);
        // It frees one page for each row it is asked for, at most so many.
        let mut vacuum = db.prepare("PRAGMA incremental_vacuum(256)")?;
        let mut pages = vacuum.query([])?;
        while pages.next()?.is_some() {}
        let free: i64 = db.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
        Ok(free > 0)
    }

    fn cut(&self, db: &Connection) -> rusqlite::Result<bool> {
        let _writing = lock(&self.writing);
        let cut = truncate(db)?;
        if cut {
            lock(&self.state).wal = 0;
        }
        Ok(cut)
    }

    fn step(&self) {
        let db = lock(&self.db);
        let moved = (|| -> rusqlite::Result<bool> {
            let mut all = mode(&db, "PRAGMA wal_checkpoint(PASSIVE)")?;
            if lock(&self.state).wal >= RESTART {
                let _writing = lock(&self.writing);
                all = mode(&db, "PRAGMA wal_checkpoint(RESTART)")?;
            }
            Ok(all)
        })();
        match moved {
            // The next write begins at the front again.
            Ok(true) => lock(&self.state).wal = 0,
            Ok(false) => {}
            Err(err) => tracing::warn!(%err, "cannot move the write-ahead log; it grows"),
        }
    }
}

/// Is all of it in its place?
fn mode(db: &Connection, pragma: &str) -> rusqlite::Result<bool> {
    db.query_row(pragma, [], |row| {
        let (busy, log, moved): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(busy == 0 && log == moved)
    })
}

fn truncate(db: &Connection) -> rusqlite::Result<bool> {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Ends after [`Checkpoint::close`]; whoever drops this waits for it.
#[derive(Debug)]
pub(crate) struct Thread(Option<JoinHandle<()>>);

impl Drop for Thread {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic in there was reported where it happened.
            let _ = thread.join();
        }
    }
}

fn run(checkpoint: &Checkpoint) {
    loop {
        let state = lock(&checkpoint.state);
        let idle = |state: &mut State| state.wal < MOVE && !state.closed;
        let state = checkpoint.wake.wait_while(state, idle);
        let closed = state.expect("no one panics while holding it").closed;
        if closed {
            return;
        }
        checkpoint.step();
        // What could not be moved is tried again when more has come, not at once.
        let state = lock(&checkpoint.state);
        if state.wal >= MOVE && !state.closed {
            let woken = checkpoint.wake.wait_timeout(state, Duration::from_millis(50));
            drop(woken.expect("no one panics while holding it"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panics while holding it")
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checkpoint")
    }
}
