//! What is promised of summaries.

use everstate_kernel::event::{Event, Try};

use super::{ensure, events};
use crate::tools;
use crate::world::World;

pub(super) fn summed_when_due(world: &World) -> Result<(), String> {
    let tries_max = tools::terms().limits.attempts_max;
    let (mut compact, mut context, mut tries) = (None, 0, 0);
    // Under way, and whether one was tried since the last step began.
    let (mut open, mut tried) = (None, false);
    for (append, event) in events(world) {
        let is_due = compact.is_some_and(|it| context >= it);
        match event {
            Event::TurnStarted { terms, .. } => {
                compact = terms.compact.map(|it| it.at_tokens);
                (tries, tried) = (0, false);
            }
            Event::AttemptOpened { attempt, why } => {
                ensure(open.is_none(), || format!("{attempt} is opened beside a summary"))?;
                ensure(attempt.is_aside() == (*why == Try::SumUp), || format!("{attempt}"))?;
                if attempt.is_aside() {
                    ensure(is_due, || format!("append {} sums up too soon", append.seq))?;
                    tries += 1;
                    ensure(tries <= tries_max, || format!("{tries} tries"))?;
                    (open, tried) = (Some(*attempt), true);
                }
            }
            Event::StepStarted { .. } => {
                ensure(open.is_none(), || format!("append {} does not wait", append.seq))?;
                ensure(!is_due || tried || tries >= tries_max, || {
                    format!("append {} begins a step without a summary", append.seq)
                })?;
                tried = false;
            }
            Event::Replied { end, .. } => context = end.usage.input,
            Event::SummedUp { attempt, .. }
            | Event::NotPlaced { attempt, .. }
            | Event::AttemptFailed { attempt, .. }
            | Event::AttemptLost { attempt, .. }
            | Event::AttemptDropped { attempt, .. } => {
                open = open.filter(|it| it != attempt);
            }
            Event::Compacted { .. } => (context, tries) = (0, 0),
            Event::TurnEnded { turn, .. } => {
                ensure(open.is_none(), || format!("turn {turn} leaves {open:?} open"))?;
            }
            _ => (),
        }
    }
    Ok(())
}
