//! What every request can reach: the two hosts, the registry's documents, names, tools and offers.
//!
//! How it is put together is `wiring`'s business.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::hmac;
use everstate_kernel::ids::SessionId;
use everstate_kernel::state::{About, Rejection, Session};
use everstate_runtime::cluster::NodeFacts;
use everstate_runtime::host::{FeedError, Host};
use everstate_runtime::ledger::Ledger;
use everstate_runtime::ports::{Clock, ListKey, Log, Registry};
use everstate_store::archive::Archive;
use everstate_store::facts::Upkeep;
use tokio::sync::{MutexGuard, watch};

use crate::bundle::seal::Identity;
use crate::chores::Fleeting;
use crate::claim::Claims;
use crate::config::Settings;
use crate::error::{ApiError, Result, codes};
use crate::ids::{Naming, SessionNames};
use crate::keys::{Keys, Principal, random};
use crate::limits::Limits;
use crate::limits::holds::Holds;
use crate::menu::Menu;
use crate::peers::HttpPeers;
use crate::peers::seal::Seals;
use crate::stall::Stall;
use crate::telemetry::Telemetry;
use crate::wiring::Source;

#[derive(Debug)]
pub(crate) struct App {
    pub settings: Settings,
    pub keys: Keys,
    pub limits: Arc<Limits>,
    pub holds: Arc<Holds>,
    pub claims: Claims,
    pub naming: Arc<Naming>,
    pub registry: Arc<dyn Registry>,
    /// Documents with secrets.
    pub sealed: Arc<dyn Registry>,
    /// What requests with secrets are claimed by.
    pub secret_claims: hmac::Key,
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
    /// The money of sessions that are not stored, where money is limited.
    pub unstored: Option<Arc<Ledger>>,
    pub telemetry: Option<Telemetry>,
    /// How other nodes recognise this one, and how they are asked, if it is one of many.
    pub seals: Option<Arc<Seals>>,
    pub peers: Option<Arc<HttpPeers>>,
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
        let session = match self.durable.host.look(id).await {
            Ok(session) => session,
            Err(FeedError::NotFound) => return Err(missing()),
            // It cannot be read, so it cannot say whose it is.
            Err(FeedError::Rejected(Rejection::Parked(_))) if !self.lists(who, id).await? => {
                return Err(missing());
            }
            Err(other) => return Err(crate::refuse::feed(other, id)),
        };
        let ours = session.about.as_ref().is_some_and(|it| *it.project == *who.project);
        ours.then_some(session).ok_or_else(missing)
    }

    /// Does the project's list have this session? It is looked through whole: only for what is rare.
    async fn lists(&self, who: &Principal, id: SessionId) -> Result<bool> {
        const PAGE: usize = 1_000;
        let mut before = None;
        loop {
            let page = self.durable.log.list(&who.project, before, PAGE).await?;
            if page.iter().any(|it| it.session == id) {
                return Ok(true);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => {
                    before = Some(ListKey { created_at: last.created_at, session: last.session });
                }
                _ => return Ok(false),
            }
        }
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
