//! The kernel's "no", and how a turn failed, in the words of the doors.

use everstate_kernel::event::End;
use everstate_kernel::ids::{Address, SessionId, StepNo, TurnNo};
use everstate_kernel::state::{Rejection, TurnedAway};
use everstate_runtime::host::FeedError;

use crate::app::App;
use crate::error::{ApiError, codes};
use crate::keys::Principal;
use crate::retention::rules::Rules;

/// What became of feeding a session, where it did not work.
pub(crate) fn feed(err: FeedError, session: SessionId) -> ApiError {
    match err {
        FeedError::Rejected(rejection) => rejected(&rejection, session),
        FeedError::NotFound => {
            ApiError::new(&codes::NOT_FOUND, format!("there is no session {session}"))
        }
        FeedError::Seen(_) => {
            ApiError::new(&codes::NOT_POSSIBLE, "this was said before, and counts once")
        }
        FeedError::Down(down) => down.into(),
        FeedError::Draining => ApiError::new(&codes::SHUTTING_DOWN, "the server is closing")
            .why("nothing was done with this request")
            .retry_after_ms(1_000),
    }
}

pub(crate) fn rejected(rejection: &Rejection, session: SessionId) -> ApiError {
    let not_now = |text: &str| ApiError::new(&codes::NOT_POSSIBLE, text).address(session);
    match rejection {
        Rejection::Busy { turn } => {
            let text = format!("{session} is at work on turn {turn}");
            ApiError::new(&codes::SESSION_BUSY, text)
                .address(format!("{session}/{turn}"))
                .retry_after_ms(1_000)
        }
        Rejection::NotCreated => {
            ApiError::new(&codes::NOT_FOUND, format!("there is no session {session}"))
        }
        Rejection::AlreadyCreated => not_now("the session exists already"),
        Rejection::Overtaken { last } => {
            let text = format!("{session} went on meanwhile: turn {last} was begun");
            ApiError::new(&codes::SESSION_BUSY, text)
                .address(format!("{session}/{last}"))
                .retry_after_ms(1_000)
        }
        Rejection::NoSuchTurn => not_now("the turn is not running"),
        Rejection::NoSuchItem(_) => {
            ApiError::new(&codes::NOT_FOUND, "there is no such item in the session")
                .address(session)
        }
        Rejection::CallNotOpen(call) => {
            let text = format!("the call {session}/{call} was never made, or has its answer");
            ApiError::new(&codes::CALL_ANSWERED, text).param("input").address(session)
        }
        Rejection::WrongAnswer(call) => {
            let text = format!("the call {session}/{call} waits for another kind of answer");
            ApiError::new(&codes::INVALID_VALUE, text).param("input").address(session)
        }
        Rejection::CallsOpen(calls) => {
            let list: Vec<String> = calls.iter().map(ToString::to_string).collect();
            let text = format!("these calls have no answer yet: {}", list.join(", "));
            ApiError::new(&codes::CALL_UNANSWERED, text).param("input").address(session)
        }
        Rejection::NotABoundary => not_now("the conversation cannot be cut at this item"),
        Rejection::Expired(call) => ApiError::new(
            &codes::APPROVAL_EXPIRED,
            format!("the approval of {session}/{call} was not answered in time"),
        )
        .why("the tool was not run; the model was told that nobody answered")
        .address(session),
        Rejection::Parked(reason) => {
            ApiError::new(&codes::SESSION_PARKED, format!("{session} cannot go on: {reason}"))
                .why("it was parked with this reason; other sessions do not notice")
                .attempt(format!("everstate session show {session}"))
                .address(session)
        }
        Rejection::NotParked => not_now("the session is not parked"),
        Rejection::TurnedAway(why) => turned_away(why),
        Rejection::OldEpoch { .. } => {
            ApiError::new(&codes::FENCED, format!("another node owns {session} now"))
                .address(session)
        }
    }
}

/// Nothing was begun.
fn turned_away(why: &TurnedAway) -> ApiError {
    let limited = |text: String| ApiError::new(&codes::KEY_LIMIT_REACHED, text);
    match why {
        TurnedAway::Held => ApiError::new(&codes::PROJECT_STOPPED, "the project is stopped")
            .why("somebody asked that no turn begins in it; what was there is kept")
            .attempt("everstate start --project NAME"),
        TurnedAway::TurnsMax { max } => {
            limited(format!("the key has {max} turns at work, as many as it may"))
                .why("`turns_max` is the key's, or its project's; one that waits for its client or a person does not count")
                .retry_after_ms(TURNS_AGAIN_MS)
        }
        TurnedAway::Tokens { per_min, again_ms } => {
            limited(format!("the key's turns may use {per_min} tokens a minute, and have"))
                .retry_after_ms(*again_ms)
        }
    }
}

/// When a turn ends is not known.
const TURNS_AGAIN_MS: u64 = 2_000;

/// A turn in the foreground that failed, as its caller's error.
fn failed(code: &str, message: &str, at: Address) -> ApiError {
    // A turn's own words stand in the table; one of a later release is passed on as it is.
    let error = match codes::find(code) {
        Some(row) => ApiError::new(row, message),
        None => ApiError::new(&codes::UPSTREAM_FAILED, message).word(code),
    };
    error.address(at).attempt(format!("everstate explain {at}"))
}

/// The error of a turn's end, if it failed.
pub(crate) fn ended(end: &End, session: SessionId, turn: TurnNo, step: StepNo) -> Option<ApiError> {
    match end {
        End::Failed { code, message } => {
            Some(failed(code, message, Address { session, turn, step }))
        }
        End::Completed | End::Incomplete(_) | End::Cancelled(_) | End::Steered => None,
    }
}

/// Where nothing is written but facts, no session is gone on with, and none is brought in.
pub(crate) fn kept_by_nobody(app: &App, who: &Principal) -> crate::error::Result<()> {
    match Rules::of(&app.settings.file.projects, &who.project).is_zero {
        false => Ok(()),
        true => Err(ApiError::new(
            &codes::NOT_POSSIBLE,
            "this project keeps items in memory only, so no session can be gone on with or brought in",
        )
        .why(format!("[projects.{}.retention] says items = \"zero\"", who.project))),
    }
}
