//! What the house promises. Each is checked after every tick of a world; a promise that no fault can break
//! is not one (see the deliberate faults of `cargo xtask sabotage`).

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::delta::Finish;
use everstate_kernel::effect::Effect;
use everstate_kernel::event::{Append, End, Event, Try};
use everstate_kernel::ids::{AttemptId, CallId, ItemId};
use everstate_kernel::input::{Answer, Caller, Input, Visible};
use everstate_kernel::item::{Body, Item, Outcome, OutputBody, Part, Status};
use everstate_kernel::request::illegal;
use everstate_kernel::state::CallState;
use everstate_kernel::tool::Runs;

use crate::world::World;

mod configured;
mod summing;

type Check = fn(&World) -> Result<(), String>;

pub(crate) const PROMISES: &[(&str, Check)] = &[
    ("the fold of the log is the live state", fold_is_live),
    (
        "every prefix of every log yields a legal model request or a state that waits",
        legal_or_waiting,
    ),
    ("what is neither read-only nor idempotent runs at most once", neither_runs_once),
    ("nothing runs before the log says so", intent_before_act),
    ("what needs a yes runs only after a yes", approved_before_run),
    ("every call ends once, and an ended turn leaves none but its client's", calls_end_once),
    ("a prompt leaves only after its placement is on the log", placed_before_sent),
    ("of all attempts of a step one answer is accepted", one_reply_a_step),
    ("money held for an attempt is given back when it ends", reservations_return),
    ("what was spent is the sum of what the log says", spent_is_summed),
    ("an idle session wants nothing but its alarm clock", idle_wants_nothing),
    ("limits hold", limits_hold),
    ("no name is given twice", names_are_unique),
    ("time and epochs only grow", time_grows),
    ("what was shown stays in the output", shown_stays),
    ("what was erased is not sent", erased_is_not_sent),
    ("what is incomplete is not sent", incomplete_is_not_sent),
    ("a turn ends once, and nothing is done for it afterwards", turns_end_once),
    ("a fork or an import starts no inherited work and inherits no approval", forks_start_nothing),
    ("a turn whose caller is gone does not go on", no_caller_no_turn),
    ("a turn that is visible at its end leaves nothing if it fails", at_end_leaves_nothing),
    ("a late outcome settles only what was left in doubt, once", late_outcomes_settle_doubt),
    ("an acknowledged input is on the log, once", acknowledged_once),
    ("nothing cut short is run", cut_is_not_run),
    ("a parked session wants nothing", parked_wants_nothing),
    ("nothing is tried that the session's limit does not pay for", configured::session_limit_holds),
    ("a paused turn wants nothing, and nothing is done for it", configured::paused_rests),
    ("raising the limit goes on, and nothing else does", configured::raising_resumes),
    ("a paused turn can be cancelled and steered", configured::paused_listens),
    ("what was configured is known", configured::configured_is_known),
    ("an answer is asked for and read with the tools of its time", configured::tools_of_their_time),
    ("a summary is made before the step that needs one, and of no other", summing::summed_when_due),
    ("the model is told the time when it is due, and not before", configured::time_is_told),
];

