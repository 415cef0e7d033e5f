//! One session at work: take an input, decide, append, apply, tell, and compare what is wanted with what runs.
//!
//! The driver is the only one who writes to its session's log, one row at a time. Nothing is told, answered or
//! started before the append it follows from is acknowledged. Whoever finds that another has written drops
//! everything at once.

mod run;
mod mail;
mod leave;

pub(crate) use leave::turn_away;

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everstate_kernel::delta::{Delta, Frame};
use everstate_kernel::effect::Effect;
use everstate_kernel::event::Event;
use everstate_kernel::ids::{AttemptId, Millis, Seq, SessionId};
use everstate_kernel::input::{Input, Shown};
use everstate_kernel::state::{Rejection, Session};
use everstate_kernel::veil::veiled;
use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cache::Kept;
use crate::host::{Fed, FeedError, Inner, lapsed};
use crate::hub::News;
use crate::keep;
use crate::ledger::{Allowance, Flight};
use crate::load::{self, LoadError, ShownFold};
use crate::ports::{AppendError, Down, Head, NewRow, NoEntry, Pass, Projection, RowKind};
use crate::table::{Mail, Slot};
use crate::tail::{Piece, Told};
use crate::think::{Around, Letter, Stop, Thought, think};
use crate::workers::Running;

pub(crate) struct Driver {
    host: Arc<Inner>,
    session: SessionId,
    slot: Slot,
    mailbox: UnboundedReceiver<Mail>,
    /// As of the last acknowledged append.
    state: Arc<Session>,
    head: Head,
    running: BTreeMap<Effect, Running>,
    /// What placed attempts will send.
    letters: BTreeMap<AttemptId, Letter>,
    /// What was shown of the attempts under way.
    shown: BTreeMap<AttemptId, ShownFold>,
    /// Outcomes the store has not taken yet, oldest first, and when it is asked again.
    stuck: VecDeque<(Effect, Input)>,
    again_at: Millis,
    again_ms: Millis,
    /// The wake-up that was answered by nothing: not to be repeated at once.
    deaf_until: Millis,
    since_snapshot: u64,
    rolled: Seq,
    /// About how much memory the fold takes.
    bytes: u64,
    /// A row was offered, and the store did not say what became of it: it may be on the log, or come there yet.
    in_doubt: bool,
}

/// A row's body.
enum Said {
    Written(Bytes),
    /// What is written, and what is kept in memory only.
    Veiled {
        facts: Bytes,
        contents: Bytes,
    },
}

/// Why an input did not become an append.
enum Trouble {
    Rejected(Rejection),
    Seen(Seq),
    /// The store cannot do it now. Nothing has changed.
    Down(Down),
    /// The session is another's. Everything here is void.
    Fenced,
    /// The machine broke on it.
    Broken(String),
}

/// Why a driver leaves.
enum Leave {
    /// Nothing is left to do.
    Idle,
    /// It could not begin.
    Unable(FeedError),
    /// It must not go on: its memory is void.
    Void,
    /// The host is stopping, or the session had its time to move.
    Closed,
    /// The session is another node's.
    Lost,
    /// The session cannot go on, here and now.
    Park(String),
    Deleted,
}

/// The pause before the store is asked again; it doubles.
const AGAIN_MS: Millis = 50;
const AGAIN_MAX_MS: Millis = 5_000;
/// A wake-up nearer than this is waited for in memory.
const SOON_MS: Millis = 2_000;

pub(crate) async fn drive(
    host: Arc<Inner>,
    session: SessionId,
    slot: Slot,
    mailbox: UnboundedReceiver<Mail>,
    kept: Option<Kept>,
) {
    let is_new = kept.is_none();
    let kept = kept.unwrap_or_else(|| Kept {
        state: Arc::default(),
        head: Head::default(),
        rolled: 0,
        since_snapshot: 0,
        bytes: 0,
    });
    let mut driver = Driver {
        host: Arc::clone(&host),
        session,
        slot,
        mailbox,
        state: kept.state,
        head: kept.head,
        running: BTreeMap::new(),
        letters: BTreeMap::new(),
        shown: BTreeMap::new(),
        stuck: VecDeque::new(),
        again_at: Millis::MAX,
        again_ms: AGAIN_MS,
        deaf_until: 0,
        since_snapshot: kept.since_snapshot,
        rolled: kept.rolled,
        bytes: kept.bytes,
        in_doubt: false,
    };
    loop {
        let leave = match AssertUnwindSafe(driver.live(is_new)).catch_unwind().await {
            Ok(leave) => leave,
            Err(panic) => Leave::Park(keep::panic_text(&*panic)),
        };
        if driver.leave(leave).await {
            host.left.notify_waiters();
            return;
        }
    }
}

