//! Taking a session over: whoever did its work before is gone. What is safe to repeat stays wanted; what is not
//! is closed with an honest `unknown`.

use super::Draft;
use super::attempts::may_restart;
use crate::event::{End, Event, Try, Why};
use crate::ids::{AttemptId, CallId};
use crate::input::Caller;
use crate::item::Outcome;
use crate::state::{CallState, Rejection};
use crate::tool::{Runs, Safety};
use crate::veil;

impl Draft<'_> {
    pub(super) fn adopt(&mut self, epoch: u64) -> Result<(), Rejection> {
        if epoch < self.live.epoch {
            return Err(Rejection::OldEpoch { current: self.live.epoch });
        }
        self.push(Event::Owned { epoch });
        if self.live.parked.is_none() {
            self.take_over();
        }
        Ok(())
    }

    pub(super) fn unpark(&mut self) -> Result<(), Rejection> {
        if self.live.parked.is_none() {
            return Err(Rejection::NotParked);
        }
        self.push(Event::Unparked);
        // While it was parked nothing of it ran.
        self.take_over();
        Ok(())
    }

    fn take_over(&mut self) {
        let (was_sent, was_shown) = self.lose_attempts();
        let unsafe_to_repeat = self.live.calls.iter().filter(|(_, it)| {
            it.state == CallState::Started
                && !matches!(&it.runs, Runs::Server(server) if server.safety != Safety::Neither)
        });
        for call in unsafe_to_repeat.map(|(id, _)| *id).collect::<Vec<CallId>>() {
            let why = "It is not known whether this call took effect: we stopped while it was running, \
                       and it must not be run twice. Find out before you try again.";
            self.finish_call(call, Outcome::Unknown, why);
        }
        let Some(turn) = &self.live.turn else { return };
        if veil::is_gone(&turn.terms.agent) {
            return self.end_turn(End::Failed {
                code: veil::LOST.into(),
                message:
                    "what was said was kept in memory only, and the process that had it is gone"
                        .into(),
            });
        }
        if turn.terms.caller == Caller::Attached {
            return self.end_turn(End::Cancelled(Why::CallerLost));
        }
        let lost_all = was_sent && turn.attempts.is_empty();
        if lost_all {
            let may_try = turn.attempts_made < turn.terms.limits.attempts_max;
            match may_try && (!was_shown || may_restart(turn)) {
                true if was_shown => self.open_attempt(Try::Restart),
                true => self.open_attempt(Try::Retry),
                false => self.end_turn(End::Failed {
                    code: "process_lost".into(),
                    message: "the process that waited for the model's answer was lost, too often to try again".into(),
                }),
            }
        } else {
            self.go_on();
        }
    }

    /// Attempts whose prompt may have left are lost; those not yet placed are simply placed again.
    fn lose_attempts(&mut self) -> (bool, bool) {
        let Some(turn) = &self.live.turn else { return (false, false) };
        let sent = turn.under_way().filter(|(_, it)| it.plan.is_some());
        let sent: Vec<AttemptId> = sent.map(|(id, _)| id).collect();
        let mut was_shown = false;
        for &attempt in &sent {
            was_shown |= self.was_shown(attempt);
            let seen = self.shown.iter().find(|it| it.attempt == attempt);
            let (frames, cost) = (seen.map_or(0, |it| it.frames), self.guess(attempt));
            self.push(Event::AttemptLost { attempt, frames, cost });
            self.seal(attempt);
        }
        // A step goes on without a summary, or asks for another.
        (sent.iter().any(|it| !it.is_aside()), was_shown)
    }
}
