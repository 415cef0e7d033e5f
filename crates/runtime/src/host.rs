//! The door of the runtime: feed a session, look at it, follow it.
//!
//! A session that wants nothing costs nothing: it has no task, and after a while no memory. The first input for it
//! starts a driver; the driver leaves when nothing is left to do.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use everstate_kernel::event::Event;
use everstate_kernel::ids::{BUCKETS, Seq, SessionId};
use everstate_kernel::input::Input;
use everstate_kernel::offer::OfferId;
use everstate_kernel::state::{Rejection, Session};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::attend::Callers;
use crate::buckets::Buckets;
use crate::cluster::Cluster;
use crate::drain::Requests;
use crate::driver;
use crate::health::Health;
use crate::hub::Hub;
use crate::ledger::Ledger;
use crate::market::Market;
use crate::ports::{Clock, Down, Log, Peers, Registry, Tools, Turnstile, Witness};
use crate::settings::{HostSettings, NodeSettings};
use crate::table::{Mail, Nay, Share, Slot, Table, View};
use crate::timers::Timers;

#[derive(Clone, Debug)]
pub struct Ports {
    pub log: Arc<dyn Log>,
    pub registry: Arc<dyn Registry>,
    pub tools: Arc<dyn Tools>,
    pub clock: Arc<dyn Clock>,
    /// `None`: this host is alone on its log, and owns all of it.
    pub membership: Option<Membership>,
}

/// Being one of many nodes on one store.
#[derive(Clone, Debug)]
pub struct Membership {
    pub node: NodeSettings,
    pub peers: Arc<dyn Peers>,
}

/// Runs the sessions of one node. Dropping it stops everything at once, as a crash would.
#[derive(Debug)]
pub struct Host {
    pub(crate) inner: Arc<Inner>,
}

/// How inputs are fed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// Inputs with a key that was seen before are not taken again.
    pub key: Option<String>,
}

/// What came of it. Without events nothing was appended, and `seq` is where the session stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fed {
    pub seq: Seq,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedError {
    /// The answer is no, and nothing was written.
    Rejected(Rejection),
    NotFound,
    /// The key was seen before; this is the append that carried it.
    Seen(Seq),
    /// The store cannot do it now, or the session is no longer served here.
    Down(Down),
    /// The host is shutting down.
    Draining,
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedError::Rejected(rejection) => write!(f, "refused: {rejection:?}"),
            FeedError::NotFound => f.write_str("there is no such session"),
            FeedError::Seen(seq) => write!(f, "taken before, at row {seq}"),
            FeedError::Down(down) => write!(f, "{down}"),
            FeedError::Draining => f.write_str("the host is shutting down; try again shortly"),
        }
    }
}

impl std::error::Error for FeedError {}

impl From<Down> for FeedError {
    fn from(down: Down) -> FeedError {
        FeedError::Down(down)
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) ports: Ports,
    pub(crate) settings: HostSettings,
    pub(crate) health: Health,
    pub(crate) hub: Arc<Hub>,
    pub(crate) timers: Timers,
    /// Where money is limited.
    pub(crate) ledger: OnceLock<Arc<Ledger>>,
    /// Of this process: grows with each start. 0 until it is known.
    pub(crate) epoch: AtomicU64,
    pub(crate) draining: AtomicBool,
    pub(crate) callers: Callers,
    /// Requests that are answered from here, wherever their sessions are.
    pub(crate) requests: Requests,
    /// `None`: alone.
    pub(crate) cluster: Option<Arc<Cluster>>,
    /// Rings whenever a driver has left.
    pub(crate) left: Notify,
    pub(crate) witness: OnceLock<Arc<dyn Witness>>,
    pub(crate) turnstile: OnceLock<Arc<dyn Turnstile>>,
    market: Mutex<Arc<Market>>,
    table: Mutex<Table>,
    gates: Mutex<BTreeMap<OfferId, Arc<Semaphore>>>,
    /// `None` when the host is closed.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Host {
    pub fn new(ports: Ports, market: Market, settings: HostSettings) -> Arc<Host> {
        let health = Health::default();
        health.unserved(market.unserved());
        let cluster = ports.membership.clone().map(Cluster::new).map(Arc::new);
        let share = match &cluster {
            None => Share { serving: Buckets::all(), leaving: Buckets::none(), epochs: Vec::new() },
            Some(_) => Share {
                serving: Buckets::none(),
                leaving: Buckets::none(),
                epochs: vec![0; usize::from(BUCKETS)],
            },
        };
        let inner = Inner {
            ports,
            health,
            hub: Arc::new(Hub::new(settings.unread_max)),
            timers: Timers::default(),
            ledger: OnceLock::new(),
            epoch: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            callers: Callers::default(),
            requests: Requests::default(),
            cluster,
            left: Notify::new(),
            witness: OnceLock::new(),
            turnstile: OnceLock::new(),
            market: Mutex::new(Arc::new(market)),
            table: Mutex::new(Table::new(share)),
            gates: Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
            settings,
        };
        Arc::new(Host { inner: Arc::new(inner) })
    }

