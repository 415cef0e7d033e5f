//! Being a member: joining, looking at the others, saying that one lives, following the assignment, leaving.
//!
//! One task of the host does all of it, a round at a time. Whoever holds another node dead says so in that node's own
//! document first: a renewal and a death are two writes at one revision, and one of them wins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use everstate_kernel::event::VERSION;
use everstate_kernel::ids::{Millis, SessionId};
use tokio::sync::oneshot;

use super::assignment::{Assignment, Seen};
use super::epoch::epoch;
use super::roll::{self, NodePaper, NodeState, Paper, Roll};
use super::watch::{Beat, Watch};
use super::{Cluster, Sight, lock};
use crate::buckets::Buckets;
use crate::host::{Host, Inner};
use crate::ports::{Document, Down, PutError};
use crate::start::{StartError, adopt_page, next_epoch};
use crate::table::Mail;
use crate::timers;

/// How often it is looked while buckets change hands.
const MOVING_MS: Millis = 200;
/// How long the last words of a session that is cut short may take.
const LAST_WORDS_MS: Millis = 2_000;
/// How often erasures are looked for that nobody has finished.
const ERASURES_MS: Millis = 30_000;

pub(crate) struct Member {
    inner: Arc<Inner>,
    cluster: Arc<Cluster>,
    me: NodePaper,
    /// Of our own document.
    revision: u64,
    /// What it said last.
    said: Said,
    beat_at: Millis,
    watch: Watch,
    /// When what still runs in a bucket that was given away is cut short.
    deadlines: BTreeMap<u16, Millis>,
    /// Buckets that are ours by the assignment and cannot be taken on yet.
    n_awaited: usize,
    erasures_at: Millis,
    chores: Arc<Chores>,
    is_troubled: bool,
}

/// Tasks beside the rounds, one of each at a time.
#[derive(Debug, Default)]
struct Chores {
    knocks: AtomicBool,
    erasures: AtomicBool,
}

type Said = (NodeState, u64, BTreeSet<u16>);

/// Why a round came to nothing.
enum Trouble {
    Down(Down),
    /// We are held dead, or another process has our name.
    Lost,
}

impl From<Down> for Trouble {
    fn from(down: Down) -> Trouble {
        Trouble::Down(down)
    }
}

impl Host {
    pub(crate) async fn join(&self) -> Result<(), StartError> {
        let inner = &self.inner;
        let mut member = Member::join(inner).await?;
        match member.round().await {
            Ok(()) => (),
            Err(Trouble::Down(down)) => return Err(down.into()),
            Err(Trouble::Lost) => {
                return Err(Down("another node took our place; starting again".to_owned()).into());
            }
        }
        inner.spawn(timers::run(Arc::clone(inner)));
        inner.spawn(member.run());
        if let (Some(ledger), Some(cluster)) = (inner.ledger.get(), &inner.cluster) {
            let cluster = Arc::clone(cluster);
            ledger.judge_by(Arc::new(move |process| cluster.roll().has(process)));
        }
        inner.run_ledger();
        Ok(())
    }
}

