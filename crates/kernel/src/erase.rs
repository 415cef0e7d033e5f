//! Erasing: what has to go with an item, and what is left of a fact when its contents are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::{Agent, Format};
use crate::delta::Frame;
use crate::event::{Append, End, Event};
use crate::ids::{CallId, ItemId, Seq, TurnNo};
use crate::item::{Body, Item};
use crate::json::Json;
use crate::state::Transcript;
use crate::tool::Runs;

/// The item's place, without its content.
pub(crate) fn erased(item: &Item) -> Item {
    Item { id: item.id, body: Body::Erased, status: item.status, provider_id: None, extra: None }
}

/// Everything that has to go when `asked` goes: calls and results go together, with the note of what was `learned` of
/// the call; a call or message takes along the reasoning that led to it, and a summary goes with anything it stands for.
pub(crate) fn closure(
    transcript: &Transcript,
    learned: &BTreeMap<CallId, ItemId>,
    asked: &[ItemId],
) -> Vec<ItemId> {
    let items: Vec<&Item> = transcript
        .entries
        .iter()
        .map(|it| &*it.item)
        .chain(transcript.waiting.iter().map(|it| &**it))
        .collect();
    let mut gone: BTreeSet<ItemId> = asked.iter().copied().collect();
    let calls: BTreeSet<CallId> =
        items.iter().filter(|it| gone.contains(&it.id)).filter_map(|it| call_of(it)).collect();
    for item in &items {
        if call_of(item).is_some_and(|it| calls.contains(&it)) {
            gone.insert(item.id);
        }
    }
    gone.extend(calls.iter().filter_map(|it| learned.get(it)));
    for (at, item) in items.iter().enumerate() {
        if !gone.contains(&item.id) || matches!(item.body, Body::Result { .. }) {
            continue;
        }
        let before =
            items[..at].iter().rev().take_while(|it| matches!(it.body, Body::Reasoning(_)));
        gone.extend(before.filter(|it| it.id.turn == item.id.turn).map(|it| it.id));
    }
    let places = |id: ItemId| items.iter().position(|it| it.id == id);
    for item in &items {
        if let Body::Compaction { through, .. } = &item.body
            && let Some(last) = places(*through)
            && items[..=last].iter().any(|it| gone.contains(&it.id))
        {
            gone.insert(item.id);
        }
    }
    gone.into_iter().collect()
}

fn call_of(item: &Item) -> Option<CallId> {
    match &item.body {
        Body::Call { call, .. } | Body::Result { call, .. } => Some(*call),
        Body::Message { .. }
        | Body::Reasoning(_)
        | Body::Compaction { .. }
        | Body::Note { .. }
        | Body::Opaque { .. }
        | Body::Erased => None,
    }
}

/// What is left of a row's body without these items; `None` if the row holds nothing of them.
///
/// The frames of a turn that loses an item lose their content as a whole: a stream with holes cannot be told.
pub fn redact(is_frame: bool, seq: Seq, body: &[u8], items: &BTreeSet<ItemId>) -> Option<Vec<u8>> {
    if is_frame {
        let mut frame: Frame = serde_json::from_slice(body).ok()?;
        if frame.deltas.is_empty() || !items.iter().any(|it| it.turn == frame.attempt.turn) {
            return None;
        }
        frame.deltas.clear();
        return Some(serde_json::to_vec(&frame).expect("a frame has a JSON form"));
    }
    let mut append = Append::decode(seq, body).ok()?;
    let closed: BTreeSet<CallId> =
        append.events.iter().filter_map(|it| closed_by(it, items)).collect();
    let mut touched = false;
    let (whole, first) = (whole_turns(items), first_turn(items));
    for event in &mut append.events {
        touched |= redact_event(event, items);
        touched |= redact_asked(event, &whole);
        touched |= redact_told(event, first);
        // A denial's reason stands in the call's result, and goes with it.
        if let Event::ApprovalAnswered(answer) = event
            && closed.contains(&answer.call)
        {
            touched |= answer.reason.take().is_some();
        }
    }
    touched.then(|| append.encode())
}

/// Turns that lose the first thing that was said in them, and with it all that was asked beside it.
pub(crate) fn whole_turns(items: &BTreeSet<ItemId>) -> BTreeSet<TurnNo> {
    items.iter().filter(|it| it.idx == 0).map(|it| it.turn).collect()
}

/// From here on prompts told what is erased.
pub(crate) fn first_turn(items: &BTreeSet<ItemId>) -> TurnNo {
    items.iter().map(|it| it.turn).min().unwrap_or(TurnNo::MAX)
}

/// Stands where a message stood that may have quoted what was erased.
pub(crate) const ERASED: &str = "erased";

