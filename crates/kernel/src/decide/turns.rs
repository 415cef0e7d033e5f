//! Turns: beginning, going on to the next step, ending.

use std::collections::BTreeMap;

use super::{Draft, item};
use crate::calendar;
use crate::event::{Cut, End, Event, Try, Why};
use crate::ids::{CallId, ItemId, TurnNo};
use crate::input::{Begin, Caller, Calls, NewItem, WhenBusy};
use crate::item::{Body, Item, Outcome, Status};
use crate::state::{CallState, Rejection};
use crate::tool::{Runs, Safety};

impl Draft<'_> {
    /// Whoever continues what they saw must not continue what they did not see.
    pub(super) fn expect(&self, turn: TurnNo) -> Result<(), Rejection> {
        match self.live.turn_no {
            last if last.checked_add(1) == Some(turn) => Ok(()),
            last => Err(Rejection::Overtaken { last }),
        }
    }

    pub(super) fn begin(&mut self, begin: Begin) -> Result<(), Rejection> {
        if let Some(running) = self.live.turn.as_ref().map(|it| it.no) {
            match begin.when_busy {
                WhenBusy::Refuse => return Err(Rejection::Busy { turn: running }),
                WhenBusy::Steer => return self.steer(begin),
                WhenBusy::Supersede => {
                    for answer in &begin.answers {
                        self.close_answered(answer)?;
                    }
                    for approval in &begin.approvals {
                        self.expect_waiting(approval.call)?;
                        match approval.approve {
                            // Its turn ends here: it is not started any more.
                            true => self.push(Event::ApprovalAnswered(approval.clone())),
                            false => self.answer_approval(approval.clone()),
                        }
                    }
                    self.end_turn(End::Steered);
                    return self.start_turn(Begin {
                        answers: Vec::new(),
                        approvals: Vec::new(),
                        ..begin
                    });
                }
            }
        }
        self.start_turn(begin)
    }

    /// Said to the model at the next step boundary, when open calls have their results.
    fn steer(&mut self, begin: Begin) -> Result<(), Rejection> {
        for answer in &begin.answers {
            self.close_answered(answer)?;
        }
        for approval in begin.approvals {
            self.expect_waiting(approval.call)?;
            self.answer_approval(approval);
        }
        let Some(turn) = self.live.turn.as_ref().map(|it| it.no) else { return Ok(()) };
        if !begin.items.is_empty() {
            let first = self.next_aside().idx;
            let items = self.named(turn, first, first, begin.items)?;
            self.push(Event::Steered { turn, items });
        }
        self.go_on();
        Ok(())
    }

    fn start_turn(&mut self, begin: Begin) -> Result<(), Rejection> {
        for answer in &begin.answers {
            self.expect_with_client(answer.call)?;
        }
        for approval in &begin.approvals {
            self.expect_waiting(approval.call)?;
        }
        let answered = |id: &CallId| {
            begin.answers.iter().any(|it| it.call == *id)
                || begin.approvals.iter().any(|it| it.call == *id)
        };
        let open: Vec<CallId> = self
            .live
            .calls
            .iter()
            .filter(|(id, it)| !answered(id) && it.state != CallState::Approved)
            .map(|(id, _)| *id)
            .collect();
        if !open.is_empty() {
            return Err(Rejection::CallsOpen(open));
        }
        let turn = self.live.turn_no + 1;
        let items = self.named(turn, 0, 1, begin.items)?;
        self.push(Event::TurnStarted { turn, terms: begin.terms, items });
        for answer in &begin.answers {
            self.close_answered(answer)?;
        }
        for approval in begin.approvals {
            // The same input may have answered this call already.
            self.expect_waiting(approval.call)?;
            self.answer_approval(approval);
        }
        let approved = self.live.calls.iter().filter(|(_, it)| it.state == CallState::Approved);
        for call in approved.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.push(Event::ToolStarted { call });
        }
        self.go_on();
        Ok(())
    }

    /// Gives a client's items their names. History it tells must be whole: each call with its result after it.
    fn named(
        &self,
        turn: TurnNo,
        first_idx: u32,
        first_call: u32,
        new: Vec<NewItem>,
    ) -> Result<Vec<Item>, Rejection> {
        let mut calls: BTreeMap<CallId, (CallId, bool)> = BTreeMap::new();
        let mut items = Vec::with_capacity(new.len());
        for (idx, NewItem { mut body, provider_id, extra }) in (first_idx..).zip(new) {
            match &mut body {
                Body::Call { call, .. } => {
                    let name = CallId { turn, n: first_call + calls.len() as u32 };
                    if calls.insert(*call, (name, false)).is_some() {
                        return Err(Rejection::CallNotOpen(*call));
                    }
                    *call = name;
                }
                Body::Result { call, .. } => match calls.get_mut(call) {
                    Some((name, answered)) if !*answered => {
                        *answered = true;
                        *call = *name;
                    }
                    Some(_) | None => return Err(Rejection::CallNotOpen(*call)),
                },
                Body::Message { .. }
                | Body::Reasoning(_)
                | Body::Compaction { .. }
                | Body::Note { .. }
                | Body::Opaque { .. }
                | Body::Erased => (),
            }
            let id = ItemId { turn, idx };
            items.push(Item { id, body, status: Status::Completed, provider_id, extra });
        }
        let open: Vec<CallId> =
            calls.iter().filter(|(_, it)| !it.1).map(|(told_as, _)| *told_as).collect();
        if open.is_empty() { Ok(items) } else { Err(Rejection::CallsOpen(open)) }
    }

    /// The one place where a turn moves: to its next step if nothing is open, to its end if only its caller can go
    /// on, and otherwise it waits.
    pub(super) fn go_on(&mut self) {
        let Some(turn) = &self.live.turn else { return };
        let is_busy = !turn.attempts.is_empty() || turn.summing.is_some();
        if is_busy || turn.retry_at.is_some() || turn.paused.is_some() {
            return;
        }
        let calls = turn.terms.calls;
        if self.live.calls.values().any(|it| it.state == CallState::Started) {
            return;
        }
        if self.live.calls.is_empty() {
            return self.next_step();
        }
        match calls {
            Calls::Hold => (),
            Calls::Return => self.end_turn(End::Completed),
        }
    }

    pub(super) fn next_step(&mut self) {
        if !self.is_spent() && !self.sum_up() {
            self.begin_step();
        }
    }

    /// May the turn go no further, for now or at all? Then it is said why.
    pub(super) fn is_spent(&mut self) -> bool {
        let Some(turn) = &self.live.turn else { return true };
        let limits = &turn.terms.limits;
        let reached = [
            (turn.step >= limits.steps_max, Cut::Steps),
            (turn.usage.tokens() >= limits.tokens_max, Cut::Tokens),
            (turn.bytes >= limits.bytes_max, Cut::Bytes),
            (limits.cost_max.is_some_and(|max| turn.cost >= max), Cut::Cost),
            (turn.worked_ms >= limits.work_ms_max, Cut::WorkTime),
        ];
        if let Some((_, cut)) = reached.iter().find(|(reached, _)| *reached) {
            self.end_turn(End::Incomplete(*cut));
            return true;
        }
        // Whatever is said while it is paused shall be heard in the next step, which has not begun.
        if self.live.session_left() == Some(0) {
            self.lack_money();
            return true;
        }
        false
    }

    pub(super) fn begin_step(&mut self) {
        let Some(turn) = &self.live.turn else { return };
        let (turn, step) = (turn.no, turn.step + 1);
        self.remind();
        self.push(Event::StepStarted { turn, step });
        self.open_attempt(Try::First);
    }

    fn remind(&mut self) {
        let every = self.live.turn.as_ref().and_then(|it| it.terms.remind_every_ms);
        let Some(every) = every else { return };
        let told = self.live.reminded_at;
        if told.is_none_or(|it| self.now.saturating_sub(it) >= every) {
            let item = item(self.next_aside(), Body::Note { text: calendar::told(self.now) });
            self.push(Event::Reminded { item });
        }
    }

    /// Ends the turn. Unless it is complete, every open call is closed first: providers refuse a transcript with an
    /// unanswered call, and nobody would answer these.
    pub(super) fn end_turn(&mut self, end: End) {
        let Some(turn) = &self.live.turn else { return };
        let no = turn.no;
        for attempt in turn.under_way().map(|(id, _)| id).collect::<Vec<_>>() {
            self.drop_attempt(attempt);
        }
        if end != End::Completed {
            for call in self.live.calls.keys().copied().collect::<Vec<_>>() {
                self.give_up_call(call);
            }
        }
        self.push(Event::TurnEnded { turn: no, end });
    }

    /// Closes a call that nobody will finish.
    fn give_up_call(&mut self, call: CallId) {
        let Some(open) = self.live.calls.get(&call) else { return };
        let changes_nothing =
            matches!(&open.runs, Runs::Server(it) if it.safety == Safety::ReadOnly);
        let (outcome, why) = match open.state {
            CallState::Started if !changes_nothing => (
                Outcome::Unknown,
                "The turn ended while this call was running: it may have taken effect.",
            ),
            CallState::Started => {
                (Outcome::Cancelled, "The turn ended while this call was running.")
            }
            CallState::Asked
            | CallState::AwaitingApproval { .. }
            | CallState::Approved
            | CallState::WithClient => {
                (Outcome::Cancelled, "The turn ended before this call was run.")
            }
        };
        self.finish_call(call, outcome, why);
    }

    pub(super) fn cancel(&mut self, turn: TurnNo) -> Result<(), Rejection> {
        match &self.live.turn {
            Some(running) if running.no == turn => {
                self.end_turn(End::Cancelled(Why::Asked));
                Ok(())
            }
            Some(_) | None => Err(Rejection::NoSuchTurn),
        }
    }

    pub(super) fn caller_lost(&mut self, turn: TurnNo) {
        let attached =
            |it: &&crate::state::Turn| it.no == turn && it.terms.caller == Caller::Attached;
        if self.live.turn.as_ref().filter(attached).is_some() {
            self.end_turn(End::Cancelled(Why::CallerLost));
        }
    }

    pub(super) fn tick(&mut self) {
        let now = self.now;
        let expired: Vec<CallId> = self
            .live
            .calls
            .iter()
            .filter(|(_, it)| matches!(it.state, CallState::AwaitingApproval { expires_at } if expires_at <= now))
            .map(|(id, _)| *id)
            .collect();
        for call in &expired {
            self.push(Event::ApprovalExpired { call: *call });
            self.finish_call(
                *call,
                Outcome::Denied,
                "Denied: nobody answered in time. It was not run.",
            );
        }
        let Some(turn) = &self.live.turn else { return };
        let worked = turn.worked_ms
            + if self.live.is_working() { now.saturating_sub(self.live.last_at) } else { 0 };
        if worked >= turn.terms.limits.work_ms_max && self.live.is_working() {
            return self.end_turn(End::Incomplete(Cut::WorkTime));
        }
        if turn.retry_at.is_some_and(|it| it <= now) {
            self.open_attempt(Try::Retry);
        } else if self.live.hedge_at().is_some_and(|it| it <= now) {
            self.open_attempt(Try::Hedge);
        }
        if !expired.is_empty() {
            self.go_on();
        }
    }

    /// Names what a model brought forth.
    pub(super) fn named_outputs(&self, outputs: Vec<crate::item::Output>) -> Vec<Item> {
        let (turn, mut n) = (self.live.turn_no, self.live.next_call);
        let name = |(idx, output): (u32, crate::item::Output)| {
            let body = match output.body {
                crate::item::OutputBody::Message { parts } => {
                    Body::Message { role: crate::item::Role::Assistant, parts }
                }
                crate::item::OutputBody::Reasoning(it) => Body::Reasoning(it),
                crate::item::OutputBody::Call { name, arguments } => {
                    let call = CallId { turn, n };
                    n += 1;
                    Body::Call { call, name, arguments }
                }
                crate::item::OutputBody::Opaque { dialect, json } => Body::Opaque { dialect, json },
            };
            Item {
                status: output.status,
                provider_id: output.provider_id,
                extra: output.extra,
                ..item(ItemId { turn, idx }, body)
            }
        };
        (self.live.next_idx..).zip(outputs).map(name).collect()
    }
}
