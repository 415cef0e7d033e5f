//! Deleting a response. What later responses were built on stays with them; what nothing else needs is erased, and
//! a session without a response left is deleted whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_kernel::ids::{ItemId, SessionId, TurnNo};
use everstate_kernel::input::Input;
use everstate_kernel::item::Body;
use everstate_kernel::state::{Rejection, Session};
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::ports::{Put, PutError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::retrieve::{find_also_deleted, missing, stop};
use crate::api::agents;
use crate::app::App;
use crate::error::Result;
use crate::http::{self, Answer, Id};
use crate::keys::Principal;
use crate::refuse;

/// Which turns of a session were deleted as responses.
const DELETED: &str = "deleted";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Deleted {
    turns: BTreeSet<TurnNo>,
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Response> {
    let found = find_also_deleted(&app, &who, &id).await?;
    let (session, turn) = (found.name.session, found.name.turn);
    let is_repeat = is_deleted(&app, &who, session, turn).await?;
    stop(&app, &found).await?;
    match away(&app, &who.project, session, &[turn]).await? {
        Away::Nothing if is_repeat => Err(missing(&id)),
        Away::Nothing | Away::Something => Ok(deleted(&id, session)),
    }
}

/// What was still to be done away with.
pub(crate) enum Away {
    Nothing,
    Something,
}

/// Deletes turns that have ended, as responses.
pub(crate) async fn away(
    app: &App,
    project: &str,
    session: SessionId,
    turns: &[TurnNo],
) -> Result<Away> {
    let _alone = app.gates.session(session).await;
    let gone = mark(app, project, session, turns).await?;
    loop {
        let state = match app.durable.host.look(session).await {
            Ok(state) => state,
            Err(FeedError::NotFound) => return Ok(Away::Something),
            Err(err) => return Err(refuse::feed(err, session)),
        };
        match left(&state, &gone) {
            Left::Nothing => return Ok(Away::Nothing),
            Left::Items(items) => {
                let erased = app.durable.host.erase(session, items).await;
                erased.map_err(|err| refuse::feed(err, session))?;
            }
            Left::Whole if close(app, session, state.live.turn_no).await? => {
                whole(app, project, session).await?;
            }
            // It was continued meanwhile, perhaps at another node: what was said there stays.
            Left::Whole => continue,
        }
        return Ok(Away::Something);
    }
}

/// Deletes a session, and what the registry knows of it.
pub(crate) async fn whole(app: &App, project: &str, session: SessionId) -> Result<()> {
    // One that cannot be read can still be deleted.
    let state = app.durable.host.look(session).await.ok();
    app.durable.host.delete(session).await?;
    if let Some(state) = state {
        agents::leave(app, project, &state).await?;
    }
    Ok(app.registry.remove(project, DELETED, &session.to_string()).await?)
}

/// What is to be done away with, when these turns are gone.
enum Left {
    Nothing,
    Items(Vec<ItemId>),
    Whole,
}

fn left(state: &Session, gone: &BTreeSet<TurnNo>) -> Left {
    let transcript = &state.transcript;
    let kept = transcript.turns.keys().filter(|it| !gone.contains(it)).max().copied();
    let named = state.about.as_ref().is_some_and(|it| it.named);
    if kept.is_none() && !named {
        return Left::Whole;
    }
    // Nothing that is still there was built on what came after the last that is kept.
    let last = kept.unwrap_or(0);
    let all = transcript.entries.iter().map(|it| &it.item).chain(&transcript.waiting);
    let items: Vec<ItemId> = all
        .filter(|it| it.id.turn > last && gone.contains(&it.id.turn) && it.body != Body::Erased)
        .map(|it| it.id)
        .collect();
    if items.is_empty() { Left::Nothing } else { Left::Items(items) }
}

/// Makes sure that the session is not continued any more. `false` if it was, after this turn.
async fn close(app: &App, session: SessionId, last: TurnNo) -> Result<bool> {
    let reason = "its last response was deleted, and the rest is about to be".to_owned();
    let inputs = vec![Input::Expect { turn: last.saturating_add(1) }, Input::Park { reason }];
    match app.durable.host.feed(session, inputs, Feed::default()).await {
        Ok(_) | Err(FeedError::NotFound | FeedError::Rejected(Rejection::Parked(_))) => Ok(true),
        Err(FeedError::Rejected(Rejection::Overtaken { .. })) => Ok(false),
        Err(err) => Err(refuse::feed(err, session)),
    }
}

fn deleted(id: &str, session: SessionId) -> Response {
    let told = json!({ "id": id, "object": "response", "deleted": true });
    http::of_session(Answer::from(told), session)
}

pub(super) async fn is_deleted(
    app: &App,
    who: &Principal,
    session: SessionId,
    turn: TurnNo,
) -> Result<bool> {
    Ok(gone(app, &who.project, session).await?.contains(&turn))
}

/// Turns of a session that were deleted as responses.
pub(crate) async fn gone(app: &App, project: &str, session: SessionId) -> Result<BTreeSet<TurnNo>> {
    let found = app.registry.get(project, DELETED, &session.to_string()).await?;
    let turns = found.and_then(|it| serde_json::from_slice::<Deleted>(&it.body).ok());
    Ok(turns.unwrap_or_default().turns)
}

/// All that are deleted by now.
async fn mark(
    app: &App,
    project: &str,
    session: SessionId,
    turns: &[TurnNo],
) -> Result<BTreeSet<TurnNo>> {
    let id = session.to_string();
    let mut found = app.registry.get(project, DELETED, &id).await?;
    loop {
        let mut deleted: Deleted =
            found.as_ref().and_then(|it| serde_json::from_slice(&it.body).ok()).unwrap_or_default();
        deleted.turns.extend(turns);
        let put = Put {
            project: project.to_owned(),
            kind: DELETED.to_owned(),
            id: id.clone(),
            expect: found.as_ref().map(|it| it.revision),
            body: serde_json::to_vec(&deleted).expect("a list of turns has a JSON form").into(),
            now: app.clock.now(),
            expires_at: None,
        };
        match app.registry.put(put).await {
            Ok(_) => return Ok(deleted.turns),
            Err(PutError::Conflict(standing)) => found = standing,
            Err(PutError::Down(down)) => return Err(down.into()),
        }
    }
}
