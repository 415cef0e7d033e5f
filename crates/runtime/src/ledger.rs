//! Money that projects may spend: a node leases a slice of each project's limit, and reserves and settles in memory.
//!
//! A step is reserved before its placement is on the log, and settled when the log says what it cost. The document of
//! a limit is written in the background: when the slice runs low, when something is to be settled, when it is idle. The
//! logs are the truth; what a dead holder had not settled is read from them. The rules are the kernel's (`slice`).

mod purse;
mod renew;
mod logs;
mod reclaim;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{AttemptId, Millis, SessionId};
use everstate_kernel::money::Micros;
use everstate_kernel::slice::{Limit, Slices};
use tokio::sync::Notify;

use crate::ports::{Clock, Down, Log, Registry};
use purse::Purse;
pub(crate) use renew::run;

/// A limit's document: its project, this kind, this name.
const KIND: &str = "ledger";
const MONEY: &str = "money";
/// The pause before a step is placed again that only waits for what others hold.
const HELD_MS: Millis = 500;

/// What projects may spend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub own: BTreeMap<String, Limit>,
    /// Of every project without one of its own.
    pub every: Option<Limit>,
}

impl Limits {
    pub fn of(&self, project: &str) -> Option<Limit> {
        self.own.get(project).copied().or(self.every)
    }
}

/// Does the process with this epoch live?
pub type IsAlive = dyn Fn(u64) -> bool + Send + Sync;

/// The money of one host's sessions.
pub struct Ledger {
    registry: Arc<dyn Registry>,
    /// Where the spending of stored sessions can be read again.
    log: Arc<dyn Log>,
    /// Are the sessions stored that spend here? Of others, what is not settled when the process dies counts as spent.
    stored: bool,
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// The epoch of this process; 0 before it has one.
    epoch: Mutex<u64>,
    is_alive: Mutex<Option<Arc<IsAlive>>>,
    pockets: Mutex<BTreeMap<String, Arc<Pocket>>>,
    wake: Notify,
}

/// One project's slice.
#[derive(Debug)]
struct Pocket {
    project: String,
    limit: Limit,
    purse: Mutex<Purse>,
    /// The document as this node last saw it. Whoever writes it holds this.
    document: tokio::sync::Mutex<Option<(u64, Slices)>>,
    seen: Mutex<Option<Slices>>,
    /// Holders that seemed dead at the last look.
    suspects: Mutex<BTreeSet<String>>,
    /// The document knows that we spend.
    is_known: AtomicBool,
    /// The document is to be looked at, because nobody did or because of a dead holder's slice.
    looks: AtomicBool,
}

/// How a project's money stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub project: String,
    pub limit: Limit,
    /// As the document says it.
    pub slices: Slices,
    /// What this host holds, and what became of it.
    pub here: Here,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    pub leased: Micros,
    pub reserved: Micros,
    /// Spent, and not in the document yet.
    pub unsettled: Micros,
}

/// What may be reserved for a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) left: Micros,
    /// There is more here, and it is kept for others.
    pub(crate) is_part: bool,
    /// More may come back: it is asked again then.
    pub(crate) again_at: Option<Millis>,
}

