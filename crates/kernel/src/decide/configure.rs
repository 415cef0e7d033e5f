//! What a session is told about itself while it lives, and what it may spend: a turn that may spend no more pauses, and
//! goes on when the limit is raised. What a turn may spend by its own terms ends it, and is left to `turns`.

use super::Draft;
use crate::event::{Cut, End, Event, Pause, Try};
use crate::input::{Caller, Configure};
use crate::plan::{NoOffer, Reason};

impl Draft<'_> {
    pub(super) fn configure(&mut self, told: Configure) {
        if told == Configure::default() {
            return;
        }
        let raised = match (told.spend_max, self.live.spend_max) {
            (Some(None), Some(_)) => true,
            (Some(Some(new)), Some(old)) => new > old,
            (Some(_), None) | (None, _) => false,
        };
        self.push(Event::Configured(told));
        let paused = self.live.turn.as_ref().is_some_and(|it| it.paused == Some(Pause::Spend));
        if paused && raised && self.live.session_left() != Some(0) {
            self.resume();
        }
    }

    /// Where it stopped: at the next step, or at a step that has no answer.
    fn resume(&mut self) {
        let Some(turn) = &self.live.turn else { return };
        let (turn, asking) = (turn.no, turn.asking);
        self.push(Event::Resumed { turn });
        // Who raises the limit wants it tried: that counts, but is not counted against it.
        if asking { self.open_attempt(Try::Retry) } else { self.go_on() }
    }

    /// The session may spend no more. Who waits for the answer is told so; otherwise there is time to raise the limit.
    pub(super) fn lack_money(&mut self) {
        let Some(turn) = &self.live.turn else { return };
        // Another attempt of the step is paid for, and may do.
        if !turn.attempts.is_empty() {
            return;
        }
        match turn.terms.caller {
            Caller::Detached => self.push(Event::Paused { turn: turn.no, why: Pause::Spend }),
            Caller::Attached => self.end_turn(End::Incomplete(Cut::Cost)),
        }
    }

    /// Would more of the session's money help? Not where the turn or the project has less.
    pub(super) fn lacks_money(&self, no_offer: &NoOffer) -> bool {
        let turns = self.live.turn_left();
        let sessions = self.live.session_left();
        no_offer.project_budget.is_none()
            && no_offer.against.contains_key(&Reason::Budget)
            && sessions.is_some_and(|it| turns.is_none_or(|turns| it < turns))
    }
}
