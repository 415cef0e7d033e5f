//! A seeded world: hosts that crash and start again, a second owner, a log that is slow or away, clients that
//! repeat themselves, readers that come and go. What the runtime promises is checked whenever something is heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use everstate_kernel::effect::Effect;
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{Seq, SessionId, TurnNo};
use everstate_kernel::input::{Approval, Caller, Calls, Input};
use everstate_kernel::item::{Body, Outcome, Part};
use everstate_kernel::state::CallState;
use everstate_runtime::host::{Feed, FeedError, Host};
use everstate_runtime::ports::{Clock as _, RowKind};
use everstate_runtime::settings::HostSettings;
use everstate_runtime::tail::Told;
use futures_util::StreamExt;
use tokio::task::JoinSet;

use crate::log::{Faults, Rng};
use crate::world::{World, begin_with, create, terms};

const N_SESSIONS: u64 = 3;
const N_CLIENTS: u64 = 3;
const N_LIVES: u32 = 5;

#[test]
fn what_was_promised_holds_in_a_faulty_world() {
    let seeds = std::env::var("EVERSTATE_SEEDS").ok().and_then(|it| it.parse().ok());
    let first = std::env::var("EVERSTATE_SEED").ok().and_then(|it| it.parse().ok());
    let seeds = match (first, seeds) {
        (Some(only), _) => only..=only,
        (None, seeds) => 1..=seeds.unwrap_or(200u64),
    };
    let mut sum = Sum::default();
    for seed in seeds {
        let told = std::panic::catch_unwind(|| simulate(seed));
        match told {
            Ok(it) => sum.add(&it),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                panic!("EVERSTATE_SEED={seed}: {}", text.unwrap_or_default());
            }
        }
    }
    if first.is_some() {
        return;
    }
    // A world in which nothing happens promises nothing.
    assert!(sum.n_acked > 0 && sum.n_frames > 0 && sum.n_lost > 0 && sum.n_unknown > 0, "{sum:?}");
    assert!(sum.n_fenced > 0 && sum.n_shown > 0, "{sum:?}");
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) n_acked: usize,
    pub(crate) n_frames: usize,
    pub(crate) n_shown: usize,
    pub(crate) n_lost: usize,
    pub(crate) n_unknown: usize,
    pub(crate) n_fenced: usize,
}

impl Sum {
    pub(crate) fn add(&mut self, other: &Sum) {
        self.n_acked += other.n_acked;
        self.n_frames += other.n_frames;
        self.n_shown += other.n_shown;
        self.n_lost += other.n_lost;
        self.n_unknown += other.n_unknown;
        self.n_fenced += other.n_fenced;
    }
}

/// What clients know, over the lives of all hosts.
#[derive(Debug, Default)]
struct Notes {
    rng: Rng,
    n_keys: u64,
    /// Fed without an answer: to be repeated with the same key.
    open: Vec<(SessionId, String, Vec<Input>)>,
    /// Acknowledged turns, and where.
    acked: BTreeMap<String, (SessionId, Seq)>,
    n_frames: usize,
    n_shown: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Sim {
    pub(crate) world: World,
    notes: Arc<Mutex<Notes>>,
}

fn simulate(seed: u64) -> Sum {
    let world = World::new();
    let sim = Sim::new(&world, seed);
    world.run(sim.live(seed))
}

impl Sim {
    pub(crate) fn new(world: &World, seed: u64) -> Sim {
        let notes = Notes { rng: Rng::new(seed), ..Notes::default() };
        world.outside.acts.lock().unwrap().muse = Some(Rng::new(seed + 1_000_003));
        Sim { world: world.clone(), notes: Arc::new(Mutex::new(notes)) }
    }

    pub(crate) fn draw(&self, n: u64) -> u64 {
        self.notes.lock().unwrap().rng.below(n)
    }

    pub(crate) fn faults(&self, seed: u64, is_faulty: bool) {
        let mut stored = self.world.disk.stored();
        stored.faults = Faults {
            cannot_erase: false,
            damaged: None,
            unheard: 0,
            snapshot_ms: 0,
            rng: Rng::new(seed + 77),
            is_down: false,
            down_percent: if is_faulty { seed % 4 * 2 } else { 0 },
            before_ms: if is_faulty { seed % 3 * 10 } else { 0 },
            after_ms: if is_faulty { seed % 5 * 5 } else { 0 },
        };
    }

