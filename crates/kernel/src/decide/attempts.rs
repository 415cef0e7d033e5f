//! Attempts: placing, hearing, failing, and what is tried next. Retry, fallback and hedge are decisions, and facts.

use super::Draft;
use crate::delta::{Finish, ReplyEnd};
use crate::event::{Cost, Cut, End, Event, Try};
use crate::ids::{AttemptId, Millis};
use crate::input::{Failure, FailureClass};
use crate::item::{Output, OutputBody, Status};
use crate::money::Usage;
use crate::plan::{NoOffer, Plan, Reason};
use crate::state::Turn;

/// The longest pause we choose ourselves; a provider may ask for a longer one.
const PAUSE_MS_MAX: Millis = 60_000;

impl Draft<'_> {
    pub(super) fn open_attempt(&mut self, why: Try) {
        let Some(turn) = &self.live.turn else { return };
        if self.live.session_left() == Some(0) {
            return self.lack_money();
        }
        let attempt = AttemptId { turn: turn.no, step: turn.step, attempt: turn.attempts_made + 1 };
        self.push(Event::AttemptOpened { attempt, why });
    }

    pub(super) fn placed(&mut self, attempt: AttemptId, plan: Plan) {
        if self.live.attempt(attempt).is_none_or(|it| it.plan.is_some()) {
            return;
        }
        let Some(turn) = &self.live.turn else { return };
        let committed = turn.cost.saturating_add(self.live.reserved_total());
        let cost_max = turn.terms.limits.cost_max;
        if cost_max.is_some_and(|max| committed.saturating_add(plan.reserved) > max) {
            if attempt.is_aside() {
                self.drop_attempt(attempt);
                return self.do_without();
            }
            // Nothing was sent: a dearer plan than the budget allows is not followed.
            return self.end_turn(End::Incomplete(Cut::Cost));
        }
        if self.live.session_left().is_some_and(|left| plan.reserved > left) {
            self.drop_attempt(attempt);
            return self.lack_money();
        }
        self.push(Event::Placed { attempt, plan });
    }

    pub(super) fn not_placed(&mut self, attempt: AttemptId, no_offer: NoOffer) {
        if self.live.attempt(attempt).is_none_or(|it| it.plan.is_some()) {
            return;
        }
        let (again_at, end) = (no_offer.again_at, self.unplaceable(&no_offer));
        let lacks_money = self.lacks_money(&no_offer);
        self.push(Event::NotPlaced { attempt, no_offer });
        if attempt.is_aside() {
            return if lacks_money { self.lack_money() } else { self.do_without() };
        }
        let Some(turn) = &self.live.turn else { return };
        if !turn.attempts.is_empty() {
            return;
        }
        match again_at {
            Some(at) if turn.attempts_made < turn.terms.limits.attempts_max => self.retry_at(at),
            Some(_) | None if lacks_money => self.lack_money(),
            Some(_) | None => self.end_turn(end),
        }
    }

    fn unplaceable(&self, no_offer: &NoOffer) -> End {
        if let Some(left) = no_offer.project_budget {
            let project = self.session.about.as_ref().map_or("", |it| it.project.as_str());
            let message = format!(
                "the budget of project `{project}` does not pay for one more step: ${}.{:06} of it could be had; \
                 nothing was sent",
                left / 1_000_000,
                left % 1_000_000
            );
            return End::Failed { code: "insufficient_quota".into(), message };
        }
        let failed = self.live.turn.as_ref().and_then(|it| it.failed.last());
        if let Some((_, failure)) = failed {
            return upstream_failed(failure);
        }
        let only = |reason: Reason| {
            let mut reasons = no_offer.against.keys().filter(|it| **it != Reason::OtherModel);
            reasons.next() == Some(&reason) && reasons.next().is_none()
        };
        if only(Reason::Budget) {
            return End::Incomplete(Cut::Cost);
        }
        let model = self.live.turn.as_ref().map_or("", |it| it.terms.agent.model.as_str());
        let (code, message) = if no_offer.unknown_model {
            ("model_not_found", format!("there is no model `{model}`; nothing was sent"))
        } else if only(Reason::ContextTooSmall) {
            // The word by which agents know that they have to shorten what they say.
            (
                "context_length_exceeded",
                format!(
                    "the conversation is longer than any offer of `{model}` can take; nothing was sent"
                ),
            )
        } else {
            (
                "no_offer",
                format!(
                    "no offer of `{model}` may or can serve this step{}; nothing was sent",
                    told(no_offer)
                ),
            )
        };
        End::Failed { code: code.into(), message }
    }

    /// The first piece of an answer. Where several attempts live or could, the first to speak is the one that is shown.
    pub(super) fn spoke(&mut self, attempt: AttemptId) {
        let Some(turn) = &self.live.turn else { return };
        let Some(it) = self.live.attempt(attempt) else { return };
        let alone = turn.attempts.len() == 1 && turn.terms.limits.hedge_after_ms.is_none();
        let alone = alone || attempt.is_aside();
        if it.plan.is_none() || alone || turn.attempts.values().any(|it| it.chosen) {
            return;
        }
        self.push(Event::AttemptChosen { attempt });
        self.drop_others(attempt);
    }

    pub(super) fn replied(&mut self, attempt: AttemptId, outputs: Vec<Output>, end: ReplyEnd) {
        let Some(plan) = self.live.attempt(attempt).and_then(|it| it.plan.as_ref()) else { return };
        let cost = Cost { usage: end.usage, micros: plan.price.cost(&end.usage) };
        if attempt.is_aside() {
            return self.summed_up(attempt, outputs, end, cost);
        }
        let called = outputs.iter().any(|it| matches!(it.body, OutputBody::Call { .. }));
        // Nobody would be told what became of a call that was cut short, and it would be asked for again: whatever
        // the provider says, the answer is cut short with it.
        let was_cut = outputs.iter().any(|it| {
            it.status == Status::Incomplete && matches!(it.body, OutputBody::Call { .. })
        });
        let finish = match end.finish {
            Finish::Stop if was_cut => Finish::Length,
            finish => finish,
        };
        let items = self.named_outputs(outputs);
        self.push(Event::Replied { attempt, items, end, cost });
        self.drop_others(attempt);
        match finish {
            // Calls of an answer that was cut short may be cut short themselves: none is run.
            Finish::Length => self.end_turn(End::Incomplete(Cut::OutputTokens)),
            Finish::Filter => self.end_turn(End::Incomplete(Cut::ContentFilter)),
            Finish::Stop if called => {
                self.start_calls();
                self.go_on();
            }
            Finish::Stop if self.live.turn.as_ref().is_some_and(|it| it.pending) => {
                self.next_step()
            }
            Finish::Stop => self.end_turn(End::Completed),
        }
    }

    pub(super) fn failed(&mut self, attempt: AttemptId, failure: Failure) {
        let Some(it) = self.live.attempt(attempt) else { return };
        let others = it.plan.as_ref().map_or(0, |it| it.others);
        let was_shown = self.was_shown(attempt);
        let cost = if was_shown { self.guess(attempt) } else { Cost::default() };
        self.push(Event::AttemptFailed { attempt, failure: failure.clone(), cost });
        self.seal(attempt);
        if attempt.is_aside() {
            return self.sum_failed(&failure, others);
        }
        let Some(turn) = &self.live.turn else { return };
        if !turn.attempts.is_empty() {
            return;
        }
        let may_try = turn.attempts_made < turn.terms.limits.attempts_max;
        if was_shown {
            return match may_try && failure.class.elsewhere() && may_restart(turn) {
                true => self.open_attempt(Try::Restart),
                false => self.end_turn(upstream_failed(&failure)),
            };
        }
        if !may_try || !failure.class.elsewhere() {
            self.end_turn(upstream_failed(&failure));
        } else if others > 0 {
            self.open_attempt(Try::Fallback);
        } else if failure.class.later() {
            self.retry_at(self.now.saturating_add(failure.retry_after_ms.unwrap_or(0)));
        } else {
            self.end_turn(upstream_failed(&failure));
        }
    }

    /// After a pause that doubles with each try, and not before `earliest`.
    fn retry_at(&mut self, earliest: Millis) {
        let Some(turn) = &self.live.turn else { return };
        let doublings = turn.attempts_made.saturating_sub(1).min(20);
        let pause = turn.terms.limits.backoff_ms.saturating_mul(1 << doublings).min(PAUSE_MS_MAX);
        let at = self.now.saturating_add(pause).max(earliest);
        let (turn, step) = (turn.no, turn.step);
        self.push(Event::RetryScheduled { turn, step, at });
    }

    pub(super) fn was_shown(&self, attempt: AttemptId) -> bool {
        self.shown.iter().any(|it| it.attempt == attempt && !it.outputs.is_empty())
    }

    /// What was shown of an attempt that came to nothing stays in the output, incomplete.
    pub(super) fn seal(&mut self, attempt: AttemptId) {
        let shown = self.shown.iter().find(|it| it.attempt == attempt && !it.outputs.is_empty());
        let Some(shown) = shown else { return };
        let mut items = self.named_outputs(shown.outputs.clone());
        items.iter_mut().for_each(|it| it.status = Status::Incomplete);
        self.push(Event::Sealed { attempt, items });
    }

    pub(super) fn drop_others(&mut self, winner: AttemptId) {
        let Some(turn) = &self.live.turn else { return };
        let others: Vec<u32> =
            turn.attempts.keys().copied().filter(|it| *it != winner.attempt).collect();
        for attempt in others {
            self.drop_attempt(AttemptId { attempt, ..winner });
        }
    }

    pub(super) fn drop_attempt(&mut self, attempt: AttemptId) {
        let cost = self.guess(attempt);
        self.push(Event::AttemptDropped { attempt, cost });
        self.seal(attempt);
    }

    /// What an attempt that will never be counted may have cost: what was expected of it, if its prompt may have left.
    pub(super) fn guess(&self, attempt: AttemptId) -> Cost {
        let plan = self.live.attempt(attempt).and_then(|it| it.plan.as_ref());
        let usage = Usage { estimated: plan.is_some(), ..Usage::default() };
        Cost { usage, micros: plan.map_or(0, |it| it.expected) }
    }
}

