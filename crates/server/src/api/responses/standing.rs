//! What became of the request that this one repeats.

use std::collections::BTreeMap;
use std::sync::Arc;

use everstate_kernel::event::{End, Event, Why};
use everstate_kernel::ids::{CallId, Seq};
use everstate_kernel::item::Body;
use everstate_kernel::state::Past;
use everstate_kernel::tool::{Runs, Safety};
use everstate_runtime::host::FeedError;
use everstate_runtime::tail::Told;

use super::delete;
use crate::app::App;
use crate::claim::{Asked, Target};
use crate::error::{ApiError, Result, codes};
use crate::keys::Principal;
use crate::refuse;

pub(super) enum Standing {
    /// Its turn is there, begun by this append.
    There(Seq),
    /// Its turn is not there. Whoever claimed it may still be about to begin it, perhaps at another node: begun again
    /// under the same names, it lands once.
    Unbegun,
    /// It was lost, and left nothing outside: it may be begun anew.
    Lost,
}

pub(super) async fn standing(
    app: &Arc<App>,
    who: &Principal,
    asked: &Asked,
    target: &Target,
) -> Result<Standing> {
    let session = match app.side(target.memory).host.look(target.session).await {
        Ok(session) => session,
        Err(FeedError::NotFound) if target.memory && (target.risky || asked.is_keyed()) => {
            return Err(ApiError::new(
                &codes::REPEAT_EXPIRED,
                "the first try of this request is no longer known",
            )
            .why("it was made with `store: false`: its answer is not kept for long")
            .attempt("find out what it did, then send it anew, with another Idempotency-Key"));
        }
        Err(FeedError::NotFound) => return Ok(Standing::Unbegun),
        Err(err) => return Err(refuse::feed(err, target.session)),
    };
    let Some(past) = session.transcript.turns.get(&target.turn) else {
        return Ok(Standing::Unbegun);
    };
    if !target.memory && delete::is_deleted(app, who, target.session, target.turn).await? {
        return Err(ApiError::new(&codes::NOT_FOUND, "the first try's response was deleted"));
    }
    if past.end != Some(End::Cancelled(Why::CallerLost)) {
        return Ok(Standing::There(past.started));
    }
    if let Some(call) = risked(app, target, past).await? {
        let at = format!("{}/{}", target.session, target.turn);
        return Err(ApiError::new(
            &codes::EFFECT_MAY_HAVE_HAPPENED,
            format!("the first try of this request was lost after it had started a tool ({call})"),
        )
        .why("running it again might do twice what must be done once")
        .attempt(format!("everstate session show {at}"))
        .address(at));
    }
    Ok(Standing::Lost)
}

/// A tool with effects that had been started in this turn.
async fn risked(app: &Arc<App>, target: &Target, past: &Past) -> Result<Option<String>> {
    let through = past.ended.unwrap_or(Seq::MAX);
    let rows = app.side(target.memory).host.rows(target.session, past.started - 1, through).await?;
    let mut names: BTreeMap<CallId, String> = BTreeMap::new();
    let mut harmless = Vec::new();
    for told in &rows {
        let Told::Append(append) = told else { continue };
        for event in &append.events {
            match event {
                Event::TurnStarted { terms, .. } => {
                    harmless = terms
                        .agent
                        .tools
                        .iter()
                        .filter(|it| reads_only(&it.runs))
                        .map(|it| it.name.clone())
                        .collect();
                }
                Event::Replied { items, .. } => {
                    for item in items {
                        if let Body::Call { call, name, .. } = &item.body {
                            names.insert(*call, name.clone());
                        }
                    }
                }
                Event::ToolStarted { call } => match names.get(call) {
                    Some(name) if harmless.contains(name) => {}
                    Some(name) => return Ok(Some(name.clone())),
                    // Asked for in an earlier turn, and approved by a person.
                    None => return Ok(Some(call.to_string())),
                },
                _ => {}
            }
        }
    }
    Ok(None)
}

fn reads_only(runs: &Runs) -> bool {
    matches!(runs, Runs::Server(server) if server.safety == Safety::ReadOnly)
}