pub(crate) fn check(world: &World) {
    for (promise, check) in PROMISES {
        if let Err(broken) = check(world) {
            panic!("broken promise: {promise}\n  {broken}\n{}", crate::story::tell(&world.log));
        }
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn events(world: &World) -> impl Iterator<Item = (&Append, &Event)> {
    world.log.iter().flat_map(|append| append.events.iter().map(move |it| (append, it)))
}

fn fold_is_live(world: &World) -> Result<(), String> {
    let replayed = world.replayed();
    ensure(replayed == world.session(), || {
        let (old, new) = (format!("{:#?}", world.session()), format!("{replayed:#?}"));
        let differ = old.lines().zip(new.lines()).find(|(old, new)| old != new);
        format!("live and replayed: {differ:?}")
    })
}

fn legal_or_waiting(world: &World) -> Result<(), String> {
    let session = world.session();
    let sent = session.transcript.sent();
    let asked: Vec<AttemptId> = session
        .effects()
        .into_iter()
        .filter_map(|it| match it {
            Effect::Place(id) | Effect::Model(id) => Some(id),
            Effect::Tool(_) | Effect::Wake(_) => None,
        })
        .collect();
    for id in &asked {
        let request = session.request(*id).ok_or("wanted, but there is no request")?;
        let said: Vec<_> = request.items.iter().filter(|it| it.id.idx != u32::MAX).collect();
        ensure(said.into_iter().eq(&sent), || "it is not what the transcript says".into())?;
        ensure(illegal(&request.items).is_none(), || format!("{:?}", illegal(&request.items)))?;
        ensure(session.live.calls.is_empty(), || {
            format!("asked with open calls: {:?}", session.live.calls)
        })?;
        // Legal by construction is not enough: no call may have been left out to make it legal.
        let told: BTreeSet<ItemId> = sent.iter().map(|it| it.id).collect();
        let covered = sent.first().and_then(|it| match it.body {
            Body::Compaction { through, .. } => {
                session.transcript.entries.iter().position(|it| it.item.id == through)
            }
            _ => None,
        });
        for entry in &session.transcript.entries[covered.map_or(0, |it| it + 1)..] {
            let is_call = matches!(entry.item.body, Body::Call { .. });
            if is_call && !entry.hidden && entry.item.status == Status::Completed {
                ensure(told.contains(&entry.item.id), || {
                    format!("{:?} was left out", entry.item.id)
                })?;
            }
        }
    }
    let idle_or_asked = !asked.is_empty() || session.live.turn.is_none();
    let waits = session.live.turn.as_ref().is_some_and(|it| it.retry_at.is_some())
        || !session.live.calls.is_empty()
        || session.live.parked.is_some()
        || session.live.turn.as_ref().is_some_and(|it| it.paused.is_some());
    ensure(idle_or_asked || waits, || "a turn that neither asks nor waits".into())?;
    match illegal(&sent) {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

fn neither_runs_once(world: &World) -> Result<(), String> {
    for (call, (name, n)) in &world.outside.runs {
        let once = *n <= 1 || name == "read" || name == "book";
        ensure(once, || format!("{name} {call} ran {n} times"))?;
    }
    Ok(())
}

fn intent_before_act(world: &World) -> Result<(), String> {
    ensure(world.outside.unexplained.is_empty(), || world.outside.unexplained.join(", "))
}

fn approved_before_run(world: &World) -> Result<(), String> {
    let mut yes = BTreeSet::new();
    let mut pays = BTreeSet::new();
    for (_, event) in events(world) {
        match event {
            Event::Replied { items, .. } => {
                pays.extend(items.iter().filter_map(|it| match &it.body {
                    Body::Call { call, name, .. } if name == "pay" => Some(*call),
                    _ => None,
                }))
            }
            Event::ApprovalAnswered(it) => {
                ensure(yes.insert((it.call, it.approve)), || {
                    format!("{} answered twice", it.call)
                })?;
            }
            Event::ToolStarted { call } if pays.contains(call) => {
                ensure(yes.contains(&(*call, true)), || format!("{call} started without a yes"))?;
            }
            _ => (),
        }
    }
    Ok(())
}

fn calls_end_once(world: &World) -> Result<(), String> {
    let mut ended = BTreeSet::new();
    for (_, event) in events(world) {
        if let Event::ToolFinished { call, .. } = event {
            ensure(ended.insert(*call), || format!("{call} ended twice"))?;
        }
    }
    let live = &world.session().live;
    for (id, call) in &live.calls {
        ensure(call.state != CallState::Asked, || format!("{id} hangs in the air"))?;
        let idle_started = live.turn.is_none() && call.state == CallState::Started;
        ensure(!idle_started, || format!("{id} is started and has no turn"))?;
    }
    Ok(())
}

fn placed_before_sent(world: &World) -> Result<(), String> {
    for (attempt, _, len) in &world.outside.prompts {
        let placed = world.log[..*len].iter().flat_map(|it| &it.events);
        let placed = placed
            .filter(|it| matches!(it, Event::Placed { attempt: it, .. } if it == attempt))
            .count();
        ensure(placed == 1, || {
            format!("{attempt} was placed {placed} times before its prompt left")
        })?;
    }
    Ok(())
}

fn one_reply_a_step(world: &World) -> Result<(), String> {
    let mut replied = BTreeSet::new();
    for (_, event) in events(world) {
        if let Event::Replied { attempt, .. } = event {
            let step = (attempt.turn, attempt.step);
            ensure(replied.insert(step), || {
                format!("step {}.{} was answered twice", step.0, step.1)
            })?;
        }
    }
    Ok(())
}

fn reservations_return(world: &World) -> Result<(), String> {
    let live = &world.session().live;
    let running: BTreeSet<AttemptId> = live
        .turn
        .iter()
        .flat_map(|turn| turn.under_way().filter(|(_, it)| it.plan.is_some()).map(|(id, _)| id))
        .collect();
    let held: BTreeSet<AttemptId> = live.reserved.keys().copied().collect();
    ensure(held == running, || format!("held for {held:?}, running {running:?}"))
}

fn spent_is_summed(world: &World) -> Result<(), String> {
    let spent: u64 = events(world)
        .map(|(_, it)| match it {
            Event::Replied { cost, .. }
            | Event::SummedUp { cost, .. }
            | Event::AttemptFailed { cost, .. }
            | Event::AttemptLost { cost, .. }
            | Event::AttemptDropped { cost, .. } => cost.micros,
            _ => 0,
        })
        .sum();
    ensure(spent == world.session().live.spent, || {
        format!("{spent} != {}", world.session().live.spent)
    })?;
    let session = world.session();
    let mut used = session.live.turn.as_ref().map(|it| it.usage).unwrap_or_default();
    for past in session.transcript.turns.values() {
        used.add(&past.usage);
        let times = (past.started_at, past.ended_at, past.end.is_some());
        let whole = past.started_at > 0 && past.ended_at.is_some() == past.end.is_some();
        ensure(whole && past.ended_at.is_none_or(|it| it >= past.started_at), || {
            format!("{times:?}")
        })?;
    }
    ensure(used == session.live.usage, || format!("{used:?} != {:?}", session.live.usage))
}

fn idle_wants_nothing(world: &World) -> Result<(), String> {
    let wanted = world.session().effects();
    let idle = world.session().live.turn.is_none();
    let only_clock = wanted.iter().all(|it| matches!(it, Effect::Wake(_)));
    ensure(!idle || only_clock, || format!("{wanted:?}"))?;
    let n_wakes = wanted.iter().filter(|it| matches!(it, Effect::Wake(_))).count();
    ensure(n_wakes <= 1, || format!("{n_wakes} alarms"))
}

fn limits_hold(world: &World) -> Result<(), String> {
    let mut attempts: BTreeMap<(u32, u32), u32> = BTreeMap::new();
    let mut restarts: BTreeMap<u32, u32> = BTreeMap::new();
    let mut now_at = (0, 0);
    for (_, event) in events(world) {
        match event {
            Event::AttemptOpened { attempt, why } if !attempt.is_aside() => {
                *attempts.entry((attempt.turn, attempt.step)).or_default() += 1;
                *restarts.entry(attempt.turn).or_default() += u32::from(*why == Try::Restart);
            }
            Event::StepStarted { turn, step } => {
                now_at = (*turn, *step);
                ensure(*step <= 8, || format!("step {step}"))?;
            }
            // Somebody paid for one more.
            Event::Resumed { .. } => {
                let made = attempts.entry(now_at).or_default();
                *made = made.saturating_sub(1);
            }
            _ => (),
        }
    }
    ensure(attempts.values().all(|it| *it <= 4), || format!("{attempts:?}"))?;
    ensure(restarts.values().all(|it| *it <= 2), || format!("{restarts:?}"))?;
    let over = world.session().live.turn.as_ref().is_some_and(|turn| {
        let committed = turn.cost + world.session().live.reserved_total();
        turn.attempts.values().any(|it| it.plan.is_some())
            && turn.terms.limits.cost_max.is_some_and(|max| committed > max + 9)
    });
    ensure(!over, || "more money is committed than the turn may spend".into())
}

fn names_are_unique(world: &World) -> Result<(), String> {
    let mut items = BTreeSet::new();
    let mut calls = BTreeSet::new();
    for (_, event) in events(world) {
        let (said, named): (&[_], Option<ItemId>) = match event {
            Event::TurnStarted { items, .. }
            | Event::Steered { items, .. }
            | Event::Replied { items, .. }
            | Event::Sealed { items, .. } => (items, None),
            Event::Compacted { item }
            | Event::Reminded { item }
            | Event::OutcomeLearned { note: item, .. } => (std::slice::from_ref(item), None),
            Event::ToolFinished { item, .. } => (&[], Some(*item)),
            _ => (&[], None),
        };
        for id in said.iter().map(|it| it.id).chain(named) {
            ensure(items.insert(id), || format!("{id:?} names two items"))?;
        }
        // What was sealed was never a call that anybody may answer.
        if let Event::Replied { items, .. } = event {
            for item in items {
                if let Body::Call { call, .. } = item.body {
                    ensure(calls.insert(call), || format!("{call} names two calls"))?;
                }
            }
        }
    }
    Ok(())
}

fn time_grows(world: &World) -> Result<(), String> {
    let grows = world.log.windows(2).all(|it| it[0].at <= it[1].at && it[0].seq + 1 == it[1].seq);
    ensure(grows, || "an append before its time".into())?;
    let epochs: Vec<u64> = events(world)
        .filter_map(|(_, it)| if let Event::Owned { epoch } = it { Some(*epoch) } else { None })
        .collect();
    ensure(epochs.windows(2).all(|it| it[0] < it[1]), || format!("{epochs:?}"))
}

fn shown_stays(world: &World) -> Result<(), String> {
    let resumable: BTreeSet<u32> = events(world)
        .filter_map(|(_, it)| match it {
            Event::TurnStarted { turn, terms, .. } if terms.resumable => Some(*turn),
            _ => None,
        })
        .collect();
    for (attempt, shown) in
        world.outside.shown.iter().filter(|(id, _)| resumable.contains(&id.turn))
    {
        let mut kept = Vec::new();
        let mut over = false;
        for (_, event) in events(world) {
            match event {
                Event::Replied { attempt: id, items, .. } if id == attempt => {
                    over = true;
                    kept.extend(items);
                }
                Event::Sealed { attempt: id, items } if id == attempt => kept.extend(items),
                Event::AttemptLost { attempt: id, .. }
                | Event::AttemptFailed { attempt: id, .. }
                | Event::AttemptDropped { attempt: id, .. }
                    if id == attempt =>
                {
                    over = true;
                }
                _ => (),
            }
        }
        let erased = kept.iter().any(|it| it.body == Body::Erased);
        ensure(!over || erased || kept.len() >= shown.len(), || {
            format!("{attempt} showed {} items, {} are left", shown.len(), kept.len())
        })?;
    }
    Ok(())
}

fn erased_is_not_sent(world: &World) -> Result<(), String> {
    let session = world.session();
    let erased: BTreeSet<ItemId> = events(world)
        .filter_map(|(_, it)| if let Event::ItemErased { items } = it { Some(items) } else { None })
        .flatten()
        .copied()
        .collect();
    let sent = session.transcript.sent();
    if let Some(it) = sent.iter().find(|it| erased.contains(&it.id)) {
        return Err(format!("{:?}", it.id));
    }
    for item in &sent {
        let text = first_text(item);
        ensure(!world.outside.secrets_erased.contains(text), || format!("{text} is still said"))?;
    }
    Ok(())
}

fn incomplete_is_not_sent(world: &World) -> Result<(), String> {
    for (attempt, request, _) in &world.outside.prompts {
        let whole = request.items.iter().all(|it| it.status == Status::Completed);
        ensure(whole, || format!("{attempt} sent what was incomplete"))?;
    }
    Ok(())
}

fn turns_end_once(world: &World) -> Result<(), String> {
    let mut ended = BTreeSet::new();
    for (append, event) in events(world) {
        let about = match event {
            Event::TurnEnded { turn, .. } => {
                ensure(ended.insert(*turn), || format!("turn {turn} ended twice"))?;
                None
            }
            Event::StepStarted { turn, .. }
            | Event::RetryScheduled { turn, .. }
            | Event::Steered { turn, .. } => Some(*turn),
            Event::AttemptOpened { attempt, .. }
            | Event::Placed { attempt, .. }
            | Event::Replied { attempt, .. } => Some(attempt.turn),
            _ => None,
        };
        ensure(about.is_none_or(|it| !ended.contains(&it)), || {
            format!("append {} does something for an ended turn", append.seq)
        })?;
    }
    let running = world.session().live.turn.as_ref().map(|it| it.no);
    ensure(running.is_none_or(|it| !ended.contains(&it)), || "an ended turn runs".into())
}

fn forks_start_nothing(world: &World) -> Result<(), String> {
    for fork in &world.outside.forks {
        ensure(fork.effects().is_empty(), || format!("it wants {:?}", fork.effects()))?;
        for (id, call) in &fork.live.calls {
            let clients = call.state == CallState::WithClient && call.runs == Runs::Client;
            ensure(clients, || format!("it inherited {id} as {:?}", call.state))?;
        }
        let names: BTreeSet<ItemId> = fork.transcript.entries.iter().map(|it| it.item.id).collect();
        ensure(names.len() == fork.transcript.entries.len(), || "two items of one name".into())?;
        let answers = fork.live.calls.keys().map(|call| Answer {
            call: *call,
            outcome: Outcome::Ok,
            output: Vec::new(),
        });
        let answered = fork.decide(Input::Answer { answers: answers.collect() }, &[], 0);
        for event in answered.map_err(|no| format!("its open calls cannot be answered: {no:?}"))? {
            if let Event::ToolFinished { item, .. } = event {
                ensure(!names.contains(&item), || format!("{item:?} was inherited"))?;
            }
        }
        // With its open calls answered, what it would send is legal.
        let mut sent = fork.transcript.clone();
        for id in fork.live.calls.keys() {
            let body = Body::Result { call: *id, outcome: Outcome::Ok, output: Vec::new() };
            let id = ItemId { turn: u32::MAX, idx: id.n };
            let item = Item { id, body, status: Status::Completed, provider_id: None, extra: None };
            sent.entries.push(everstate_kernel::state::Entry { item: item.into(), hidden: false });
        }
        if let Some(why) = illegal(&sent.sent()) {
            return Err(format!("a fork would send what is illegal: {why}"));
        }
        let answered: BTreeSet<CallId> = sent
            .sent()
            .iter()
            .filter_map(|it| match it.body {
                Body::Result { call, .. } => Some(call),
                _ => None,
            })
            .collect();
        for entry in &sent.entries {
            if let Body::Call { call, .. } = entry.item.body {
                ensure(answered.contains(&call) || covered(&sent, entry.item.id), || {
                    format!("{call} was left out")
                })?;
            }
        }
    }
    Ok(())
}

fn covered(transcript: &everstate_kernel::state::Transcript, id: ItemId) -> bool {
    let place = |id: ItemId| transcript.entries.iter().position(|it| it.item.id == id);
    transcript.entries.iter().any(|it| match it.item.body {
        Body::Compaction { through, .. } => place(id) <= place(through),
        _ => false,
    })
}

fn no_caller_no_turn(world: &World) -> Result<(), String> {
    let mut attached = None;
    for append in &world.log {
        for event in &append.events {
            match event {
                Event::TurnStarted { turn, terms, .. } => {
                    attached = (terms.caller == Caller::Attached).then_some(*turn);
                }
                Event::TurnEnded { .. } => attached = None,
                _ => (),
            }
        }
        let adopted = matches!(append.events.first(), Some(Event::Owned { .. }));
        let parked = adopted && world.session().live.parked.is_some();
        ensure(!adopted || attached.is_none() || parked || was_parked(world, append.seq), || {
            format!("turn {attached:?} goes on after append {}", append.seq)
        })?;
    }
    Ok(())
}

fn was_parked(world: &World, at: u64) -> bool {
    let mut parked = false;
    for (append, event) in events(world) {
        if append.seq > at {
            break;
        }
        match event {
            Event::Parked { .. } => parked = true,
            Event::Unparked => parked = false,
            _ => (),
        }
    }
    parked
}

fn at_end_leaves_nothing(world: &World) -> Result<(), String> {
    let mut at_end = BTreeSet::new();
    for (_, event) in events(world) {
        match event {
            Event::TurnStarted { turn, terms, .. } if terms.visible == Visible::AtEnd => {
                _ = at_end.insert(*turn)
            }
            Event::TurnEnded { turn, end: End::Completed | End::Incomplete(_) } => {
                _ = at_end.remove(turn)
            }
            _ => (),
        }
    }
    let running = world.session().live.turn.as_ref().map(|it| it.no);
    for item in world.session().transcript.sent() {
        let failed = at_end.contains(&item.id.turn) && Some(item.id.turn) != running;
        let kept = match item.body {
            Body::Result { call, .. } => call.turn != item.id.turn,
            Body::Note { .. } | Body::Compaction { .. } => true,
            _ => false,
        };
        ensure(!failed || kept, || format!("{:?} is left of a turn that failed", item.id))?;
    }
    Ok(())
}

fn late_outcomes_settle_doubt(world: &World) -> Result<(), String> {
    let mut closed: BTreeMap<CallId, Outcome> = BTreeMap::new();
    for (_, event) in events(world) {
        match event {
            Event::ToolFinished { call, outcome, .. } => _ = closed.insert(*call, *outcome),
            Event::OutcomeLearned { call, .. } => {
                let was = closed.remove(call);
                let in_doubt = matches!(was, Some(Outcome::Unknown | Outcome::Cancelled));
                ensure(in_doubt, || format!("{call} was {was:?} and was learned again"))?;
            }
            _ => (),
        }
    }
    Ok(())
}

fn acknowledged_once(world: &World) -> Result<(), String> {
    let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (append, event) in events(world) {
        if let Event::TurnStarted { items, .. } | Event::Steered { items, .. } = event {
            for item in items {
                places.entry(first_text(item)).or_default().push(append.seq);
            }
        }
    }
    for (key, seq) in &world.outside.acknowledged {
        ensure(world.log.len() as u64 >= *seq, || format!("input {key} is lost"))?;
        let secret = format!("secret-{key}.");
        let found = places.get(secret.as_str());
        let erased = world.outside.secrets_erased.contains(&secret);
        ensure(erased || found.is_none_or(|it| it == &[*seq]), || {
            format!("input {key} is at {found:?}, not {seq}")
        })?;
    }
    Ok(())
}

fn first_text(item: &Item) -> &str {
    match &item.body {
        Body::Message { parts, .. } => match parts.first() {
            Some(Part::Text { text, .. }) => text,
            _ => "",
        },
        _ => "",
    }
}

fn cut_is_not_run(world: &World) -> Result<(), String> {
    let mut cut = BTreeSet::new();
    for (_, event) in events(world) {
        match event {
            Event::Replied { items, end, .. } if end.finish != Finish::Stop => {
                cut.extend(items.iter().filter_map(|it| match it.body {
                    Body::Call { call, .. } => Some(call),
                    _ => None,
                }));
            }
            Event::ToolStarted { call } => {
                ensure(!cut.contains(call), || format!("{call} was cut short and ran"))?
            }
            _ => (),
        }
    }
    let broken = |it: &OutputBody| matches!(it, OutputBody::Call { arguments, .. } if arguments.starts_with("{b"));
    ensure(
        !world
            .outside
            .shown
            .values()
            .flatten()
            .any(|it| broken(&it.body) && it.status == Status::Incomplete),
        || "?".into(),
    )
}

fn parked_wants_nothing(world: &World) -> Result<(), String> {
    let session = world.session();
    ensure(session.live.parked.is_none() || session.effects().is_empty(), || {
        format!("{:?}", session.effects())
    })
}
