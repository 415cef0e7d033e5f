//! A session and its turns as the API tells them, read off a kernel session. Items are in `item`.

pub(crate) mod item;

use everstate_kernel::event::End;
use everstate_kernel::ids::{CallId, TurnNo};
use everstate_kernel::json::Json;
use everstate_kernel::money::Usage;
use everstate_kernel::state::{CallState, Session};
use everstate_kernel::tool::Runs;

use crate::Names;
use crate::agents::config::{AgentConfig, Environment, Review, SessionDoc};
use crate::agents::error::Trouble;
use crate::agents::object::item::arguments_json;
use crate::json::{Obj, array};

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    InProgress,
    /// Somebody has to answer calls or approvals first.
    RequiresAction,
    /// It was parked: it cannot go on.
    Failed,
    /// Its turn waits for a higher spending limit.
    BudgetReached,
}

impl Status {
    pub fn of(session: &Session) -> Status {
        let live = &session.live;
        let paused = live.turn.as_ref().is_some_and(|it| it.paused.is_some());
        if live.parked.is_some() {
            Status::Failed
        } else if paused {
            Status::BudgetReached
        } else if actions(session).next().is_some() {
            Status::RequiresAction
        } else if live.turn.is_some() {
            Status::InProgress
        } else {
            Status::Idle
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Status::Idle => "idle",
            Status::InProgress => "in_progress",
            Status::RequiresAction => "requires_action",
            Status::Failed => "failed",
            Status::BudgetReached => "budget_reached",
        }
    }
}

/// The calls that wait for somebody outside.
pub(crate) fn actions(session: &Session) -> impl Iterator<Item = CallId> {
    session.live.calls.iter().filter(|(_, it)| is_outside(it.state)).map(|(id, _)| *id)
}

fn is_outside(state: CallState) -> bool {
    match state {
        CallState::WithClient | CallState::AwaitingApproval { .. } => true,
        CallState::Asked | CallState::Approved | CallState::Started => false,
    }
}

/// The session object. A session that was never created has none.
pub fn session(names: &dyn Names, session: &Session) -> Option<Json> {
    let about = session.about.as_ref()?;
    let live = &session.live;
    let doc = doc(session);
    let mut out = Obj::new();
    out.str("id", &names.session()).str("object", "agent.session");
    out.raw("agent", &agent(&doc));
    out.num("created_at", about.created_at / 1000);
    out.raw("environment", environment(doc.environment));
    out.str_or_null("error", live.parked.as_deref());
    out.num("last_active_at", live.last_at / 1000);
    out.raw("metadata", about.metadata.as_ref().map_or("{}", Json::text));
    out.raw(
        "required_actions",
        &array(actions(session).filter_map(|it| action(names, session, it))),
    );
    out.str("status", Status::of(session).word());
    out.raw("usage", &usage(&live.usage));
    out.raw("vault_ids", Json::of(&doc.vault_ids).text());
    if let Some(cache) = &doc.prompt_cache_options {
        out.raw("prompt_cache_options", Json::of(cache).text());
    }
    if doc.review == Review::AutoReview {
        out.str("review", "auto_review");
    }
    let mut spend = Obj::new();
    spend.num("consumed", live.spent / MICROS_A_CENT);
    match doc.spend_limit_cents {
        Some(cents) => spend.num("limit", cents),
        None => spend.null("limit"),
    };
    out.raw("spend_control", &spend.text());
    Some(out.json())
}

const MICROS_A_CENT: u64 = 10_000;

/// What a session was made with. One that was made through another door has no such document: it is told as if its
/// last model had been written out with it.
fn doc(session: &Session) -> SessionDoc {
    let settings = session.about.as_ref().and_then(|it| it.settings.as_ref());
    let model = || match &session.live.turn {
        Some(turn) => turn.terms.agent.model.clone(),
        None => {
            let last = session.transcript.turns.values().next_back();
            last.map(|it| it.model.clone()).unwrap_or_default()
        }
    };
    settings.and_then(SessionDoc::read).unwrap_or_else(|| SessionDoc {
        agent_id: String::new(),
        agent_version: None,
        agent: AgentConfig::new(model()),
        environment: Environment::None,
        vault_ids: Vec::new(),
        prompt_cache_options: None,
        review: Review::None,
        spend_limit_cents: None,
    })
}

fn environment(environment: Environment) -> &'static str {
    match environment {
        Environment::None => r#"{"type":"none"}"#,
    }
}

/// The agent as its session tells it.
fn agent(doc: &SessionDoc) -> String {
    let mut out = Obj::new();
    out.str("id", &doc.agent_id);
    write_config(&mut out, &doc.agent);
    out.text()
}

