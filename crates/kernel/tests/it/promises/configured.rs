//! What is promised of a session's settings, of the money it may spend, and of the time it tells.

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::event::{Event, Try};
use everstate_kernel::ids::AttemptId;
use everstate_kernel::input::{Begin, Caller, Input, NewItem, WhenBusy};
use everstate_kernel::item::{Body, Part, Role};
use everstate_kernel::request::Request;
use everstate_kernel::tool::Runs;

use super::{ensure, events};
use crate::world::World;

/// What the log says was spent and is held, and what may be.
#[derive(Default)]
struct Purse {
    spent: u64,
    held: BTreeMap<AttemptId, u64>,
    max: Option<u64>,
}

impl Purse {
    fn committed(&self) -> u64 {
        self.spent + self.held.values().sum::<u64>()
    }

    fn fold(&mut self, event: &Event) {
        match event {
            Event::Placed { attempt, plan } => _ = self.held.insert(*attempt, plan.reserved),
            Event::Replied { attempt, cost, .. }
            | Event::SummedUp { attempt, cost, .. }
            | Event::AttemptFailed { attempt, cost, .. }
            | Event::AttemptLost { attempt, cost, .. }
            | Event::AttemptDropped { attempt, cost } => {
                self.held.remove(attempt);
                self.spent += cost.micros;
            }
            Event::Configured(told) => self.max = told.spend_max.unwrap_or(self.max),
            _ => (),
        }
    }
}

pub(super) fn session_limit_holds(world: &World) -> Result<(), String> {
    let mut purse = Purse::default();
    for (append, event) in events(world) {
        if let Some(max) = purse.max {
            let committed = purse.committed();
            match event {
                Event::AttemptOpened { attempt, .. } => ensure(committed < max, || {
                    format!("append {} opens {attempt} with {committed} of {max}", append.seq)
                })?,
                Event::Placed { attempt, plan } => {
                    ensure(committed + plan.reserved <= max, || {
                        format!("append {} places {attempt} with {committed} of {max}", append.seq)
                    })?
                }
                _ => (),
            }
        }
        purse.fold(event);
    }
    Ok(())
}

pub(super) fn paused_rests(world: &World) -> Result<(), String> {
    let mut paused = None;
    let mut attached = BTreeSet::new();
    for (append, event) in events(world) {
        let about = match event {
            Event::TurnStarted { turn, terms, .. } if terms.caller == Caller::Attached => {
                attached.insert(*turn);
                None
            }
            Event::Paused { turn, .. } => {
                ensure(paused.is_none(), || format!("turn {turn} was paused twice"))?;
                ensure(!attached.contains(turn), || format!("turn {turn} has a caller waiting"))?;
                paused = Some(*turn);
                None
            }
            Event::Resumed { turn } => {
                ensure(paused == Some(*turn), || format!("turn {turn} was not paused"))?;
                paused = None;
                None
            }
            Event::TurnEnded { .. } => {
                paused = None;
                None
            }
            Event::StepStarted { turn, .. } | Event::RetryScheduled { turn, .. } => Some(*turn),
            Event::AttemptOpened { attempt, .. }
            | Event::Placed { attempt, .. }
            | Event::Replied { attempt, .. } => Some(attempt.turn),
            Event::ToolStarted { call } => Some(call.turn),
            _ => None,
        };
        ensure(about.is_none() || about != paused, || {
            format!("append {} does something for a paused turn", append.seq)
        })?;
    }
    let session = world.session();
    let rests = session.live.turn.as_ref().and_then(|it| it.paused).is_some();
    ensure(!rests || session.effects().is_empty(), || format!("{:?}", session.effects()))
}

pub(super) fn raising_resumes(world: &World) -> Result<(), String> {
    let mut purse = Purse::default();
    let mut paused = false;
    for append in &world.log {
        for (at, event) in append.events.iter().enumerate() {
            let old = purse.max;
            purse.fold(event);
            let next = append.events.get(at + 1);
            let goes_on = matches!(next, Some(Event::Resumed { .. }));
            match event {
                Event::Configured(told) => {
                    let raised = told
                        .spend_max
                        .is_some_and(|new| new.is_none_or(|it| old.is_some_and(|old| it > old)));
                    let pays = purse.max.is_none_or(|max| purse.committed() < max);
                    ensure(goes_on == (paused && raised && pays), || {
                        format!("append {}: {next:?} follows", append.seq)
                    })?;
                }
                Event::Paused { .. } => paused = true,
                Event::Resumed { .. } | Event::TurnEnded { .. } => paused = false,
                _ => ensure(!goes_on, || format!("append {} goes on by itself", append.seq))?,
            }
        }
    }
    Ok(())
}

