//! What follows from an input. May change from release to release: decisions are never replayed, only facts are.
//!
//! Each rule pushes facts onto a draft, which folds them at once, so that the next rule sees what is true by then.
//! When you touch this, ask: if the power fails after this append, what does the next owner see?

mod adopt;
mod attempts;
mod calls;
mod configure;
mod summing;
mod turns;

use crate::event::Event;
use crate::ids::{ASIDE, ItemId, Millis};
use crate::import::{Import, Origin};
use crate::input::{Create, Input, Shown};
use crate::item::{Body, Item, Part, Status};
use crate::state::{Live, Rejection, Session};

/// The facts decided so far, and what is true once they have happened.
struct Draft<'a> {
    session: &'a Session,
    shown: &'a [Shown],
    live: Live,
    now: Millis,
    events: Vec<Event>,
}

pub(crate) fn decide(
    session: &Session,
    input: Input,
    shown: &[Shown],
    now: Millis,
) -> Result<Vec<Event>, Rejection> {
    // Time never goes back behind the last fact.
    let now = now.max(session.live.last_at);
    let mut draft = Draft { session, shown, live: session.live.clone(), now, events: Vec::new() };
    let first = match input {
        Input::Create(create) => Ok((create, None)),
        Input::Import(import) => {
            let Import { create, origin } = *import;
            Ok((create, Some(origin)))
        }
        other => Err(other),
    };
    let input = match first {
        Ok((create, origin)) => {
            draft.create(create, origin)?;
            return Ok(draft.events);
        }
        Err(input) => input,
    };
    if session.about.is_none() {
        return Err(Rejection::NotCreated);
    }
    draft.parked(&input)?;
    match input {
        Input::Create(_) | Input::Import(_) => return Err(Rejection::AlreadyCreated),
        Input::Configure(told) => draft.configure(told),
        Input::Adopted { epoch } => draft.adopt(epoch)?,
        Input::Expect { turn } => draft.expect(turn)?,
        Input::Begin(begin) => draft.begin(begin)?,
        Input::Answer { answers } => draft.answer(answers)?,
        Input::Approve(approval) => draft.approve(approval)?,
        Input::Placed { attempt, plan } => draft.placed(attempt, plan),
        Input::NotPlaced { attempt, no_offer } => draft.not_placed(attempt, no_offer),
        Input::Spoke { attempt } => draft.spoke(attempt),
        Input::Replied { attempt, outputs, end } => draft.replied(attempt, outputs, end),
        Input::AttemptFailed { attempt, failure } => draft.failed(attempt, failure),
        Input::Returned { call, outcome, output } => draft.returned(call, outcome, output),
        Input::Tick => draft.tick(),
        Input::CallerLost { turn } => draft.caller_lost(turn),
        Input::Cancel { turn } => draft.cancel(turn)?,
        Input::Compact { summary, through } => draft.compact(summary, through)?,
        Input::Erase { items } => draft.erase(items)?,
        Input::Park { reason } => draft.push(Event::Parked { reason }),
        Input::Unpark => draft.unpark()?,
    }
    Ok(draft.events)
}

impl Draft<'_> {
    fn push(&mut self, event: Event) {
        self.live.apply(&event, self.now);
        self.events.push(event);
    }

    fn create(&mut self, create: Create, origin: Option<Origin>) -> Result<(), Rejection> {
        if self.session.about.is_some() {
            return Err(Rejection::AlreadyCreated);
        }
        let Create { id, project, door, named, metadata, inheritance, epoch } = create;
        self.push(Event::Created { id, project, door, named, metadata, inheritance });
        if let Some(origin) = origin {
            self.push(Event::Imported { origin });
        }
        self.push(Event::Owned { epoch });
        Ok(())
    }

    /// A parked session hears only what may help it, or what it could not do harm with.
    fn parked(&self, input: &Input) -> Result<(), Rejection> {
        let Some(reason) = &self.live.parked else { return Ok(()) };
        match input {
            Input::Adopted { .. } | Input::Unpark => Ok(()),
            Input::Create(_)
            | Input::Import(_)
            | Input::Configure(_)
            | Input::Expect { .. }
            | Input::Begin(_)
            | Input::Answer { .. }
            | Input::Approve(_)
            | Input::Placed { .. }
            | Input::NotPlaced { .. }
            | Input::Spoke { .. }
            | Input::Replied { .. }
            | Input::AttemptFailed { .. }
            | Input::Returned { .. }
            | Input::Tick
            | Input::CallerLost { .. }
            | Input::Cancel { .. }
            | Input::Compact { .. }
            | Input::Erase { .. }
            | Input::Park { .. } => Err(Rejection::Parked(reason.clone())),
        }
    }

    /// The next item's name.
    fn next_item(&self) -> ItemId {
        ItemId { turn: self.live.turn_no, idx: self.live.next_idx }
    }

    /// The name of the next item that is heard beside the turn's own course.
    fn next_aside(&self) -> ItemId {
        ItemId { turn: self.live.turn_no, idx: ASIDE + self.live.asides }
    }

    fn compact(&mut self, summary: Vec<Part>, through: ItemId) -> Result<(), Rejection> {
        if let Some(turn) = &self.live.turn {
            return Err(Rejection::Busy { turn: turn.no });
        }
        let entries = &self.session.transcript.entries;
        let last = entries.iter().position(|it| it.item.id == through);
        let last = last.ok_or(Rejection::NoSuchItem(through))?;
        // A call on one side of the cut and its result on the other would leave one without the other.
        let mut open = std::collections::BTreeSet::new();
        for entry in &entries[..=last] {
            match &entry.item.body {
                Body::Call { call, .. } => _ = open.insert(*call),
                Body::Result { call, .. } => _ = open.remove(call),
                Body::Message { .. }
                | Body::Reasoning(_)
                | Body::Compaction { .. }
                | Body::Note { .. }
                | Body::Opaque { .. }
                | Body::Erased => (),
            }
        }
        if !open.is_empty() {
            return Err(Rejection::NotABoundary);
        }
        let item = item(self.next_aside(), Body::Compaction { summary, through });
        self.push(Event::Compacted { item });
        Ok(())
    }

    fn erase(&mut self, items: Vec<ItemId>) -> Result<(), Rejection> {
        if let Some(turn) = &self.live.turn {
            return Err(Rejection::Busy { turn: turn.no });
        }
        let transcript = &self.session.transcript;
        for id in &items {
            let item = transcript.find(*id).ok_or(Rejection::NoSuchItem(*id))?;
            // A call that is still open has no result to go with it.
            if let Body::Call { call, .. } = &item.body
                && self.live.calls.contains_key(call)
            {
                return Err(Rejection::CallsOpen(vec![*call]));
            }
        }
        let items = crate::erase::closure(transcript, &self.live.learned, &items);
        self.push(Event::ItemErased { items });
        Ok(())
    }
}

/// An item of ours, without a provider's name for it.
fn item(id: ItemId, body: Body) -> Item {
    Item { id, body, status: Status::Completed, provider_id: None, extra: None }
}