    async fn live(self, seed: u64) -> Sum {
        let mut older: Option<(Arc<Host>, JoinSet<()>)> = None;
        for no in 1..=N_LIVES {
            self.faults(seed + u64::from(no), true);
            let host = self.world.host(no, self.settings());
            while host.start().await.is_err() {
                self.world.clock.pause(20).await;
            }
            let crowd = self.crowd(no, &host);
            self.world.clock.pause(self.draw(400)).await;
            // The one before was thought dead, and was not: for a while there are two.
            if let Some(older) = older.take() {
                crash(older).await;
            }
            match self.draw(4) {
                0 => older = Some((host, crowd)),
                1 => {
                    self.world.disk.stored().faults.is_down = true;
                    self.world.clock.pause(self.draw(3_000)).await;
                    self.world.disk.stored().faults.is_down = false;
                    self.world.clock.pause(self.draw(200)).await;
                    crash((host, crowd)).await;
                }
                2 => {
                    host.drain().await;
                    crash((host, crowd)).await;
                }
                _ => crash((host, crowd)).await,
            }
        }
        if let Some(older) = older {
            crash(older).await;
        }
        self.faults(seed, false);
        self.come_to_rest(N_LIVES + 1).await
    }

    pub(crate) fn settings(&self) -> HostSettings {
        HostSettings {
            linger_ms: self.draw(200),
            cached_max: self.draw(3) as usize,
            snapshot_appends: 1 + self.draw(8),
            unread_max: 2 + self.draw(20) as usize,
            flush_ms: self.draw(30),
            drain_ms: 200,
            ..HostSettings::default()
        }
    }

    fn crowd(&self, no: u32, host: &Arc<Host>) -> JoinSet<()> {
        let mut crowd = JoinSet::new();
        for _ in 0..N_CLIENTS {
            crowd.spawn(self.clone().client(Arc::clone(host)));
        }
        for session in 1..=N_SESSIONS {
            crowd.spawn(self.clone().reader(no, Arc::clone(host), SessionId(session.into())));
        }
        crowd
    }

    // ---- clients -------------------------------------------------------------------------

    async fn client(self, host: Arc<Host>) {
        loop {
            self.world.clock.pause(self.draw(60)).await;
            let session = SessionId((1 + self.draw(N_SESSIONS)).into());
            self.act(&host, session).await;
        }
    }

    pub(crate) async fn act(&self, host: &Host, session: SessionId) {
        match self.draw(12) {
            0..=4 => self.begin(host, session).await,
            5..=6 => self.repeat(host).await,
            7 => self.end_turn(host, session).await,
            8..=10 => self.approve(host, session).await,
            _ => self.post(host, session).await,
        }
    }

    async fn begin(&self, host: &Host, session: SessionId) {
        let key = {
            let mut notes = self.notes.lock().unwrap();
            notes.n_keys += 1;
            format!("key {}", notes.n_keys)
        };
        let mut terms = terms();
        (terms.caller, terms.resumable) = match self.draw(3) {
            0 => (Caller::Attached, false),
            1 => (Caller::Attached, true),
            _ => (Caller::Detached, true),
        };
        if self.draw(2) == 0 {
            terms.calls = Calls::Hold;
        }
        if self.draw(4) == 0 {
            terms.limits.hedge_after_ms = Some(20);
        }
        let mut inputs = vec![begin_with(&key, terms)];
        if matches!(host.look(session).await, Err(FeedError::NotFound)) {
            inputs.insert(0, create(session));
        }
        self.notes.lock().unwrap().open.push((session, key.clone(), inputs.clone()));
        self.feed(host, session, key, inputs).await;
    }

    /// A client that heard nothing asks again; some ask again although they did.
    async fn repeat(&self, host: &Host) {
        let n_open = self.notes.lock().unwrap().open.len() as u64;
        let at = self.draw(n_open) as usize;
        let open = self.notes.lock().unwrap().open.get(at).cloned();
        if let Some((session, key, inputs)) = open {
            self.feed(host, session, key, inputs).await;
        }
    }

    async fn feed(&self, host: &Host, session: SessionId, key: String, inputs: Vec<Input>) {
        let fed = host.feed(session, inputs, Feed { key: Some(key.clone()) }).await;
        let seq = match fed {
            Ok(fed) => fed.seq,
            Err(FeedError::Seen(seq)) => seq,
            Err(FeedError::Rejected(_) | FeedError::NotFound) => {
                return self.forget(&key);
            }
            Err(FeedError::Down(_) | FeedError::Draining) => return,
        };
        // An acknowledgement is given for what is on the log by then.
        assert_eq!(self.turns_begun(session, &key), [seq], "acknowledged: {key} of {session}");
        let before = self.notes.lock().unwrap().acked.insert(key.clone(), (session, seq));
        assert!(before.is_none_or(|it| it == (session, seq)), "{key} landed twice");
        if self.draw(3) > 0 {
            self.forget(&key);
        }
        if self.draw(2) == 0 {
            self.wait_for(host, session, seq).await;
        }
    }