    /// From here on its sessions spend no more than this allows. Said once, before the host is started.
    pub fn keep_ledger(&self, ledger: Arc<Ledger>) {
        assert!(self.inner.ledger.set(ledger).is_ok(), "a host has one ledger");
    }

    pub fn ledger(&self) -> Option<&Arc<Ledger>> {
        self.inner.ledger.get()
    }

    /// Lets inputs happen to a session: all are decided in order and land in one append, or none is. `Create` may
    /// be the first. Answered when the append is acknowledged.
    pub async fn feed(
        &self,
        session: SessionId,
        inputs: Vec<Input>,
        how: Feed,
    ) -> Result<Fed, FeedError> {
        self.admit(session, inputs.first())?;
        self.inner.feed(session, inputs, how.key).await
    }

    /// The state as of the last acknowledged append. Takes no ownership.
    pub async fn look(&self, session: SessionId) -> Result<Arc<Session>, FeedError> {
        if !self.inner.has_lease() || self.inner.is_far(session) {
            return self.inner.look_far(session).await;
        }
        let (view, parked) = {
            let table = self.inner.table();
            let view = match table.live.get(&session) {
                Some(slot) => slot.view.get(),
                None => table.cache.get(session).map(|it| Arc::clone(&it.state)),
            };
            (view, table.parked.get(&session).cloned())
        };
        if let Some(state) = view {
            return Ok(state);
        }
        if let Some(reason) = parked {
            return Err(FeedError::Rejected(Rejection::Parked(reason)));
        }
        self.inner.look_far(session).await
    }

    /// Leaves inputs where the session's owner will find them, whoever that is, also during a shutdown.
    pub async fn post(
        &self,
        session: SessionId,
        key: &str,
        inputs: &[Input],
    ) -> Result<(), FeedError> {
        self.inner.may_be_posted(session, inputs).await?;
        let body = serde_json::to_vec(inputs).expect("inputs have a JSON form");
        self.inner.ports.log.post(session, key, Bytes::from(body)).await?;
        if self.inner.is_far(session) {
            let inner = Arc::clone(&self.inner);
            self.inner.spawn(async move { inner.knock(session).await });
        } else if !self.inner.is_draining() {
            self.inner.send(session, Mail::Inbox { reply: None });
        }
        Ok(())
    }

    /// Deletes a session with all it has, whatever it is doing.
    pub async fn delete(&self, session: SessionId) -> Result<(), Down> {
        self.inner.table().parked.remove(&session);
        match self.inner.delete_here(session).await {
            Err(Nay::Moved { .. }) => self.inner.delete_far(session).await,
            Err(Nay::No(err)) => Err(down(err)),
            Ok(()) => Ok(()),
        }
    }

    pub fn market(&self) -> Arc<Market> {
        self.inner.market()
    }

    /// Holds for all placements from here on.
    pub fn set_market(&self, market: Market) {
        self.inner.health.unserved(market.unserved());
        *lock(&self.inner.market) = Arc::new(market);
    }

    /// From here on `witness` is told of every append. Only the first one is taken.
    pub fn watch(&self, witness: Arc<dyn Witness>) {
        self.inner.witness.set(witness).ok();
    }

    /// From here on no turn begins that `turnstile` turns away. Only the first one is taken.
    pub fn let_in_by(&self, turnstile: Arc<dyn Turnstile>) {
        self.inner.turnstile.set(turnstile).ok();
    }

    /// How many sessions have something under way here.
    pub fn n_live(&self) -> usize {
        self.inner.table().live.len()
    }

