//! POST /v1/responses: claim, begin, and answer: at the end, as a stream, or at once if in the background.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use everstate_dialects::responses::request::{CreateRequest, read_create};
use everstate_kernel::event::{End, Why};
use everstate_kernel::ids::{Seq, TurnNo};
use everstate_kernel::input::Input;
use everstate_kernel::state::Rejection;
use everstate_runtime::attend::Attendance;
use everstate_runtime::drain::Held;
use everstate_runtime::host::{Feed, FeedError};

use super::draft::{self, Draft};
use super::follow::{Following, Waiting, complaint, lost, sse};
use super::standing::{Standing, standing};
use crate::app::App;
use crate::claim::{Asked, Claimed, Earlier, Target};
use crate::error::{ApiError, Result, codes};
use crate::http::{self, Answer, Whole};
use crate::ids::SessionNames;
use crate::keys::Principal;
use crate::{meters, refuse, telemetry};

pub(super) async fn create(
    State(app): State<Arc<App>>,
    who: Principal,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Response> {
    let request = Arc::new(read_create(&whole.0).map_err(complaint)?);
    let asked = Arc::new(Asked::read(&who, "POST /v1/responses", &headers, &whole.0)?);
    let trace = telemetry::of_request(app.telemetry.as_ref(), &headers);
    loop {
        let held = app.durable.host.hold();
        let begun = begin_whole(&app, &who, &request, &asked, trace.clone()).await?;
        let target = begun.target.clone();
        match answer(&app, &request, begun, held).await? {
            // What is not stored cannot be looked at by its session's name.
            Some(response) if target.memory => return Ok(response),
            Some(response) => return Ok(http::of_session(response, target.session)),
            // It repeated a turn that was lost meanwhile: the next look decides whether to begin anew.
            None => continue,
        }
    }
}

/// A turn that was begun, by this request or by the one it repeats.
struct Begun {
    target: Target,
    following: Following,
    /// The append that began it.
    seq: Seq,
    repeats: bool,
    attendance: Option<Attendance>,
}

/// Begins in a task of its own. A caller that goes drops its request wherever it stands, and a turn that was claimed
/// and may or may not have been begun would look to a repeat like one that came to nothing.
async fn begin_whole(
    app: &Arc<App>,
    who: &Principal,
    request: &Arc<CreateRequest>,
    asked: &Arc<Asked>,
    trace: Option<String>,
) -> Result<Begun> {
    let (app, who, request, asked) = (app.clone(), who.clone(), request.clone(), asked.clone());
    let task = tokio::spawn(async move { begin(&app, &who, &request, &asked, trace).await });
    http::joined(task.await)
}

async fn begin(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateRequest,
    asked: &Asked,
    trace: Option<String>,
) -> Result<Begun> {
    let _alone = app.gates.claim(&asked.name()).await;
    let mut claimed = None;
    let mut again = None;
    if let Some(earlier) = app.claims.earlier(asked).await? {
        match standing(app, who, asked, &earlier.target).await? {
            Standing::There(started) => {
                return repeat(app, who, request, earlier.target, started).await;
            }
            Standing::Unbegun => again = Some(earlier.target.clone()),
            Standing::Lost => {}
        }
        claimed = Some(earlier);
    }
    let mut overtaken = 0;
    loop {
        let mut draft = draft::draft(app, who, request, again.as_ref()).await?;
        draft.begin.terms.trace = trace.clone();
        draft.begin.terms.by = Some(app.limits.by(who));
        if claimed.as_ref().is_none_or(|it| it.target != draft.target || again.is_none()) {
            match app.claims.claim(asked, &draft.target, claimed.as_ref()).await? {
                Claimed::Ours(ours) => claimed = Some(ours),
                Claimed::Theirs(earlier) => {
                    return theirs(app, who, request, asked, earlier).await;
                }
            }
        }
        let session = draft.target.session;
        match feed(app, draft, request, asked).await? {
            Fed::Begun(begun) => return Ok(*begun),
            // Its place was taken: what is continued from here on is a fork.
            Fed::Overtaken { last } if overtaken >= OVERTAKEN_MAX => {
                return Err(refuse::rejected(&Rejection::Overtaken { last }, session));
            }
            Fed::Overtaken { .. } => {
                overtaken += 1;
                again = None;
            }
        }
    }
}

/// Each time somebody else has to have begun a turn in between.
const OVERTAKEN_MAX: usize = 3;

enum Fed {
    Begun(Box<Begun>),
    /// Another continued the same session first.
    Overtaken {
        last: TurnNo,
    },
}

/// Somebody else claimed the same request, perhaps at another node.
async fn theirs(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateRequest,
    asked: &Asked,
    earlier: Earlier,
) -> Result<Begun> {
    match standing(app, who, asked, &earlier.target).await? {
        Standing::There(started) => repeat(app, who, request, earlier.target, started).await,
        Standing::Unbegun | Standing::Lost => {
            let text = "the same request is being begun elsewhere";
            Err(ApiError::new(&codes::SESSION_BUSY, text))
        }
    }
}

async fn feed(
    app: &Arc<App>,
    draft: Draft<'_>,
    request: &CreateRequest,
    asked: &Asked,
) -> Result<Fed> {
    let Draft { target, names, create, begin, after, open, session, _alone } = draft;
    let host = &app.side(target.memory).host;
    // Listening begins before anything is said, so that nothing is missed.
    let tail = match request.stream {
        true => host.tail(target.session, after),
        false => host.tail_kept(target.session, after),
    };
    let voice = begin.terms.voice.clone();
    // What is continued must still be what was seen, also if another node continues it at the same time.
    let first = create.map_or(Input::Expect { turn: target.turn }, Input::Create);
    let inputs = vec![first, Input::Begin(begin)];
    let how = Feed { key: Some(asked.append_key(&target)) };
    let seq = match host.feed(target.session, inputs, how).await {
        Ok(fed) => fed.seq,
        Err(FeedError::Seen(seq)) => seq,
        Err(FeedError::Rejected(Rejection::Overtaken { last })) => {
            return Ok(Fed::Overtaken { last });
        }
        Err(err) => {
            if matches!(err, FeedError::Rejected(_)) {
                app.claims.forget(asked).await?;
            }
            return Err(match err {
                FeedError::Rejected(Rejection::CallsOpen(calls)) => {
                    draft::unanswered(&open, &names, &calls, target.session)
                }
                err => refuse::feed(err, target.session),
            });
        }
    };
    let attendance = (!request.background).then(|| host.attend(target.session, target.turn, seq));
    if target.memory {
        app.fleeting.keep(target.session, app.clock.now(), asked.is_keyed());
    }
    meters::turn_begun(super::DOOR);
    let mut following = Following::new(names, &target, &voice, tail)?;
    if let Some(session) = &session {
        following.know(session);
    }
    Ok(Fed::Begun(Box::new(Begun { target, following, seq, repeats: false, attendance })))
}

async fn repeat(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateRequest,
    target: Target,
    started: Seq,
) -> Result<Begun> {
    meters::repeated();
    let host = &app.side(target.memory).host;
    // From here on the turn has a caller, whatever becomes of the first one.
    let attendance =
        (!request.background).then(|| host.attend(target.session, target.turn, started));
    let names = SessionNames::new(&app.naming, &who.project, target.session, Vec::new());
    let following = Following::late(app, names, &target, started, request.stream).await?;
    Ok(Begun { target, following, seq: started, repeats: true, attendance })
}

/// `None`: what was followed came to nothing, because its caller had gone before this one came.
async fn answer(
    app: &Arc<App>,
    request: &CreateRequest,
    begun: Begun,
    held: Held,
) -> Result<Option<Response>> {
    let Begun { target, mut following, seq, repeats, attendance } = begun;
    let Some(mut attendance) = attendance else {
        if request.stream {
            return Ok(Some(sse(following, None, None)));
        }
        following.hear_through(seq).await?;
        return Ok(Some(Answer(following.response()).into_response()));
    };
    if request.stream {
        if repeats && was_lost(app, &target).await? {
            attendance.answered();
            return Ok(None);
        }
        return Ok(Some(sse(following, Some(Waiting { attendance, _held: held }), None)));
    }
    let ended = match following.hear_all().await {
        Ok(ended) => ended,
        Err(err) => {
            attendance.cut_off();
            return Err(err);
        }
    };
    attendance.answered();
    if following.was_lost() {
        return if repeats { Ok(None) } else { Err(lost(target.session, target.turn)) };
    }
    match refuse::ended(&ended.end, target.session, target.turn, ended.step) {
        Some(error) => Err(error),
        None => Ok(Some(Answer(following.response()).into_response())),
    }
}

/// Has the turn ended for want of a caller? Asked by one that waits for it by now.
async fn was_lost(app: &App, target: &Target) -> Result<bool> {
    let session = app.side(target.memory).host.look(target.session).await;
    let session = session.map_err(|err| refuse::feed(err, target.session))?;
    let end = session.transcript.turns.get(&target.turn).and_then(|it| it.end.as_ref());
    Ok(end == Some(&End::Cancelled(Why::CallerLost)))
}
