//! What every request can reach: the two hosts, the registry's documents, names, tools and offers.
//!
//! How it is put together is `wiring`'s business.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use everstate_kernel::ids::{Seq, SessionId, TurnNo};
use everstate_kernel::input::Input;
use everstate_kernel::state::{About, Rejection, Session};
use everstate_runtime::cluster::NodeFacts;
use everstate_runtime::host::{Feed, FeedError, Host};
use everstate_runtime::ledger::Ledger;
use everstate_runtime::ports::{Clock, Log, Registry};
use everstate_store::archive::Archive;
use everstate_store::facts::Upkeep;
use futures_util::StreamExt;
use tokio::sync::{MutexGuard, watch};
use tokio::task::AbortHandle;

use crate::bundle::seal::Identity;
use crate::chores::Fleeting;
use crate::claim::Claims;
use crate::config::Settings;
use crate::error::{ApiError, Result, codes};
use crate::ids::{Naming, SessionNames};
use crate::keys::{Keys, Principal, random};
use crate::menu::Menu;
use crate::peers::seal::Seals;
use crate::stall::Stall;
use crate::telemetry::Telemetry;
use crate::wiring::Source;

#[derive(Debug)]
pub(crate) struct App {
    pub settings: Settings,
    pub keys: Keys,
    pub claims: Claims,
    pub naming: Arc<Naming>,
    pub registry: Arc<dyn Registry>,
    pub clock: Arc<dyn Clock>,
    pub durable: Side,
    /// For what is not to be stored.
    pub memory: Side,
    pub upkeep: Arc<Upkeep>,
    pub archive: Arc<Archive>,
    /// Opens bundles that are sealed to this installation.
    pub identity: Identity,
    pub(crate) fleeting: Fleeting,
    pub menu: Menu,
    pub stall: Stall,
    /// Providers, and where their credentials come from.
    pub sources: Vec<Source>,
    pub gates: Gates,
    pub callers: Arc<Callers>,
    /// The money of sessions that are not stored, where money is limited.
    pub unstored: Option<Arc<Ledger>>,
    pub telemetry: Option<Telemetry>,
    /// How other nodes recognise this one, if it is one of many.
    pub seals: Option<Arc<Seals>>,
    /// `true` when sessions can be asked for.
    pub started: watch::Sender<bool>,
    pub closing: AtomicBool,
}

/// One host and the log it writes.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    pub host: Arc<Host>,
    pub log: Arc<dyn Log>,
}

impl App {
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn side(&self, memory: bool) -> &Side {
        if memory { &self.memory } else { &self.durable }
    }

    pub(crate) fn names(&self, about: &About) -> SessionNames {
        SessionNames::of(&self.naming, about)
    }

    /// This node, if it is one of many.
    pub(crate) fn node(&self) -> Option<NodeFacts> {
        self.durable.host.nodes().into_iter().find(|it| it.is_self)
    }

    /// What a session's first fact says of its owner.
    pub(crate) fn epoch(&self, memory: bool) -> u64 {
        self.side(memory).host.epoch()
    }

    /// A stored session of this project. What belongs to another looks like what does not exist.
    pub(crate) async fn session(&self, who: &Principal, id: SessionId) -> Result<Arc<Session>> {
        let missing = || ApiError::new(&codes::NOT_FOUND, format!("there is no session {id}"));
        let session = self.durable.host.look(id).await.map_err(|err| match err {
            FeedError::NotFound => missing(),
            other => crate::refuse::feed(other, id),
        })?;
        let ours = session.about.as_ref().is_some_and(|it| *it.project == *who.project);
        ours.then_some(session).ok_or_else(missing)
    }

    /// The facts of a created session.
    pub(crate) fn about(session: &Session) -> Result<&About> {
        session
            .about
            .as_ref()
            .ok_or_else(|| ApiError::new(&codes::NOT_FOUND, "the session was never created"))
    }

    /// A new session's name, of those that fall to this node.
    pub(crate) fn new_session(&self, memory: bool) -> SessionId {
        // All of it random, so that the first letters of an id are enough to name it by hand.
        self.side(memory).host.mint(|| u128::from_be_bytes(random::<16>()))
    }
}

