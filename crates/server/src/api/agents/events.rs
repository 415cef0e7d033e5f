//! POST /v1/agents/sessions/{id}/events: what a client tells a session. The whole list lands in one append, or none of
//! it. What comes too late is accepted and changes nothing: its sender did nothing wrong.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use everstate_dialects::agents::DOOR;
use everstate_dialects::agents::config::SessionDoc;
use everstate_dialects::agents::request::{Decision, SessionInput, read_events};
use everstate_kernel::event::Append;
use everstate_kernel::ids::{CallId, Millis};
use everstate_kernel::input::{Answer, Approval, Input};
use everstate_kernel::state::{CallState, Rejection, Session};
use everstate_runtime::host::{Feed, FeedError};

use super::sessions::{Found, find};
use super::{draft, images};
use crate::api::responses::complaint;
use crate::app::App;
use crate::claim::{Asked, Claimed, Target};
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{self, Id, Whole};
use crate::ids::{Kind, SessionNames};
use crate::keys::{Principal, random};
use crate::{meters, refuse, telemetry};

/// How often it may be decided anew, because the session went on meanwhile.
const TRIES: usize = 8;

pub(super) async fn submit(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Response> {
    let events = read_events(&whole.0).map_err(complaint)?;
    for (i, event) in events.iter().enumerate() {
        match event {
            SessionInput::Message(items) => {
                images::check_items(items, &format!("events[{i}].input"))?;
            }
            SessionInput::ToolResult { output, .. } => {
                images::check(output, &format!("events[{i}].output"))?;
            }
            SessionInput::Cancel
            | SessionInput::McpApproval { .. }
            | SessionInput::ComputerUseApproval { .. } => {}
        }
    }
    let found = find(&app, &who, &id).await?;
    let session = found.id;
    let path = format!("POST /v1/agents/sessions/{session}/events");
    let asked = Asked::read(&who, &path, &headers, &whole.0)?;
    let trace = telemetry::of_request(app.telemetry.as_ref(), &headers);
    let _alone = app.gates.claim(&asked.name()).await;
    let mut claimed = app.claims.earlier(&asked).await.map_err(reused)?.map(|it| it.target);
    if let Some(target) = &claimed {
        meters::repeated();
        if app.durable.log.seen(session, &asked.append_key(target)).await?.is_some() {
            return Ok(http::of_session(http::accepted(), session));
        }
    }
    if events.iter().any(|it| matches!(it, SessionInput::Message(_))) {
        app.stall.want(&found.doc.agent.model).await?;
    }
    let mut found = Some(found);
    for _ in 0..TRIES {
        let now = match found.take() {
            Some(found) => found,
            None => find(&app, &who, &id).await?,
        };
        let mut inputs = Vec::new();
        plan(&app, &who, &now, &events, trace.as_deref(), &mut inputs)?;
        // What is refused is not claimed: it may come right, and is then the same request.
        let target = match claimed.clone() {
            Some(target) => target,
            None => {
                // The number keeps two requests apart that say the same and are not repeats of each other.
                let turn = u32::from_be_bytes(random::<4>());
                let target = Target { session, turn, memory: false, risky: false };
                match app.claims.claim(&asked, &target, None).await.map_err(reused)? {
                    Claimed::Ours(it) | Claimed::Theirs(it) => it.target,
                }
            }
        };
        let how = Feed { key: Some(asked.append_key(&target)) };
        claimed = Some(target);
        if inputs.is_empty() {
            return Ok(http::of_session(http::accepted(), session));
        }
        let begins = now.session.live.turn.is_none()
            && inputs.iter().any(|it| matches!(it, Input::Begin(_)));
        match app.durable.host.feed(session, inputs, how).await {
            Ok(_) => {
                if begins {
                    meters::turn_begun(DOOR);
                }
                return Ok(http::of_session(http::accepted(), session));
            }
            Err(FeedError::Seen(_)) => return Ok(http::of_session(http::accepted(), session)),
            // Somebody else was faster: what they did may have made this late, and late is fine.
            Err(FeedError::Rejected(rejection)) if is_stale(&rejection) => {}
            Err(err) => {
                if matches!(err, FeedError::Rejected(_)) {
                    app.claims.forget(&asked).await?;
                }
                return Err(refuse::feed(err, session));
            }
        }
    }
    app.claims.forget(&asked).await?;
    let text = format!("{session} went on each time this was about to be decided");
    Err(ApiError::new(&codes::SESSION_BUSY, text).address(session))
}

/// The API answers a key that is used for something else as a conflict, and no client is to try that again.
fn reused(err: ApiError) -> ApiError {
    if err.code() != &codes::IDEMPOTENCY_KEY_REUSED {
        return err;
    }
    ApiError::new(&codes::IDEMPOTENCY_CONFLICT, err.message())
        .param("Idempotency-Key")
        .why("method, path and body have to be the same for 24 hours")
        .attempt("send a new key with new events")
}

fn is_stale(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::CallNotOpen(_)
        | Rejection::Expired(_)
        | Rejection::NoSuchTurn
        | Rejection::Busy { .. }
        | Rejection::Overtaken { .. } => true,
        Rejection::NotCreated
        | Rejection::AlreadyCreated
        | Rejection::NoSuchItem(_)
        | Rejection::WrongAnswer(_)
        | Rejection::CallsOpen(_)
        | Rejection::NotABoundary
        | Rejection::Parked(_)
        | Rejection::NotParked
        | Rejection::OldEpoch { .. }
        | Rejection::TurnedAway(_) => false,
    }
}