impl Member {
    /// Writes our name on the roll.
    async fn join(inner: &Arc<Inner>) -> Result<Member, StartError> {
        let cluster = inner.cluster.as_ref().expect("only one of many joins");
        let (registry, clock) = (&*inner.ports.registry, &*inner.ports.clock);
        let process = match inner.epoch.load(Ordering::SeqCst) {
            0 => next_epoch(inner).await?,
            it => it,
        };
        let mut me = NodePaper {
            name: cluster.node.name.clone(),
            address: cluster.node.address.clone(),
            version: cluster.node.version.clone(),
            reads: VERSION,
            epoch: process,
            beat: 1,
            state: NodeState::Live,
            settled: 0,
            holding: BTreeSet::new(),
            n_live: 0,
            n_ready: 0,
            n_posted: 0,
        };
        loop {
            let roll = Roll::read(registry, &Roll::default()).await?;
            if let Some(assignment) = &roll.assignment
                && assignment.body.version > VERSION
            {
                return Err(StartError::Refused(format!(
                    "the cluster writes rows of version {}, and this release reads up to {VERSION}: \
                     start a later release",
                    assignment.body.version
                )));
            }
            let expect = match roll.nodes.get(&me.name) {
                None => None,
                Some(found) => Some(free(inner, cluster, found).await?),
            };
            me.beat += 1;
            let began_at = clock.monotonic();
            match roll::put_node(registry, expect, &me, clock.now()).await {
                Ok(revision) => {
                    inner.begin(process);
                    cluster.lease.renew(began_at, cluster.node.lease_ms);
                    return Ok(Member {
                        inner: Arc::clone(inner),
                        cluster: Arc::clone(cluster),
                        said: (me.state, me.settled, BTreeSet::new()),
                        me,
                        revision,
                        beat_at: began_at + cluster.node.beat_ms,
                        watch: Watch::new(cluster.node.lease_ms),
                        deadlines: BTreeMap::new(),
                        n_awaited: 0,
                        erasures_at: 0,
                        chores: Arc::default(),
                        is_troubled: false,
                    });
                }
                Err(PutError::Conflict(_)) => (),
                Err(PutError::Down(down)) => return Err(down.into()),
            }
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            match self.round().await {
                Ok(()) => self.is_troubled = false,
                Err(Trouble::Down(down)) if self.is_troubled => {
                    tracing::debug!(%down, "still out of touch with the cluster");
                }
                Err(Trouble::Down(down)) => {
                    self.is_troubled = true;
                    tracing::warn!(%down, "out of touch with the cluster");
                }
                Err(Trouble::Lost) => {
                    tracing::warn!("held dead by the others: joining again");
                    if !self.come_back().await {
                        break;
                    }
                    continue;
                }
            }
            if self.may_go() {
                roll::remove_node(&*self.inner.ports.registry, &self.me.name).await.ok();
                self.cluster.lease.give_up();
                break;
            }
            self.rest().await;
        }
        self.cluster.has_left.notify_one();
    }

    fn may_go(&self) -> bool {
        self.me.state == NodeState::Leaving
            && self.me.holding.is_empty()
            && self.cluster.may_go.load(Ordering::SeqCst)
    }

    async fn round(&mut self) -> Result<(), Trouble> {
        let inner = Arc::clone(&self.inner);
        let (registry, clock) = (&*inner.ports.registry, &*inner.ports.clock);
        let began_at = clock.monotonic();
        let last = self.cluster.roll();
        let mut roll = self.in_time(Roll::read(registry, &last)).await?;
        let back_at = clock.monotonic();
        match roll.nodes.get(&self.me.name) {
            Some(found) if self.is_me(&found.body) => {
                self.revision = found.revision;
                self.me.beat = self.me.beat.max(found.body.beat);
            }
            Some(_) | None => return Err(Trouble::Lost),
        }
        if !inner.has_lease() {
            self.beat().await?;
        }
        self.bury(&mut roll, began_at, back_at).await?;
        if inner.draining.load(Ordering::SeqCst) && self.me.state == NodeState::Live {
            self.me.state = NodeState::Leaving;
            self.beat().await?;
        }
        roll.nodes
            .insert(self.me.name.clone(), Paper { revision: self.revision, body: self.me.clone() });
        self.assign(&mut roll).await?;
        self.follow(&roll);
        self.hurry();
        let knocks = std::mem::take(&mut roll.knocks);
        self.show(roll);
        self.do_chores(knocks);
        if clock.monotonic() >= self.beat_at || self.said != self.to_say() {
            self.beat().await?;
        }
        Ok(())
    }

    /// Says of those who have been silent for the whole lease that they are dead.
    async fn bury(
        &mut self,
        roll: &mut Roll,
        began_at: Millis,
        back_at: Millis,
    ) -> Result<(), Trouble> {
        let others = roll.nodes.values().map(|it| &it.body);
        let others = others.filter(|it| it.name != self.me.name && it.state != NodeState::Dead);
        let beats =
            others.map(|it| (it.name.clone(), Beat { epoch: it.epoch, beat: it.beat })).collect();
        for name in self.watch.look(began_at, back_at, beats) {
            let Some(found) = roll.nodes.get(&name) else { continue };
            let dead = NodePaper { state: NodeState::Dead, ..found.body.clone() };
            let now = self.inner.ports.clock.now();
            let put = roll::put_node(&*self.inner.ports.registry, Some(found.revision), &dead, now);
            match self.in_time_put(put).await {
                Ok(revision) => {
                    tracing::warn!(node = name, "silent for the whole lease: held dead");
                    roll.nodes.insert(name, Paper { revision, body: dead });
                }
                // It lives, or another was quicker; the next look tells.
                Err(PutError::Conflict(_)) => (),
                Err(PutError::Down(down)) => return Err(down.into()),
            }
        }
        Ok(())
    }