    pub(crate) fn admit(&self, session: SessionId, first: Option<&Input>) -> Result<(), FeedError> {
        if self.inner.is_draining() && !self.inner.has_heirs() {
            return Err(FeedError::Draining);
        }
        if self.inner.epoch.load(Ordering::SeqCst) == 0 {
            return Err(FeedError::Down(Down("the host has not started".to_owned())));
        }
        let mut table = self.inner.table();
        if let Some(reason) = table.parked.get(&session) {
            if !matches!(first, Some(Input::Unpark)) {
                return Err(FeedError::Rejected(Rejection::Parked(reason.clone())));
            }
            // Asked to try again: perhaps this release can read it.
            table.parked.remove(&session);
        }
        Ok(())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

impl Inner {
    /// Hands mail to a session's driver, and starts one if there is none.
    pub(crate) fn send(self: &Arc<Inner>, session: SessionId, mail: Mail) {
        let mut table = self.table();
        if let Some(slot) = table.live.get(&session) {
            // Fails only when everything is being stopped; dropping the mail says so to its sender.
            slot.mail.send(mail).ok();
            return;
        }
        // What others will have in a moment is not begun here.
        if !table.share.serving.hold(session) || self.is_draining() && self.has_heirs() {
            drop(table);
            return driver::turn_away(mail);
        }
        let kept = table.cache.take(session);
        let (mail_to, mailbox) = mpsc::unbounded_channel();
        mail_to.send(mail).expect("the receiver is right here");
        let view = Arc::new(View::default());
        if let Some(kept) = &kept {
            view.set(Arc::clone(&kept.state));
        }
        let slot = Slot { mail: mail_to, view, fate: Arc::default() };
        table.live.insert(session, slot.clone());
        self.spawn(driver::drive(Arc::clone(self), session, slot, mailbox, kept));
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = lock(&self.tasks).as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.tasks).is_none()
    }

    /// Everything ends here and now.
    pub(crate) fn stop(&self) {
        drop(lock(&self.tasks).take());
        self.table().live.clear();
        self.callers.forget();
        self.hub.close();
    }

    pub(crate) async fn feed(
        self: &Arc<Inner>,
        session: SessionId,
        inputs: Vec<Input>,
        key: Option<String>,
    ) -> Result<Fed, FeedError> {
        let (reply, answer) = oneshot::channel();
        self.send(session, Mail::Feed { inputs, key, reply });
        match answer.await {
            Ok(Ok(fed)) => Ok(fed),
            Ok(Err(Nay::No(err))) => Err(err),
            Ok(Err(Nay::Moved { inputs, key })) => self.feed_far(session, inputs, key).await,
            Err(_) => Err(FeedError::Down(closed())),
        }
    }

    pub(crate) async fn delete_here(self: &Arc<Inner>, session: SessionId) -> Result<(), Nay> {
        let (reply, answer) = oneshot::channel();
        self.send(session, Mail::Delete { reply });
        answer.await.unwrap_or_else(|_| Err(Nay::No(closed().into())))
    }

    /// With which epoch a session is adopted here.
    pub(crate) fn epoch_of(&self, session: SessionId) -> u64 {
        let table = self.table();
        let epoch = table.share.epochs.get(usize::from(session.bucket())).copied();
        epoch.unwrap_or_else(|| self.epoch.load(Ordering::SeqCst))
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    pub(crate) fn market(&self) -> Arc<Market> {
        Arc::clone(&lock(&self.market))
    }

    /// Paces how many requests begin at an offer at the same time.
    pub(crate) fn gate(&self, offer: &OfferId) -> Arc<Semaphore> {
        let mut gates = lock(&self.gates);
        if let Some(gate) = gates.get(offer) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Semaphore::new(self.settings.starts_per_offer));
        gates.insert(offer.clone(), Arc::clone(&gate));
        gate
    }
}

pub(crate) fn closed() -> Down {
    Down("the host was stopped before it was done; whether it happened is in the log".to_owned())
}

pub(crate) fn elsewhere() -> Down {
    Down("the session is not served by this node; ask again shortly".to_owned())
}

/// This node has not been heard by the others for so long that it must not speak for its sessions.
pub(crate) fn lapsed() -> Down {
    Down("this node has lost touch with the store; try again shortly".to_owned())
}

/// Whoever cannot say more says that much.
pub(crate) fn down(err: FeedError) -> Down {
    match err {
        FeedError::Down(down) => down,
        other => Down(other.to_string()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic halfway through a change runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
