//! Folding facts into the part of a session that decisions look at. Total: nothing here may refuse a fact.

use std::sync::Arc;

use crate::event::{Cost, Event};
use crate::ids::{ASIDE, AttemptId, ItemId, Millis};
use crate::item::{Body, Item, Outcome};
use crate::plan::Warm;
use crate::state::{Attempt, Call, CallState, Doubt, Live, Summing, Turn};
use crate::tool::Runs;

impl Live {
    pub(crate) fn apply(&mut self, event: &Event, at: Millis) {
        // Until somebody took it over, nobody had it, and nobody worked.
        if !matches!(event, Event::Owned { .. }) {
            self.pass_time(at);
        }
        self.last_at = self.last_at.max(at);
        match event {
            Event::Created { inheritance: Some(it), .. } => {
                self.turn_no = it.turn_no;
                self.calls = it.open.iter().cloned().collect();
                self.doubts = it.doubts.iter().cloned().collect();
                self.warm = it.warm.clone();
                self.spend_max = it.spend_max;
                // The fork's own items are among these; a gap in the numbers does no harm.
                self.next_idx = it.items.len() as u32;
            }
            Event::Created { inheritance: None, .. } | Event::Imported { .. } => (),
            Event::Configured(told) => {
                if let Some(max) = told.spend_max {
                    self.spend_max = max;
                }
                if let Some(tools) = &told.tools {
                    self.in_turn(|it| it.tools_next = Some(tools.clone()));
                }
            }
            Event::Owned { epoch } => self.epoch = *epoch,

            Event::TurnStarted { turn, terms, items } => {
                self.turn_no = *turn;
                self.next_idx = 0;
                self.asides = 0;
                self.next_call = 1;
                self.turn = Some(Turn {
                    no: *turn,
                    terms: terms.clone(),
                    step: 0,
                    asking: false,
                    summing: None,
                    sums_made: 0,
                    sums_failed: Vec::new(),
                    paused: None,
                    tools_next: None,
                    attempts: Default::default(),
                    attempts_made: 0,
                    failed: Vec::new(),
                    retry_at: None,
                    pending: true,
                    restarts: 0,
                    calls_run: 0,
                    bytes: 0,
                    usage: Default::default(),
                    cost: 0,
                    started_at: at,
                    worked_ms: 0,
                });
                self.count_items(items);
            }
            Event::Steered { items, .. } => {
                self.count_items(items);
                self.in_turn(|it| it.pending = true);
            }
            Event::TurnEnded { .. } => {
                self.turn = None;
                self.next_call = 0;
            }

            Event::Paused { why, .. } => self.in_turn(|it| {
                it.paused = Some(*why);
                it.retry_at = None;
            }),
            Event::Resumed { .. } => self.in_turn(|it| it.paused = None),

            Event::Reminded { item } => {
                self.reminded_at = Some(at);
                self.count_items(std::slice::from_ref(item));
            }
            Event::StepStarted { step, .. } => self.in_turn(|it| {
                it.step = *step;
                it.asking = true;
                it.attempts.clear();
                it.attempts_made = 0;
                it.failed.clear();
                it.retry_at = None;
                it.pending = false;
            }),
            Event::AttemptOpened { attempt, why } => self.in_turn(|it| {
                it.retry_at = None;
                if it.attempts.is_empty()
                    && let Some(tools) = it.tools_next.take()
                {
                    Arc::make_mut(&mut it.terms.agent).tools = tools;
                }
                let opened = Attempt { why: *why, plan: None, placed_at: at, chosen: false };
                if attempt.is_aside() {
                    it.sums_made += 1;
                    it.summing = Some(Summing { id: *attempt, attempt: opened });
                    return;
                }
                it.attempts_made += 1;
                it.restarts += u32::from(*why == crate::event::Try::Restart);
                it.attempts.insert(attempt.attempt, opened);
            }),
            Event::Placed { attempt, plan } => {
                self.reserved.insert(*attempt, plan.reserved);
                self.in_turn(|it| {
                    let open = match &mut it.summing {
                        Some(summing) if summing.id == *attempt => Some(&mut summing.attempt),
                        Some(_) | None => it.attempts.get_mut(&attempt.attempt),
                    };
                    if let Some(it) = open {
                        it.plan = Some(plan.clone());
                        it.placed_at = at;
                    }
                });
            }
            Event::NotPlaced { attempt, .. } => {
                self.close_attempt(*attempt, &Cost::default());
            }
            Event::AttemptChosen { attempt } => self.in_turn(|it| {
                if let Some(it) = it.attempts.get_mut(&attempt.attempt) {
                    it.chosen = true;
                }
            }),
            Event::Replied { attempt, items, end, cost } => {
                if let Some(Attempt { plan: Some(plan), .. }) = self.close_attempt(*attempt, cost) {
                    self.warm = Some(Warm { offer: plan.offer, at, tokens: end.usage.tokens() });
                }
                self.context_tokens = end.usage.input;
                self.in_turn(|it| it.asking = false);
                self.count_items(items);
                self.open_calls(items, attempt.step);
            }
            Event::SummedUp { attempt, cost, .. } => {
                self.close_attempt(*attempt, cost);
            }
            Event::AttemptFailed { attempt, failure, cost } => {
                let offer =
                    self.close_attempt(*attempt, cost).and_then(|it| it.plan).map(|it| it.offer);
                self.in_turn(|it| match attempt.is_aside() {
                    true => it.sums_failed.push((offer, failure.clone())),
                    false => it.failed.push((offer, failure.clone())),
                });
            }
            Event::AttemptLost { attempt, cost, .. } | Event::AttemptDropped { attempt, cost } => {
                self.close_attempt(*attempt, cost);
            }
            Event::Sealed { items, .. } => self.count_items(items),
            Event::RetryScheduled { at, .. } => self.in_turn(|it| it.retry_at = Some(*at)),

            Event::ApprovalRequested { call, expires_at } => {
                self.set_call(*call, CallState::AwaitingApproval { expires_at: *expires_at });
            }
            Event::ApprovalAnswered(answer) if answer.approve => {
                self.set_call(answer.call, CallState::Approved)
            }
            // The call's end follows in the same append.
            Event::ApprovalAnswered(_) | Event::ApprovalExpired { .. } => (),
            Event::ToolStarted { call } => {
                self.set_call(*call, CallState::Started);
                self.started.insert(*call);
                self.in_turn(|it| it.calls_run += 1);
            }
            Event::ToolFinished { call, item, outcome, output } => {
                self.count_item(*item, crate::request::parts_bytes(output));
                self.calls.remove(call);
                let in_doubt = matches!(outcome, Outcome::Unknown | Outcome::Cancelled);
                if self.started.remove(call) && in_doubt {
                    self.doubts.insert(*call, Doubt { closed: *outcome });
                }
            }
            Event::OutcomeLearned { call, note, .. } => {
                self.doubts.remove(call);
                self.learned.insert(*call, note.id);
                self.count_items(std::slice::from_ref(note));
                self.in_turn(|it| it.pending = true);
            }

            Event::Compacted { item } => {
                // What told the time may be among what is summed up.
                self.reminded_at = None;
                self.context_tokens = 0;
                // The next request begins otherwise than any that was cached.
                self.warm = None;
                self.in_turn(|it| {
                    it.sums_made = 0;
                    it.sums_failed.clear();
                });
                self.count_items(std::slice::from_ref(item));
            }
            Event::ItemErased { .. } => (),
            Event::Parked { reason } => self.parked = Some(reason.clone()),
            Event::Unparked => self.parked = None,
            Event::Foreign(it) => {
                self.parked =
                    Some(format!("its log holds `{}`, written by a later release", it.kind));
            }
        }
    }

