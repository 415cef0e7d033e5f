//! Follows one turn: hears its log, and tells it in the voice that the turn recorded.

use std::sync::Arc;

use axum::response::Response;
use everstate_dialects::responses::request::Complaint;
use everstate_dialects::responses::voice::{Voice, WireEvent};
use everstate_kernel::event::{Append, End, Event, Why};
use everstate_kernel::ids::{Seq, SessionId, StepNo, TurnNo};
use everstate_kernel::item::Body;
use everstate_kernel::state::Session;
use everstate_runtime::attend::Attendance;
use everstate_runtime::drain::Held;
use everstate_runtime::ports::Down;
use everstate_runtime::tail::Told;
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::app::App;
use crate::claim::Target;
use crate::error::{ApiError, Result, codes};
use crate::http;
use crate::ids::SessionNames;

pub(super) struct Following {
    session: SessionId,
    turn: TurnNo,
    names: SessionNames,
    voice: Voice,
    tail: BoxStream<'static, std::result::Result<Told, Down>>,
    step: StepNo,
    ended: Option<Ended>,
}

#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) step: StepNo,
}

impl Following {
    /// From before the turn's first fact on.
    pub(super) fn new(
        names: SessionNames,
        target: &Target,
        voice: &str,
        tail: BoxStream<'static, std::result::Result<Told, Down>>,
    ) -> Result<Following> {
        Ok(Following {
            session: target.session,
            turn: target.turn,
            names,
            voice: voice_of(voice, target.turn)?,
            tail,
            step: 0,
            ended: None,
        })
    }

    /// Tells the voice of calls that the turn inherits.
    pub(super) fn know(&mut self, session: &Session) {
        for entry in &session.transcript.entries {
            if entry.item.id.turn < self.turn && matches!(entry.item.body, Body::Call { .. }) {
                self.voice.know(&entry.item);
            }
        }
    }

    /// A turn that was begun by the append `started`, for somebody who comes later. `live`: what is shown and not kept
    /// is told as it comes.
    pub(super) async fn late(
        app: &Arc<App>,
        mut names: SessionNames,
        target: &Target,
        started: Seq,
        live: bool,
    ) -> Result<Following> {
        let host = &app.side(target.memory).host;
        let session = host.look(target.session).await.ok();
        if let Some(about) = session.as_ref().and_then(|it| it.about.as_ref()) {
            names = app.names(about);
        }
        let voice =
            recorded_voice(&host.rows(target.session, started - 1, started).await?, target.turn)?;
        let tail = match live {
            true => host.tail(target.session, started - 1),
            false => host.tail_kept(target.session, started - 1),
        };
        let mut following = Following::new(names, target, &voice, tail)?;
        if let Some(session) = &session {
            following.know(session);
        }
        Ok(following)
    }

    /// What comes next; `None` after the turn's end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<WireEvent>>> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let Some((_, events)) = self.hear().await? else { return Ok(None) };
        Ok(Some(events))
    }

    async fn hear(&mut self) -> Result<Option<(Option<Seq>, Vec<WireEvent>)>> {
        let told = match self.tail.next().await {
            Some(told) => told?,
            None => {
                let text = format!("{} was deleted meanwhile", self.session);
                return Err(ApiError::new(&codes::NOT_FOUND, text));
            }
        };
        let seq = told.seq();
        let events = match &told {
            Told::Append(append) => {
                self.note(append);
                self.voice.hear_append(&self.names, append)
            }
            Told::Frame { frame, .. } => self.voice.hear_frame(&self.names, frame),
            Told::Shown(piece) => self.voice.hear_frame(&self.names, &piece.frame),
        };
        Ok(Some((seq, events)))
    }

    fn note(&mut self, append: &Append) {
        for event in &append.events {
            match event {
                Event::StepStarted { turn, step } if *turn == self.turn => self.step = *step,
                Event::TurnEnded { turn, end } if *turn == self.turn => {
                    self.ended = Some(Ended { end: end.clone(), step: self.step });
                }
                _ => {}
            }
        }
    }

    /// Hears what is in the log up to and including this row.
    pub(super) async fn hear_through(&mut self, through: Seq) -> Result<()> {
        while self.ended.is_none() {
            if let Some((Some(seq), _)) = self.hear().await?
                && seq >= through
            {
                break;
            }
        }
        Ok(())
    }

    /// Did it end because nobody waited for it, as far as its node knew?
    pub(super) fn was_lost(&self) -> bool {
        self.ended.as_ref().is_some_and(|it| it.end == End::Cancelled(Why::CallerLost))
    }

    pub(super) async fn hear_all(&mut self) -> Result<Ended> {
        loop {
            if let Some(ended) = &self.ended {
                return Ok(ended.clone());
            }
            self.hear().await?;
        }
    }

    /// The response as it stands.
    pub(super) fn response(&self) -> String {
        self.voice.response(&self.names).to_string()
    }
}

