//! Many equal nodes on one store: who they are, and what they ask of each other.
//!
//! A node owns some of the buckets, by an assignment that all can read and any may change when nodes come and go. Who
//! is alive is told by beats; leases are for liveness alone, for the log's own key decides who writes.

pub(crate) mod epoch;
pub(crate) mod errand;
mod assignment;
mod watch;
mod lease;
mod roll;
mod member;
mod hand_over;
pub(crate) mod far;
pub(crate) mod follow;
mod answering;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstate_kernel::ids::{Millis, SessionId};
use tokio::sync::Notify;

use crate::cache::Cache;
use crate::host::{Host, Inner, Membership};
use crate::ports::{Peer, Peers};
use crate::settings::NodeSettings;
use crate::table::Fate;
use assignment::Seen;
use lease::Lease;
use roll::{NodeState, Roll};

/// What a host that is one of many knows beside its table.
#[derive(Debug)]
pub(crate) struct Cluster {
    node: NodeSettings,
    peers: Arc<dyn Peers>,
    pub(crate) lease: Lease,
    sight: Mutex<Sight>,
    /// Rings when the sight, or what is served here, has changed.
    changed: Notify,
    /// Rings when the member has something to do.
    poke: Notify,
    /// The host is done with all it wanted to do as a member.
    may_go: AtomicBool,
    /// Rings when this node has left the cluster.
    has_left: Notify,
    n_errands: AtomicU64,
    /// Sessions still to be adopted.
    n_ready: AtomicUsize,
    /// Errands without an outcome.
    n_posted: AtomicUsize,
    /// Sessions that another had before.
    n_taken_over: AtomicU64,
    /// Tails of other nodes' sessions on their way, so that nothing is fed before it is listened to.
    opening: Mutex<HashMap<SessionId, usize>>,
    opened: Notify,
    /// Folds of other nodes' sessions: where to go on reading, never what to answer.
    folds: Mutex<Cache>,
}

/// What was seen last.
#[derive(Clone, Debug, Default)]
struct Sight {
    roll: Arc<Roll>,
    /// Since when nothing new was heard of the others, by the monotonic clock.
    silent_since: HashMap<String, Millis>,
}

impl Cluster {
    pub(crate) fn new(membership: Membership) -> Cluster {
        Cluster {
            node: membership.node,
            peers: membership.peers,
            lease: Lease::default(),
            sight: Mutex::default(),
            changed: Notify::new(),
            poke: Notify::new(),
            may_go: AtomicBool::new(false),
            has_left: Notify::new(),
            n_errands: AtomicU64::new(0),
            n_ready: AtomicUsize::new(0),
            n_posted: AtomicUsize::new(0),
            n_taken_over: AtomicU64::new(0),
            opening: Mutex::default(),
            opened: Notify::new(),
            folds: Mutex::default(),
        }
    }

    pub(crate) fn has_taken_over(&self) {
        self.n_taken_over.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn n_ready(&self) -> &AtomicUsize {
        &self.n_ready
    }

    /// The host drains.
    pub(crate) fn begin_to_leave(&self) {
        self.poke.notify_one();
    }

    /// Waits until this node is off the roll.
    pub(crate) async fn leave(&self) {
        self.may_go.store(true, Ordering::SeqCst);
        self.poke.notify_one();
        self.has_left.notified().await;
    }

    fn roll(&self) -> Arc<Roll> {
        Arc::clone(&lock(&self.sight).roll)
    }

    /// The others that may know of a session, the one that decides for it first.
    fn owners(&self, session: SessionId) -> Vec<Peer> {
        let mut owners = self.roll().owners(session);
        owners.retain(|it| it.name != self.node.name);
        owners
    }
}

impl Inner {
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Is there somebody to whom this host's sessions go when it leaves?
    pub(crate) fn has_heirs(&self) -> bool {
        let Some(cluster) = &self.cluster else { return false };
        cluster.roll().members().iter().any(|it| *it != cluster.node.name)
    }

    /// May this host speak for its sessions? Always, if it is alone.
    pub(crate) fn has_lease(&self) -> bool {
        let holds = |it: &Arc<Cluster>| it.lease.holds(self.ports.clock.monotonic());
        self.cluster.as_ref().is_none_or(holds)
    }

