//! What a request would begin: with which agent, and on which terms. Nothing is written yet.

use std::sync::Arc;

use everstate_dialects::agents::config::{AgentConfig, Review, SessionDoc};
use everstate_dialects::agents::request::CreateSession;
use everstate_dialects::agents::voice;
use everstate_kernel::ids::Millis;
use everstate_kernel::ids::SessionId;
use everstate_kernel::input::{
    Begin, Caller, Calls, Compact, Configure, NewItem, TurnTerms, Visible, WhenBusy,
};
use everstate_kernel::json::Json;
use everstate_kernel::money::Micros;
use everstate_kernel::tool::{Runs, Tool, ToolChoice};
use serde::Deserialize;

use super::{index, vaults};
use crate::api::responses::{complaint, tools as own_tools};
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::keys::Principal;

/// Saved agents, in the registry.
pub(super) const AGENT: &str = "agent";

/// How often a model is told the time, where its agent wants that.
const REMIND_EVERY_MS: Millis = 10 * 60_000;

const MICROS_A_CENT: Micros = 10_000;

/// A saved agent, as far as a session takes it over.
#[derive(Debug, Deserialize)]
struct Saved {
    config: AgentConfig,
    version: u64,
}

/// The document of the session that a request wants. `session` is the name it will have.
pub(super) async fn document(
    app: &Arc<App>,
    who: &Principal,
    request: &CreateSession,
    session: SessionId,
) -> Result<SessionDoc> {
    let (agent_id, agent_version, mut agent) = match &request.agent_id {
        Some(id) => {
            let saved = saved(app, who, id).await?;
            (id.clone(), Some(saved.version), saved.config)
        }
        None => {
            let model = request.agent.model.clone().unwrap_or_default();
            (inline_agent(session), None, AgentConfig::new(model))
        }
    };
    agent.merge(&request.agent);
    vaults::check(app, who, &request.vault_ids).await?;
    Ok(SessionDoc {
        agent_id,
        agent_version,
        agent: agent.in_session(),
        environment: request.environment,
        vault_ids: request.vault_ids.clone(),
        prompt_cache_options: request.prompt_cache_options.clone(),
        review: request.review,
        spend_limit_cents: request.spend_limit_cents,
    })
}

async fn saved(app: &Arc<App>, who: &Principal, id: &str) -> Result<Saved> {
    let missing = || {
        ApiError::new(&codes::NOT_FOUND, format!("Agent with id '{}' not found.", shown(id)))
            .param("agent_id")
    };
    let found = app.registry.get(&who.project, AGENT, id).await?.ok_or_else(missing)?;
    serde_json::from_slice(&found.body).map_err(|err| {
        ApiError::new(&codes::INTERNAL, format!("the agent's document cannot be read: {err}"))
    })
}

const AGENT_PREFIX: &str = "agent_";
const SESSION_PREFIX: &str = "ses_";

/// An agent that was written out with its session is named after it.
fn inline_agent(session: SessionId) -> String {
    let text = session.to_string();
    format!("{AGENT_PREFIX}{}", text.strip_prefix(SESSION_PREFIX).unwrap_or(&text))
}

/// The session whose own agent this would be.
pub(super) fn session_of_agent(agent: &str) -> Option<SessionId> {
    format!("{SESSION_PREFIX}{}", agent.strip_prefix(AGENT_PREFIX)?).parse().ok()
}

/// What the session's agent may call, or what it cannot have.
pub(super) fn tools(app: &App, doc: &SessionDoc) -> Result<Vec<Tool>> {
    let specs = doc.agent.tool_specs("agent").map_err(complaint)?;
    own_tools::resolve(&app.menu, &specs)
}

pub(super) fn micros(cents: u64) -> Micros {
    cents.saturating_mul(MICROS_A_CENT)
}

/// What the kernel is told of a new session.
pub(super) fn configure(doc: &SessionDoc) -> Configure {
    Configure {
        settings: Some(doc.json()),
        spend_max: doc.spend_limit_cents.map(|it| Some(micros(it))),
        ..Configure::default()
    }
}

/// What a fork of such a session is told of itself, having been entered into the lists. An agent that was written out
/// with its session is named after the fork.
pub(crate) async fn forked(
    app: &App,
    who: &Principal,
    session: SessionId,
    mut doc: SessionDoc,
    metadata: &index::Pairs,
) -> Result<Configure> {
    if doc.agent_version.is_none() {
        doc.agent_id = inline_agent(session);
    }
    index::enter(app, &who.project, session, &doc, metadata).await?;
    Ok(Configure { settings: Some(doc.json()), ..Configure::default() })
}

/// Something that is said: it begins a turn, or is heard by the one that runs.
pub(super) fn begin(
    app: &App,
    who: &Principal,
    doc: &SessionDoc,
    items: Vec<NewItem>,
    trace: Option<String>,
) -> Result<Begin> {
    let by = Some(app.limits.by(who));
    Ok(Begin {
        items,
        answers: Vec::new(),
        approvals: Vec::new(),
        terms: TurnTerms { by, ..terms(app, doc, trace)? },
        when_busy: WhenBusy::Steer,
    })
}

/// The terms of a turn that the session begins by itself.
pub(crate) fn terms(app: &App, doc: &SessionDoc, trace: Option<String>) -> Result<TurnTerms> {
    let mut agent = doc.agent.kernel(doc.prompt_cache_options.as_ref());
    agent.tools = tools(app, doc)?;
    agent.tool_choice = reviewed(doc.review, &agent.tools);
    Ok(TurnTerms {
        agent: Arc::new(agent),
        limits: app.settings.limits(),
        constraints: app.settings.constraints(),
        calls: Calls::Hold,
        visible: Visible::AsItGoes,
        caller: Caller::Detached,
        resumable: true,
        voice: voice::REVISION.to_owned(),
        echo: doc.prompt_cache_options.as_ref().map(Json::of),
        trace,
        remind_every_ms: doc.agent.experimental.time_awareness.then_some(REMIND_EVERY_MS),
        compact: compact(app, &doc.agent.model),
        by: None,
    })
}

/// A session is summed up when it fills most of what the roomiest offer of its model takes. The other offers are out of
/// reach by then, as placing sees to.
fn compact(app: &App, model: &str) -> Option<Compact> {
    let offers = app.stall.offers();
    let rooms = offers.list.iter().filter(|it| it.model == model).map(|it| it.context_tokens);
    rooms.max().map(|room| Compact { at_tokens: room - room / COMPACT_PART })
}

/// The part of the room that is left for the summary and for the step after it.
const COMPACT_PART: u64 = 5;

/// Where nobody is to be asked, what would ask is denied.
fn reviewed(review: Review, tools: &[Tool]) -> ToolChoice {
    let asks = |it: &Tool| matches!(&it.runs, Runs::Server(server) if server.approval);
    if review == Review::None || !tools.iter().any(asks) {
        return ToolChoice::Auto;
    }
    let names = tools.iter().filter(|it| !asks(it)).map(|it| it.name.clone()).collect();
    ToolChoice::Allowed { names, required: false }
}
