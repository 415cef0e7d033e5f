//! One session: as it stands, changed, deleted.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_dialects::agents::config::SessionDoc;
use everstate_dialects::agents::request::{UpdateSession, read_session_update};
use everstate_kernel::event::Event;
use everstate_kernel::ids::{Seq, SessionId};
use everstate_kernel::input::{Configure, Input};
use everstate_kernel::json::Json;
use everstate_kernel::state::Session;
use everstate_runtime::host::Feed;
use everstate_runtime::tail::Told;
use serde_json::json;

use super::{draft, index};
use crate::api::responses::complaint;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{self, Answer, Id, Whole};
use crate::ids::SessionNames;
use crate::keys::Principal;
use crate::refuse;

/// A session of this door.
pub(super) struct Found {
    pub(super) id: SessionId,
    pub(super) session: Arc<Session>,
    pub(super) doc: SessionDoc,
    pub(super) names: SessionNames,
}

/// What a session of this door was made with; `None`: it was made through another.
pub(crate) fn settings(session: &Session) -> Option<SessionDoc> {
    session.about.as_ref()?.settings.as_ref().and_then(SessionDoc::read)
}

/// A session by its name on the wire. What belongs to another project, or another door, looks like what does not exist.
pub(super) async fn find(app: &Arc<App>, who: &Principal, id: &str) -> Result<Found> {
    let missing =
        || ApiError::new(&codes::NOT_FOUND, format!("Session with id '{}' not found.", shown(id)));
    let id: SessionId = id.parse().map_err(|_| missing())?;
    let session = app.session(who, id).await.map_err(|err| match err.code() {
        code if code == &codes::NOT_FOUND => missing(),
        _ => err,
    })?;
    let doc = settings(&session).ok_or_else(missing)?;
    let names = app.names(App::about(&session)?);
    Ok(Found { id, session, doc, names })
}

pub(super) async fn retrieve(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    Ok(http::of_session(told(&found)?, found.id))
}

/// The session as this API tells it.
pub(super) fn told(found: &Found) -> Result<Answer> {
    Ok(Answer(object(&found.names, &found.session)?.text().to_owned()))
}

/// Of a session that was created there is one.
pub(super) fn object(names: &SessionNames, session: &Session) -> Result<Json> {
    everstate_dialects::agents::object::session(names, session)
        .ok_or_else(|| ApiError::new(&codes::NOT_FOUND, "the session was never created"))
}

pub(super) async fn update(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    whole: Whole,
) -> Result<Response> {
    let update = read_session_update(&whole.0).map_err(complaint)?;
    let found = find(&app, &who, &id).await?;
    let _alone = app.gates.session(found.id).await;
    let mut base = find(&app, &who, &id).await?;
    if let Some(model) = &update.agent.model {
        app.stall.want(model).await?;
    }
    // Entered before it is so, that no list ever misses it.
    if let Some(metadata) = &update.metadata {
        index::add_pairs(&app, &who.project, base.id, metadata).await?;
    }
    let mut standing = base.doc.clone();
    loop {
        let seen = base.session.head;
        let mut doc = standing.clone();
        merge(&mut doc, &update);
        let configure = configure(&app, &doc, &update)?;
        let fed = app
            .durable
            .host
            .feed(base.id, vec![Input::Configure(configure)], Feed::default())
            .await
            .map_err(|err| refuse::feed(err, base.id))?;
        // Another node may have changed other fields of the same document meanwhile: they are kept.
        match changed_between(&app, base.id, seen, fed.seq).await? {
            None => break,
            Some(theirs) => standing = theirs,
        }
        base = find(&app, &who, &id).await?;
    }
    if update.metadata.is_some() {
        index::drop_pairs(&app, &who.project, &found.session, base.id).await?;
    }
    let found = find(&app, &who, &id).await?;
    Ok(http::of_session(told(&found)?, found.id))
}

fn merge(doc: &mut SessionDoc, update: &UpdateSession) {
    doc.agent.merge(&update.agent);
    doc.agent = doc.agent.clone().in_session();
    if let Some(cache) = &update.prompt_cache_options {
        doc.prompt_cache_options.clone_from(cache);
    }
    if let Some(review) = update.review {
        doc.review = review;
    }
    if let Some(limit) = update.spend_limit_cents {
        doc.spend_limit_cents = limit;
    }
}

fn configure(app: &App, doc: &SessionDoc, update: &UpdateSession) -> Result<Configure> {
    let tools = draft::tools(app, doc)?;
    Ok(Configure {
        settings: Some(doc.json()),
        metadata: update.metadata.as_ref().map(Json::of),
        tools: update.agent.tools.is_some().then_some(tools),
        spend_max: update.spend_limit_cents.map(|it| it.map(draft::micros)),
    })
}

/// What somebody else made of the settings after the one row and before the other.
async fn changed_between(
    app: &App,
    session: SessionId,
    after: Seq,
    before: Seq,
) -> Result<Option<SessionDoc>> {
    if before <= after + 1 {
        return Ok(None);
    }
    let rows = app.durable.host.rows(session, after, before - 1).await?;
    let settings = rows.iter().rev().find_map(|it| match it {
        Told::Append(append) => append.events.iter().rev().find_map(|it| match it {
            Event::Configured(told) => told.settings.as_ref(),
            _ => None,
        }),
        Told::Frame { .. } | Told::Shown(_) => None,
    });
    Ok(settings.and_then(SessionDoc::read))
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    if let Some(turn) = &found.session.live.turn
        && found.session.live.parked.is_none()
    {
        let text = format!("Session '{}' has a turn that runs.", found.id);
        return Err(ApiError::new(&codes::NOT_POSSIBLE, text)
            .why("what runs is cancelled first, so that nothing ends unheard")
            .attempt("send the event agent.session.input.cancel, then delete it")
            .address(format!("{}/{}", found.id, turn.no)));
    }
    app.durable.host.delete(found.id).await?;
    index::leave(&app, &who.project, &found.session).await?;
    let told = json!({ "id": found.id, "object": "agent.session.deleted", "deleted": true });
    Ok(http::of_session(Answer::from(told), found.id))
}
