//! Many callers at a few sessions: appends at the end they know or believe in, appends of what may have landed already,
//! reads. What they hear is judged by a history.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use everstate_kernel::ids::SessionId;
use everstate_runtime::ports::{AppendError, Head, Log, NewRow, RowKind};

#[derive(Clone, Debug)]
pub struct Storm {
    pub seed: u64,
    pub sessions: u64,
    pub callers: u64,
    /// So many operations of each caller, or fewer if it is told to stop.
    pub operations: u64,
    /// A caller waits so long for an answer; after that nobody knows.
    pub patience: Duration,
    /// Set from outside: everybody stops.
    pub stop: Arc<AtomicBool>,
    /// How many appends landed so far, for who watches.
    pub landed: Arc<AtomicU64>,
    /// Hears of each append that landed, and the number of it: the place to let something go wrong.
    pub heard: Heard,
}

#[derive(Clone)]
pub struct Heard(pub Arc<dyn Fn(u64) + Send + Sync>);

impl fmt::Debug for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heard")
    }
}

impl Storm {
    pub fn new(seed: u64) -> Storm {
        Storm {
            seed,
            sessions: 4,
            callers: 8,
            operations: 200,
            patience: Duration::from_secs(30),
            stop: Arc::default(),
            landed: Arc::default(),
            heard: Heard(Arc::new(|_| {})),
        }
    }

    /// The sessions it asks for: another seed has others.
    pub fn session(&self, n: u64) -> SessionId {
        let high = Random(self.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next();
        SessionId(u128::from(high) << 64 | u128::from(n))
    }

    /// Every caller asks one of the logs each time. Returns when all have finished.
    pub async fn rage(&self, logs: &[Arc<dyn Log>]) {
        let callers = (0..self.callers).map(|n| {
            let caller = Caller {
                storm: self.clone(),
                logs: logs.to_vec(),
                random: Random(self.seed.wrapping_mul(1_000_003) + n + 1),
                name: n,
                known: vec![None; usize::try_from(self.sessions).unwrap_or(usize::MAX)],
                doubtful: Vec::new(),
            };
            tokio::spawn(caller.run())
        });
        for it in callers.collect::<Vec<_>>() {
            it.await.expect("a caller does not panic");
        }
    }

    /// Reads every session to its end, and verifies its chain: what was acknowledged must be in it.
    pub async fn look(&self, log: &dyn Log) -> Result<(), String> {
        for session in (0..self.sessions).map(|n| self.session(n)) {
            log.read(session, 0, usize::MAX).await.map_err(|it| it.0)?;
            log.head(session).await.map_err(|it| it.0)?;
            let verdict = log.verify(session).await.map_err(|it| it.0)?;
            if let Some(broken) = verdict.broken {
                return Err(format!("the chain of {session} is broken: {broken}"));
            }
        }
        Ok(())
    }
}

struct Caller {
    storm: Storm,
    logs: Vec<Arc<dyn Log>>,
    random: Random,
    name: u64,
    /// The end of each session, as far as it believes to know.
    known: Vec<Option<Head>>,
    /// Rows of which it does not know whether they landed.
    doubtful: Vec<NewRow>,
}

impl Caller {
    async fn run(mut self) {
        for n in 0..self.storm.operations {
            if self.storm.stop.load(Ordering::Relaxed) {
                return;
            }
            self.ask(n).await;
        }
    }

    async fn ask(&mut self, n: u64) {
        let at = self.random.below(self.storm.sessions);
        let session = self.storm.session(at);
        let at = usize::try_from(at).expect("few sessions");
        let log = Arc::clone(&self.logs[self.random.index(self.logs.len())]);
        let answered = match self.random.below(10) {
            0 => {
                let read = log.read(session, self.random.below(20), 10);
                self.wait(read).await.is_some_and(|it| it.is_ok())
            }
            1 => match self.wait(log.head(session)).await {
                Some(Ok(head)) => {
                    self.known[at] = Some(head.unwrap_or_default());
                    true
                }
                _ => false,
            },
            2 if !self.doubtful.is_empty() => {
                let again = self.random.index(self.doubtful.len());
                let row = self.doubtful.swap_remove(again);
                self.append(&log, row).await
            }
            _ => {
                let head = match self.known[at] {
                    Some(head) => head,
                    None => match self.wait(log.head(session)).await {
                        Some(Ok(head)) => head.unwrap_or_default(),
                        _ => return self.rest().await,
                    },
                };
                self.known[at] = Some(head);
                let row = self.row(session, head, n);
                self.append(&log, row).await
            }
        };
        if !answered {
            self.rest().await;
        }
    }

    async fn append(&mut self, log: &Arc<dyn Log>, row: NewRow) -> bool {
        let at = (0..self.storm.sessions).position(|n| self.storm.session(n) == row.session);
        let at = at.expect("one of ours");
        let answer = self.wait(log.append(row.clone())).await;
        let (known, answered) = match answer {
            Some(Ok(landed)) => {
                let n = self.storm.landed.fetch_add(1, Ordering::Relaxed) + 1;
                self.storm.heard.0(n);
                (Some(landed.head), true)
            }
            Some(Err(AppendError::Fenced | AppendError::Seen(_))) => (None, true),
            Some(Err(AppendError::Down(_))) | None => {
                self.doubtful.push(row);
                (None, false)
            }
        };
        // A stale owner goes on with what it believes, now and then.
        if known.is_some() || self.random.below(4) > 0 {
            self.known[at] = known;
        }
        answered
    }

    fn row(&mut self, session: SessionId, head: Head, n: u64) -> NewRow {
        let kind = if self.random.below(3) == 0 { RowKind::Frame } else { RowKind::Events };
        // Two callers now and then bring the same input.
        let key = match self.random.below(4) {
            0 => Some(format!("{}/{n}", self.name)),
            1 => Some(format!("shared/{}", self.random.below(50))),
            _ => None,
        };
        NewRow {
            session,
            seq: head.seq + 1,
            kind,
            at: head.seq + 1,
            prev: head.hash,
            body: Bytes::from(format!("{}/{n}", self.name)),
            key,
            consumed: Vec::new(),
            projection: None,
        }
    }

    async fn wait<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.storm.patience, answer).await.ok()
    }

    /// What is down is not asked in a circle.
    async fn rest(&mut self) {
        let pause = Duration::from_millis(5 + self.random.below(20));
        // tidy allows sleep: a database that is gone cannot call back
        tokio::time::sleep(pause).await;
    }
}

/// Numbers that are the same for the same seed.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn index(&mut self, n: usize) -> usize {
        self.below(n as u64) as usize
    }
}