/// What an agent was told, but for names: they say what was done, in a plan or a call.
pub(crate) fn redact_agent(agent: &mut Agent) {
    agent.instructions = None;
    agent.extra.clear();
    for tool in &mut agent.tools {
        (tool.description, tool.parameters, tool.extra) = (None, None, None);
        if let Runs::Provider { json, .. } = &mut tool.runs {
            *json = Json::of(&serde_json::Map::new());
        }
    }
    if let Some(Format::JsonSchema { description, schema, .. }) = &mut agent.sampling.format {
        (*description, *schema) = (None, Json::of(&serde_json::Map::new()));
    }
}

/// What was asked for, and what the door echoes of it.
fn redact_asked(event: &mut Event, turns: &BTreeSet<TurnNo>) -> bool {
    match event {
        Event::TurnStarted { turn, terms, .. } if turns.contains(turn) => {
            terms.echo = None;
            redact_agent(Arc::make_mut(&mut terms.agent));
            true
        }
        _ => false,
    }
}

/// Failures, which may quote a prompt, and hashes of prompts: whoever guesses what was in one could try it against the
/// hash.
fn redact_told(event: &mut Event, first: TurnNo) -> bool {
    match event {
        Event::AttemptFailed { attempt, failure, .. } if attempt.turn >= first => {
            redact_message(&mut failure.message)
        }
        Event::Placed { attempt, plan } if attempt.turn >= first => {
            !std::mem::take(&mut plan.prefix).is_empty()
        }
        Event::TurnEnded { turn, end } if *turn >= first => redact_end(end),
        _ => false,
    }
}

pub(crate) fn redact_end(end: &mut End) -> bool {
    match end {
        End::Failed { message, .. } => redact_message(message),
        End::Completed | End::Incomplete(_) | End::Cancelled(_) | End::Steered => false,
    }
}

fn redact_message(message: &mut String) -> bool {
    let is_new = message != ERASED;
    *message = ERASED.to_owned();
    is_new
}

/// The call whose result this is, if the result is among the items.
fn closed_by(event: &Event, items: &BTreeSet<ItemId>) -> Option<CallId> {
    let Event::ToolFinished { call, item, .. } = event else { return None };
    items.contains(item).then_some(*call)
}

fn redact_event(event: &mut Event, items: &BTreeSet<ItemId>) -> bool {
    match event {
        Event::Created { inheritance: Some(it), .. } => {
            let calls: BTreeSet<CallId> = it
                .items
                .iter()
                .filter(|item| items.contains(&item.id))
                .filter_map(call_of)
                .collect();
            it.open.retain(|(call, _)| !calls.contains(call));
            it.served.retain(|(call, _)| !calls.contains(call));
            redact_items(&mut it.items, items)
        }
        Event::TurnStarted { items: said, .. }
        | Event::Steered { items: said, .. }
        | Event::Replied { items: said, .. }
        | Event::Sealed { items: said, .. } => redact_items(said, items),
        Event::ToolFinished { item, output, .. } if items.contains(item) => {
            output.clear();
            true
        }
        Event::OutcomeLearned { note, output, .. } if items.contains(&note.id) => {
            output.clear();
            redact_items(std::slice::from_mut(note), items)
        }
        Event::Compacted { item } | Event::Reminded { item } => {
            redact_items(std::slice::from_mut(item), items)
        }
        Event::Created { inheritance: None, .. }
        | Event::Imported { .. }
        | Event::Configured(_)
        | Event::Owned { .. }
        | Event::TurnEnded { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::StepStarted { .. }
        | Event::AttemptOpened { .. }
        | Event::Placed { .. }
        | Event::NotPlaced { .. }
        | Event::AttemptChosen { .. }
        | Event::SummedUp { .. }
        | Event::AttemptFailed { .. }
        | Event::AttemptLost { .. }
        | Event::AttemptDropped { .. }
        | Event::RetryScheduled { .. }
        | Event::ApprovalRequested { .. }
        | Event::ApprovalAnswered(_)
        | Event::ApprovalExpired { .. }
        | Event::ToolStarted { .. }
        | Event::ToolFinished { .. }
        | Event::OutcomeLearned { .. }
        | Event::ItemErased { .. }
        | Event::Parked { .. }
        | Event::Unparked
        | Event::Foreign(_) => false,
    }
}

fn redact_items(said: &mut [Item], items: &BTreeSet<ItemId>) -> bool {
    let mut touched = false;
    for item in said.iter_mut().filter(|it| items.contains(&it.id) && it.body != Body::Erased) {
        *item = erased(item);
        touched = true;
    }
    touched
}