    /// Writes a new assignment if nodes have come or gone. Whoever notices first does it for all.
    async fn assign(&mut self, roll: &mut Roll) -> Result<(), Trouble> {
        let members = roll.members();
        let (expect, old) = match &roll.assignment {
            Some(paper) => (Some(paper.revision), Arc::clone(&paper.body)),
            None => (None, Arc::default()),
        };
        if members.is_empty() || members == old.members {
            return Ok(());
        }
        let version = roll.version().unwrap_or(VERSION).max(old.version);
        let next = old.next(&members, version, roll);
        let now = self.inner.ports.clock.now();
        let put = roll::put_assignment(&*self.inner.ports.registry, expect, &next, now);
        match self.in_time_put(put).await {
            Ok(revision) => {
                tracing::info!(revision = next.revision, nodes = ?next.members, "buckets are shared out anew");
                roll.assignment = Some(Paper { revision, body: Arc::new(next) });
                Ok(())
            }
            // Another was quicker. The next look comes soon.
            Err(PutError::Conflict(_)) => {
                self.cluster.poke.notify_one();
                Ok(())
            }
            Err(PutError::Down(down)) => Err(down.into()),
        }
    }

    /// Makes what is served here what the assignment says, as far as the others have let go.
    fn follow(&mut self, roll: &Roll) {
        let inner = Arc::clone(&self.inner);
        let Some(assignment) = roll.assignment.as_ref().map(|it| &it.body) else { return };
        let mine = match self.me.state {
            NodeState::Live => assignment.of(&self.me.name),
            NodeState::Leaving | NodeState::Dead => Buckets::none(),
        };
        let (serving, leaving) = {
            let share = &inner.table().share;
            (share.serving.clone(), share.leaving.clone())
        };
        let back: Buckets = leaving.iter().filter(|it| mine.has(*it)).collect();
        if !back.is_empty() {
            inner.keep_on(&back);
            // What had work and left is begun again.
            inner.spawn(adopt_all(Arc::clone(&inner), back.clone()));
        }
        let lost = serving.without(&mine);
        if !lost.is_empty() {
            tracing::info!(n_buckets = lost.len(), "giving buckets away");
            inner.give_away(&lost);
            let until = inner.ports.clock.monotonic() + self.cluster.node.hand_over_ms;
            self.deadlines.extend(lost.iter().map(|it| (it, until)));
        }
        // Drivers of an earlier life may still be on their way out.
        let awaited = mine.without(&serving).without(&back);
        let busy = if awaited.is_empty() { Buckets::none() } else { inner.busy() };
        let is_free = |bucket: u16| {
            assignment.seat(bucket).is_some_and(|seat| {
                seat.from
                    .iter()
                    .all(|it| *it == self.me.name || roll.has_let_go(it, bucket, seat.since))
            })
        };
        let free: Buckets = awaited.iter().filter(|it| !busy.has(*it) && is_free(*it)).collect();
        self.n_awaited = awaited.len() - free.len();
        self.take_on(&free, assignment);
        self.me.settled = assignment.revision;
    }

    fn take_on(&mut self, buckets: &Buckets, assignment: &Assignment) {
        if buckets.is_empty() {
            return;
        }
        tracing::info!(n_buckets = buckets.len(), "taking buckets on");
        self.inner.take_on(buckets, |bucket| {
            let since = assignment.seat(bucket).map_or(assignment.revision, |it| it.since);
            epoch(since, self.me.epoch)
        });
        self.deadlines.retain(|it, _| !buckets.has(*it));
        self.inner.timers.look_now();
        self.erasures_at = 0;
        self.inner.spawn(adopt_all(Arc::clone(&self.inner), buckets.clone()));
    }

    /// Lets go of what has come to rest, and cuts short what has had its time.
    fn hurry(&mut self) {
        let leaving = self.inner.let_go();
        self.deadlines.retain(|bucket, _| leaving.has(*bucket));
        self.me.holding = leaving.iter().collect();
        let now = self.inner.ports.clock.monotonic();
        let late: Buckets =
            self.deadlines.iter().filter(|(_, at)| **at <= now).map(|(it, _)| *it).collect();
        if !late.is_empty() {
            self.inner.cut_short(&late);
            self.deadlines.extend(late.iter().map(|it| (it, now + LAST_WORDS_MS)));
        }
    }

