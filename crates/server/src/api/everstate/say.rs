//! Says something to a session, with the agent of its last turn. The turn goes on whether somebody waits or not.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use everstate_dialects::Names;
use everstate_dialects::responses::voice;
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{Seq, SessionId};
use everstate_kernel::input::{Begin, Caller, Input, NewItem, TurnTerms, WhenBusy};
use everstate_kernel::item::{Body, Part, Role};
use everstate_kernel::state::Session;
use everstate_kernel::tool::Runs;
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::tail::Told;
use serde::Deserialize;
use serde_json::json;

use super::sessions::named;
use crate::api::agents;
use crate::api::responses::turn_name;
use crate::app::App;
use crate::claim::{Asked, Target};
use crate::error::{ApiError, Result, codes};
use crate::http::{Answer, Id, Whole};
use crate::keys::Principal;
use crate::{meters, refuse, telemetry};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Say {
    text: String,
    /// Another model than the last turn's.
    model: Option<String>,
    /// Heard by a running turn at its next step, rather than refused.
    #[serde(default)]
    steer: bool,
}

pub(super) async fn say(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Answer> {
    refuse::kept_by_nobody(&app, &who)?;
    let say: Say = whole.read()?;
    let named_session = named(&app, &who, &id).await?;
    let session = App::about(&named_session)?.id;
    let path = format!("POST /everstate/v1/sessions/{session}/say");
    let asked = Asked::read(&who, &path, &headers, &whole.0)?;
    let _alone = app.gates.claim(&asked.name()).await;
    if let Some(earlier) = app.claims.earlier(&asked).await? {
        let turn = earlier.target.turn;
        let state = app.session(&who, session).await?;
        if state.transcript.turns.contains_key(&turn) {
            return told(&app, &state, turn, state.head);
        }
    }
    let _session = app.gates.session(session).await;
    let state = app.session(&who, session).await?;
    let trace = telemetry::of_request(app.telemetry.as_ref(), &headers);
    let mut terms = match agents::settings(&state) {
        Some(doc) => agents::terms(&app, &doc, trace)?,
        None => again(&app, last_terms(&app, &state).await?, trace),
    };
    terms.by = Some(app.limits.by(&who));
    if let Some(model) = &say.model {
        app.stall.want(model).await?;
        let mut agent = (*terms.agent).clone();
        agent.model.clone_from(model);
        terms.agent = Arc::new(agent);
    }
    let turn = match &state.live.turn {
        Some(running) if say.steer => running.no,
        _ => state.live.turn_no + 1,
    };
    let target = Target { session, turn, memory: false, risky: false };
    app.claims.claim(&asked, &target, None).await?;
    let begin = Begin {
        items: vec![NewItem {
            body: Body::Message { role: Role::User, parts: vec![Part::text(say.text)] },
            provider_id: None,
            extra: None,
        }],
        answers: Vec::new(),
        approvals: Vec::new(),
        terms,
        when_busy: if say.steer { WhenBusy::Steer } else { WhenBusy::Refuse },
    };
    let feed = Feed { key: Some(asked.append_key(&target)) };
    // A turn that is steered may have ended meanwhile, and another been begun: that is heard by the next one then.
    let expect = (!say.steer).then_some(Input::Expect { turn });
    let inputs = expect.into_iter().chain([Input::Begin(begin)]).collect();
    let seq = match app.durable.host.feed(session, inputs, feed).await {
        Ok(fed) => fed.seq,
        Err(FeedError::Seen(seq)) => seq,
        Err(err) => return Err(refuse::feed(err, session)),
    };
    meters::turn_begun(super::DOOR);
    let state = app.session(&who, session).await?;
    told(&app, &state, turn, seq)
}

/// The terms of an earlier turn, for another.
fn again(app: &App, terms: TurnTerms, trace: Option<String>) -> TurnTerms {
    TurnTerms {
        constraints: app.settings.constraints(),
        limits: app.settings.limits(),
        caller: Caller::Detached,
        resumable: true,
        voice: voice::REVISION.to_owned(),
        trace,
        ..terms
    }
}

fn told(app: &App, session: &Session, turn: u32, seq: Seq) -> Result<Answer> {
    let about = App::about(session)?;
    let (names, is_response) = (app.names(about), agents::settings(session).is_none());
    Ok(json!({
        "session": about.id,
        "turn": turn,
        "response": is_response.then(|| turn_name(&names, turn)),
        "turn_id": (!is_response).then(|| names.session_turn(turn)),
        "seq": seq,
    })
    .into())
}

/// The terms of the last turn that was begun before the session came here.
async fn carried_terms(app: &App, session: SessionId) -> Result<Option<TurnTerms>> {
    for piece in app.archive.pieces(session).await?.into_iter().rev() {
        for (_, row) in app.archive.piece(session, piece).await?.into_iter().rev() {
            let append = Append::decode(row.seq, &row.body).ok();
            let begun = append.into_iter().flat_map(|it| it.events).find_map(|it| match it {
                Event::TurnStarted { terms, .. } => Some(terms),
                _ => None,
            });
            if begun.is_some() {
                return Ok(begun);
            }
        }
    }
    Ok(None)
}

/// Tools that a server runs are this server's own, as they are declared here: what another installation allowed them
/// says nothing.
fn ours(app: &App, mut terms: TurnTerms) -> TurnTerms {
    let agent = Arc::make_mut(&mut terms.agent);
    let tools = std::mem::take(&mut agent.tools);
    agent.tools = tools
        .into_iter()
        .filter_map(|it| match it.runs {
            Runs::Server(_) => app.menu.all().find(|ours| ours.name == it.name).cloned(),
            Runs::Client | Runs::Provider { .. } => Some(it),
        })
        .collect();
    terms
}

/// The terms of the newest turn, of this session or of the one it was forked from.
async fn last_terms(app: &App, session: &Session) -> Result<TurnTerms> {
    if let Some(turn) = &session.live.turn {
        return Ok(turn.terms.clone());
    }
    let about = App::about(session)?;
    let own = session.transcript.turns.values().last().map(|it| (about.id, it.started));
    let (id, started) = match own {
        Some(own) => own,
        None => {
            let nothing = || {
                ApiError::new(
                    &codes::NOT_POSSIBLE,
                    "the session has no turn whose agent could go on",
                )
                .attempt("begin with POST /v1/responses")
            };
            if about.origin.is_some() {
                let carried = carried_terms(app, about.id).await?;
                return Ok(ours(app, carried.ok_or_else(nothing)?));
            }
            let parent = about.lineage.last().ok_or_else(nothing)?;
            let state = app.durable.host.look(parent.session).await.map_err(|_| nothing())?;
            let past = state.transcript.turns.range(..=parent.through).next_back();
            (parent.session, past.ok_or_else(nothing)?.1.started)
        }
    };
    let rows = app.durable.host.rows(id, started - 1, started).await?;
    let terms = rows.into_iter().find_map(|it| match it {
        Told::Append(append) => append.events.iter().find_map(|it| match it {
            Event::TurnStarted { terms, .. } => Some(terms.clone()),
            _ => None,
        }),
        Told::Frame { .. } | Told::Shown(_) => None,
    });
    terms.ok_or_else(|| {
        ApiError::new(&codes::INTERNAL, "the turn's first fact is not where it should be")
    })
}
