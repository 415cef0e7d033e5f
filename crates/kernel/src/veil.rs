//! Facts without content: what may be written of a session whose contents are kept in memory only.
//!
//! Who folds the facts alone knows that a turn took place, where it went and what it cost, and that its contents were never
//! written. A turn of which no more is left cannot go on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::agent::Agent;
use crate::erase::{ERASED, erased, redact_agent, redact_end};
use crate::event::{Append, End, Event};
use crate::item::Item;
use crate::json::Json;

/// Stands among what an agent was told, where nothing of it was written.
const KEPT: &str = "everstate";
const NOTHING: &str = "kept";

/// How a turn ends whose process is gone, and with it what cannot be had again.
pub(crate) const LOST: &str = "process_lost";

/// The same decision without anybody's words.
pub fn veiled(append: &Append) -> Append {
    let mut append = append.clone();
    append.events.iter_mut().for_each(veil);
    append
}

/// Were the contents of a turn with this agent kept in memory only, and are they gone?
pub(crate) fn is_gone(agent: &Agent) -> bool {
    agent.extra.get(KEPT).is_some_and(|it| it.contains_key(NOTHING))
}

fn veil(event: &mut Event) {
    match event {
        Event::Created { metadata, inheritance, .. } => {
            *metadata = None;
            if let Some(it) = inheritance {
                veil_items(&mut it.items);
                it.open.iter_mut().for_each(|(_, call)| call.arguments = "{}".to_owned());
                it.settings = None;
            }
        }
        Event::Configured(told) => {
            (told.settings, told.metadata, told.tools) = (None, None, None);
        }
        Event::TurnStarted { terms, items, .. } => {
            veil_items(items);
            terms.echo = None;
            let agent = Arc::make_mut(&mut terms.agent);
            redact_agent(agent);
            let nothing = BTreeMap::from([(NOTHING.to_owned(), Json::of(&"nothing"))]);
            agent.extra.insert(KEPT.to_owned(), nothing);
        }
        Event::Steered { items, .. }
        | Event::Replied { items, .. }
        | Event::Sealed { items, .. } => veil_items(items),
        Event::Compacted { item } | Event::Reminded { item } => *item = erased(item),
        Event::ToolFinished { output, .. } => output.clear(),
        Event::OutcomeLearned { output, note, .. } => {
            output.clear();
            *note = erased(note);
        }
        Event::Placed { plan, .. } => plan.prefix.clear(),
        Event::AttemptFailed { failure, .. } => failure.message = ERASED.to_owned(),
        // Of this end the words are ours.
        Event::TurnEnded { end: End::Failed { code, .. }, .. } if code == LOST => (),
        Event::TurnEnded { end, .. } => _ = redact_end(end),
        Event::ApprovalAnswered(answer) => answer.reason = None,
        Event::Parked { reason } => *reason = ERASED.to_owned(),
        Event::Imported { .. }
        | Event::Owned { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::StepStarted { .. }
        | Event::AttemptOpened { .. }
        | Event::NotPlaced { .. }
        | Event::AttemptChosen { .. }
        | Event::SummedUp { .. }
        | Event::AttemptLost { .. }
        | Event::AttemptDropped { .. }
        | Event::RetryScheduled { .. }
        | Event::ApprovalRequested { .. }
        | Event::ApprovalExpired { .. }
        | Event::ToolStarted { .. }
        | Event::ItemErased { .. }
        | Event::Unparked
        | Event::Foreign(_) => (),
    }
}

fn veil_items(items: &mut [Item]) {
    items.iter_mut().for_each(|it| *it = erased(it));
}
