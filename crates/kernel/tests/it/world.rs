//! A simulated world around one session: seeded, single threaded, crashes included.
//!
//! It is the least driver there can be (decide, append, apply, compare), a world outside that really does things,
//! and everything that can go wrong between the two.

use everstate_kernel::delta::{Finish, ReplyEnd};
use everstate_kernel::effect::Effect;
use everstate_kernel::event::Append;
use everstate_kernel::fork;
use everstate_kernel::ids::{AttemptId, CallId, ItemId, Millis, SessionId};
use everstate_kernel::import::{self, Chain, Import, Origin};
use everstate_kernel::input::*;
use everstate_kernel::item::*;
use everstate_kernel::json::Json;
use everstate_kernel::money::Usage;
use everstate_kernel::plan::{NoOffer, OfferSet, Reason};
use everstate_kernel::request::Request;
use everstate_kernel::state::{CallState, Session};
use std::collections::{BTreeMap, BTreeSet};

use crate::tools;

pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub(crate) fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len() as u64) as usize]) }
    }
}

/// What really happened outside, and what was promised to somebody.
#[derive(Default)]
pub(crate) struct Outside {
    /// How often each tool call ran, by its global name; the name of the tool.
    pub(crate) runs: BTreeMap<CallId, (String, u32)>,
    /// Tool calls that ran although the log did not say so at that moment.
    pub(crate) unexplained: Vec<String>,
    /// Prompts that left, with the length of the log at that moment.
    pub(crate) prompts: Vec<(AttemptId, Request, usize)>,
    /// What a client was shown of each attempt.
    pub(crate) shown: BTreeMap<AttemptId, Vec<Output>>,
    /// Of these, what was told to a caller and kept nowhere.
    pub(crate) told: BTreeMap<AttemptId, Vec<Output>>,
    /// Inputs with a key that were acknowledged: the position of the append.
    pub(crate) acknowledged: BTreeMap<u64, u64>,
    pub(crate) secrets_erased: BTreeSet<String>,
    /// Forks that were made of it, and what became of it where it was carried to.
    pub(crate) forks: Vec<Session>,
}

/// A process that believes it owns the session.
#[derive(Clone)]
struct Node {
    session: Session,
    /// Work under way, and whether the world has already done it.
    running: BTreeMap<Effect, bool>,
    epoch: u64,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Millis,
    /// The durable part: the log, the keys seen, the frames.
    pub(crate) log: Vec<Append>,
    keys: BTreeMap<u64, u64>,
    frames: BTreeMap<AttemptId, Vec<Output>>,
    pub(crate) outside: Outside,
    owner: Node,
    /// The fold of what the rows say, as they were read back.
    replayed: Session,
    /// An owner that was replaced and does not know it.
    zombie: Option<Node>,
    /// Outcomes still travelling; they may arrive late, twice, or never.
    mail: Vec<Input>,
    n_said: u64,
    pub(crate) faults: bool,
}