impl Driver {
    async fn live(&mut self, is_new: bool) -> Leave {
        if is_new && self.head.seq == 0 {
            let leave = match self.load().await {
                Ok(()) => None,
                Err(LoadError::Down(down)) => Some(Leave::Unable(FeedError::Down(down))),
                Err(LoadError::Broken(reason)) => Some(Leave::Park(reason)),
            };
            if let Some(leave) = leave {
                return if self.delete_unread().await { Leave::Deleted } else { leave };
            }
        }
        match self.own().await {
            Ok(()) => (),
            Err(Trouble::Down(down)) => return Leave::Unable(FeedError::Down(down)),
            Err(Trouble::Fenced) => return Leave::Void,
            Err(Trouble::Broken(reason)) => return Leave::Park(reason),
            Err(Trouble::Rejected(Rejection::OldEpoch { .. })) if self.host.cluster.is_some() => {
                // The bucket has gone on, and we have not heard of it.
                self.host.look_around();
                let session = self.session;
                let down = Down(format!("{session} was taken over by another node; try again"));
                return Leave::Unable(FeedError::Down(down));
            }
            // A newer owner has it; whoever asks hears so.
            Err(Trouble::Rejected(why)) => return Leave::Unable(FeedError::Rejected(why)),
            Err(Trouble::Seen(_)) => (),
        }
        loop {
            match self.round().await {
                Ok(true) => (),
                Ok(false) => return Leave::Idle,
                Err(leave) => return leave,
            }
        }
    }

    async fn load(&mut self) -> Result<(), LoadError> {
        if let Some(loaded) = load::load(&*self.host.ports.log, self.session).await? {
            self.state = Arc::new(loaded.state);
            self.head = loaded.head;
            self.since_snapshot = loaded.since_snapshot;
            self.bytes = loaded.bytes;
            self.slot.view.set(Arc::clone(&self.state));
            // Of rows that landed without our hearing of it, nobody else tells.
            self.host.hub.tell(self.session, self.head.seq, || News::Read);
        }
        Ok(())
    }

    /// Makes the session ours, if there is one: whoever ran its effects before is gone.
    async fn own(&mut self) -> Result<(), Trouble> {
        let epoch = self.host.epoch_of(self.session);
        let is_unclean = self.host.table().unclean.contains(&self.session);
        if self.head.seq == 0 || (self.state.live.epoch == epoch && !is_unclean) {
            return Ok(());
        }
        self.shown = match load::shown(&*self.host.ports.log, self.session, &self.state).await {
            Ok(shown) => shown,
            Err(LoadError::Down(down)) => return Err(Trouble::Down(down)),
            Err(LoadError::Broken(reason)) => return Err(Trouble::Broken(reason)),
        };
        let was_ours = self.state.live.epoch == epoch;
        self.take(vec![Input::Adopted { epoch }], None, Vec::new()).await?;
        if let Some(cluster) = self.host.cluster.as_ref().filter(|_| !was_ours) {
            cluster.has_taken_over();
        }
        self.host.table().unclean.remove(&self.session);
        self.read_inbox().await
    }