/// Lets one request at a time go on under a name: so that what was looked at is still so when it is acted on.
#[derive(Debug)]
pub(crate) struct Gates {
    claims: Vec<tokio::sync::Mutex<()>>,
    sessions: Vec<tokio::sync::Mutex<()>>,
}

const GATES: u64 = 256;

impl Default for Gates {
    fn default() -> Gates {
        let row = || (0..GATES).map(|_| tokio::sync::Mutex::new(())).collect();
        Gates { claims: row(), sessions: row() }
    }
}

impl Gates {
    /// Taken before a session's gate, never after it.
    pub(crate) async fn claim(&self, name: &impl Hash) -> MutexGuard<'_, ()> {
        self.claims[place(name)].lock().await
    }

    pub(crate) async fn session(&self, session: SessionId) -> MutexGuard<'_, ()> {
        self.sessions[place(&session)].lock().await
    }
}

fn place(name: &impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    (hasher.finish() % GATES) as usize
}

/// Who waits for the answers of foreground turns. A turn whose last caller is gone is told so.
#[derive(Debug, Default)]
pub(crate) struct Callers(Mutex<HashMap<(SessionId, TurnNo), usize>>);

/// One caller's wait. Dropped before `answered`, it means the caller is gone.
#[derive(Debug)]
pub(crate) struct Waiting {
    callers: Arc<Callers>,
    host: Arc<Host>,
    session: SessionId,
    turn: TurnNo,
    answered: bool,
    /// Says the same to the node that has the session, should this one die.
    _attendance: Option<Attendance>,
}

impl Callers {
    /// The caller who begins the turn.
    pub(crate) fn wait(
        self: &Arc<Callers>,
        host: &Arc<Host>,
        session: SessionId,
        turn: TurnNo,
        began: Seq,
    ) -> Waiting {
        *self.map().entry((session, turn)).or_default() += 1;
        self.waiting(host, session, turn, began)
    }

    /// One who comes later. `None`: nobody waits any more, so the turn is about to be told that its caller is gone.
    pub(crate) fn join(
        self: &Arc<Callers>,
        host: &Arc<Host>,
        session: SessionId,
        turn: TurnNo,
        began: Seq,
    ) -> Option<Waiting> {
        *self.map().get_mut(&(session, turn))? += 1;
        Some(self.waiting(host, session, turn, began))
    }

    fn waiting(
        self: &Arc<Callers>,
        host: &Arc<Host>,
        session: SessionId,
        turn: TurnNo,
        began: Seq,
    ) -> Waiting {
        let is_far = host.is_elsewhere(session);
        Waiting {
            callers: self.clone(),
            host: host.clone(),
            session,
            turn,
            answered: false,
            _attendance: is_far.then(|| Attendance::new(host, session, turn, began)),
        }
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<(SessionId, TurnNo), usize>> {
        self.0.lock().expect("nothing panics while it holds the callers")
    }
}

/// Follows a turn of another node, for as long as somebody waits for it here.
#[derive(Debug)]
struct Attendance(AbortHandle);

impl Attendance {
    /// Only after the turn was begun by its caller's own request: a turn that another began has another caller.
    fn new(host: &Arc<Host>, session: SessionId, turn: TurnNo, began: Seq) -> Attendance {
        let mut tail = host.tail_attending(session, began, turn);
        let following = tokio::spawn(async move { while let Some(Ok(_)) = tail.next().await {} });
        Attendance(following.abort_handle())
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Waiting {
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let name = (self.session, self.turn);
        let last = {
            let mut map = self.callers.map();
            let left = map.get(&name).map_or(0, |it| it.saturating_sub(1));
            if left == 0 {
                map.remove(&name);
            } else {
                map.insert(name, left);
            }
            left == 0
        };
        if self.answered || !last {
            return;
        }
        let (host, session, turn) = (self.host.clone(), self.session, self.turn);
        let lost = async move {
            match host.feed(session, vec![Input::CallerLost { turn }], Feed::default()).await {
                Ok(_) | Err(FeedError::Rejected(Rejection::NoSuchTurn)) => {}
                Err(err) => {
                    tracing::warn!(%session, turn, %err, "cannot tell a turn that its caller is gone")
                }
            }
        };
        // Outside of a runtime everything is being torn down, and the next start closes the turn.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(lost);
        }
    }
}
