//! POST /v1/agents/sessions: claim, enter into the lists, begin, and answer: at once, or as the session's stream.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use everstate_dialects::agents::config::SessionDoc;
use everstate_dialects::agents::request::{CreateSession, read_session_create};
use everstate_kernel::ids::SessionId;
use everstate_kernel::input::{Create, Input};
use everstate_kernel::json::Json;
use everstate_runtime::host::{Feed, FeedError};

use super::sessions::{find, told};
use super::{draft, images, index, stream};
use crate::api::responses::complaint;
use crate::app::App;
use crate::claim::{Asked, Claimed, Target};
use crate::error::Result;
use crate::http::{self, Whole};
use crate::keys::Principal;
use crate::{meters, refuse, telemetry};

/// The first turn of a session.
const FIRST: u32 = 1;

pub(super) async fn create(
    State(app): State<Arc<App>>,
    who: Principal,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Response> {
    let request = read_session_create(&whole.0).map_err(complaint)?;
    images::check_items(&request.input, "input")?;
    let asked = Asked::read(&who, "POST /v1/agents/sessions", &headers, &whole.0)?;
    let trace = telemetry::of_request(app.telemetry.as_ref(), &headers);
    let session = begin(&app, &who, &request, &asked, trace).await?;
    let found = find(&app, &who, &session.to_string()).await?;
    if request.stream {
        return Ok(http::of_session(
            stream::from_the_start(&app, &found, request.include_obfuscation),
            session,
        ));
    }
    Ok(http::of_session(told(&found)?.into_response(), session))
}

/// The session that was begun, by this request or by the one it repeats.
async fn begin(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateSession,
    asked: &Asked,
    trace: Option<String>,
) -> Result<SessionId> {
    let _alone = app.gates.claim(&asked.name()).await;
    let earlier = app.claims.earlier(asked).await?;
    if let Some(earlier) = &earlier
        && app.session(who, earlier.target.session).await.is_ok()
    {
        meters::repeated();
        return Ok(earlier.target.session);
    }
    // Whoever claimed it before may still be about to make it, perhaps at another node: under one name it is one.
    let session = match &earlier {
        Some(earlier) => earlier.target.session,
        None => app.new_session(false),
    };
    let doc = draft::document(app, who, request, session).await?;
    app.stall.want(&doc.agent.model).await?;
    let begin = draft::begin(app, who, &doc, request.input.clone(), trace)?;
    let mut target = Target { session, turn: FIRST, memory: false, risky: false };
    if earlier.is_none() {
        match app.claims.claim(asked, &target, None).await? {
            Claimed::Ours(_) => {}
            Claimed::Theirs(theirs) if theirs.target.session == session => {}
            Claimed::Theirs(theirs) => {
                return take_over(app, who, request, asked, theirs.target, begin).await;
            }
        }
    }
    target.session = session;
    feed(app, who, request, asked, &target, doc, begin).await
}

/// Another node claimed the same request first: what it makes has the name it chose.
async fn take_over(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateSession,
    asked: &Asked,
    target: Target,
    begin: everstate_kernel::input::Begin,
) -> Result<SessionId> {
    let doc = draft::document(app, who, request, target.session).await?;
    feed(app, who, request, asked, &target, doc, begin).await
}

async fn feed(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateSession,
    asked: &Asked,
    target: &Target,
    doc: SessionDoc,
    begin: everstate_kernel::input::Begin,
) -> Result<SessionId> {
    let session = target.session;
    // Before the session is there: a list leaves out what is not, and never misses what is.
    index::enter(app, &who.project, session, &doc, &request.metadata).await?;
    let create = Create {
        id: session,
        project: who.project.to_string(),
        door: everstate_dialects::agents::DOOR.to_owned(),
        named: true,
        metadata: Some(Json::of(&request.metadata)),
        inheritance: None,
        epoch: app.epoch(false),
    };
    let inputs =
        vec![Input::Create(create), Input::Configure(draft::configure(&doc)), Input::Begin(begin)];
    let how = Feed { key: Some(asked.append_key(target)) };
    match app.durable.host.feed(session, inputs, how).await {
        Ok(_) => meters::turn_begun(everstate_dialects::agents::DOOR),
        Err(FeedError::Seen(_)) => meters::repeated(),
        Err(err) => {
            if matches!(err, FeedError::Rejected(_)) {
                app.claims.forget(asked).await?;
            }
            return Err(refuse::feed(err, session));
        }
    }
    Ok(session)
}
