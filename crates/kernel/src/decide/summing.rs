//! Summing up: a session that outgrows what a model takes is told again in short, before its next step. What is sent is
//! left to `request`.

use super::{Draft, item};
use crate::delta::{Finish, ReplyEnd};
use crate::event::{Cost, Event, Try};
use crate::ids::{ASIDE, AttemptId};
use crate::input::Failure;
use crate::item::{Body, Output, OutputBody, Part, Status};

impl Draft<'_> {
    /// Asks for a summary where one is due. If so, the step has to wait.
    pub(super) fn sum_up(&mut self) -> bool {
        let Some(turn) = &self.live.turn else { return false };
        let Some(compact) = turn.terms.compact else { return false };
        let is_due = self.live.context_tokens >= compact.at_tokens.max(1)
            && turn.sums_made < turn.terms.limits.attempts_max;
        if is_due {
            self.open_summary();
        }
        is_due
    }

    fn open_summary(&mut self) {
        let Some(turn) = &self.live.turn else { return };
        let attempt = ASIDE + turn.sums_made + 1;
        let attempt = AttemptId { turn: turn.no, step: turn.step, attempt };
        self.push(Event::AttemptOpened { attempt, why: Try::SumUp });
    }

    pub(super) fn summed_up(
        &mut self,
        attempt: AttemptId,
        outputs: Vec<Output>,
        end: ReplyEnd,
        cost: Cost,
    ) {
        let summary = match end.finish {
            Finish::Stop => told(outputs),
            // Half a summary would stand for the whole.
            Finish::Length | Finish::Filter => Vec::new(),
        };
        self.push(Event::SummedUp { attempt, end, cost });
        let through = self.session.transcript.summed_through;
        match through.filter(|_| !summary.is_empty()) {
            Some(through) => {
                let item = item(self.next_aside(), Body::Compaction { summary, through });
                self.push(Event::Compacted { item });
                self.next_step();
            }
            None => self.do_without(),
        }
    }

    /// At once elsewhere, where it can be had elsewhere. It is no reason to wait, or to fail.
    pub(super) fn sum_failed(&mut self, failure: &Failure, others: u32) {
        let Some(turn) = &self.live.turn else { return };
        let may_try = turn.sums_made < turn.terms.limits.attempts_max;
        if !may_try || others == 0 || !failure.class.elsewhere() {
            self.do_without()
        } else if !self.is_spent() {
            self.open_summary();
        }
    }

    /// The next boundary tries again.
    pub(super) fn do_without(&mut self) {
        if !self.is_spent() {
            self.begin_step();
        }
    }
}

/// What is said in an answer. A call in it is not made: there was none to be made.
fn told(outputs: Vec<Output>) -> Vec<Part> {
    let whole = outputs.into_iter().filter(|it| it.status == Status::Completed);
    let parts = whole.flat_map(|it| match it.body {
        OutputBody::Message { parts } => parts,
        OutputBody::Reasoning(_) | OutputBody::Call { .. } | OutputBody::Opaque { .. } => {
            Vec::new()
        }
    });
    parts.filter(|it| matches!(it, Part::Text { text, .. } if !text.trim().is_empty())).collect()
}
