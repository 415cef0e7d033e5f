//! Deleting a response. What later responses were built on stays with them; what nothing else needs is erased, and
//! a session without a response left is deleted whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_kernel::ids::{ItemId, SessionId, TurnNo};
use everstate_runtime::host::FeedError;
use everstate_runtime::ports::{Put, PutError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::retrieve::{find, stop};
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
    let found = find(&app, &who, &id).await?;
    stop(&app, &found).await?;
    let (session, turn) = (found.name.session, found.name.turn);
    let _alone = app.gates.session(session).await;
    let gone = mark(&app, &who, session, turn).await?;
    let state = match app.durable.host.look(session).await {
        Ok(state) => state,
        Err(FeedError::NotFound) => return Ok(deleted(&id, session)),
        Err(err) => return Err(refuse::feed(err, session)),
    };
    let kept = state.transcript.turns.keys().filter(|it| !gone.contains(it)).max().copied();
    let named = state.about.as_ref().is_some_and(|it| it.named);
    match kept {
        None if !named => {
            app.durable.host.delete(session).await?;
            app.registry.remove(&who.project, DELETED, &session.to_string()).await?;
        }
        kept => {
            // Nothing that is still there was built on these.
            let last = kept.unwrap_or(0);
            let transcript = &state.transcript;
            let said = transcript.entries.iter().map(|it| it.item.id);
            let items: Vec<ItemId> = said
                .chain(transcript.waiting.iter().map(|it| it.id))
                .filter(|it| it.turn > last && gone.contains(&it.turn))
                .collect();
            if !items.is_empty() {
                app.durable
                    .host
                    .erase(session, items)
                    .await
                    .map_err(|err| refuse::feed(err, session))?;
            }
        }
    }
    Ok(deleted(&id, session))
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
    let found = app.registry.get(&who.project, DELETED, &session.to_string()).await?;
    let turns = found.and_then(|it| serde_json::from_slice::<Deleted>(&it.body).ok());
    Ok(turns.is_some_and(|it| it.turns.contains(&turn)))
}

/// All that are deleted by now.
async fn mark(
    app: &App,
    who: &Principal,
    session: SessionId,
    turn: TurnNo,
) -> Result<BTreeSet<TurnNo>> {
    let id = session.to_string();
    let mut found = app.registry.get(&who.project, DELETED, &id).await?;
    loop {
        let mut deleted: Deleted =
            found.as_ref().and_then(|it| serde_json::from_slice(&it.body).ok()).unwrap_or_default();
        deleted.turns.insert(turn);
        let put = Put {
            project: who.project.to_string(),
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
