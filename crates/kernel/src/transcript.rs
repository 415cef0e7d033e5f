//! Folding facts into the transcript. Total, like all of `apply`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::event::{End, Event, Try};
use crate::ids::{ItemId, Millis, Seq};
use crate::input::Visible;
use crate::item::{Body, Item, Status};
use crate::money::Usage;
use crate::state::{Entry, Live, Past, Transcript};
use crate::tool::Runs;

impl Transcript {
    /// `before` is what was true before the event.
    pub(crate) fn apply(&mut self, event: &Event, seq: Seq, at: Millis, before: &Live) {
        match event {
            Event::Created { inheritance: Some(it), .. } => {
                self.served = it.served.iter().cloned().collect();
                self.push_all(&it.items);
            }
            Event::TurnStarted { turn, terms, items } => {
                let model = terms.agent.model.clone();
                let past = Past {
                    model,
                    started: seq,
                    ended: None,
                    end: None,
                    started_at: at,
                    ended_at: None,
                    usage: Usage::default(),
                };
                self.turns.insert(*turn, past);
                self.wait_all(items);
            }
            Event::Steered { items, .. } => self.wait_all(items),
            Event::OutcomeLearned { note, .. } => self.wait_all(std::slice::from_ref(note)),
            Event::Reminded { item } => self.wait_all(std::slice::from_ref(item)),
            Event::StepStarted { .. } => self.say_waiting(),
            Event::Replied { items, .. } => {
                self.note_servers(items, before);
                self.push_all(items);
            }
            Event::Sealed { items, .. } => self.push_all(items),
            Event::ToolFinished { call, item, outcome, output } => self.push(Item {
                id: *item,
                body: Body::Result { call: *call, outcome: *outcome, output: output.clone() },
                status: Status::Completed,
                provider_id: None,
                extra: None,
            }),
            Event::AttemptOpened { why: Try::SumUp, .. } => {
                self.summed_through = self.entries.last().map(|it| it.item.id);
            }
            Event::Compacted { item } => self.push(item.clone()),
            Event::TurnEnded { turn, end } => {
                self.say_waiting();
                if let Some(past) = self.turns.get_mut(turn) {
                    past.ended = Some(seq);
                    past.end = Some(end.clone());
                    past.ended_at = Some(at);
                    past.usage = before.turn.as_ref().map(|it| it.usage).unwrap_or_default();
                }
                let at_end =
                    before.turn.as_ref().is_some_and(|it| it.terms.visible == Visible::AtEnd);
                if at_end && matches!(end, End::Failed { .. } | End::Cancelled(_) | End::Steered) {
                    self.hide(*turn);
                }
            }
            Event::ItemErased { items } => self.erase(&items.iter().copied().collect()),
            Event::Created { inheritance: None, .. }
            | Event::Imported { .. }
            | Event::Configured(_)
            | Event::Owned { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
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
            | Event::Parked { .. }
            | Event::Unparked
            | Event::Foreign(_) => (),
        }
    }

    pub fn find(&self, id: ItemId) -> Option<&Arc<Item>> {
        self.entries.iter().map(|it| &it.item).chain(&self.waiting).find(|it| it.id == id)
    }

    fn note_servers(&mut self, items: &[Item], before: &Live) {
        let Some(turn) = &before.turn else { return };
        for item in items {
            if let Body::Call { call, name, .. } = &item.body
                && let Some(Runs::Server(server)) = turn.terms.agent.tool(name).map(|it| &it.runs)
            {
                self.served.insert(*call, server.label.clone());
            }
        }
    }

    fn push(&mut self, item: Item) {
        self.entries.push(Entry { item: Arc::new(item), hidden: false });
    }

    fn push_all(&mut self, items: &[Item]) {
        items.iter().for_each(|it| self.push(it.clone()));
    }

    fn wait_all(&mut self, items: &[Item]) {
        self.waiting.extend(items.iter().cloned().map(Arc::new));
    }

    fn say_waiting(&mut self) {
        let said = self.waiting.drain(..).map(|item| Entry { item, hidden: false });
        self.entries.extend(said);
    }

    fn hide(&mut self, turn: u32) {
        for entry in self.entries.iter_mut().filter(|it| it.item.id.turn == turn) {
            entry.hidden = !crate::fork::outlives_its_turn(&entry.item);
        }
    }

    /// Its place stays, hidden.
    fn erase(&mut self, items: &BTreeSet<ItemId>) {
        let told = self.turns.range_mut(crate::erase::first_turn(items)..);
        for end in told.filter_map(|(_, it)| it.end.as_mut()) {
            crate::erase::redact_end(end);
        }
        for entry in self.entries.iter_mut().filter(|it| items.contains(&it.item.id)) {
            if let Body::Call { call, .. } = &entry.item.body {
                self.served.remove(call);
            }
            *entry = Entry { item: Arc::new(crate::erase::erased(&entry.item)), hidden: true };
        }
        for item in self.waiting.iter_mut().filter(|it| items.contains(&it.id)) {
            *item = Arc::new(crate::erase::erased(item));
        }
    }
}