const ID: SessionId = SessionId(7);

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let owner = Node { session: Session::default(), running: BTreeMap::new(), epoch: 1 };
        let mut world = World {
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: 1,
            log: Vec::new(),
            keys: BTreeMap::new(),
            frames: BTreeMap::new(),
            outside: Outside::default(),
            owner,
            replayed: Session::default(),
            zombie: None,
            mail: Vec::new(),
            n_said: 0,
            faults: true,
        };
        let create = Input::Create(Create {
            id: ID,
            project: "p".into(),
            door: "test".into(),
            named: false,
            metadata: None,
            inheritance: None,
            epoch: 1,
        });
        world.faults = false;
        assert!(world.feed(create, None));
        world.faults = true;
        world
    }

    pub(crate) fn replayed(&self) -> &Session {
        &self.replayed
    }

    /// Changes whenever something happened that a promise could be about.
    pub(crate) fn moment(&self) -> (usize, usize, usize, usize) {
        (
            self.log.len(),
            self.outside.prompts.len(),
            self.outside.runs.len(),
            self.outside.shown.len(),
        )
    }

    pub(crate) fn session(&self) -> &Session {
        &self.owner.session
    }

    /// The whole driver. True if something landed.
    pub(crate) fn feed(&mut self, input: Input, key: Option<u64>) -> bool {
        if let Some(seq) = key.and_then(|it| self.keys.get(&it)) {
            self.outside.acknowledged.insert(key.unwrap(), *seq);
            return false;
        }
        let Ok(events) = self.owner.session.decide(input, &self.shown(), self.now) else {
            return false;
        };
        if events.is_empty() {
            return false;
        }
        if self.faults && self.rng.percent(2) {
            self.crash(); // Before the append: nothing happened.
            return false;
        }
        let seq = self.owner.session.head + 1;
        if seq <= self.log.len() as u64 {
            return false; // The position is taken: a dying owner writes no more.
        }
        let at = self.now.max(self.owner.session.live.last_at);
        let append = Append { seq, at, events };
        let read_back = Append::decode(seq, &append.encode()).unwrap();
        self.replayed.apply(&read_back);
        self.log.push(read_back);
        if let Some(key) = key {
            self.keys.insert(key, seq);
        }
        if self.faults && self.rng.percent(2) {
            self.crash(); // After the append: nobody was told, nothing was started.
            return true;
        }
        self.owner.session.apply(&append);
        if let Some(key) = key {
            self.outside.acknowledged.insert(key, seq);
        }
        self.reconcile();
        true
    }

    fn reconcile(&mut self) {
        let wanted = self.owner.session.effects();
        self.owner.running.retain(|it, _| wanted.contains(it));
        for effect in wanted {
            // A wake-up may get lost; the next fact sets it anew.
            if matches!(effect, Effect::Wake(_)) && self.faults && self.rng.percent(5) {
                continue;
            }
            self.owner.running.entry(effect).or_insert(false);
        }
    }

    /// The owner dies; the next one loads the log. Sometimes the dead one is not dead.
    fn crash(&mut self) {
        for (effect, done) in std::mem::take(&mut self.owner.running) {
            // Work under way may or may not have reached the world.
            if !done && self.rng.percent(50) {
                let outcome = self.perform(effect);
                if self.rng.percent(30) {
                    self.mail.extend(outcome);
                }
            }
        }
        if self.rng.percent(30) {
            self.zombie = Some(self.owner.clone());
        }
        let epoch = self.owner.epoch + 1;
        let session = Session::replay(&self.log);
        self.owner = Node { session, running: BTreeMap::new(), epoch };
        // What was shown to a caller that waited is gone with the process; what was kept is not.
        self.outside.told.clear();
        let adopted = Input::Adopted { epoch };
        let faults = std::mem::replace(&mut self.faults, false);
        self.feed(adopted, None);
        self.faults = faults;
    }

    /// What was shown so far: kept frames, and what the living process told its caller.
    fn shown(&self) -> Vec<Shown> {
        let seen = self.frames.iter().chain(&self.outside.told);
        let live = seen.filter(|(id, _)| self.owner.session.live.attempt(**id).is_some());
        live.map(|(attempt, outputs)| Shown {
            attempt: *attempt,
            outputs: outputs.clone(),
            frames: outputs.len() as u64,
        })
        .collect()
    }

    /// The replaced owner goes on as if nothing had happened; the position it aims at is taken.
    fn zombie_acts(&mut self) {
        let Some(zombie) = self.zombie.take() else { return };
        let effects: Vec<Effect> = zombie.running.keys().copied().collect();
        let Some(effect) = self.rng.pick(&effects) else { return };
        let input = match effect {
            Effect::Wake(at) => {
                self.now = self.now.max(at);
                Input::Tick
            }
            Effect::Place(attempt) => Input::Placed { attempt, plan: tools::plan("z", 0) },
            Effect::Model(attempt) => {
                Input::Replied { attempt, outputs: vec![text("z")], end: stop() }
            }
            // Its tools were performed, or not, when it was replaced.
            Effect::Tool(_) => return,
        };
        let Ok(events) = zombie.session.decide(input, &[], self.now) else { return };
        let seq = zombie.session.head + 1;
        let fenced = seq <= self.log.len() as u64;
        if fenced || events.is_empty() {
            return; // It learns that it is not the owner, and shows and starts nothing more.
        }
        unreachable!("the owner's first append is at the zombie's next position");
    }

    /// The outside world does its part and answers.
    fn perform(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            // A plan that was made before the money was spent may still come.
            Effect::Place(attempt) if self.is_short(attempt) && self.rng.percent(80) => {
                let no_offer = NoOffer {
                    against: [(Reason::Budget, OfferSet::default())].into(),
                    offers_revision: 1,
                    again_at: None,
                    unknown_model: false,
                    project_budget: None,
                };
                Some(Input::NotPlaced { attempt, no_offer })
            }
            Effect::Place(attempt) if self.rng.percent(8) => {
                let again_at = if self.rng.percent(50) { Some(self.now + 50) } else { None };
                let no_offer = NoOffer {
                    against: BTreeMap::new(),
                    offers_revision: 1,
                    again_at,
                    unknown_model: false,
                    project_budget: None,
                };
                Some(Input::NotPlaced { attempt, no_offer })
            }
            Effect::Place(attempt) => {
                let others = self.rng.below(3) as u32;
                let offer = self.rng.pick(&["a", "b", "c"])?;
                Some(Input::Placed { attempt, plan: tools::plan(offer, others) })
            }
            Effect::Model(attempt) => self.answer_prompt(attempt),
            Effect::Tool(call) => {
                let name = self.owner.session.live.calls.get(&call).map(|it| it.name.clone());
                let name = name.or_else(|| self.outside.runs.get(&call).map(|it| it.0.clone()))?;
                self.outside.runs.entry(call).or_insert_with(|| (name.clone(), 0)).1 += 1;
                let started = self.log.iter().flat_map(|it| &it.events).any(
                    |it| matches!(it, everstate_kernel::event::Event::ToolStarted { call: it } if *it == call),
                );
                if !started {
                    self.outside.unexplained.push(format!("{name} {call}"));
                }
                let outcome = if self.rng.percent(10) { Outcome::Failed } else { Outcome::Ok };
                Some(Input::Returned { call, outcome, output: vec![Part::text("so it is")] })
            }
            Effect::Wake(at) => {
                self.now = self.now.max(at);
                Some(Input::Tick)
            }
        }
    }

    fn is_short(&self, attempt: AttemptId) -> bool {
        let ask = self.owner.session.ask(attempt);
        ask.and_then(|it| it.budget).is_some_and(|it| it < tools::plan("a", 0).reserved)
    }

    fn answer_prompt(&mut self, attempt: AttemptId) -> Option<Input> {
        let request = self.owner.session.request(attempt)?;
        self.outside.prompts.push((attempt, request, self.log.len()));
        let mut outputs = self.reply();
        if attempt.is_aside() && self.rng.percent(40) {
            // It does not do what it was asked.
            outputs.retain(|it| !matches!(it.body, OutputBody::Message { .. }));
        }
        let turn = self.owner.session.live.turn.as_ref()?;
        let (resumable, attached) = (turn.terms.resumable, turn.terms.caller == Caller::Attached);
        if !attempt.is_aside() && (resumable || attached) && self.rng.percent(40) {
            // Several attempts: whoever speaks first asks first.
            self.feed(Input::Spoke { attempt }, None);
            let still = self.owner.session.live.attempt(attempt).is_some()
                && self.owner.running.contains_key(&Effect::Model(attempt));
            let beaten = self.owner.session.live.turn.as_ref().is_some_and(|it| {
                it.attempts.iter().any(|(n, it)| it.chosen && *n != attempt.attempt)
            });
            if still && !beaten {
                let n = 1 + self.rng.below(outputs.len() as u64) as usize;
                let shown = outputs[..n].to_vec();
                let kept = if resumable { &mut self.frames } else { &mut self.outside.told };
                kept.insert(attempt, shown.clone());
                self.outside.shown.insert(attempt, shown);
            }
        }
        Some(match self.rng.below(100) {
            0..=19 => {
                let class = self.rng.pick(&[
                    FailureClass::RateLimited,
                    FailureClass::Overloaded,
                    FailureClass::Broken,
                    FailureClass::Auth,
                    FailureClass::TooLong,
                ])?;
                let retry_after_ms = if self.rng.percent(30) { Some(300) } else { None };
                let failure = Failure {
                    class,
                    message: "no".into(),
                    status: None,
                    code: None,
                    retry_after_ms,
                };
                Input::AttemptFailed { attempt, failure }
            }
            20..=24 => {
                let end = ReplyEnd { finish: Finish::Length, ..stop() };
                Input::Replied { attempt, outputs, end }
            }
            _ => {
                let usage = Usage { input: 3 + self.rng.below(3), ..stop().usage };
                Input::Replied { attempt, outputs, end: ReplyEnd { usage, ..stop() } }
            }
        })
    }

    fn reply(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.rng.percent(30) {
            let thought = Reasoning { summary: vec!["hm".into()], ..Reasoning::default() };
            outputs.push(output(OutputBody::Reasoning(thought)));
        }
        let n_calls = if self.rng.percent(55) { 1 + self.rng.below(3) } else { 0 };
        if n_calls == 0 || self.rng.percent(30) {
            outputs.push(text("well"));
        }
        for _ in 0..n_calls {
            let name = self.rng.pick(&["read", "book", "post", "pay", "ask", "nonsense"]).unwrap();
            let arguments = if self.rng.percent(5) { "{broken" } else { "{}" };
            outputs
                .push(output(OutputBody::Call { name: name.into(), arguments: arguments.into() }));
        }
        outputs
    }

    pub(crate) fn tick(&mut self) {
        self.now += self.rng.below(20);
        match self.rng.below(100) {
            0..=9 => self.say(),
            10..=11 if self.faults => {
                if let Some(turn) = self.owner.session.live.turn.as_ref().map(|it| it.no) {
                    let input = match self.rng.below(2) {
                        0 => Input::Cancel { turn },
                        _ => Input::CallerLost { turn },
                    };
                    self.feed(input, None);
                }
            }
            12..=24 => self.person(),
            25..=30 => self.client(),
            31..=33 if self.faults => self.crash(),
            34 if self.faults => self.zombie_acts(),
            35 if self.faults => self.now += self.rng.below(20_000),
            36 if self.faults => self.housekeeping(),
            37 => _ = self.feed(Input::Tick, None),
            38 if self.faults && self.rng.percent(20) => {
                self.feed(Input::Park { reason: "test".into() }, None);
            }
            39..=41 if self.owner.session.live.parked.is_some() => {
                _ = self.feed(Input::Unpark, None)
            }
            42 => self.fork(),
            69..=71 => self.configure(),
            43..=68 if !self.mail.is_empty() => {
                let at = self.rng.below(self.mail.len() as u64) as usize;
                let again = self.faults && self.rng.percent(10);
                let input = if again { self.mail[at].clone() } else { self.mail.swap_remove(at) };
                self.feed(input, None);
            }
            _ => {
                let undone: Vec<Effect> = self
                    .owner
                    .running
                    .iter()
                    .filter(|(_, done)| !**done)
                    .map(|(it, _)| *it)
                    .collect();
                if let Some(effect) = self.rng.pick(&undone) {
                    self.owner.running.insert(effect, true);
                    let outcome = self.perform(effect);
                    self.mail.extend(outcome);
                }
            }
        }
    }

    fn say(&mut self) {
        let mut terms = tools::terms();
        let roll = self.rng.below(256);
        if roll & 1 > 0 {
            terms.calls = Calls::Hold;
        }
        if roll & 2 > 0 {
            terms.visible = Visible::AtEnd;
        }
        if roll & 12 == 12 {
            terms.caller = Caller::Attached;
            terms.resumable = false;
        }
        if roll & 48 == 48 {
            terms.limits.hedge_after_ms = Some(30);
        }
        if roll & 192 == 192 {
            terms.limits.cost_max = Some(60);
        }
        if self.n_said.is_multiple_of(3) {
            terms.remind_every_ms = Some(400);
        }
        if !self.n_said.is_multiple_of(4) {
            terms.compact = Some(Compact { at_tokens: 3 + self.n_said % 2 });
        }
        let when_busy = [WhenBusy::Refuse, WhenBusy::Steer, WhenBusy::Supersede];
        let when_busy = self.rng.pick(&when_busy).unwrap();
        self.n_said += 1;
        let key = self.n_said;
        let items = vec![NewItem {
            body: Body::Message {
                role: Role::User,
                parts: vec![Part::text(format!("secret-{key}."))],
            },
            provider_id: None,
            extra: None,
        }];
        let live = &self.owner.session.live;
        let (mut answers, mut approvals) = (Vec::new(), Vec::new());
        for (&call, it) in &live.calls {
            match it.state {
                CallState::WithClient => answers.push(answered(call)),
                CallState::AwaitingApproval { .. } => {
                    approvals.push(Approval {
                        call,
                        approve: !key.is_multiple_of(3),
                        by: "p".into(),
                        reason: None,
                    });
                }
                CallState::Asked | CallState::Approved | CallState::Started => (),
            }
        }
        let begin = Input::Begin(Begin { items, answers, approvals, terms, when_busy });
        self.feed(begin.clone(), Some(key));
        if self.rng.percent(10) {
            self.feed(begin, Some(key)); // The client repeats itself.
        }
    }

    /// Somebody changes what the session knows of itself, and now and then how much it may spend.
    fn configure(&mut self) {
        let live = &self.owner.session.live;
        let spent = live.spent;
        let paused = live.turn.as_ref().is_some_and(|it| it.paused.is_some());
        let spend_max = match self.rng.below(8) {
            _ if !self.faults => Some(None),
            0..=2 if paused => Some(Some(spent + self.rng.below(60))),
            3 if paused => Some(None),
            0 => Some(Some(spent.saturating_sub(5) + self.rng.below(60))),
            _ => None,
        };
        let tools = self.rng.percent(30).then(|| {
            let mut tools = tools::all();
            tools.remove(self.rng.below(5) as usize);
            tools
        });
        let n = self.log.len();
        let mut json = |key: &str| {
            self.rng.percent(30).then(|| Json::parse(format!(r#"{{"{key}":{n}}}"#)).unwrap())
        };
        let (settings, metadata) = (json("set"), json("meta"));
        self.feed(Input::Configure(Configure { settings, metadata, tools, spend_max }), None);
    }

    fn person(&mut self) {
        let waiting: Vec<CallId> = self
            .owner
            .session
            .live
            .calls
            .iter()
            .filter(|(_, it)| matches!(it.state, CallState::AwaitingApproval { .. }))
            .map(|(id, _)| *id)
            .collect();
        if let Some(call) = self.rng.pick(&waiting) {
            let approve = self.rng.percent(70);
            let approval = Input::Approve(Approval { call, approve, by: "p".into(), reason: None });
            self.feed(approval.clone(), None);
            if self.rng.percent(20) {
                self.feed(approval, None);
            }
        }
    }

    fn client(&mut self) {
        let open = self
            .owner
            .session
            .live
            .calls
            .iter()
            .filter(|(_, it)| it.state == CallState::WithClient);
        let open: Vec<CallId> = open.map(|(id, _)| *id).collect();
        if let Some(call) = self.rng.pick(&open) {
            self.feed(Input::Answer { answers: vec![answered(call)] }, None);
        }
    }

    fn housekeeping(&mut self) {
        let ids: Vec<ItemId> =
            self.owner.session.transcript.entries.iter().map(|it| it.item.id).collect();
        let Some(id) = self.rng.pick(&ids) else { return };
        if self.rng.percent(50) {
            self.feed(Input::Compact { summary: vec![Part::text("in short")], through: id }, None);
        } else if self.feed(Input::Erase { items: vec![id] }, None) {
            let gone: BTreeSet<ItemId> = match self.log.last().and_then(|it| it.events.last()) {
                Some(everstate_kernel::event::Event::ItemErased { items }) => {
                    items.iter().copied().collect()
                }
                _ => return,
            };
            for append in &mut self.log {
                let secrets = secrets(append, &gone);
                let body = append.encode();
                if let Some(left) = everstate_kernel::erase::redact(false, append.seq, &body, &gone)
                {
                    *append = Append::decode(append.seq, &left).unwrap();
                }
                let left = String::from_utf8(append.encode()).unwrap();
                assert!(
                    secrets.iter().all(|it| !left.contains(it)),
                    "row {} keeps {secrets:?}",
                    append.seq
                );
                self.outside.secrets_erased.extend(secrets);
            }
            self.replayed = Session::replay(&self.log);
        }
    }

    fn fork(&mut self) {
        let Some(inheritance) = fork::inherit(&self.owner.session) else { return };
        let mut child = Session::default();
        let create = Input::Create(Create {
            id: SessionId(8),
            project: "p".into(),
            door: "test".into(),
            named: false,
            metadata: Some(Json::parse("{}").unwrap()),
            inheritance: Some(inheritance),
            epoch: 1,
        });
        let events = child.decide(create, &[], self.now).unwrap();
        child.apply(&Append { seq: 1, at: self.now, events });
        let forks = vec![child, carried(&self.owner.session, self.now).0];
        let known = |it: &Session| {
            (it.about.as_ref().unwrap().settings.clone(), it.live.spend_max, it.live.spent)
        };
        let (settings, spend_max, _) = known(&self.owner.session);
        for fork in &forks {
            assert_eq!(known(fork), (settings.clone(), spend_max, 0), "it inherits what was set");
        }
        self.outside.forks = forks;
    }
}

/// The session, imported elsewhere.
pub(crate) fn carried(session: &Session, now: Millis) -> (Session, Append) {
    let luggage = import::pack(session).unwrap();
    assert_eq!(import::check(&luggage.inheritance), Ok(()), "what we write can be taken in");
    let mut child = Session::default();
    let import = Input::Import(Box::new(imported(session, luggage)));
    let events = child.decide(import, &[], now).unwrap();
    let first = Append { seq: 1, at: now, events };
    child.apply(&first);
    (child, first)
}

pub(crate) fn imported(session: &Session, luggage: import::Luggage) -> Import {
    let id = session.id().unwrap();
    let create = Create {
        id: SessionId(9),
        project: "q".into(),
        door: "test".into(),
        named: false,
        metadata: None,
        inheritance: Some(luggage.inheritance),
        epoch: 1,
    };
    let origin = Origin {
        session: id,
        project: "p".into(),
        release: "0.0.0".into(),
        exported_at: 1,
        chains: vec![Chain { session: id, seq: session.head, hash: "00".repeat(32) }],
        renamed: luggage.renamed,
        left_behind: luggage.left_behind,
    };
    Import { create, origin }
}

/// The texts that an erasure takes out of a row.
fn secrets(append: &Append, gone: &BTreeSet<ItemId>) -> Vec<String> {
    let mut found = Vec::new();
    for event in &append.events {
        let (everstate_kernel::event::Event::TurnStarted { items, .. }
        | everstate_kernel::event::Event::Steered { items, .. }) = event
        else {
            continue;
        };
        for item in items.iter().filter(|it| gone.contains(&it.id)) {
            if let Body::Message { parts, .. } = &item.body
                && let Some(Part::Text { text, .. }) = parts.first()
            {
                found.push(text.clone());
            }
        }
    }
    found
}

fn answered(call: CallId) -> Answer {
    Answer { call, outcome: Outcome::Ok, output: vec![Part::text("mine")] }
}

fn output(body: OutputBody) -> Output {
    Output { body, status: Status::Completed, provider_id: None, extra: None }
}

fn text(text: &str) -> Output {
    output(OutputBody::Message { parts: vec![Part::text(text)] })
}

fn stop() -> ReplyEnd {
    ReplyEnd {
        finish: Finish::Stop,
        usage: Usage { input: 3, output: 2, ..Usage::default() },
        tier: None,
        provider_id: None,
        model: None,
    }
}