    /// Waits for a turn's answer for a while, until it comes, or the caller goes, or its connection breaks.
    async fn wait_for(&self, host: &Host, session: SessionId, began: Seq) {
        let Some(row) = self.world.disk.appends(session).into_iter().find(|it| it.seq == began)
        else {
            return;
        };
        let turn = row.events.iter().find_map(|it| match it {
            Event::TurnStarted { turn, .. } => Some(*turn),
            _ => None,
        });
        let Some(turn) = turn else { return };
        let mut attendance = host.attend(session, turn, began);
        self.world.clock.pause(self.draw(2_000)).await;
        match self.draw(3) {
            0 => attendance.cut_off(),
            1 => attendance.answered(),
            _ => drop(attendance),
        }
    }

    fn forget(&self, key: &str) {
        self.notes.lock().unwrap().open.retain(|it| it.1 != key);
    }

    /// The rows in which a turn began with this text.
    fn turns_begun(&self, session: SessionId, text: &str) -> Vec<Seq> {
        let says = |event: &Event| match event {
            Event::TurnStarted { items, .. } | Event::Steered { items, .. } => {
                items.iter().any(|it| match &it.body {
                    Body::Message { parts, .. } => parts.contains(&Part::text(text)),
                    _ => false,
                })
            }
            _ => false,
        };
        let appends = self.world.disk.appends(session);
        appends
            .iter()
            .flat_map(|it| it.events.iter().filter(|event| says(event)).map(|_| it.seq))
            .collect()
    }

    async fn end_turn(&self, host: &Host, session: SessionId) {
        let Ok(state) = host.look(session).await else { return };
        let Some(turn) = state.live.turn.as_ref().map(|it| it.no) else { return };
        let input = match self.draw(2) {
            0 => Input::Cancel { turn },
            _ => Input::CallerLost { turn },
        };
        host.feed(session, vec![input], Feed::default()).await.ok();
    }

    async fn approve(&self, host: &Host, session: SessionId) {
        let Ok(state) = host.look(session).await else { return };
        let calls = state.live.calls.iter();
        let mut asked =
            calls.filter(|(_, it)| matches!(it.state, CallState::AwaitingApproval { .. }));
        let Some((&call, _)) = asked.next() else { return };
        let approve = self.draw(4) > 0;
        let approval = Approval { call, approve, by: "somebody".to_owned(), reason: None };
        // One that was asked for in a turn that has ended comes with the next turn instead.
        host.feed(session, vec![Input::Approve(approval)], Feed::default()).await.ok();
    }

    async fn post(&self, host: &Host, session: SessionId) {
        let Ok(state) = host.look(session).await else { return };
        let turn: TurnNo = state.live.turn_no;
        let key = format!("cancel {turn}");
        host.post(session, &key, &[Input::Cancel { turn }]).await.ok();
    }

    // ---- readers -------------------------------------------------------------------------

    /// Follows a session from its beginning, and comes back whenever it is sent away.
    async fn reader(self, no: u32, host: Arc<Host>, session: SessionId) {
        let mut last: Seq = 0;
        // What a reader finds when it comes back may have been told long ago.
        let mut dozed_at = 0;
        loop {
            let mut tail = host.tail(session, last);
            while let Some(Ok(told)) = tail.next().await {
                let is_fresh = self.world.clock.now() > dozed_at + 1_000;
                self.heard(no, session, &mut last, &told, is_fresh);
                if self.draw(8) == 0 {
                    self.world.clock.pause(self.draw(100)).await;
                    dozed_at = self.world.clock.now();
                }
                if self.draw(30) == 0 {
                    break;
                }
            }
            self.world.clock.pause(1 + self.draw(50)).await;
        }
    }