    /// Are we or a provider at work, or only a person or a client?
    pub(crate) fn is_working(&self) -> bool {
        let waits_for_us = || {
            let is_tried = |it: &Turn| it.under_way().next().is_some() || it.retry_at.is_some();
            self.turn.as_ref().is_some_and(is_tried)
                || self.calls.values().any(|it| it.state == CallState::Started)
        };
        self.parked.is_none() && waits_for_us()
    }

    fn pass_time(&mut self, at: Millis) {
        let passed = at.saturating_sub(self.last_at);
        if self.is_working() {
            self.in_turn(|it| it.worked_ms = it.worked_ms.saturating_add(passed));
        }
    }

    fn close_attempt(&mut self, id: AttemptId, cost: &Cost) -> Option<Attempt> {
        self.reserved.remove(&id);
        self.spent = self.spent.saturating_add(cost.micros);
        self.usage.add(&cost.usage);
        let turn = self.turn.as_mut()?;
        turn.usage.add(&cost.usage);
        turn.cost = turn.cost.saturating_add(cost.micros);
        match turn.summing.take_if(|it| it.id == id) {
            Some(summing) => Some(summing.attempt),
            None => turn.attempts.remove(&id.attempt),
        }
    }

    fn open_calls(&mut self, items: &[Item], step: u32) {
        for item in items {
            let Body::Call { call, name, arguments } = &item.body else { continue };
            let runs = self
                .turn
                .as_ref()
                .and_then(|it| it.terms.agent.tool(name))
                .map(|it| it.runs.clone());
            let state = match runs {
                Some(Runs::Client) => CallState::WithClient,
                Some(Runs::Server(_) | Runs::Provider { .. }) | None => CallState::Asked,
            };
            let opened = Call {
                name: name.clone(),
                arguments: arguments.clone(),
                runs: runs.unwrap_or(Runs::Client),
                state,
                step,
            };
            self.calls.insert(*call, opened);
        }
    }

    /// Keeps the counters that name things ahead of what was named.
    fn count_items(&mut self, items: &[Item]) {
        for item in items {
            if let Body::Call { call, .. } = &item.body
                && call.n < ASIDE
            {
                self.next_call = self.next_call.max(call.n + 1);
            }
            self.count_item(item.id, crate::request::item_bytes(item));
        }
    }

    fn count_item(&mut self, id: ItemId, bytes: u64) {
        match id.idx.checked_sub(ASIDE) {
            Some(n) => self.asides = self.asides.max(n + 1),
            None => self.next_idx = self.next_idx.max(id.idx + 1),
        }
        self.in_turn(|it| it.bytes = it.bytes.saturating_add(bytes));
    }

    fn set_call(&mut self, call: crate::ids::CallId, state: CallState) {
        if let Some(it) = self.calls.get_mut(&call) {
            it.state = state;
        }
    }

    fn in_turn(&mut self, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = &mut self.turn {
            change(turn);
        }
    }
}
