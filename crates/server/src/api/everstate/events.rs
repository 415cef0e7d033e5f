//! A session's facts: as a list, or followed. Every event has the position of its row, its time, its kind, the address
//! of what it is about, and its fields, none of which hides one of these.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{Seq, SessionId, StepNo, TurnNo};
use everstate_runtime::ports::Down;
use everstate_runtime::tail::Told;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::sessions::named;
use crate::app::App;
use crate::error::{ApiError, Result};
use crate::http::{self, Answer, Id, Params};
use crate::keys::Principal;

#[derive(Debug, Deserialize)]
pub(super) struct How {
    after: Option<Seq>,
    limit: Option<usize>,
    /// Stay, and tell what happens.
    follow: Option<bool>,
    /// Tell streaming pieces too.
    frames: Option<bool>,
}

const LIMIT: usize = 1_000;

pub(super) async fn events(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(how): Params<How>,
) -> Result<Response> {
    let session = named(&app, &who, &id).await?;
    let id = App::about(&session)?.id;
    let after = how.after.unwrap_or(0);
    let frames = how.frames.unwrap_or(false);
    if how.follow == Some(true) {
        let host = &app.durable.host;
        let tail = if frames { host.tail(id, after) } else { host.tail_kept(id, after) };
        return Ok(follow(tail, id, frames));
    }
    let rows = app.durable.host.rows(id, after, session.head).await?;
    let limit = how.limit.unwrap_or(LIMIT).clamp(1, LIMIT);
    let mut items = Vec::new();
    let mut next = None;
    let mut step = Place::default();
    for told in &rows {
        if items.len() >= limit {
            break;
        }
        items.extend(render(id, told, &mut step, frames));
        next = told.seq();
    }
    let next = next.filter(|it| *it < session.head);
    Ok(Answer::from(json!({ "items": items, "next": next })).into_response())
}

/// Server-sent events, numbered like the log, so that a reader that comes back says where it was.
fn follow(
    tail: BoxStream<'static, std::result::Result<Told, Down>>,
    session: SessionId,
    frames: bool,
) -> Response {
    type Ready = VecDeque<std::result::Result<String, ApiError>>;
    let start = (tail, Place::default(), Ready::new());
    let texts = stream::unfold(start, move |(mut tail, mut place, mut ready)| async move {
        loop {
            if let Some(text) = ready.pop_front() {
                return Some((text, (tail, place, ready)));
            }
            match tail.next().await? {
                Err(down) => ready.push_back(Err(down.into())),
                Ok(told) => {
                    let seq = told.seq();
                    for event in render(session, &told, &mut place, frames) {
                        let id = seq.map(|it| format!("id: {it}\n")).unwrap_or_default();
                        ready.push_back(Ok(format!("{id}data: {event}\n\n")));
                    }
                }
            }
        }
    });
    http::events(texts)
}

/// Where in the session an event is, for those that do not say so themselves.
#[derive(Debug, Default)]
pub(super) struct Place {
    turn: TurnNo,
    step: StepNo,
}

pub(super) fn render(
    session: SessionId,
    told: &Told,
    place: &mut Place,
    frames: bool,
) -> Vec<Value> {
    match told {
        Told::Append(append) => render_append(session, append, place),
        Told::Frame { seq, frame } if frames => vec![json!({
            "seq": seq,
            "kind": "frame",
            "address": format!("{session}/{}.{}", frame.attempt.turn, frame.attempt.step),
            "attempt": frame.attempt,
            "deltas": frame.deltas,
        })],
        Told::Shown(piece) if frames => vec![json!({
            "seq": null,
            "kind": "frame",
            "address": format!("{session}/{}.{}", piece.frame.attempt.turn, piece.frame.attempt.step),
            "attempt": piece.frame.attempt,
            "deltas": piece.frame.deltas,
        })],
        Told::Frame { .. } | Told::Shown(_) => Vec::new(),
    }
}

pub(super) fn render_append(session: SessionId, append: &Append, place: &mut Place) -> Vec<Value> {
    let mut rendered = Vec::with_capacity(append.events.len());
    for event in &append.events {
        note(event, place);
        let mut row = fields(event);
        row.insert("seq".into(), append.seq.into());
        row.insert("at".into(), append.at.into());
        row.insert("kind".into(), event.kind().into());
        row.insert("address".into(), address(session, place).into());
        rendered.push(Value::Object(row));
    }
    rendered
}

fn note(event: &Event, place: &mut Place) {
    match event {
        Event::TurnStarted { turn, .. } => *place = Place { turn: *turn, step: 0 },
        Event::TurnEnded { turn, .. } => *place = Place { turn: *turn, step: 0 },
        Event::StepStarted { turn, step } | Event::RetryScheduled { turn, step, .. } => {
            *place = Place { turn: *turn, step: *step };
        }
        Event::AttemptOpened { attempt, .. }
        | Event::Placed { attempt, .. }
        | Event::NotPlaced { attempt, .. }
        | Event::AttemptChosen { attempt }
        | Event::Replied { attempt, .. }
        | Event::SummedUp { attempt, .. }
        | Event::AttemptFailed { attempt, .. }
        | Event::AttemptLost { attempt, .. }
        | Event::AttemptDropped { attempt, .. }
        | Event::Sealed { attempt, .. } => {
            *place = Place { turn: attempt.turn, step: attempt.step };
        }
        _ => {}
    }
}

fn address(session: SessionId, place: &Place) -> String {
    match (place.turn, place.step) {
        (0, _) => session.to_string(),
        (turn, 0) => format!("{session}/{turn}"),
        (turn, step) => format!("{session}/{turn}.{step}"),
    }
}

/// The event's own fields. In the log an event is `{kind: {fields}}`.
fn fields(event: &Event) -> Map<String, Value> {
    let mut fields = logged(event);
    if let Event::RetryScheduled { .. } = event
        && let Some(at) = fields.remove("at")
    {
        fields.insert(AGAIN_AT.to_owned(), at);
    }
    fields
}

/// When a step is tried again. In the log this is the event's `at`; here that is the time of its row.
const AGAIN_AT: &str = "again_at";

fn logged(event: &Event) -> Map<String, Value> {
    let value = match event {
        Event::Foreign(foreign) => foreign.json.value(),
        known => serde_json::to_value(known).unwrap_or_default(),
    };
    match value {
        Value::Object(map) => match map.into_iter().next() {
            Some((_, Value::Object(fields))) => fields,
            Some((_, other)) => Map::from_iter([("value".to_owned(), other)]),
            None => Map::new(),
        },
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests;