/// What an agent's object and the agent of a session have in common. Metadata is an agent's own, and left to its object.
pub(crate) fn write_config(out: &mut Obj, config: &AgentConfig) {
    let AgentConfig {
        model,
        instructions,
        name,
        metadata: _,
        tools,
        reasoning,
        text,
        service_tier,
        multi_agent,
        compaction,
        experimental,
    } = config;
    out.str_or_null("instructions", instructions.as_deref());
    out.str("model", model);
    let mut subagents = Obj::new();
    subagents.bool("enabled", multi_agent.enabled);
    match multi_agent.max_concurrent_subagents {
        Some(max) => subagents.num("max_concurrent_subagents", max.into()),
        None => subagents.null("max_concurrent_subagents"),
    };
    out.raw("multi_agent", &subagents.text());
    out.str_or_null("name", name.as_deref());
    let mut thinking = Obj::new();
    thinking.str_or_null("effort", reasoning.effort.as_deref());
    thinking.str_or_null("summary", reasoning.summary.as_deref());
    out.raw("reasoning", &thinking.text());
    out.str("service_tier", service_tier);
    let mut format = Obj::new();
    match &text.schema {
        Some(schema) => format.str("type", "json_schema").raw("schema", schema.text()),
        None => format.str("type", "text"),
    };
    let mut words = Obj::new();
    words.raw("format", &format.text()).str("verbosity", &text.verbosity);
    out.raw("text", &words.text());
    out.raw("tools", &array(tools.iter().map(Json::text)));
    out.raw("compaction", Json::of(compaction).text());
    out.raw("experimental", Json::of(experimental).text());
}

fn action(names: &dyn Names, session: &Session, id: CallId) -> Option<String> {
    let call = session.live.calls.get(&id)?;
    let turn_id = names.session_turn(id.turn);
    let arguments = arguments_json(&call.arguments);
    let mut out = Obj::new();
    match (&call.state, &call.runs) {
        (CallState::AwaitingApproval { .. }, Runs::Server(server)) => {
            let mut request = Obj::of_kind("mcp_tool_call");
            request.raw("arguments", &arguments);
            let message = format!("Allow the agent to call `{}` of `{}`?", call.name, server.label);
            request.str("message", &message).str("name", &call.name);
            request.str("server_label", &server.label);
            out.str("type", "mcp_approval_request").str("request_id", &names.approval(id));
            out.str("turn_id", &turn_id).raw("request", &request.text());
        }
        _ => {
            out.str("type", "function_call").str("call_id", &names.call(id));
            out.str("turn_id", &turn_id).str("name", &call.name).raw("arguments", &arguments);
        }
    }
    Some(out.text())
}

pub(crate) fn usage(usage: &Usage) -> String {
    let mut input = Obj::new();
    input.num("cached_tokens", usage.cached);
    let mut output = Obj::new();
    output.num("reasoning_tokens", usage.reasoning);
    let mut out = Obj::new();
    out.num("input_tokens", usage.input).raw("input_tokens_details", &input.text());
    out.num("output_tokens", usage.output).raw("output_tokens_details", &output.text());
    out.num("total_tokens", usage.tokens());
    out.text()
}

/// The turn object; `None` if the session never had this turn.
pub fn turn(names: &dyn Names, session: &Session, no: TurnNo) -> Option<Json> {
    let past = session.transcript.turns.get(&no)?;
    let running = session.live.turn.as_ref().filter(|it| it.no == no);
    let (status, used) = match (&past.end, running) {
        (Some(End::Completed), _) => ("completed", past.usage),
        (Some(End::Failed { .. } | End::Incomplete(_)), _) => ("failed", past.usage),
        (Some(End::Cancelled(_) | End::Steered), _) => ("cancelled", past.usage),
        (None, Some(turn)) => {
            let waits = turn.paused.is_some() || actions(session).next().is_some();
            let begun = turn.step > 0 || turn.sums_made > 0;
            let status = match begun {
                _ if waits => "waiting",
                true => "in_progress",
                false => "queued",
            };
            (status, turn.usage)
        }
        (None, None) => ("queued", past.usage),
    };
    let mut out = Obj::new();
    out.str("id", &names.session_turn(no)).str("object", "agent.session.turn");
    out.str("agent_id", &doc(session).agent_id);
    match past.ended_at {
        Some(at) => out.num("completed_at", at / 1000),
        None => out.null("completed_at"),
    };
    out.num("created_at", past.started_at / 1000);
    match past.end.as_ref().and_then(Trouble::of_end) {
        Some(trouble) => out.raw("error", &trouble.turn_json()),
        None => out.null("error"),
    };
    out.str("session_id", &names.session());
    match status {
        "queued" => out.null("started_at"),
        _ => out.num("started_at", past.started_at / 1000),
    };
    // Clients tell a root turn by this being null, not absent.
    out.str("status", status).null("subagent_id").raw("usage", &usage(&used));
    Some(out.json())
}