/// What the kernel is to be told, given how the session stands. An event may build on the one before it in the list.
fn plan(
    app: &App,
    who: &Principal,
    found: &Found,
    events: &[SessionInput],
    trace: Option<&str>,
    inputs: &mut Vec<Input>,
) -> Result<()> {
    let now = app.clock.now();
    let mut state = found.session.clone();
    for (i, event) in events.iter().enumerate() {
        let around = Around { app, who, names: &found.names, doc: &found.doc, state: &state, now };
        let Some(input) = around.input(i, event, trace)? else { continue };
        if i + 1 < events.len() {
            let facts = state
                .decide(input.clone(), &[], now)
                .map_err(|it| refuse::rejected(&it, found.id))?;
            let append = Append { seq: state.head + 1, at: now, events: facts };
            Arc::make_mut(&mut state).apply(&append);
        }
        inputs.push(input);
    }
    Ok(())
}

struct Around<'a> {
    app: &'a App,
    who: &'a Principal,
    names: &'a SessionNames,
    doc: &'a SessionDoc,
    state: &'a Session,
    now: Millis,
}

impl Around<'_> {
    /// `None`: it comes too late, or changes nothing.
    fn input(&self, i: usize, event: &SessionInput, trace: Option<&str>) -> Result<Option<Input>> {
        let param = |name: &str| format!("events[{i}].{name}");
        match event {
            SessionInput::Message(items) => {
                let (items, trace) = (items.clone(), trace.map(str::to_owned));
                let begin = draft::begin(self.app, self.who, self.doc, items, trace)?;
                Ok(Some(Input::Begin(begin)))
            }
            SessionInput::Cancel => {
                Ok(self.state.live.turn.as_ref().map(|it| Input::Cancel { turn: it.no }))
            }
            SessionInput::ToolResult { turn_id, call_id, outcome, output } => {
                let call = self.made(call_id, Kind::Call);
                let call = call.ok_or_else(|| unknown_call(call_id).param(param("call_id")))?;
                if self.names.read(turn_id, Kind::Turn).map(|it| it.turn) != Some(call.turn) {
                    let text = format!(
                        "Call '{}' does not belong to turn '{}'.",
                        shown(call_id),
                        shown(turn_id)
                    );
                    return Err(ApiError::new(&codes::INVALID_VALUE, text).param(param("turn_id")));
                }
                let answers = vec![Answer { call, outcome: *outcome, output: output.clone() }];
                match self.state.live.calls.get(&call).map(|it| it.state) {
                    None => Ok(None),
                    Some(CallState::WithClient) => Ok(Some(Input::Answer { answers })),
                    Some(
                        CallState::Asked
                        | CallState::AwaitingApproval { .. }
                        | CallState::Approved
                        | CallState::Started,
                    ) => {
                        let text =
                            format!("Call '{}' is not the client's to answer.", shown(call_id));
                        Err(ApiError::new(&codes::INVALID_VALUE, text).param(param("call_id")))
                    }
                }
            }
            SessionInput::McpApproval { request_id, decision } => {
                let call = self.made(request_id, Kind::Approval);
                let call = call.ok_or_else(|| unknown_request(request_id, &param("request_id")))?;
                let waits = match self.state.live.calls.get(&call).map(|it| it.state) {
                    Some(CallState::AwaitingApproval { expires_at }) => self.now < expires_at,
                    Some(
                        CallState::Asked
                        | CallState::Approved
                        | CallState::Started
                        | CallState::WithClient,
                    )
                    | None => false,
                };
                Ok(waits.then(|| Input::Approve(self.approval(call, *decision))))
            }
            // No request of this kind is ever made.
            SessionInput::ComputerUseApproval { request_id } => {
                Err(unknown_request(request_id, &param("request_id")))
            }
        }
    }

    /// Names of calls cannot be guessed, so one that reads was given out, for a call of this session.
    fn made(&self, text: &str, kind: Kind) -> Option<CallId> {
        let name = self.names.read(text, kind)?;
        (name.turn <= self.state.live.turn_no).then_some(CallId { turn: name.turn, n: name.n })
    }

    fn approval(&self, call: CallId, decision: Decision) -> Approval {
        Approval {
            call,
            approve: decision == Decision::Approve,
            by: self.who.name.to_string(),
            reason: match decision {
                Decision::Cancel => Some("the request was dismissed".to_owned()),
                Decision::Approve | Decision::Deny => None,
            },
        }
    }
}

/// Clients know this text: they send a result again when they were faster than the call's own record.
fn unknown_call(call_id: &str) -> ApiError {
    let text = format!("Unknown pending tool call: {call_id}");
    ApiError::new(&codes::CALL_NOT_FOUND, text).word("invalid_request_error")
}

fn unknown_request(request_id: &str, param: &str) -> ApiError {
    let text = format!("Unknown pending approval request: {}", shown(request_id));
    ApiError::new(&codes::APPROVAL_NOT_FOUND, text).param(param)
}
