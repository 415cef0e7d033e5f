//! What waits for a person, and the person's answer.

use std::sync::Arc;

use axum::extract::State;
use everstate_dialects::Names;
use everstate_kernel::ids::{CallId, SessionId};
use everstate_kernel::input::{Approval, Input};
use everstate_kernel::state::{CallState, Session};
use everstate_runtime::host::Feed;
use serde::Deserialize;
use serde_json::{Value, json};

use super::effects::{self, each_session};
use super::sessions::call_row;
use crate::api::agents;
use crate::api::responses::turn_name;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Whole};
use crate::ids::Kind;
use crate::keys::Principal;
use crate::refuse;

pub(super) async fn list(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    let mut items = Vec::new();
    for session in each_session(&app, &who).await? {
        items.extend(waiting(&app, &session));
    }
    Ok(json!({ "items": items, "next": null }).into())
}

fn waiting(app: &App, session: &Session) -> Vec<Value> {
    let Some(about) = &session.about else { return Vec::new() };
    let names = app.names(about);
    session
        .live
        .calls
        .iter()
        .filter(|(_, it)| matches!(it.state, CallState::AwaitingApproval { .. }))
        .map(|(id, call)| {
            let mut row = call_row(about.id, &id.to_string(), call);
            row["id"] = names.approval(*id).into();
            row["session"] = about.id.to_string().into();
            row["address"] = format!("{}/{}.{}", about.id, id.turn, call.step).into();
            row
        })
        .collect()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    /// `mcpr_...`, or the effect's name: `ses_.../1/c2`.
    id: String,
    approve: bool,
    reason: Option<String>,
}

/// The call starts at once if its turn still runs, else with the session's next turn.
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    who: Principal,
    whole: Whole,
) -> Result<Answer> {
    let said: Said = whole.read()?;
    let missing = || {
        ApiError::new(
            &codes::APPROVAL_NOT_FOUND,
            format!("there is no approval `{}`", shown(&said.id)),
        )
        .param("id")
        .attempt("everstate approval list")
    };
    let (session, call) = match app.naming.read(&who.project, &said.id) {
        Some(name) if name.kind == Kind::Approval => {
            app.session(&who, name.session).await.map_err(|_| missing())?;
            (name.session, CallId { turn: name.turn, n: name.n })
        }
        Some(_) => return Err(missing()),
        None => {
            let found = effects::find(&app, &who, &said.id).await?;
            let (session, call) = found.ok_or_else(missing)?;
            (App::about(&session)?.id, call)
        }
    };
    let input = Input::Approve(Approval {
        call,
        approve: said.approve,
        by: who.name.to_string(),
        reason: said.reason.clone(),
    });
    let fed = app
        .durable
        .host
        .feed(session, vec![input], Feed::default())
        .await
        .map_err(|err| answered(refuse::feed(err, session), session))?;
    let now = app.session(&who, session).await?;
    let names = app.names(App::about(&now)?);
    let is_response = agents::settings(&now).is_none();
    Ok(json!({
        "id": said.id,
        "effect": format!("{session}/{call}"),
        "approved": said.approve,
        "starts": starts(&now, call, said.approve),
        "response": is_response.then(|| turn_name(&names, now.live.turn_no)),
        "seq": fed.seq,
    })
    .into())
}

/// When an approved call starts: `now`, or with the `next_turn`, which the session's client begins.
fn starts(session: &Session, call: CallId, approve: bool) -> Option<&'static str> {
    let waits = || {
        let state = session.live.calls.get(&call).map(|it| it.state);
        state == Some(CallState::Approved) && session.live.turn.is_none()
    };
    approve.then(|| if waits() { "next_turn" } else { "now" })
}

fn answered(error: ApiError, session: SessionId) -> ApiError {
    if error.code() == &codes::CALL_ANSWERED {
        return ApiError::new(&codes::APPROVAL_ANSWERED, "the approval has its answer already")
            .why("the first answer counts")
            .address(session);
    }
    error
}