    /// Says that we live, and what we hold. The lease runs from the moment before.
    async fn beat(&mut self) -> Result<(), Trouble> {
        let inner = Arc::clone(&self.inner);
        let cluster = Arc::clone(&self.cluster);
        let (registry, clock) = (&*inner.ports.registry, &*inner.ports.clock);
        self.me.n_live = inner.table().live.len();
        self.me.n_ready = cluster.n_ready.load(Ordering::SeqCst);
        self.me.n_posted = cluster.n_posted.load(Ordering::SeqCst);
        loop {
            self.me.beat += 1;
            let began_at = clock.monotonic();
            let put = roll::put_node(registry, Some(self.revision), &self.me, clock.now());
            match self.in_time_put(put).await {
                Ok(revision) => {
                    let had_lease = inner.has_lease();
                    cluster.lease.renew(began_at, cluster.node.lease_ms);
                    lock(&cluster.sight).silent_since.insert(self.me.name.clone(), began_at);
                    if !had_lease {
                        tracing::info!("in touch with the cluster again");
                        inner.wake_all();
                    }
                    self.revision = revision;
                    self.beat_at = began_at + cluster.node.beat_ms;
                    self.said = self.to_say();
                    return Ok(());
                }
                // Our own, of which we had no answer.
                Err(PutError::Conflict(Some(found))) if self.is_mine(&found) => {
                    self.revision = found.revision;
                }
                Err(PutError::Conflict(_)) => return Err(Trouble::Lost),
                Err(PutError::Down(down)) => return Err(down.into()),
            }
        }
    }

    fn is_mine(&self, found: &Document) -> bool {
        serde_json::from_slice(&found.body).is_ok_and(|it: NodePaper| self.is_me(&it))
    }

    fn is_me(&self, found: &NodePaper) -> bool {
        found.epoch == self.me.epoch && found.state != NodeState::Dead
    }

    fn to_say(&self) -> Said {
        (self.me.state, self.me.settled, self.me.holding.clone())
    }

    /// Lets everybody here know what was seen.
    fn show(&self, roll: Roll) {
        let cluster = Arc::clone(&self.cluster);
        let now = self.inner.ports.clock.monotonic();
        let mut sight = lock(&cluster.sight);
        let mine = sight.silent_since.remove(&self.me.name);
        let ages = roll.nodes.keys().filter_map(|it| Some((it.clone(), self.watch.age(it, now)?)));
        let mut silent_since: HashMap<String, Millis> =
            ages.map(|(it, age)| (it, now - age)).collect();
        silent_since.extend(mine.map(|it| (self.me.name.clone(), it)));
        *sight = Sight { roll: Arc::new(roll), silent_since };
        drop(sight);
        cluster.changed.notify_waiters();
    }

    fn do_chores(&mut self, knocks: BTreeSet<SessionId>) {
        let inner = &self.inner;
        let serving = inner.table().share.serving.clone();
        let knocks: Vec<SessionId> = knocks.into_iter().filter(|it| serving.hold(*it)).collect();
        let chores = Arc::clone(&self.chores);
        if !knocks.is_empty() && !chores.knocks.swap(true, Ordering::SeqCst) {
            let inner = Arc::clone(inner);
            self.inner.spawn(async move {
                answer_knocks(&inner, knocks).await;
                chores.knocks.store(false, Ordering::SeqCst);
            });
        }
        let now = inner.ports.clock.monotonic();
        let chores = Arc::clone(&self.chores);
        if !serving.is_empty()
            && now >= self.erasures_at
            && !chores.erasures.swap(true, Ordering::SeqCst)
        {
            self.erasures_at = now + ERASURES_MS;
            let inner = Arc::clone(inner);
            self.inner.spawn(async move {
                if let Err(down) = inner.finish_erasures().await {
                    tracing::warn!(%down, "erasures are looked for again later");
                }
                chores.erasures.store(false, Ordering::SeqCst);
            });
        }
    }

    /// Until the next round is worth it.
    async fn rest(&mut self) {
        let inner = Arc::clone(&self.inner);
        let (cluster, clock) = (Arc::clone(&self.cluster), &*inner.ports.clock);
        let now = clock.monotonic();
        let is_moving = self.n_awaited > 0 || !self.me.holding.is_empty();
        let pause = if is_moving { MOVING_MS } else { cluster.node.look_ms };
        let silence = self.watch.next_at().map_or(Millis::MAX, |it| it.saturating_sub(now));
        let beat = self.beat_at.saturating_sub(now);
        let pause = pause.min(silence.max(MOVING_MS)).min(beat.max(1));
        tokio::select! {
            biased;
            () = cluster.poke.notified() => (),
            () = clock.pause(pause) => (),
        }
    }

