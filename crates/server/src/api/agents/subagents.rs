//! Subagents, of which a session has none: multi_agent is refused where it would be used.

use std::sync::Arc;

use axum::extract::State;

use super::pages::{self, Asked, Page};
use super::sessions::find;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id, Ids, Params};
use crate::keys::Principal;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(asked): Params<Asked>,
) -> Result<Answer> {
    let page = Page::read(&asked)?;
    find(&app, &who, &id).await?;
    let (_, has_more) = page.cut(Vec::<String>::new(), String::clone)?;
    Ok(pages::answer(&[], has_more))
}

/// Whatever is asked of one.
pub(super) async fn missing(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids(ids): Ids<Vec<(String, String)>>,
) -> Result<Answer> {
    let named = |name: &str| {
        let found = ids.iter().find(|(it, _)| it == name);
        found.map(|(_, it)| it.as_str()).unwrap_or_default()
    };
    find(&app, &who, named("id")).await?;
    let text = format!("Subagent with id '{}' not found.", shown(named("subagent")));
    Err(ApiError::new(&codes::NOT_FOUND, text))
}