pub(super) fn voice_of(revision: &str, turn: TurnNo) -> Result<Voice> {
    Voice::new(revision, turn).ok_or_else(|| {
        let text =
            format!("this turn was told in the voice `{revision}`, which this door does not speak");
        ApiError::new(&codes::NOT_FOUND, text)
    })
}

/// The voice in which a turn is told, from the append that began it.
pub(super) fn recorded_voice(rows: &[Told], turn: TurnNo) -> Result<String> {
    let started = |event: &Event| match event {
        Event::TurnStarted { turn: no, terms, .. } if *no == turn => Some(terms.voice.clone()),
        _ => None,
    };
    rows.iter()
        .filter_map(|it| match it {
            Told::Append(append) => append.events.iter().find_map(started),
            Told::Frame { .. } | Told::Shown(_) => None,
        })
        .next()
        .ok_or_else(|| {
            ApiError::new(&codes::INTERNAL, "the turn's first fact is not where it should be")
        })
}

/// A caller that a foreground turn is answered to. A shutdown waits for it.
pub(super) struct Waiting {
    pub(super) attendance: Attendance,
    pub(super) _held: Held,
}

/// The turn has ended under its caller: with its node, or because that one gave it no more time. What it did is on the
/// log, and a repeat of the request is answered by what became of it.
pub(super) fn lost(session: SessionId, turn: TurnNo) -> ApiError {
    let text = format!("the node that worked on {session}/{turn} is gone, and the turn with it");
    Down(text).into()
}

/// The turn as server-sent events, leaving out those up to `starting_after`.
pub(super) fn sse(
    following: Following,
    waiting: Option<Waiting>,
    starting_after: Option<u64>,
) -> Response {
    struct Telling {
        following: Following,
        waiting: Option<Waiting>,
        /// The number of the next event.
        n: u64,
        starting_after: Option<u64>,
        over: bool,
    }
    let telling = Telling { following, waiting, n: 0, starting_after, over: false };
    let texts = stream::unfold(telling, |mut it| async move {
        while !it.over {
            let mut heard = it.following.next().await;
            if it.following.was_lost()
                && let Some(waiting) = &mut it.waiting
            {
                // Never as if it had ended by itself.
                waiting.attendance.answered();
                heard = Err(lost(it.following.session, it.following.turn));
            }
            let heard = match heard {
                Ok(heard) => heard,
                Err(err) => {
                    it.over = true;
                    if let Some(waiting) = it.waiting.take() {
                        waiting.attendance.cut_off();
                    }
                    return Some((vec![Err(err)], it));
                }
            };
            let Some(events) = heard else {
                it.over = true;
                if let Some(waiting) = &mut it.waiting {
                    waiting.attendance.answered();
                }
                return Some((vec![Ok("data: [DONE]\n\n".to_owned())], it));
            };
            let mut texts = Vec::with_capacity(events.len());
            for event in events {
                let n = it.n;
                it.n += 1;
                if it.starting_after.is_none_or(|after| n > after) {
                    texts.push(Ok(format!("event: {}\ndata: {}\n\n", event.event, event.data)));
                }
            }
            if !texts.is_empty() {
                return Some((texts, it));
            }
        }
        None
    });
    http::events(texts.flat_map(stream::iter))
}

pub(crate) fn complaint(complaint: Complaint) -> ApiError {
    let not_json = complaint.param.is_none() && complaint.code.is_none();
    let row = match complaint.code {
        _ if not_json => &codes::INVALID_JSON,
        Some("unsupported") => &codes::UNSUPPORTED,
        Some(_) | None => &codes::INVALID_VALUE,
    };
    let mut error = ApiError::new(row, complaint.message);
    if let Some(param) = complaint.param {
        error = error.param(param);
    }
    match complaint.code {
        Some(code) => error.word(code),
        None => error,
    }
}
