//! Which sessions are at work here, and what is remembered of the others.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use everstate_kernel::delta::Delta;
use everstate_kernel::effect::Effect;
use everstate_kernel::ids::{AttemptId, ItemId, SessionId};
use everstate_kernel::input::Input;
use everstate_kernel::state::Session;
use tokio::sync::{mpsc, oneshot};

use crate::buckets::Buckets;
use crate::cache::Cache;
use crate::host::{Fed, FeedError};
use crate::ports::Down;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) share: Share,
    /// Sessions with a driver. Mail is only ever sent under this table's lock, so that a driver that finds its
    /// mailbox empty under the same lock may leave.
    pub(crate) live: HashMap<SessionId, Slot>,
    pub(crate) cache: Cache,
    /// Sessions that cannot be folded or thought about, and why.
    pub(crate) parked: HashMap<SessionId, String>,
    /// Sessions whose work was dropped without a word to their logs: adopted anew before anything else.
    pub(crate) unclean: HashSet<SessionId>,
}

/// Which sessions are this host's.
#[derive(Debug)]
pub(crate) struct Share {
    /// Drivers are started for these alone.
    pub(crate) serving: Buckets,
    /// Given away: what is under way may end, and nothing begins.
    pub(crate) leaving: Buckets,
    /// Of every bucket, the epoch it was taken over with. Empty where the host's own is meant.
    pub(crate) epochs: Vec<u64>,
}

impl Table {
    pub(crate) fn new(share: Share) -> Table {
        Table {
            share,
            live: HashMap::new(),
            cache: Cache::default(),
            parked: HashMap::new(),
            unclean: HashSet::new(),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) mail: mpsc::UnboundedSender<Mail>,
    pub(crate) view: Arc<View>,
    pub(crate) fate: Arc<Fate>,
}

/// Whether a driver may go on.
#[derive(Debug, Default)]
pub(crate) struct Fate(AtomicU8);

const STAYS: u8 = 0;
const LEAVES: u8 = 1;
const LOST: u8 = 2;

impl Fate {
    pub(crate) fn stay(&self) {
        self.0.compare_exchange(LEAVES, STAYS, Ordering::SeqCst, Ordering::SeqCst).ok();
    }

    /// The session goes to another node: start nothing that can wait.
    pub(crate) fn leave(&self) {
        self.0.compare_exchange(STAYS, LEAVES, Ordering::SeqCst, Ordering::SeqCst).ok();
    }

    /// The session is another node's: it is no more ours to speak for.
    pub(crate) fn lose(&self) {
        self.0.store(LOST, Ordering::SeqCst);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.0.load(Ordering::SeqCst) != STAYS
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.0.load(Ordering::SeqCst) == LOST
    }
}

/// The state as of the last acknowledged append, for whoever only looks.
#[derive(Debug, Default)]
pub(crate) struct View(Mutex<Option<Arc<Session>>>);

impl View {
    pub(crate) fn get(&self) -> Option<Arc<Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, state: Arc<Session>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }
}

/// Why the answer is not what was asked for.
#[derive(Debug)]
pub(crate) enum Nay {
    No(FeedError),
    /// The session is not this node's to decide for. Nothing was done, and this is given back.
    Moved {
        inputs: Vec<Input>,
        key: Option<String>,
    },
}

impl Nay {
    pub(crate) fn moved() -> Nay {
        Nay::Moved { inputs: Vec::new(), key: None }
    }
}

impl From<FeedError> for Nay {
    fn from(err: FeedError) -> Nay {
        Nay::No(err)
    }
}

/// What a driver can be told.
#[derive(Debug)]
pub(crate) enum Mail {
    Feed {
        inputs: Vec<Input>,
        key: Option<String>,
        reply: oneshot::Sender<Result<Fed, Nay>>,
    },
    /// Load the session, and adopt it if it is not ours yet.
    Adopt {
        reply: oneshot::Sender<Result<(), Down>>,
    },
    /// Its time may have come.
    Tick,
    /// Something was posted. Answered when it was read.
    Inbox {
        reply: Option<oneshot::Sender<Result<(), Down>>>,
    },
    Erase {
        items: Vec<ItemId>,
        reply: oneshot::Sender<Result<Fed, Nay>>,
    },
    Delete {
        reply: oneshot::Sender<Result<(), Nay>>,
    },
    /// What may be started has changed: the host is shutting down, the session moves, or the lease is back.
    Reconsider,
    /// The wait is over: end what has a caller, leave the rest to the next owner.
    Close,
    /// The session is another node's: leave without a word.
    Lost,

    // From its own workers.
    /// To be shown; answered when it was.
    Frames {
        attempt: AttemptId,
        deltas: Vec<Delta>,
        reply: oneshot::Sender<Result<(), Down>>,
    },
    /// May it speak? Answered `true` if this attempt is the one that is shown.
    Spoke {
        attempt: AttemptId,
        reply: oneshot::Sender<Result<bool, Down>>,
    },
    Done {
        effect: Effect,
        input: Box<Input>,
    },
}