    /// Everything is void; then on the roll again. `false` if the host is shutting down.
    async fn come_back(&mut self) -> bool {
        let inner = Arc::clone(&self.inner);
        let (cluster, clock) = (Arc::clone(&self.cluster), &*inner.ports.clock);
        cluster.lease.give_up();
        inner.lose_all();
        cluster.changed.notify_waiters();
        loop {
            if inner.draining.load(Ordering::SeqCst) {
                return false;
            }
            match Member::join(&inner).await {
                Ok(member) => {
                    *self = member;
                    return true;
                }
                Err(StartError::Down(down)) => {
                    tracing::debug!(%down, "cannot join now");
                    clock.pause(cluster.node.look_ms).await;
                }
                Err(StartError::Refused(why)) => {
                    tracing::error!(why, "cannot join; tried again");
                    clock.pause(cluster.node.lease_ms).await;
                }
            }
        }
    }

    /// A store that does not answer is down.
    async fn in_time<T>(&self, call: impl Future<Output = Result<T, Down>>) -> Result<T, Down> {
        let patience = self.cluster.node.lease_ms / 2;
        tokio::select! {
            biased;
            done = call => done,
            () = self.inner.ports.clock.pause(patience) => {
                Err(Down(format!("the store has not answered for {patience} ms")))
            }
        }
    }

    async fn in_time_put(
        &self,
        put: impl Future<Output = Result<u64, PutError>>,
    ) -> Result<u64, PutError> {
        let put = async { Ok(put.await) };
        match self.in_time(put).await {
            Ok(done) => done,
            Err(down) => Err(PutError::Down(down)),
        }
    }
}

/// The revision at which our name can be taken, if it can.
async fn free(
    inner: &Inner,
    cluster: &Cluster,
    found: &Paper<NodePaper>,
) -> Result<u64, StartError> {
    let (node, clock) = (&cluster.node, &*inner.ports.clock);
    let earlier = inner.epoch.load(Ordering::SeqCst);
    if found.body.state == NodeState::Dead || (earlier != 0 && found.body.epoch == earlier) {
        return Ok(found.revision);
    }
    let taken = || {
        StartError::Refused(format!(
            "a node named `{}` is running at {}: give this one another name, or stop that one",
            node.name, found.body.address
        ))
    };
    match cluster.peers.hello(&found.body.address).await {
        Ok(Some(hello)) if hello.name == node.name && hello.epoch == found.body.epoch => {
            return Err(taken());
        }
        Ok(_) => return Ok(found.revision),
        Err(down) => {
            tracing::info!(%down, address = found.body.address, "watching whether `{}` is alive", node.name);
        }
    }
    // It may be behind a wall. Whoever lives, beats.
    let until = clock.monotonic() + node.lease_ms;
    while clock.monotonic() < until {
        clock.pause(node.look_ms).await;
        let roll = Roll::read(&*inner.ports.registry, &Roll::default()).await?;
        match roll.nodes.get(&node.name) {
            Some(again) if again.revision != found.revision => return Err(taken()),
            Some(_) | None => (),
        }
    }
    Ok(found.revision)
}

/// Adopts whatever wants work in buckets that have become ours.
async fn adopt_all(inner: Arc<Inner>, buckets: Buckets) {
    let clock = Arc::clone(&inner.ports.clock);
    let mut after = None;
    loop {
        match adopt_page(&inner, &buckets, &mut after).await {
            Ok(true) => (),
            Ok(false) => return,
            Err(down) => {
                tracing::warn!(%down, "cannot ask the log what wants work; asking again");
                clock.pause(MOVING_MS).await;
            }
        }
    }
}

/// Reads the inboxes that posters could not tell us of.
async fn answer_knocks(inner: &Arc<Inner>, knocks: Vec<SessionId>) {
    for session in knocks {
        let (reply, answer) = oneshot::channel();
        inner.send(session, Mail::Inbox { reply: Some(reply) });
        if let Ok(Ok(())) = answer.await {
            // Whoever knocked once more meanwhile knocks again.
            roll::remove_knock(&*inner.ports.registry, session).await.ok();
        }
    }
}