    pub(crate) fn heard(
        &self,
        no: u32,
        session: SessionId,
        last: &mut Seq,
        told: &Told,
        is_fresh: bool,
    ) {
        let Some(seq) = told.seq() else {
            let fenced = self.world.disk.stored().fenced.get(&(no, session)).copied();
            let now = self.world.clock.now();
            assert!(
                !is_fresh || fenced.is_none_or(|at| now <= at + 50),
                "host {no} speaks for {session}, which it lost at {fenced:?}"
            );
            self.notes.lock().unwrap().n_shown += 1;
            return;
        };
        assert_eq!(seq, *last + 1, "a tail of {session} has a gap or a double");
        *last = seq;
        let row = self.world.disk.row(session, seq);
        let row = row.unwrap_or_else(|| panic!("{session}: row {seq} was told and is not there"));
        match told {
            Told::Append(append) => {
                assert_eq!(row.kind, RowKind::Events);
                assert_eq!(**append, Append::decode(seq, &row.body).unwrap());
            }
            Told::Frame { frame, .. } => {
                assert_eq!(row.kind, RowKind::Frame);
                assert_eq!(**frame, serde_json::from_slice(&row.body).unwrap());
                self.notes.lock().unwrap().n_frames += 1;
            }
            Told::Shown(_) => (),
        }
    }

    // ---- the end -------------------------------------------------------------------------

    /// Faults have stopped: everything under way comes to an end, and the books are checked.
    async fn come_to_rest(self, no: u32) -> Sum {
        let host = self.world.host(no, HostSettings::default());
        host.start().await.unwrap();
        for _ in 0..1_000 {
            // A retry may sleep in the log for some seconds.
            self.world.clock.pause(100).await;
            self.world.quiet(&host).await;
            if (1..=N_SESSIONS).all(|it| self.is_at_rest(SessionId(it.into()))) {
                break;
            }
        }
        let sessions: Vec<SessionId> = (1..=N_SESSIONS).map(|it| SessionId(it.into())).collect();
        self.close_the_books(no, &host, &sessions).await
    }

    /// Everything is on the log, once, and all say the same.
    pub(crate) async fn close_the_books(
        &self,
        no: u32,
        host: &Arc<Host>,
        sessions: &[SessionId],
    ) -> Sum {
        let mut sum = Sum::default();
        for &session in sessions {
            let rows = self.world.disk.rows(session);
            assert!(rows.iter().zip(1..).all(|(row, seq)| row.seq == seq));
            let Some(end) = rows.last().map(|it| it.seq) else { continue };
            let state = self.world.disk.fold(session);
            assert_eq!(*host.look(session).await.unwrap(), state, "memory and log differ");
            assert_eq!(state.live.parked, None, "{session} is parked");
            assert!(
                self.is_at_rest(session),
                "{session} never comes to an end: {:?}",
                state.effects()
            );
            let mut last = 0;
            let tail: Vec<_> = host.tail(session, 0).take(end as usize).collect().await;
            tail.iter()
                .for_each(|it| self.heard(no, session, &mut last, it.as_ref().unwrap(), false));
            let appends = self.world.disk.appends(session);
            for event in appends.iter().flat_map(|it| &it.events) {
                match event {
                    Event::AttemptLost { .. } => sum.n_lost += 1,
                    Event::ToolFinished { outcome, .. } if *outcome == Outcome::Unknown => {
                        sum.n_unknown += 1;
                    }
                    _ => (),
                }
            }
        }
        let notes = self.notes.lock().unwrap();
        let mut taken = BTreeSet::new();
        for (key, (session, seq)) in &notes.acked {
            assert_eq!(self.turns_begun(*session, key), [*seq], "{key} of {session}");
            assert!(taken.insert((session, seq)));
        }
        for (session, key, _) in &notes.open {
            assert!(
                self.turns_begun(*session, key).len() <= 1,
                "{key} of {session} was taken twice"
            );
        }
        sum.n_acked = notes.acked.len();
        sum.n_frames = notes.n_frames;
        sum.n_shown = notes.n_shown;
        sum.n_fenced = self.world.disk.stored().fenced.len();
        sum
    }
}

impl Sim {
    /// Nothing is wanted but an approval that may wait for days.
    pub(crate) fn is_at_rest(&self, session: SessionId) -> bool {
        let later = self.world.clock.now() + 3_600_000;
        let effects = self.world.disk.fold(session).effects();
        effects.iter().all(|it| matches!(it, Effect::Wake(at) if *at > later))
    }
}

/// The host is gone from one moment to the next, with all who spoke to it.
async fn crash((host, mut crowd): (Arc<Host>, JoinSet<()>)) {
    crowd.abort_all();
    while let Some(ended) = crowd.join_next().await {
        if let Err(err) = ended
            && err.is_panic()
        {
            std::panic::resume_unwind(err.into_panic());
        }
    }
    assert_eq!(Arc::strong_count(&host), 1, "somebody still holds the host");
}
