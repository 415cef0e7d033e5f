//! The turns of a session.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_dialects::Names;
use everstate_dialects::agents::{listing, object};
use everstate_kernel::ids::TurnNo;

use super::pages::{self, Asked, Page};
use super::sessions::{Found, find};
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{self, Answer, Id, Ids, Params};
use crate::ids::Kind;
use crate::keys::Principal;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(asked): Params<Asked>,
) -> Result<Response> {
    let page = Page::read(&asked)?;
    let found = find(&app, &who, &id).await?;
    let turns = listing::turns(&found.session).collect();
    let (rows, has_more) = page.cut(turns, |it| found.names.session_turn(*it))?;
    let told =
        |(id, no): (String, TurnNo)| Some((id, object::turn(&found.names, &found.session, no)?));
    let rows: Vec<_> = rows.into_iter().filter_map(told).collect();
    Ok(http::of_session(pages::answer(&rows, has_more), found.id))
}

pub(super) async fn retrieve(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids((id, turn)): Ids<(String, String)>,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    let told = object::turn(&found.names, &found.session, named(&found, &turn)?);
    let told = told.ok_or_else(|| missing(&turn))?;
    Ok(http::of_session(Answer(told.text().to_owned()), found.id))
}

/// A turn that the session has.
pub(super) fn named(found: &Found, turn: &str) -> Result<TurnNo> {
    let no = found.names.read(turn, Kind::Turn).map(|it| it.turn);
    let no = no.filter(|it| found.session.transcript.turns.contains_key(it));
    no.ok_or_else(|| missing(turn))
}

fn missing(turn: &str) -> ApiError {
    ApiError::new(&codes::NOT_FOUND, format!("Turn with id '{}' not found.", shown(turn)))
}
