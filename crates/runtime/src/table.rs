//! Which sessions are at work here, and what is remembered of the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use everstate_kernel::delta::Delta;
use everstate_kernel::effect::Effect;
use everstate_kernel::ids::{AttemptId, ItemId, SessionId};
use everstate_kernel::input::Input;
use everstate_kernel::state::Session;
use tokio::sync::{mpsc, oneshot};

use crate::cache::Cache;
use crate::host::{Fed, FeedError};
use crate::ports::Down;

#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Sessions with a driver. Mail is only ever sent under this table's lock, so that a driver that finds its
    /// mailbox empty under the same lock may leave.
    pub(crate) live: HashMap<SessionId, Slot>,
    pub(crate) cache: Cache,
    /// Sessions that cannot be folded or thought about, and why.
    pub(crate) parked: HashMap<SessionId, String>,
    /// Sessions whose work was dropped without a word to their logs: adopted anew before anything else.
    pub(crate) unclean: HashSet<SessionId>,
}

#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) mail: mpsc::UnboundedSender<Mail>,
    pub(crate) view: Arc<View>,
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

/// What a driver can be told.
#[derive(Debug)]
pub(crate) enum Mail {
    Feed {
        inputs: Vec<Input>,
        key: Option<String>,
        reply: oneshot::Sender<Result<Fed, FeedError>>,
    },
    /// Load the session, and adopt it if it is not ours yet.
    Adopt {
        reply: oneshot::Sender<Result<(), Down>>,
    },
    /// Its time may have come.
    Tick,
    /// Something was posted.
    Inbox,
    Erase {
        items: Vec<ItemId>,
        reply: oneshot::Sender<Result<Fed, FeedError>>,
    },
    Delete {
        reply: oneshot::Sender<Result<(), Down>>,
    },
    /// The host is shutting down: start nothing for turns that can wait.
    Drain,
    /// The wait is over: end what has a caller, leave the rest to the next owner.
    Close,

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
