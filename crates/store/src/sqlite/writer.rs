//! The one that writes: takes what has gathered, writes it in one transaction, flushes, and only then answers.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use everstate_runtime::ports::Down;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::shelf::{Change, Hold, Wrote};
use crate::sqlite::apply::{Apply, Mark};
use crate::sqlite::checkpoint::Checkpoint;

/// At most so many changes share a flush.
const BATCH_MAX: usize = 1_024;
/// So many may wait; whoever comes then waits before the door.
const WAITING_MAX: usize = 4 * BATCH_MAX;

#[derive(Debug)]
pub(crate) struct Writer {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

struct Request {
    change: Change,
    answer: oneshot::Sender<Result<Wrote, Down>>,
    /// Given up when the change is decided.
    _hold: Hold,
}

impl Writer {
    pub(crate) fn start(db: Connection, checkpoint: Arc<Checkpoint>) -> Writer {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let thread = thread.spawn(move || {
            // However it ends, the other thread ends too.
            let close = Close(checkpoint);
            run(db, waiting, &close.0);
        });
        Writer { requests: Some(requests), thread: Some(thread.expect("a thread can be started")) }
    }

    pub(crate) async fn write(&self, change: Change, hold: Hold) -> Result<Wrote, Down> {
        let stopped = || Down("the store has stopped writing".to_owned());
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(stopped)?;
        let request = Request { change, answer, _hold: hold };
        requests.send(request).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

struct Close(Arc<Checkpoint>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Drop for Writer {
    /// What was taken in is still written; after this the files are free.
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported where it happened.
            let _ = thread.join();
        }
    }
}

fn run(mut db: Connection, mut waiting: mpsc::Receiver<Request>, checkpoint: &Checkpoint) {
    let mut apply = Apply::default();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut broken: Option<Down> = None;
    let mut pace = Pace::default();
    while waiting.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        pace.gather(&mut waiting, &mut batch);
        if let Some(why) = &broken {
            batch.drain(..).for_each(|it| drop(it.answer.send(Err(why.clone()))));
            continue;
        }
        let mut answers = Vec::with_capacity(batch.len());
        let mut marks = Vec::with_capacity(batch.len());
        for Request { change, answer, _hold } in batch.drain(..) {
            marks.push(change);
            answers.push((answer, _hold));
        }
        let wrote = {
            let _writing = checkpoint.writing.lock().expect("no one panics while holding it");
            write(&mut db, &mut apply, marks, &mut pace)
        };
        match wrote {
            Ok((wrote, bytes)) => {
                for ((answer, _hold), wrote) in answers.into_iter().zip(wrote) {
                    drop(answer.send(Ok(wrote)));
                }
                checkpoint.wrote(bytes);
            }
            Err(Failed { err, marks }) => {
                apply.forget();
                let why = Down(format!("the store could not write: {err}"));
                tracing::error!(%err, "a batch could not be written");
                if !is_harmless(&err) {
                    // What the disk holds after a failed flush, nobody knows until it is read anew. Going on could
                    // acknowledge what stands on something that was lost.
                    broken =
                        Some(Down(format!("{why}; it stops here: look at the disk and restart")));
                }
                for ((answer, _hold), mark) in answers.into_iter().zip(marks) {
                    let landed = mark.and_then(|it| it.read_back(&db));
                    drop(answer.send(landed.ok_or_else(|| why.clone())));
                }
            }
        }
    }
}

/// Where a flush is slow, those who were just answered are worth a short wait: they come back at once, and would
/// otherwise find the door closed for a whole flush, so that half of them always waits for the other half.
#[derive(Default)]
struct Pace {
    /// How long a flush takes, smoothed.
    flush: Duration,
    /// How many shared the last one.
    shared: usize,
}

/// A shorter flush is over before a wait would be.
const SLOW: Duration = Duration::from_micros(400);
const GLANCE: Duration = Duration::from_micros(50);

impl Pace {
    fn flushed(&mut self, shared: usize, took: Duration) {
        self.flush = (self.flush * 7 + took) / 8;
        self.shared = shared;
    }

    /// Takes in more, as long as more comes, for at most a quarter of a flush. Who is alone does not wait.
    fn gather(&self, waiting: &mut mpsc::Receiver<Request>, batch: &mut Vec<Request>) {
        if self.flush < SLOW || self.shared.max(batch.len()) < 2 {
            return;
        }
        let until = Instant::now() + self.flush / 4;
        while batch.len() < BATCH_MAX && Instant::now() < until {
            std::thread::sleep(GLANCE);
            let before = batch.len();
            while batch.len() < BATCH_MAX
                && let Ok(request) = waiting.try_recv()
            {
                batch.push(request);
            }
            if batch.len() == before {
                return;
            }
        }
    }
}

struct Failed {
    err: rusqlite::Error,
    /// How each change would be recognised if it has landed after all.
    marks: Vec<Option<Mark>>,
}

fn write(
    db: &mut Connection,
    apply: &mut Apply,
    changes: Vec<Change>,
    pace: &mut Pace,
) -> Result<(Vec<Wrote>, u64), Failed> {
    let marks: Vec<Option<Mark>> = changes.iter().map(Mark::of).collect();
    let mut wrote = Vec::with_capacity(changes.len());
    let mut bytes = 0;
    let all = (|| {
        let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            let (done, size) = apply.apply(&tx, change)?;
            bytes += size;
            wrote.push(done);
        }
        let flush = Instant::now();
        tx.commit()?;
        pace.flushed(wrote.len(), flush.elapsed());
        Ok(())
    })();
    match all {
        Ok(()) => Ok((wrote, bytes)),
        Err(err) => Err(Failed { err, marks }),
    }
}

/// Nothing was written, and the next batch may fare better.
fn is_harmless(err: &rusqlite::Error) -> bool {
    use ErrorCode::{
        ConstraintViolation, DatabaseBusy, DatabaseLocked, DiskFull, OutOfMemory, TooBig,
    };
    matches!(
        err.sqlite_error_code(),
        Some(ConstraintViolation | DatabaseBusy | DatabaseLocked | DiskFull | OutOfMemory | TooBig)
    )
}

#[cfg(test)]
mod tests;
