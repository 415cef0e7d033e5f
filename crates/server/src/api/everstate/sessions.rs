//! Sessions: the list, one as it stands, its items, forking, cancelling, deleting.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use everstate_dialects::Names;
use everstate_kernel::event::End;
use everstate_kernel::fork::inherit;
use everstate_kernel::ids::{Millis, Seq, SessionId, TurnNo};
use everstate_kernel::input::{Create, Input};
use everstate_kernel::state::{Call, CallState, Session};
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::ports::{ListKey, Listed};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::effects::tool_of;
use crate::api::agents;
use crate::api::responses::{delete, fold, turn_name};
use crate::app::App;
use crate::claim::{Asked, Claimed, Target};
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id, Params, Whole};
use crate::keys::Principal;
use crate::refuse;

#[derive(Debug, Deserialize)]
pub(super) struct Page {
    limit: Option<usize>,
    /// What the page before said as `next`.
    before: Option<String>,
    /// Only those in which a turn is under way, at work or waiting.
    #[serde(default)]
    running: bool,
}

const LIMIT: usize = 20;
const LIMIT_MAX: usize = 500;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Params(page): Params<Page>,
) -> Result<Answer> {
    let limit = page.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let before = page.before.as_deref().map(read_key).transpose()?;
    let log = &app.durable.log;
    let listed = match page.running {
        true => log.under_way(&who.project, before, limit).await?,
        false => log.list(&who.project, before, limit).await?,
    };
    let next = listed
        .last()
        .filter(|_| listed.len() == limit)
        .map(|it| format!("{}:{}", it.created_at, it.session));
    let items: Vec<Value> = listed.iter().map(row).collect();
    Ok(json!({ "items": items, "next": next }).into())
}

fn read_key(text: &str) -> Result<ListKey> {
    let key = text.split_once(':').and_then(|(at, session)| {
        Some(ListKey { created_at: at.parse().ok()?, session: session.parse().ok()? })
    });
    key.ok_or_else(|| {
        ApiError::new(&codes::INVALID_VALUE, "`before` is the `next` of the page before")
            .param("before")
    })
}

fn row(listed: &Listed) -> Value {
    let mut row = Map::new();
    row.insert("id".into(), listed.session.to_string().into());
    row.insert("created_at".into(), listed.created_at.into());
    if let Ok(Value::Object(summary)) = serde_json::from_str(&listed.summary) {
        row.extend(summary);
    }
    Value::Object(row)
}