    /// Decides inputs, lands what follows in one row, and tells it. Without events, or with an error, nothing happened.
    async fn take(
        &mut self,
        inputs: Vec<Input>,
        key: Option<String>,
        consumed: Vec<String>,
    ) -> Result<Fed, Trouble> {
        let now = self.host.ports.clock.now().max(self.state.live.last_at);
        let begins = inputs.iter().any(|it| matches!(it, Input::Begin(_)));
        let (thought, flight) = match self.fly(&inputs, now).await? {
            None => (self.think(inputs, now, None)?, None),
            Some(flight) => {
                let (thought, flight) = self.think_within(inputs, flight).await?;
                (thought, Some(flight))
            }
        };
        if thought.append.events.is_empty() {
            return Ok(Fed { seq: self.head.seq, events: Vec::new() });
        }
        let _pass = match begins {
            true => self.enter(&thought).await?,
            false => None,
        };
        let contents = Bytes::from(thought.append.encode());
        let n_bytes = contents.len() as u64;
        let projection = keep::projection(&thought.state);
        let at = thought.append.at;
        let body = match self.is_veiled(&thought.state) {
            true => Said::Veiled { facts: veiled(&thought.append).encode().into(), contents },
            false => Said::Written(contents),
        };
        self.land(RowKind::Events, at, body, key, consumed, Some(projection)).await?;
        if let Some(flight) = flight {
            flight.landed(&thought.append);
        }
        if let Some(turnstile) = self.host.turnstile.get() {
            let turn = self.state.live.turn.as_ref().or(thought.state.live.turn.as_ref());
            if let Some(by) = turn.and_then(|it| it.terms.by.as_ref()) {
                turnstile.landed(by, &thought.append);
            }
        }
        self.state = Arc::new(thought.state);
        self.letters.extend(thought.prepared);
        self.since_snapshot += 1;
        self.bytes += n_bytes;
        self.slot.view.set(Arc::clone(&self.state));
        let append = Arc::new(thought.append);
        if let Some(witness) = self.host.witness.get() {
            witness.told(&self.state, &append);
        }
        self.host
            .hub
            .tell(self.session, append.seq - 1, || News::Told(Told::Append(Arc::clone(&append))));
        Ok(Fed { seq: append.seq, events: append.events.clone() })
    }

    /// Whoever watches over what many share lets a turn begin, or not. One that is only steered has begun.
    async fn enter(&self, thought: &Thought) -> Result<Option<Pass>, Trouble> {
        let Some(turnstile) = self.host.turnstile.get() else { return Ok(None) };
        let Some(about) = &thought.state.about else { return Ok(None) };
        let begun = thought.append.events.iter().find_map(|it| match it {
            Event::TurnStarted { terms, .. } => Some(terms),
            _ => None,
        });
        let Some(terms) = begun else { return Ok(None) };
        match turnstile.enter(&about.project, terms).await {
            Ok(pass) => Ok(Some(pass)),
            Err(NoEntry::Away(why)) => Err(Trouble::Rejected(Rejection::TurnedAway(why))),
            Err(NoEntry::Down(down)) => Err(Trouble::Down(down)),
        }
    }

    fn think(
        &self,
        inputs: Vec<Input>,
        now: Millis,
        allowance: Option<Allowance>,
    ) -> Result<Thought, Trouble> {
        let shown: Vec<Shown> = self.shown.iter().map(|(&id, it)| it.cut(id)).collect();
        let around = Around {
            now,
            seq: self.head.seq + 1,
            market: &self.host.market(),
            seen: &self.host.health.seen(now),
            shown: &shown,
            placing: !self.is_holding_back(),
            allowance,
        };
        think(&self.state, inputs, &around).map_err(|stop| match stop {
            Stop::Rejected(rejection) => Trouble::Rejected(rejection),
            Stop::Panicked(reason) => Trouble::Broken(reason),
        })
    }

    /// `None` if nothing limits what the session's project spends.
    async fn fly(&self, inputs: &[Input], now: Millis) -> Result<Option<Flight>, Trouble> {
        let Some(ledger) = self.host.ledger.get() else { return Ok(None) };
        let project = match (&self.state.about, inputs.first()) {
            (Some(about), _) => &about.project,
            (None, Some(Input::Create(create))) => &create.project,
            (None, _) => return Ok(None),
        };
        ledger.fly(project, self.session, now).await.map_err(Trouble::Down)
    }

    /// As if money were no matter; if there is too little of it here, with what can be had. Nothing has happened until
    /// the append lands, so that it can be thought again.
    async fn think_within(
        &self,
        inputs: Vec<Input>,
        mut flight: Flight,
    ) -> Result<(Thought, Flight), Trouble> {
        let thought = self.think(inputs.clone(), flight.at, None)?;
        if flight.reserve(&thought.append) {
            return Ok((thought, flight));
        }
        flight.refill(&thought.append).await;
        if flight.reserve(&thought.append) {
            return Ok((thought, flight));
        }
        let mut shares = true;
        loop {
            let allowance = flight.allowance(shares);
            let thought = self.think(inputs.clone(), flight.at, Some(allowance))?;
            if shares && allowance.is_part && thought.lacks_money() {
                // Too little to share.
                shares = false;
            } else if flight.reserve(&thought.append) {
                return Ok((thought, flight));
            }
            // Others were faster, and there is less than there was.
        }
    }

