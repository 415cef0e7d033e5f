//! Those that append: each lane takes what has gathered for its buckets, writes it as one, and answers when the server
//! has confirmed it. While one batch is on its way, the next one gathers.
//!
//! If a connection breaks between a write and its answer, the same batch is written again over another one. What had
//! landed is found by its keyed hash, and what had not lands now; so an outcome stays unknown only as long as the
//! server cannot be reached.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use everstate_runtime::ports::Down;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::postgres::apply::{Heads, Tried, attempt};
use crate::postgres::connect::{Line, Target, wait_a_little};
use crate::postgres::trouble::{Kind, Trouble};
use crate::shelf::{Append, Hold, Wrote};

/// A session's appends always take the same lane.
const LANES: usize = 4;
/// At most so many appends share a commit, and about so many bytes.
const BATCH_MAX: usize = 256;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// So many may wait in a lane; whoever comes then waits before the door.
const WAITING_MAX: usize = 1_024;

pub(super) struct Writer {
    lanes: Vec<mpsc::Sender<Request>>,
}

struct Request {
    append: Box<Append>,
    answer: oneshot::Sender<Result<Wrote, Down>>,
    /// Given up when the append is decided.
    _hold: Hold,
}

impl Writer {
    pub(super) fn start(target: &Arc<Target>) -> Writer {
        let lane = |_| {
            let (requests, waiting) = mpsc::channel(WAITING_MAX);
            let lane = Lane { line: Line::new(target), heads: Heads::default() };
            tokio::spawn(lane.run(waiting));
            requests
        };
        Writer { lanes: (0..LANES).map(lane).collect() }
    }

    pub(super) async fn append(&self, append: Box<Append>, hold: Hold) -> Result<Wrote, Down> {
        let stopped = || Down("the store has stopped writing".to_owned());
        let lane = usize::from(append.session.bucket()) % self.lanes.len();
        let (answer, answered) = oneshot::channel();
        let request = Request { append, answer, _hold: hold };
        self.lanes[lane].send(request).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer({} lanes)", self.lanes.len())
    }
}

struct Lane {
    line: Line,
    heads: Heads,
}

impl Lane {
    /// Ends with the store; what was taken in is still written.
    async fn run(mut self, mut waiting: mpsc::Receiver<Request>) {
        let mut queue: VecDeque<Request> = VecDeque::new();
        loop {
            if queue.is_empty() {
                let Some(request) = waiting.recv().await else { return };
                queue.push_back(request);
            }
            while queue.len() < WAITING_MAX
                && let Ok(request) = waiting.try_recv()
            {
                queue.push_back(request);
            }
            self.write(take_batch(&mut queue)).await;
        }
    }

    async fn write(&mut self, requests: Vec<Request>) {
        let until = Instant::now() + self.line.target.patience;
        let (mut batch, mut answers) = (Vec::new(), Vec::new());
        for Request { append, answer, _hold } in requests {
            batch.push(Tried { append, follows: false, wrote: None });
            answers.push(Some((answer, _hold)));
        }
        let mut n_tries = 0;
        // After an error that only one of them can have caused, each goes alone.
        let mut alone = false;
        while batch.iter().any(|it| it.wrote.is_none()) {
            let size = if alone { 1 } else { batch.len() };
            let first = batch.iter().position(|it| it.wrote.is_none()).unwrap_or_default();
            let end = batch.len().min(first + size);
            let part = &mut batch[first..end];
            let tried = self.attempt(part).await;
            let Err(trouble) = tried else { continue };
            self.heads.forget();
            n_tries += 1;
            match trouble.kind {
                Kind::Lost | Kind::Again | Kind::Away => {}
                Kind::Refused | Kind::Missing if part.len() > 1 => {
                    alone = true;
                    continue;
                }
                Kind::Refused | Kind::Missing => {
                    answer_down(&mut answers[first], &trouble);
                    batch[first].wrote = Some(Wrote::Done);
                    continue;
                }
            }
            if Instant::now() >= until {
                tracing::error!(why = trouble.says(), "appends could not be written");
                let open = batch.iter().zip(&mut answers).filter(|(it, _)| it.wrote.is_none());
                open.for_each(|(_, answer)| answer_down(answer, &trouble));
                break;
            }
            wait_a_little(n_tries).await;
        }
        for (tried, answer) in batch.into_iter().zip(answers) {
            if let (Some(wrote), Some((answer, _hold))) = (tried.wrote, answer) {
                // Who asked may have gone; it is decided all the same.
                let _ = answer.send(Ok(wrote));
            }
        }
    }

    async fn attempt(&mut self, batch: &mut [Tried]) -> Result<(), Trouble> {
        let live = self.line.get().await?;
        let tried = attempt(&live, &mut self.heads, batch);
        let late = |_| Trouble::new(Kind::Lost, "it took too long to answer".to_owned());
        let tried =
            tokio::time::timeout(self.line.target.patience, tried).await.map_err(late).flatten();
        if tried.is_err() {
            // It may be in the middle of a transaction.
            self.line.hang_up(&live).await;
        }
        tried
    }
}

type Answer = (oneshot::Sender<Result<Wrote, Down>>, Hold);

fn answer_down(answer: &mut Option<Answer>, trouble: &Trouble) {
    if let Some((answer, _hold)) = answer.take() {
        let _ = answer.send(Err(trouble.down("the store could not write")));
    }
}

/// The first of each session, in the order they came.
fn take_batch(queue: &mut VecDeque<Request>) -> Vec<Request> {
    let (mut batch, mut left) = (Vec::new(), VecDeque::new());
    let (mut sessions, mut bytes) = (HashSet::new(), 0);
    while let Some(request) = queue.pop_front() {
        let fits = batch.len() < BATCH_MAX && bytes < BATCH_BYTES;
        if sessions.insert(request.append.session) && fits {
            bytes += request.append.row.body.len();
            batch.push(request);
        } else {
            left.push_back(request);
        }
    }
    *queue = left;
    // In one order everywhere, so that two nodes do not wait for each other.
    batch.sort_by_key(|it| (it.append.session.bucket(), it.append.session));
    batch
}
