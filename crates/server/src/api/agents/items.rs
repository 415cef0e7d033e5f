//! The items of a session, and of one of its turns.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_dialects::agents::listing;
use everstate_kernel::ids::TurnNo;

use super::pages::{self, Asked, Page};
use super::sessions::{Found, find};
use super::turns;
use crate::app::App;
use crate::error::Result;
use crate::http::{self, Id, Ids, Params};
use crate::keys::Principal;

pub(super) async fn of_session(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(asked): Params<Asked>,
) -> Result<Response> {
    let page = Page::read(&asked)?;
    list(&find(&app, &who, &id).await?, None, &page)
}

pub(super) async fn of_turn(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids((id, turn)): Ids<(String, String)>,
    Params(asked): Params<Asked>,
) -> Result<Response> {
    let page = Page::read(&asked)?;
    let found = find(&app, &who, &id).await?;
    let turn = turns::named(&found, &turn)?;
    list(&found, Some(turn), &page)
}

fn list(found: &Found, of: Option<TurnNo>, page: &Page) -> Result<Response> {
    let items = listing::items(&found.session, of);
    let (rows, has_more) = page.cut(items, |it| it.name(&found.names))?;
    let rows: Vec<_> = rows.into_iter().map(|(id, it)| (id, it.json(&found.names))).collect();
    Ok(http::of_session(pages::answer(&rows, has_more), found.id))
}