pub(super) fn paused_listens(world: &World) -> Result<(), String> {
    let session = world.session();
    let Some(turn) = session.live.turn.as_ref().filter(|it| it.paused.is_some()) else {
        return Ok(());
    };
    if session.live.parked.is_some() {
        return Ok(());
    }
    let (no, terms) = (turn.no, turn.terms.clone());
    let cancelled = session.decide(Input::Cancel { turn: no }, &[], world.now);
    let ended = matches!(cancelled.as_deref(), Ok([.., Event::TurnEnded { .. }]));
    ensure(ended, || format!("asked to end, {cancelled:?} follows"))?;
    let body = Body::Message { role: Role::User, parts: vec![Part::text("hello")] };
    let begin = Begin {
        items: vec![NewItem { body, provider_id: None, extra: None }],
        answers: Vec::new(),
        approvals: Vec::new(),
        terms,
        when_busy: WhenBusy::Steer,
    };
    let steered = session.decide(Input::Begin(begin), &[], world.now);
    let heard = matches!(steered.as_deref(), Ok([Event::Steered { .. }]));
    ensure(heard, || format!("steered, {steered:?} follows"))
}

pub(super) fn configured_is_known(world: &World) -> Result<(), String> {
    let (mut settings, mut metadata) = (None, None);
    for (_, event) in events(world) {
        if let Event::Configured(told) = event {
            settings = told.settings.as_ref().or(settings);
            metadata = told.metadata.as_ref().or(metadata);
        }
    }
    let about = world.session().about.as_ref().ok_or("it was created")?;
    let known = (about.settings.as_ref(), about.metadata.as_ref());
    ensure(known == (settings, metadata), || format!("known is {known:?}"))
}

pub(super) fn tools_of_their_time(world: &World) -> Result<(), String> {
    let asked: BTreeMap<AttemptId, &Request> =
        world.outside.prompts.iter().map(|(attempt, request, _)| (*attempt, request)).collect();
    let mut tools = None;
    let mut expected = BTreeMap::new();
    let mut called = BTreeMap::new();
    for (_, event) in events(world) {
        match event {
            Event::TurnStarted { terms, .. } => tools = Some(&terms.agent.tools),
            Event::Configured(told) => tools = told.tools.as_ref().or(tools),
            // One that is set beside another asks as that one did.
            Event::AttemptOpened { attempt, why } if *why != Try::Hedge => {
                expected.insert(*attempt, tools);
            }
            Event::Replied { attempt, items, .. } => {
                called.extend(items.iter().filter_map(|it| match it.body {
                    Body::Call { call, .. } => Some((call, *attempt)),
                    _ => None,
                }));
            }
            _ => (),
        }
    }
    for (attempt, request) in &asked {
        let Some(tools) = expected.get(attempt) else { continue };
        ensure(*tools == Some(&request.agent.tools), || {
            format!("{attempt} was asked with other tools")
        })?;
    }
    for (id, call) in &world.session().live.calls {
        let Some(request) = called.get(id).and_then(|it| asked.get(it)) else { continue };
        let runs = request.agent.tool(&call.name).map_or(Runs::Client, |it| it.runs.clone());
        ensure(call.runs == runs, || format!("{id} of `{}` is {:?}", call.name, call.runs))?;
    }
    Ok(())
}

pub(super) fn time_is_told(world: &World) -> Result<(), String> {
    let mut every = None;
    let mut told: Option<u64> = None;
    for (append, event) in events(world) {
        let since = told.map(|it| append.at - it);
        match event {
            Event::TurnStarted { terms, .. } => every = terms.remind_every_ms,
            Event::Reminded { .. } => {
                let due = every.is_some_and(|every| since.is_none_or(|it| it >= every));
                ensure(due, || format!("append {} tells the time too soon", append.seq))?;
                told = Some(append.at);
            }
            Event::StepStarted { .. } => {
                let known = every.is_none_or(|every| since.is_some_and(|it| it < every));
                ensure(known, || format!("append {} begins without the time", append.seq))?;
            }
            Event::Compacted { .. } => told = None,
            _ => (),
        }
    }
    Ok(())
}
