//! What the state wants done outside, right now.

use crate::effect::Effect;
use crate::ids::Millis;
use crate::state::{CallState, Live};

// Approvals and calls that a client runs are not effects: nobody has to be told to wait.
pub(crate) fn effects(live: &Live) -> Vec<Effect> {
    if live.parked.is_some() {
        return Vec::new();
    }
    let mut wanted = Vec::new();
    if let Some(turn) = &live.turn {
        wanted.extend(turn.under_way().map(|(id, it)| match it.plan {
            Some(_) => Effect::Model(id),
            None => Effect::Place(id),
        }));
    }
    let started = live.calls.iter().filter(|(_, it)| it.state == CallState::Started);
    wanted.extend(started.map(|(&call, _)| Effect::Tool(call)));
    wanted.extend(live.wake_at().map(Effect::Wake));
    wanted
}

impl Live {
    /// The first moment at which the clock alone changes something.
    pub(crate) fn wake_at(&self) -> Option<Millis> {
        let approvals = self.calls.values().filter_map(|it| match it.state {
            CallState::AwaitingApproval { expires_at } => Some(expires_at),
            CallState::Asked | CallState::Approved | CallState::Started | CallState::WithClient => {
                None
            }
        });
        let turn = self.turn.as_ref();
        let retry = turn.and_then(|it| it.retry_at);
        let hedge = self.hedge_at();
        let deadline = turn.filter(|_| self.is_working()).map(|it| {
            self.last_at.saturating_add(it.terms.limits.work_ms_max.saturating_sub(it.worked_ms))
        });
        approvals.chain(retry).chain(hedge).chain(deadline).min()
    }

    /// When a second attempt is to be set beside a first that has said nothing.
    pub(crate) fn hedge_at(&self) -> Option<Millis> {
        let turn = self.turn.as_ref()?;
        let after = turn.terms.limits.hedge_after_ms?;
        let mut live = turn.attempts.iter();
        let (Some((&no, only)), None) = (live.next(), live.next()) else { return None };
        let may = only.plan.as_ref().is_some_and(|it| it.others > 0)
            && !only.chosen
            // One that was set beside it and came to nothing was enough: the tries that are left are for its failure.
            && no == turn.attempts_made
            && turn.attempts_made < turn.terms.limits.attempts_max
            && self.session_left() != Some(0);
        may.then(|| only.placed_at.saturating_add(after))
    }
}
