//! A response afterwards: as an object, as its stream from any event on, its input, and its cancelling.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_dialects::responses::listing;
use everstate_kernel::event::Event;
use everstate_kernel::ids::Seq;
use everstate_kernel::input::{Caller, Input, TurnTerms};
use everstate_kernel::item::Item;
use everstate_kernel::json::Json;
use everstate_kernel::state::{Past, Rejection, Session};
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::tail::Told;
use serde::Deserialize;
use serde_json::{Value, json};

use super::delete;
use super::follow::{Following, sse};
use crate::app::App;
use crate::claim::Target;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{self, Answer, Id, Params};
use crate::ids::{Kind, Name};
use crate::keys::Principal;
use crate::refuse;

#[derive(Debug, Deserialize)]
pub(super) struct Retrieve {
    stream: Option<bool>,
    starting_after: Option<u64>,
}

pub(super) async fn retrieve(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(params): Params<Retrieve>,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    let mut following = Following::late(
        &app,
        app.names(App::about(&found.session)?),
        &found.target(),
        found.past.started,
        false,
    )
    .await?;
    if params.stream != Some(true) {
        if params.starting_after.is_some() {
            return Err(ApiError::new(
                &codes::INVALID_VALUE,
                "`starting_after` needs `stream=true`",
            )
            .param("starting_after"));
        }
        following.hear_through(found.past.ended.unwrap_or(found.session.head)).await?;
        return Ok(http::of_session(Answer(following.response()), found.name.session));
    }
    let (terms, _) = found.first_fact(&app).await?;
    if !terms.resumable {
        return Err(ApiError::new(
            &codes::STREAMING_NOT_ENABLED,
            "Streaming is not enabled for this response.",
        )
        .param("stream")
        .why("only responses made with `background` and `stream` keep their stream")
        .attempt("retrieve it without `stream`"));
    }
    Ok(http::of_session(sse(following, None, params.starting_after), found.name.session))
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    let (terms, _) = found.first_fact(&app).await?;
    if terms.caller != Caller::Detached {
        return Err(ApiError::new(
            &codes::NOT_IN_BACKGROUND,
            "Cannot cancel a response that was not created with background=true.",
        )
        .why("a response in the foreground is ended by closing its connection"));
    }
    stop(&app, &found).await?;
    let names = app.names(App::about(&found.session)?);
    let mut following =
        Following::late(&app, names, &found.target(), found.past.started, false).await?;
    following.hear_all().await?;
    Ok(http::of_session(Answer(following.response()), found.name.session))
}

/// Ends the turn, if it has not ended yet.
pub(super) async fn stop(app: &App, found: &Found) -> Result<()> {
    if found.past.ended.is_some() {
        return Ok(());
    }
    let session = found.name.session;
    let input = Input::Cancel { turn: found.name.turn };
    match app.durable.host.feed(session, vec![input], Feed::default()).await {
        // It had ended by itself: that end stands.
        Ok(_) | Err(FeedError::Rejected(Rejection::NoSuchTurn)) => Ok(()),
        Err(err) => Err(refuse::feed(err, session)),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    order: Option<String>,
    after: Option<String>,
}

const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;

pub(super) async fn input_items(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(page): Params<Page>,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    let limit = page.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let text = format!("`limit` is from 1 to {LIMIT_MAX}");
        return Err(ApiError::new(&codes::INVALID_VALUE, text).param("limit"));
    }
    let (_, items) = found.first_fact(&app).await?;
    let names = app.names(App::about(&found.session)?);
    // What was erased since is gone from the transcript, whatever the row still says.
    let left = items.iter().filter_map(|it| found.session.transcript.find(it.id));
    let mut data: Vec<Value> =
        listing::list(&names, left.map(|it| &**it)).iter().map(Json::value).collect();
    match page.order.as_deref() {
        None | Some("desc") => data.reverse(),
        Some("asc") => {}
        Some(_) => {
            return Err(
                ApiError::new(&codes::INVALID_VALUE, "`order` is `asc` or `desc`").param("order")
            );
        }
    }
    if let Some(after) = &page.after {
        let place = data.iter().position(|it| it["id"] == **after).ok_or_else(|| {
            ApiError::new(&codes::NOT_FOUND, format!("there is no item '{}'", shown(after)))
                .param("after")
        })?;
        data.drain(..=place);
    }
    let has_more = data.len() > limit;
    data.truncate(limit);
    let answer = Answer::from(json!({
        "object": "list",
        "first_id": data.first().map(|it| it["id"].clone()),
        "last_id": data.last().map(|it| it["id"].clone()),
        "has_more": has_more,
        "data": data,
    }));
    Ok(http::of_session(answer, found.name.session))
}

/// A stored response.
pub(super) struct Found {
    pub(super) name: Name,
    pub(super) session: Arc<Session>,
    pub(super) past: Past,
}

impl Found {
    pub(super) fn target(&self) -> Target {
        let (session, turn) = (self.name.session, self.name.turn);
        Target { session, turn, memory: false, risky: false }
    }

    async fn first_fact(&self, app: &App) -> Result<(TurnTerms, Vec<Item>)> {
        let started: Seq = self.past.started;
        let rows = app.durable.host.rows(self.name.session, started - 1, started).await?;
        let fact = rows.into_iter().find_map(|it| match it {
            Told::Append(append) => append.events.iter().find_map(|it| match it {
                Event::TurnStarted { turn, terms, items } if *turn == self.name.turn => {
                    Some((terms.clone(), items.clone()))
                }
                _ => None,
            }),
            Told::Frame { .. } | Told::Shown(_) => None,
        });
        fact.ok_or_else(|| {
            ApiError::new(&codes::INTERNAL, "the turn's first fact is not where it should be")
        })
    }
}

pub(super) async fn find(app: &Arc<App>, who: &Principal, id: &str) -> Result<Found> {
    let found = find_also_deleted(app, who, id).await?;
    match delete::is_deleted(app, who, found.name.session, found.name.turn).await? {
        true => Err(missing(id)),
        false => Ok(found),
    }
}

/// Also one of which something is left, because its deletion was broken off.
pub(super) async fn find_also_deleted(app: &Arc<App>, who: &Principal, id: &str) -> Result<Found> {
    let missing = || missing(id);
    let name = app.naming.read(&who.project, id).filter(|it| it.kind == Kind::Response);
    let name = name.ok_or_else(missing)?;
    let session = match app.durable.host.look(name.session).await {
        Ok(session) => session,
        Err(FeedError::NotFound) => return Err(missing()),
        Err(err) => return Err(refuse::feed(err, name.session)),
    };
    let past = session.transcript.turns.get(&name.turn).cloned().ok_or_else(missing)?;
    Ok(Found { name, session, past })
}

pub(super) fn missing(id: &str) -> ApiError {
    ApiError::new(&codes::NOT_FOUND, format!("Response with id '{}' not found.", shown(id)))
}