/// The session somebody means: its id, the unique beginning of one, or `@`, the newest.
pub(super) async fn named(app: &Arc<App>, who: &Principal, text: &str) -> Result<Arc<Session>> {
    if let Ok(id) = text.parse::<SessionId>() {
        return app.session(who, id).await;
    }
    let missing = || {
        ApiError::new(&codes::NOT_FOUND, format!("there is no session `{}`", shown(text)))
            .attempt("everstate session list")
    };
    if text == "@" {
        let newest = app.durable.log.list(&who.project, None, 1).await?;
        return app.session(who, newest.first().ok_or_else(missing)?.session).await;
    }
    if !text.starts_with("ses_") || text.len() < SHORTEST {
        return Err(
            missing().why("a name is `ses_` and at least two letters, or `@` for the newest")
        );
    }
    let mut found: Vec<SessionId> = Vec::new();
    let mut before = None;
    loop {
        let page = app.durable.log.list(&who.project, before, LIMIT_MAX).await?;
        let fits = |it: &SessionId| it.to_string().starts_with(text);
        found.extend(page.iter().map(|it| it.session).filter(fits));
        match page.last() {
            Some(last) if page.len() == LIMIT_MAX && found.len() < 2 => {
                before = Some(ListKey { created_at: last.created_at, session: last.session });
            }
            _ => break,
        }
    }
    match found[..] {
        [only] => app.session(who, only).await,
        [] => Err(missing()),
        _ => Err(ApiError::new(
            &codes::NOT_POSSIBLE,
            format!("more than one session begins with `{}`", shown(text)),
        )
        .why(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}

const SHORTEST: usize = 6;

pub(super) async fn show(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    let session = named(&app, &who, &id).await?;
    Ok(told(&app, &session)?.into())
}

/// The session as it stands.
pub(super) fn told(app: &App, session: &Session) -> Result<Value> {
    let about = App::about(session)?;
    let (names, doc) = (app.names(about), agents::settings(session));
    let live = &session.live;
    let calls: Vec<Value> =
        live.calls.iter().map(|(id, call)| call_row(about.id, &id.to_string(), call)).collect();
    let doubts: Vec<Value> = live
        .doubts
        .iter()
        .map(|(id, doubt)| {
            json!({ "effect": format!("{}/{id}", about.id), "tool": tool_of(session, *id), "closed": doubt.closed })
        })
        .collect();
    let turns: Vec<Value> = session
        .transcript
        .turns
        .iter()
        .map(|(no, past)| {
            json!({
                "turn": no,
                "response": doc.is_none().then(|| turn_name(&names, *no)),
                "turn_id": doc.is_some().then(|| names.session_turn(*no)),
                "started": past.started,
                "ended": past.ended,
                "end": past.end,
            })
        })
        .collect();
    Ok(json!({
        "id": about.id,
        "project": about.project,
        "door": about.door,
        "named": about.named,
        "agent": doc.as_ref().map(|it| json!({
            "id": it.agent_id,
            "version": it.agent_version,
            "name": it.agent.name,
            "model": it.agent.model,
        })),
        "metadata": about.metadata,
        "created_at": about.created_at,
        "last_at": live.last_at,
        "events": session.head,
        "state": state(session),
        "turn": live.turn.as_ref().map(|it| json!({
            "turn": it.no,
            "step": it.step,
            "model": it.terms.agent.model,
            "cost_micros": it.cost,
            "cost_max_micros": it.terms.limits.cost_max,
            "retry_at": it.retry_at,
            "paused": it.paused,
        })),
        "turns": turns,
        "spent_micros": live.spent,
        "spend_max_micros": live.spend_max,
        "reserved_micros": live.reserved_total(),
        "parked": live.parked,
        "calls": calls,
        "unknown": doubts,
        "forked_from": about.lineage.last().map(|it| it.session),
        "imported_from": about.origin.as_ref().map(|it| it.session),
        "last_end": session.transcript.turns.values().last().and_then(|it| it.end.as_ref()).map(end_word),
    }))
}

pub(super) fn state(session: &Session) -> &'static str {
    let live = &session.live;
    let waits =
        live.calls.values().any(|it| matches!(it.state, CallState::AwaitingApproval { .. }));
    match (&live.parked, &live.turn) {
        (Some(_), _) => "parked",
        (None, _) if waits => "waiting for approval",
        (None, Some(turn)) if turn.paused.is_some() => "paused",
        (None, Some(_)) => "running",
        (None, None) if !live.calls.is_empty() => "waiting for its client",
        (None, None) => "idle",
    }
}

pub(super) fn end_word(end: &End) -> &'static str {
    match end {
        End::Completed => "completed",
        End::Incomplete(_) => "incomplete",
        End::Failed { .. } => "failed",
        End::Cancelled(_) => "cancelled",
        End::Steered => "steered",
    }
}

pub(super) fn call_row(session: SessionId, id: &str, call: &Call) -> Value {
    let (state, expires_at): (&str, Option<Millis>) = match call.state {
        CallState::Asked => ("asked", None),
        CallState::AwaitingApproval { expires_at } => ("waiting for approval", Some(expires_at)),
        CallState::Approved => ("approved", None),
        CallState::Started => ("running", None),
        CallState::WithClient => ("with the client", None),
    };
    json!({
        "effect": format!("{session}/{id}"),
        "tool": call.name,
        "arguments": call.arguments,
        "step": call.step,
        "state": state,
        "expires_at": expires_at,
    })
}

pub(super) async fn items(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    let session = named(&app, &who, &id).await?;
    let items: Vec<Value> = session
        .transcript
        .entries
        .iter()
        .filter(|it| !it.hidden)
        .map(|it| serde_json::to_value(&*it.item).unwrap_or_default())
        .collect();
    Ok(json!({ "items": items, "next": null }).into())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fork {
    /// After this event; by default the last.
    at: Option<Seq>,
    /// After the end of this turn.
    turn: Option<TurnNo>,
}

pub(super) async fn fork(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Answer> {
    let how: Fork = whole.read()?;
    let parent = named(&app, &who, &id).await?;
    let parent_id = App::about(&parent)?.id;
    let path = format!("POST /everstate/v1/sessions/{parent_id}/fork");
    let asked = Asked::read(&who, &path, &headers, &whole.0)?;
    let _alone = app.gates.claim(&asked.name()).await;
    let earlier = app.claims.earlier(&asked).await?;
    if let Some(earlier) = &earlier
        && let Ok(session) = app.session(&who, earlier.target.session).await
    {
        return Ok(told(&app, &session)?.into());
    }
    let at = match (how.at, how.turn) {
        (Some(_), Some(_)) => {
            return Err(
                ApiError::new(&codes::INVALID_VALUE, "say `at` or `turn`, not both").param("at")
            );
        }
        (at, None) => at,
        (None, Some(turn)) => {
            let past = parent.transcript.turns.get(&turn);
            let ended = past.and_then(|it| it.ended).ok_or_else(|| {
                ApiError::new(
                    &codes::NOT_FOUND,
                    format!("{parent_id} has no turn {turn} that has ended"),
                )
                .param("turn")
            })?;
            Some(ended)
        }
    };
    let cut = match at {
        Some(at) if at == 0 || at > parent.head => {
            let text = format!("{parent_id} has the events 1 to {}", parent.head);
            return Err(ApiError::new(&codes::INVALID_VALUE, text).param("at"));
        }
        Some(at) if at < parent.head => Arc::new(fold(&app, parent_id, at).await?),
        Some(_) | None => parent,
    };
    let inheritance = inherit(&cut)
        .ok_or_else(|| ApiError::new(&codes::NOT_POSSIBLE, "there is nothing before this event"))?;
    // Whoever claimed it before may still be about to make it, perhaps at another node: under one name it is one.
    let target = match earlier {
        Some(earlier) => earlier.target,
        None => {
            let session = app.new_session(false);
            let target = Target { session, turn: 0, memory: false, risky: false };
            match app.claims.claim(&asked, &target, None).await? {
                Claimed::Ours(it) | Claimed::Theirs(it) => it.target,
            }
        }
    };
    let session = target.session;
    // A session of the Agents API has children of its kind, which it goes on with.
    let doc = agents::settings(&cut);
    let door = if doc.is_some() { everstate_dialects::agents::DOOR } else { super::DOOR };
    let named = doc.is_some();
    let configure = match doc {
        Some(doc) => {
            let metadata = agents::pairs(&cut);
            Some(agents::forked(&app, &who, session, doc, &metadata).await?)
        }
        None => None,
    };
    let create = Create {
        id: session,
        project: who.project.to_string(),
        door: door.to_owned(),
        named,
        metadata: cut.about.as_ref().and_then(|it| it.metadata.clone()),
        inheritance: Some(inheritance),
        epoch: app.epoch(false),
    };
    let how = Feed { key: Some(asked.append_key(&target)) };
    let inputs = std::iter::once(Input::Create(create)).chain(configure.map(Input::Configure));
    match app.durable.host.feed(session, inputs.collect(), how).await {
        Ok(_) | Err(FeedError::Seen(_)) => {}
        Err(err) => return Err(refuse::feed(err, session)),
    }
    Ok(told(&app, &*app.session(&who, session).await?)?.into())
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    let session = named(&app, &who, &id).await?;
    let about = App::about(&session)?;
    if let Some(turn) = &session.live.turn {
        let input = Input::Cancel { turn: turn.no };
        app.durable
            .host
            .feed(about.id, vec![input], Feed::default())
            .await
            .map_err(|err| refuse::feed(err, about.id))?;
    }
    Ok(told(&app, &*app.session(&who, about.id).await?)?.into())
}

pub(super) async fn unpark(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    let id: SessionId = id
        .parse()
        .map_err(|_| ApiError::new(&codes::NOT_FOUND, "a parked session is named in full"))?;
    match app.session(&who, id).await {
        Ok(session) if session.live.parked.is_none() => {
            return Err(ApiError::new(&codes::NOT_POSSIBLE, format!("{id} is not parked")));
        }
        Ok(_) => {}
        // One that cannot be read is ours all the same.
        Err(err) if err.code() == &codes::SESSION_PARKED => {}
        Err(err) => return Err(err),
    }
    app.durable
        .host
        .feed(id, vec![Input::Unpark], Feed::default())
        .await
        .map_err(|err| refuse::feed(err, id))?;
    Ok(told(&app, &*app.session(&who, id).await?)?.into())
}

pub(super) async fn delete(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    // Deleting wants the whole name: the beginning of one may mean another tomorrow.
    let id: SessionId = id.parse().map_err(|_| {
        ApiError::new(&codes::NOT_FOUND, "to delete a session, name it in full").param("id")
    })?;
    app.session(&who, id).await?;
    delete::whole(&app, &who.project, id).await?;
    Ok(json!({ "id": id, "deleted": true }).into())
}
