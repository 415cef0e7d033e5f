//! What may have happened outside and is not known: the list, and settling one.

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::ids::CallId;
use everstate_kernel::input::Input;
use everstate_kernel::item::{Body, Outcome, Part};
use everstate_kernel::state::Session;
use everstate_runtime::host::Feed;
use everstate_runtime::ports::ListKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::sessions::named;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Whole};
use crate::keys::Principal;
use crate::refuse;

/// How many sessions are looked at, the newest first.
const SESSIONS_MAX: usize = 2_000;
const PAGE: usize = 500;

/// The project's newest sessions. Those that cannot be loaded are left out here; they say so when shown alone.
pub(super) async fn each_session(app: &Arc<App>, who: &Principal) -> Result<Vec<Arc<Session>>> {
    let mut sessions = Vec::new();
    let mut before = None;
    let mut n_seen = 0;
    while n_seen < SESSIONS_MAX {
        let page = app.durable.log.list(&who.project, before, PAGE).await?;
        let n_page = page.len();
        n_seen += n_page;
        before = page.last().map(|it| ListKey { created_at: it.created_at, session: it.session });
        for listed in page {
            if let Ok(session) = app.durable.host.look(listed.session).await {
                sessions.push(session);
            }
        }
        if n_page < PAGE {
            break;
        }
    }
    Ok(sessions)
}

pub(super) async fn list(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    let mut items: Vec<Value> = Vec::new();
    for session in each_session(&app, &who).await? {
        let Some(about) = &session.about else { continue };
        for (id, doubt) in &session.live.doubts {
            items.push(json!({
                "effect": format!("{}/{id}", about.id),
                "session": about.id,
                "address": format!("{}/{}", about.id, id.turn),
                "tool": tool_of(&session, *id),
                "arguments": arguments_of(&session, *id),
                "closed": doubt.closed,
            }));
        }
    }
    Ok(json!({ "items": items, "next": null }).into())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settle {
    /// `ses_.../1/c2`; the beginning of the session's id is enough.
    effect: String,
    /// `ok`: it happened. `failed`: it did not.
    outcome: String,
    /// What the model is to be told.
    output: Option<String>,
}

pub(super) async fn resolve(
    State(app): State<Arc<App>>,
    who: Principal,
    whole: Whole,
) -> Result<Answer> {
    let settle: Settle = whole.read()?;
    let missing = || {
        let text = format!("no effect `{}` is in doubt", shown(&settle.effect));
        ApiError::new(&codes::NOT_FOUND, text).param("effect").attempt("everstate effect list")
    };
    let (session, call) = find(&app, &who, &settle.effect).await?.ok_or_else(missing)?;
    let id = App::about(&session)?.id;
    let outcome = match settle.outcome.as_str() {
        "ok" => Outcome::Ok,
        "failed" => Outcome::Failed,
        _ => {
            return Err(ApiError::new(
                &codes::INVALID_VALUE,
                "`outcome` is `ok` (it happened) or `failed` (it did not)",
            )
            .param("outcome"));
        }
    };
    if !session.live.doubts.contains_key(&call) {
        return Err(missing());
    }
    let by = format!("settled by {}", who.name);
    let output = vec![Part::text(settle.output.unwrap_or(by))];
    let fed = app
        .durable
        .host
        .feed(id, vec![Input::Returned { call, outcome, output }], Feed::default())
        .await
        .map_err(|err| refuse::feed(err, id))?;
    let effect = format!("{id}/{call}");
    Ok(json!({ "effect": effect, "outcome": settle.outcome, "seq": fed.seq }).into())
}

/// The session and the call that somebody means by `ses_.../1/c2`. `None`: there is no such session.
pub(super) async fn find(
    app: &Arc<App>,
    who: &Principal,
    text: &str,
) -> Result<Option<(Arc<Session>, CallId)>> {
    let Some((session, call)) = read_effect(text) else { return Ok(None) };
    match named(app, who, session).await {
        Ok(session) => Ok(Some((session, call))),
        Err(err) if err.code() == &codes::NOT_FOUND => Ok(None),
        Err(err) => Err(err),
    }
}

/// `ses_.../1/c2`: session, turn and call.
fn read_effect(text: &str) -> Option<(&str, CallId)> {
    let mut parts = text.split('/');
    let session = parts.next()?;
    let turn = parts.next()?.parse().ok()?;
    let n = parts.next()?.strip_prefix('c')?.parse().ok()?;
    parts.next().is_none().then_some((session, CallId { turn, n }))
}

/// The tool that a call asked for.
pub(super) fn tool_of(session: &Session, call: CallId) -> Option<&str> {
    asked(session, call).map(|(name, _)| name)
}

fn arguments_of(session: &Session, call: CallId) -> Option<&str> {
    asked(session, call).map(|(_, arguments)| arguments)
}

fn asked(session: &Session, call: CallId) -> Option<(&str, &str)> {
    session.transcript.entries.iter().rev().find_map(|it| match &it.item.body {
        Body::Call { call: id, name, arguments } if *id == call => {
            Some((name.as_str(), arguments.as_str()))
        }
        _ => None,
    })
}
