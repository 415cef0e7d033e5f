//! A session's events as a stream: live, from an event on, or from the session's making on.
//!
//! A live stream tells what happens after it was asked for, and nothing older: clients take the first turn they hear
//! of for the one they are about to begin. It is answered at once, because they wait for that before they begin it.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use everstate_dialects::agents::voice::{AgentEvent, EventKey, SessionVoice};
use everstate_runtime::ports::Down;
use everstate_runtime::tail::Told;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde::Deserialize;

use super::sessions::{Found, find};
use crate::api::responses::fold;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{self, Id, Params};
use crate::ids::SessionNames;
use crate::keys::Principal;

#[derive(Debug, Deserialize)]
pub(super) struct How {
    /// Tell what came after this event, then go on.
    after: Option<String>,
    include_obfuscation: Option<bool>,
}

pub(super) async fn follow(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(how): Params<How>,
) -> Result<Response> {
    let found = find(&app, &who, &id).await?;
    let after = match &how.after {
        Some(text) => Some(read_after(&found, text)?),
        None => None,
    };
    let voice = match after {
        None => SessionVoice::of(&found.session),
        Some(key) if key.seq > found.session.head => SessionVoice::of(&found.session),
        Some(key) => SessionVoice::of(&fold(&app, found.id, key.seq - 1).await?),
    };
    let telling = Telling {
        tail: app.durable.host.tail(found.id, voice.hears_after()),
        voice,
        after,
        names: found.names,
        padded: how.include_obfuscation.unwrap_or(true),
        // Whoever follows by our cursor reads on past what has been.
        ends: if after.is_none() { &PAUSES } else { &[] },
    };
    Ok(http::of_session(telling.response(), found.id))
}

fn read_after(found: &Found, text: &str) -> Result<EventKey> {
    let key = found.names.read_event(text).map(|(seq, n)| EventKey { seq, n });
    key.ok_or_else(|| {
        let text = format!("Invalid 'after': '{}' is no event of this session.", shown(text));
        ApiError::new(&codes::INVALID_VALUE, text).param("after")
    })
}

/// Everything that a new session has to tell, until its first turn is over.
pub(super) fn from_the_start(app: &App, found: &Found, padded: bool) -> Response {
    let telling = Telling {
        tail: app.durable.host.tail(found.id, 0),
        voice: SessionVoice::new(),
        after: None,
        names: found.names.clone(),
        padded,
        ends: &LAST,
    };
    telling.response()
}

/// What clients of a new session's stream wait for.
const LAST: [&str; 3] =
    ["agent.session.idle", "agent.session.failed", "agent.session.budget_reached"];

/// What live followers wait for that some of them cannot read: it says nothing to them, the end of the body does.
const PAUSES: [&str; 1] = ["agent.session.budget_reached"];

struct Telling {
    tail: BoxStream<'static, std::result::Result<Told, Down>>,
    voice: SessionVoice,
    names: SessionNames,
    after: Option<EventKey>,
    padded: bool,
    /// With which events it ends.
    ends: &'static [&'static str],
}

impl Telling {
    fn response(self) -> Response {
        type Ready = VecDeque<AgentEvent>;
        let start = (Some(self), Ready::new());
        let texts = stream::unfold(start, |(telling, mut ready)| async move {
            let mut telling = telling?;
            loop {
                if let Some(event) = ready.pop_front() {
                    let is_last = telling.ends.contains(&event.event);
                    let text = telling.text(&event);
                    return Some((Ok(text), ((!is_last).then_some(telling), ready)));
                }
                match telling.tail.next().await? {
                    Ok(told) => ready.extend(telling.hear(&told)),
                    // Broken off, so that nobody takes it for the end.
                    Err(down) => return Some((Err(ApiError::from(down)), (None, ready))),
                }
            }
        });
        http::events(texts)
    }

    fn hear(&mut self, told: &Told) -> Vec<AgentEvent> {
        let mut events = match told {
            Told::Append(append) => self.voice.hear_append(&self.names, append),
            Told::Frame { seq, frame } => self.voice.hear_frame(&self.names, *seq, frame),
            // Turns of this door keep their frames; what is shown without a row is told with its fact.
            Told::Shown(_) => Vec::new(),
        };
        if let Some(after) = self.after {
            events.retain(|it| it.key > after);
        }
        events
    }

    /// Only the type inside the data counts for clients; a line with an `id` would break some.
    fn text(&self, event: &AgentEvent) -> String {
        let kind = event.event;
        match self.padded {
            true => format!("event: {kind}\ndata: {}\n\n", event.padded()),
            false => format!("event: {kind}\ndata: {}\n\n", event.data),
        }
    }
}
