//! GET /v1/agents/sessions: a project's sessions, all or those of an agent or with certain metadata.
//!
//! The lists stand in the registry (`index`); no more sessions are opened than a page has, and a few that turn out to
//! be gone. Where several filters are given, the first list is walked and the others are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::ids::SessionId;
use everstate_kernel::json::Json;
use everstate_kernel::state::Session;
use everstate_runtime::host::FeedError;
use everstate_runtime::ports::{Document, Order, Page as Piece, PageKey};
use futures_util::stream::{self, StreamExt};

use super::pages::{self, Asked, Page, no_such};
use super::sessions::{object, settings};
use super::{draft, filter, index};
use crate::app::App;
use crate::error::Result;
use crate::http::{Answer, Params};
use crate::keys::Principal;
use crate::refuse;

/// So many places of a list are looked at for one page, where filters leave most of them out.
const WALK_MAX: usize = 10_000;
const PIECE: usize = 200;
/// So many sessions are opened at the same time.
const AT_ONCE: usize = 8;

/// Which sessions are wanted.
#[derive(Debug, Default)]
struct Filter {
    agent_id: Option<String>,
    metadata: BTreeMap<String, String>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Params(asked): Params<Asked>,
) -> Result<Answer> {
    let page = Page::read(&asked)?;
    let filter = read_filter(&asked)?;
    let mut kinds: Vec<String> =
        filter.metadata.iter().map(|(key, value)| index::of_pair(key, value)).collect();
    if let Some(agent) = &filter.agent_id {
        // The agent of one session only is in no list.
        match draft::session_of_agent(agent) {
            Some(session) => return one(&app, &who, session, &filter, &page).await,
            None => kinds.push(index::of_agent(agent)),
        }
    }
    let walked = if kinds.is_empty() { index::ALL.to_owned() } else { kinds.remove(0) };
    let mut place = match &page.after {
        Some(id) => Some(place_of(&app, &who, id).await?),
        None => None,
    };
    let order = if page.newest_first { Order::NewestFirst } else { Order::OldestFirst };
    let mut rows: Vec<(String, Json)> = Vec::new();
    let (mut n_walked, mut has_more) = (0, false);
    let piece_len = if kinds.is_empty() { page.limit + 1 } else { PIECE };
    'walk: loop {
        let piece = Piece { order, after: place.clone(), limit: piece_len };
        let documents = app.registry.page(&who.project, &walked, piece).await?;
        let is_last = documents.len() < piece_len;
        n_walked += documents.len();
        place = documents.last().map(key).or(place);
        let looks = documents.into_iter().map(|it| look(&app, &who, &kinds, it.id, &filter));
        let mut looks = stream::iter(looks).buffered(AT_ONCE);
        while let Some(row) = looks.next().await {
            let Some(row) = row? else { continue };
            if rows.len() == page.limit {
                has_more = true;
                break 'walk;
            }
            rows.push(row);
        }
        if is_last {
            break;
        }
        if n_walked >= WALK_MAX {
            has_more = true;
            break;
        }
    }
    Ok(pages::answer(&rows, has_more))
}

fn read_filter(asked: &Asked) -> Result<Filter> {
    let agent_id = asked.iter().rev().find(|(name, _)| name == "agent_id");
    Ok(Filter { agent_id: agent_id.map(|it| it.1.clone()), metadata: filter::metadata(asked)? })
}

fn key(document: &Document) -> PageKey {
    (document.created_at, document.id.clone())
}

/// Where a session stands, in all lists.
async fn place_of(app: &App, who: &Principal, id: &str) -> Result<PageKey> {
    let session = id.parse::<SessionId>().map_err(|_| no_such(id))?;
    let found = app.registry.get(&who.project, index::ALL, &session.to_string()).await?;
    found.as_ref().map(key).ok_or_else(|| no_such(id))
}

/// A place of the walked list. `None`: it is not in the others, or not to be told.
async fn look(
    app: &Arc<App>,
    who: &Principal,
    kinds: &[String],
    id: String,
    filter: &Filter,
) -> Result<Option<(String, Json)>> {
    for kind in kinds {
        if app.registry.get(&who.project, kind, &id).await?.is_none() {
            return Ok(None);
        }
    }
    row(app, who, &id, filter).await
}

/// `None`: it never came to be, is gone, or is not what is wanted any more.
async fn row(
    app: &Arc<App>,
    who: &Principal,
    id: &str,
    filter: &Filter,
) -> Result<Option<(String, Json)>> {
    let Ok(id) = id.parse::<SessionId>() else { return Ok(None) };
    let session = match app.durable.host.look(id).await {
        Ok(session) => session,
        // One that cannot be read says so when it is asked for by its name.
        Err(FeedError::NotFound | FeedError::Rejected(_)) => return Ok(None),
        Err(err) => return Err(refuse::feed(err, id)),
    };
    match fits(&session, who, filter) {
        true => {
            let names = app.names(App::about(&session)?);
            Ok(Some((id.to_string(), object(&names, &session)?)))
        }
        false => Ok(None),
    }
}

fn fits(session: &Session, who: &Principal, filter: &Filter) -> bool {
    let Some(about) = &session.about else { return false };
    let Some(doc) = settings(session) else { return false };
    let has = index::pairs(session);
    *about.project == *who.project
        && filter.agent_id.as_ref().is_none_or(|it| *it == doc.agent_id)
        && filter.metadata.iter().all(|(key, value)| has.get(key) == Some(value))
}

/// At most one session.
async fn one(
    app: &Arc<App>,
    who: &Principal,
    session: SessionId,
    filter: &Filter,
    page: &Page,
) -> Result<Answer> {
    let found: Vec<_> = row(app, who, &session.to_string(), filter).await?.into_iter().collect();
    let (ids, has_more) = page.cut(found, |(id, _)| id.clone())?;
    let rows: Vec<_> = ids.into_iter().map(|(_, row)| row).collect();
    Ok(pages::answer(&rows, has_more))
}
