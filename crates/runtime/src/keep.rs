//! What a session leaves beside its log: projections, snapshots, packed history; and the words of a panic.

use std::any::Any;

use bytes::Bytes;
use everstate_kernel::effect::Effect;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_kernel::state::Session;
use serde::Serialize;

use crate::ports::{Down, Head, Listing, Log, Projection};

/// How the session looks from outside after an append.
pub(crate) fn projection(state: &Session) -> Projection {
    let effects = state.effects();
    let ready = effects.iter().any(|it| !matches!(it, Effect::Wake(_)));
    let listing = state.about.as_ref().map(|about| Listing {
        project: about.project.clone(),
        created_at: about.created_at,
        summary: summary(state, ready),
    });
    Projection { wake: wake(&effects), ready, listing }
}

pub(crate) fn wake(effects: &[Effect]) -> Option<Millis> {
    let wakes = effects.iter().filter_map(|it| match it {
        Effect::Wake(at) => Some(*at),
        Effect::Place(_) | Effect::Model(_) | Effect::Tool(_) => None,
    });
    wakes.min()
}

#[derive(Serialize)]
struct Summary<'a> {
    /// First: stores tell by it what is under way.
    state: &'static str,
    model: Option<&'a str>,
    turns: u32,
    cost_micros: u64,
    /// Held for attempts under way, by the owner with this epoch.
    #[serde(skip_serializing_if = "is_zero")]
    reserved_micros: u64,
    epoch: u64,
    last_at: Millis,
    /// The key that began the turn under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn summary(state: &Session, works: bool) -> String {
    let live = &state.live;
    let summary = Summary {
        state: match (&live.parked, &live.turn) {
            (Some(_), _) => "parked",
            (None, Some(_)) if works => "running",
            (None, Some(_)) => "waiting",
            (None, None) => "idle",
        },
        model: model(state),
        turns: live.turn_no,
        cost_micros: live.spent,
        reserved_micros: live.reserved_total(),
        epoch: live.epoch,
        last_at: live.last_at,
        by: live.turn.as_ref().and_then(|it| it.terms.by.as_ref()).map(|it| it.key.as_str()),
    };
    serde_json::to_string(&summary).expect("a summary has a JSON form")
}

/// The last turn's, whether it has ended or not.
fn model(state: &Session) -> Option<&str> {
    let past = state.transcript.turns.values().next_back()?;
    Some(past.model.as_str()).filter(|it| !it.is_empty())
}

pub(crate) async fn snapshot(
    log: &dyn Log,
    session: SessionId,
    at: Head,
    state: &Session,
) -> Result<(), Down> {
    let body = serde_json::to_vec(state).expect("a session has a JSON form");
    log.put_snapshot(session, at, Bytes::from(body)).await
}

/// Packs the turns whose streams nobody can ask for any more, and says up to where. Never touches a live turn.
pub(crate) async fn roll_up(
    log: &dyn Log,
    session: SessionId,
    state: &Session,
    ended_before: Millis,
) -> Result<Option<Seq>, Down> {
    let mut ended = Vec::new();
    for past in state.transcript.turns.values() {
        match past.ended {
            Some(seq) => ended.push(seq),
            None => break,
        }
    }
    // The times are in the rows: find the last turn that ended early enough, by halving.
    let (mut old, mut young) = (0, ended.len());
    while old < young {
        let middle = old.midpoint(young);
        let row = log.read(session, ended[middle] - 1, 1).await?;
        match row.first().is_some_and(|it| it.seq == ended[middle] && it.at >= ended_before) {
            true => young = middle,
            false => old = middle + 1,
        }
    }
    let Some(&through) = old.checked_sub(1).and_then(|it| ended.get(it)) else { return Ok(None) };
    log.roll_up(session, through).await?;
    Ok(Some(through))
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the machine panicked: {}", text.unwrap_or("without a word"))
}