/// How many offers of the model fell for which reason, in the reasons' own words.
fn told(no_offer: &NoOffer) -> String {
    let fell = no_offer.against.iter().filter(|(reason, _)| **reason != Reason::OtherModel);
    let fell: Vec<String> = fell
        .map(|(reason, offers)| {
            let words = String::from(reason.clone()).replace('_', " ").replace(':', ": ");
            format!("{} {words}", offers.len())
        })
        .collect();
    if fell.is_empty() { String::new() } else { format!(" ({})", fell.join(", ")) }
}

/// May an answer that had been shown be begun anew?
pub(super) fn may_restart(turn: &Turn) -> bool {
    turn.terms.resumable && turn.restarts < turn.terms.limits.restarts_max
}

pub(super) fn upstream_failed(failure: &Failure) -> End {
    let code = match failure.class {
        FailureClass::RateLimited => "rate_limit_exceeded",
        FailureClass::Overloaded => "upstream_overloaded",
        FailureClass::QuotaExhausted => "insufficient_quota",
        FailureClass::Auth => "upstream_auth",
        FailureClass::NotFoundHere => "model_not_found",
        FailureClass::Timeout => "upstream_timeout",
        FailureClass::Broken => "upstream_broken",
        FailureClass::Refused => "content_refused",
        FailureClass::TooLong => "context_length_exceeded",
        FailureClass::Invalid => "upstream_invalid_request",
    };
    End::Failed { code: code.into(), message: failure.message.clone() }
}