    async fn land(
        &mut self,
        kind: RowKind,
        at: Millis,
        said: Said,
        key: Option<String>,
        consumed: Vec<String>,
        projection: Option<Projection>,
    ) -> Result<(), Trouble> {
        let (body, contents) = match said {
            Said::Written(body) => (body, None),
            Said::Veiled { facts, contents } => (facts, Some(contents)),
        };
        let row = NewRow {
            session: self.session,
            seq: self.head.seq + 1,
            kind,
            at,
            prev: self.head.hash,
            body,
            key,
            consumed,
            projection,
        };
        let log = &self.host.ports.log;
        let landed = match contents {
            None => log.append(row).await,
            Some(contents) => log.append_facts(row, contents).await,
        };
        match landed {
            Ok(landed) => {
                self.head = landed.head;
                self.in_doubt = false;
                Ok(())
            }
            Err(AppendError::Fenced) => Err(Trouble::Fenced),
            Err(AppendError::Seen(seq)) => Err(Trouble::Seen(seq)),
            Err(AppendError::Down(down)) => {
                self.in_doubt = true;
                Err(Trouble::Down(down))
            }
        }
    }

    /// Shows what an attempt said. Of a resumable turn it is on the log first.
    async fn show(&mut self, attempt: AttemptId, deltas: Vec<Delta>) -> Result<(), Trouble> {
        let Some(turn) = self.state.live.turn.as_ref() else { return Ok(()) };
        if self.state.live.attempt(attempt).is_none() {
            // Not wanted any more: nobody is to hear it.
            return Ok(());
        }
        let frame = Frame { attempt, deltas };
        if turn.terms.resumable && !self.is_veiled(&self.state) {
            let now = self.host.ports.clock.now().max(self.state.live.last_at);
            let body = serde_json::to_vec(&frame).expect("a frame has a JSON form");
            let body = Said::Written(Bytes::from(body));
            self.land(RowKind::Frame, now, body, None, Vec::new(), None).await?;
            self.shown.entry(attempt).or_default().push(&frame);
            let (seq, frame) = (self.head.seq, Arc::new(frame));
            self.host.hub.tell(self.session, seq - 1, || News::Told(Told::Frame { seq, frame }));
        } else {
            // The log does not guard what is not on it.
            if !self.may_speak() {
                return Err(Trouble::Down(lapsed()));
            }
            let shown = self.shown.entry(attempt).or_default();
            let n = shown.n_frames();
            shown.push(&frame);
            let piece = Arc::new(Piece { n, frame });
            self.host.hub.tell(self.session, self.head.seq, || News::Told(Told::Shown(piece)));
        }
        Ok(())
    }

    /// Is what is said here kept in memory only?
    fn is_veiled(&self, state: &Session) -> bool {
        state.about.as_ref().is_some_and(|it| self.host.settings.is_veiled(&it.project))
    }

    /// May it show, begin or answer what the log does not guard?
    fn may_speak(&self) -> bool {
        self.host.has_lease() && !self.slot.fate.is_lost()
    }

    /// Is the host shutting down or the session moving, and can its turn wait for the next owner?
    fn is_holding_back(&self) -> bool {
        use everstate_kernel::input::Caller;
        (self.host.draining.load(Ordering::SeqCst) || self.slot.fate.is_leaving())
            && self.state.live.turn.as_ref().is_none_or(|it| it.terms.caller == Caller::Detached)
    }

    /// The driver waits for it: one that came after an erasure would bring back what was erased.
    async fn snapshot_sometimes(&mut self) {
        let enough = self.host.settings.snapshot_appends;
        let half = self.state.transcript.entries.len() as u64 / 2;
        if self.is_veiled(&self.state) || self.since_snapshot < enough.max(half) {
            return;
        }
        self.since_snapshot = 0;
        let (log, session) = (&*self.host.ports.log, self.session);
        if let Err(down) = keep::snapshot(log, session, self.head, &self.state).await {
            tracing::debug!(%session, %down, "no snapshot; the log is read instead");
        }
    }
}