impl Ledger {
    /// `log` is where stored sessions are, `stored` whether those that spend here are among them.
    pub fn new(
        registry: Arc<dyn Registry>,
        log: Arc<dyn Log>,
        stored: bool,
        clock: Arc<dyn Clock>,
        limits: Limits,
    ) -> Arc<Ledger> {
        Arc::new(Ledger {
            registry,
            log,
            stored,
            clock,
            limits,
            epoch: Mutex::default(),
            is_alive: Mutex::default(),
            pockets: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Who lives, where there are many nodes. Without it, every process but this one is gone.
    pub fn judge_by(&self, is_alive: Arc<IsAlive>) {
        *lock(&self.is_alive) = Some(is_alive);
    }

    /// Leases are taken under this epoch. A host whose sessions are stored says it by itself when it starts.
    pub fn begin(&self, epoch: u64) {
        let before = std::mem::replace(&mut *lock(&self.epoch), epoch);
        if before != epoch {
            // What was held under another name is taken back like a dead one's.
            lock(&self.pockets).clear();
        }
        for project in self.limits.own.keys() {
            self.pocket(project);
        }
        self.wake.notify_one();
    }

    pub(crate) fn is_stored(&self) -> bool {
        self.stored
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How a project's money stands; `None` if it has no limit.
    pub async fn standing(&self, project: &str) -> Result<Option<Standing>, Down> {
        let Some(pocket) = self.pocket(project) else { return Ok(None) };
        let now = self.clock.now();
        let found = self.registry.get(project, KIND, MONEY).await?;
        let mut slices = match found {
            Some(document) => renew::read(&document)?,
            // Nobody has begun to count.
            None => self.count(&pocket, None, now).await?.0,
        };
        slices.pass(now);
        Ok(Some(pocket.standing(slices)))
    }

    /// As far as it is known here, without asking the store.
    pub fn known(&self) -> Vec<Standing> {
        let pockets: Vec<Arc<Pocket>> = lock(&self.pockets).values().cloned().collect();
        let standing = |it: Arc<Pocket>| {
            let seen = lock(&it.seen).clone()?;
            Some(it.standing(seen))
        };
        pockets.into_iter().filter_map(standing).collect()
    }

    fn pocket(&self, project: &str) -> Option<Arc<Pocket>> {
        let mut pockets = lock(&self.pockets);
        if let Some(pocket) = pockets.get(project) {
            return Some(Arc::clone(pocket));
        }
        let pocket = Arc::new(Pocket {
            project: project.to_owned(),
            limit: self.limits.of(project)?,
            purse: Mutex::default(),
            document: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            suspects: Mutex::default(),
            is_known: AtomicBool::new(false),
            looks: AtomicBool::new(true),
        });
        pockets.insert(project.to_owned(), Arc::clone(&pocket));
        Some(pocket)
    }

    /// A session's append takes off. `None` if nothing limits its project.
    pub(crate) async fn fly(
        self: &Arc<Ledger>,
        project: &str,
        session: SessionId,
        now: Millis,
    ) -> Result<Option<Flight>, Down> {
        let Some(pocket) = self.pocket(project) else { return Ok(None) };
        if !pocket.is_known.load(Ordering::SeqCst) {
            // Once, so that whoever comes after us looks into our logs.
            self.enter(&pocket).await?;
        }
        let at = pocket.purse().fly(now);
        let ledger = Arc::clone(self);
        Ok(Some(Flight { ledger, pocket, session, at, placed: Vec::new(), is_down: false }))
    }

    /// A session is no longer ours: whoever has it counts what its attempts cost.
    pub(crate) fn forget(&self, project: &str, session: SessionId) {
        if let Some(pocket) = self.pocket(project) {
            pocket.purse().forget(session);
        }
    }

    /// A session is gone, and with it what would have been said of these attempts.
    pub(crate) fn lost(
        &self,
        project: &str,
        session: SessionId,
        attempts: impl Iterator<Item = (AttemptId, Micros)>,
        now: Millis,
    ) {
        let Some(pocket) = self.pocket(project) else { return };
        let mut purse = pocket.purse();
        let at = purse.fly(now);
        attempts.for_each(|(attempt, cost)| purse.settle(session, attempt, at, cost));
        purse.forget(session);
        purse.land(at);
    }

    fn holder(&self) -> String {
        let epoch = *lock(&self.epoch);
        if self.stored { epoch.to_string() } else { format!("{epoch}{UNSTORED}") }
    }
}

/// The end of the name of a holder whose sessions are not stored.
const UNSTORED: &str = ".m";

impl Pocket {
    fn purse(&self) -> MutexGuard<'_, Purse> {
        lock(&self.purse)
    }

    fn standing(&self, slices: Slices) -> Standing {
        let here = self.purse().here();
        Standing { project: self.project.clone(), limit: self.limit, slices, here }
    }
}

/// An append on its way to the log, and the money it needs. Dropped before it lands, it takes that money back.
#[derive(Debug)]
pub(crate) struct Flight {
    ledger: Arc<Ledger>,
    pocket: Arc<Pocket>,
    session: SessionId,
    /// The append's time: after everything that was settled.
    pub(crate) at: Millis,
    placed: Vec<AttemptId>,
    is_down: bool,
}

impl Flight {
    /// Sets money aside for what an append places. `false` if there is too little here, and then none is.
    pub(crate) fn reserve(&mut self, append: &Append) -> bool {
        let placed = || {
            append.events.iter().filter_map(|it| match it {
                Event::Placed { attempt, plan } => Some((*attempt, plan.reserved)),
                _ => None,
            })
        };
        let mut purse = self.pocket.purse();
        if !purse.reserve(self.session, placed()) {
            return false;
        }
        self.placed = placed().map(|(attempt, _)| attempt).collect();
        let is_low = purse.is_low();
        drop(purse);
        if is_low {
            self.ledger.wake.notify_one();
        }
        true
    }

    /// Asks for more at once.
    pub(crate) async fn refill(&mut self, append: &Append) {
        let need = append.events.iter().fold(0, |sum: Micros, it| match it {
            Event::Placed { plan, .. } => sum.saturating_add(plan.reserved),
            _ => sum,
        });
        if let Err(down) = self.ledger.lease(&self.pocket, need).await {
            tracing::warn!(project = self.pocket.project, %down, "cannot lease money now");
            self.is_down = true;
        }
    }

    /// Where other steps are under way, one that has to be capped leaves half of what there is to those that come next:
    /// what is set aside is mostly far more than an answer costs.
    pub(crate) fn allowance(&self, shares: bool) -> Allowance {
        let purse = self.pocket.purse();
        let others = purse.here().reserved > 0 || purse.others_hold;
        let again_at = (self.is_down || others).then(|| self.at.saturating_add(HELD_MS));
        let is_part = shares && others;
        let left = if is_part { purse.free() / 2 } else { purse.free() };
        Allowance { left, is_part, again_at }
    }

    /// It is on the log: what it placed stays reserved, what it ended is settled.
    pub(crate) fn landed(mut self, append: &Append) {
        let mut purse = self.pocket.purse();
        for event in &append.events {
            if let Some((attempt, cost)) = cost(event) {
                purse.settle(self.session, attempt, self.at, cost);
            }
        }
        drop(purse);
        self.placed.clear();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut purse = self.pocket.purse();
        for attempt in &self.placed {
            purse.release(self.session, *attempt);
        }
        purse.land(self.at);
    }
}

/// The end of an attempt, and what it cost.
fn cost(event: &Event) -> Option<(AttemptId, Micros)> {
    match event {
        Event::Replied { attempt, cost, .. }
        | Event::SummedUp { attempt, cost, .. }
        | Event::AttemptFailed { attempt, cost, .. }
        | Event::AttemptLost { attempt, cost, .. }
        | Event::AttemptDropped { attempt, cost } => Some((*attempt, cost.micros)),
        _ => None,
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ledger({:?})", self.limits)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic halfway through a change runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