    /// Waits until work for a driver of this fate may be begun: for ever, if its session is another node's by now.
    pub(crate) async fn may_begin(&self, fate: &Fate) {
        self.lease_held().await;
        if fate.is_lost() {
            // A lease that came back is that of a later life. The driver ends this task on its way out.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until it may.
    pub(crate) async fn lease_held(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.lease.held(|| self.ports.clock.monotonic()).await;
        }
    }

    /// What was found says that another node knows better: look.
    pub(crate) fn look_around(&self) {
        if let Some(cluster) = &self.cluster {
            cluster.poke.notify_one();
        }
    }
}

/// What is known of a node: of oneself from memory, of the others from what they last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    pub name: String,
    pub address: String,
    /// Its release.
    pub version: String,
    pub epoch: u64,
    /// Does it hold its lease, as far as this node can tell?
    pub is_alive: bool,
    /// Is it giving its sessions back, to stop?
    pub is_leaving: bool,
    pub is_self: bool,
    /// Buckets that are assigned to it.
    pub n_buckets: usize,
    /// Buckets it was given and cannot take over yet, or has still to let go of.
    pub n_moving: usize,
    /// Sessions with something under way.
    pub n_live: usize,
    /// Sessions it has yet to adopt.
    pub n_ready: usize,
    /// Inputs it has posted to sessions of other nodes and waits for.
    pub n_posted: usize,
    /// Sessions it has taken over from another owner, as far as this node knows: of itself.
    pub n_taken_over: u64,
    /// How long ago it last said that it lives, as heard here.
    pub beat_age_ms: Millis,
    /// The revision of the assignment it follows, and how many revisions that is behind.
    pub revision: u64,
    pub lag: u64,
}

impl Host {
    /// The nodes of the cluster by name; none if this host is alone on its store.
    pub fn nodes(&self) -> Vec<NodeFacts> {
        let Some(cluster) = &self.inner.cluster else { return Vec::new() };
        let Sight { roll, silent_since } = lock(&cluster.sight).clone();
        let now = self.inner.ports.clock.monotonic();
        let newest = roll.assignment.as_ref().map_or(0, |it| it.body.revision);
        let facts = roll.nodes.values().map(|it| {
            let node = &it.body;
            let is_self = node.name == cluster.node.name;
            let assignment = roll.assignment.as_ref().map(|it| &it.body);
            let buckets = assignment.map(|it| it.of(&node.name)).unwrap_or_default();
            let given = buckets.iter().filter(|bucket| {
                let seat = assignment.and_then(|it| it.seat(*bucket));
                seat.is_some_and(|seat| {
                    node.settled < seat.since
                        || seat.from.iter().any(|it| !roll.has_let_go(it, *bucket, seat.since))
                })
            });
            NodeFacts {
                name: node.name.clone(),
                address: node.address.clone(),
                version: node.version.clone(),
                epoch: node.epoch,
                is_alive: match is_self {
                    true => cluster.lease.holds(now),
                    false => node.state != NodeState::Dead,
                },
                is_leaving: node.state == NodeState::Leaving,
                is_self,
                n_moving: given.count() + node.holding.len(),
                n_buckets: buckets.len(),
                n_live: if is_self { self.n_live() } else { node.n_live },
                n_ready: match is_self {
                    true => cluster.n_ready.load(Ordering::SeqCst),
                    false => node.n_ready,
                },
                n_posted: match is_self {
                    true => cluster.n_posted.load(Ordering::SeqCst),
                    false => node.n_posted,
                },
                n_taken_over: match is_self {
                    true => cluster.n_taken_over.load(Ordering::SeqCst),
                    false => 0,
                },
                beat_age_ms: silent_since.get(&node.name).map_or(0, |it| now.saturating_sub(*it)),
                revision: node.settled,
                lag: newest.saturating_sub(node.settled),
            }
        });
        facts.collect()
    }

    /// Is this session with another node, as far as is known here?
    pub fn is_elsewhere(&self, session: SessionId) -> bool {
        self.inner.is_far(session)
    }

    /// Does the process with this epoch live, as far as this node can tell? Where there is one node, it alone does.
    pub fn lives(&self, process: u64) -> bool {
        process == self.epoch()
            || self.inner.cluster.as_ref().is_some_and(|it| it.roll().has(process))
    }

    /// A name for a new session, drawn until it falls to this node: most of what a client does with it is then done
    /// here. `draw` gives random numbers. While this node owns nothing, the first that comes will do.
    pub fn mint(&self, mut draw: impl FnMut() -> u128) -> SessionId {
        let serving = self.inner.table().share.serving.clone();
        let mut session = SessionId(draw());
        let mut n_draws = 1;
        while !serving.is_empty() && !serving.hold(session) && n_draws < DRAWS_MAX {
            session = SessionId(draw());
            n_draws += 1;
        }
        session
    }
}

/// With a share of one in a hundred, no draw in a thousand falls short.
const DRAWS_MAX: u32 = 1_024;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that panics runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
