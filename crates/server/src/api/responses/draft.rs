//! What a request would begin: which session, which turn, and with what. Nothing is written yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use everstate_dialects::Names;
use everstate_dialects::responses::request::CreateRequest;
use everstate_dialects::responses::voice;
use everstate_kernel::agent::Agent;
use everstate_kernel::fork;
use everstate_kernel::ids::{CallId, Seq, SessionId, TurnNo};
use everstate_kernel::input::{Begin, Caller, Calls, Create, TurnTerms, Visible, WhenBusy};
use everstate_kernel::json::Json;
use everstate_kernel::state::{CallState, Session};
use everstate_kernel::tool::{Runs, Safety, Tool};
use everstate_runtime::host::FeedError;
use everstate_runtime::tail::Told;
use tokio::sync::MutexGuard;

use super::{DOOR, delete, resolve, support, tools};
use crate::app::App;
use crate::claim::Target;
use crate::error::{ApiError, Result, codes, shown};
use crate::ids::{Kind, SessionNames};
use crate::keys::Principal;
use crate::refuse;
use crate::retention::rules::Rules;

/// The dialect of this door.
const DIALECT: &str = "responses";

pub(super) struct Draft<'a> {
    pub(super) target: Target,
    pub(super) names: SessionNames,
    pub(super) create: Option<Create>,
    pub(super) begin: Begin,
    /// The session's last row before this.
    pub(super) after: Seq,
    /// Calls that the session was left with.
    pub(super) open: Vec<(CallId, CallState)>,
    /// What is continued in place.
    pub(super) session: Option<Arc<Session>>,
    /// As long as this is held, nothing else is begun in a session that is continued.
    pub(super) _alone: Option<MutexGuard<'a, ()>>,
}

/// `again`: what an earlier try of the same request was given, and may still be about to begin. A session that this one
/// would make is given the same name, so that one of the two is made.
pub(super) async fn draft<'a>(
    app: &'a Arc<App>,
    who: &Principal,
    request: &CreateRequest,
    again: Option<&Target>,
) -> Result<Draft<'a>> {
    support::supported(request)?;
    if Rules::of(&app.settings.file.projects, &who.project).is_zero {
        support::kept_by_nobody(request)?;
    }
    app.stall.want(&request.model).await?;
    let tools = tools::resolve(&app.menu, &request.tools)?;
    support::served(&app.stall.offers(), &request.model, &tools)?;
    let base = match &request.previous_response_id {
        Some(id) => Some(base(app, who, id).await?),
        None => None,
    };
    let memory = !request.store;
    let in_place = base.as_ref().is_some_and(|it| it.in_place && !memory);
    let (session, turn, create, names, after);
    match &base {
        Some(base) if in_place => {
            let about = App::about(&base.session)?;
            (session, turn) = (about.id, base.session.live.turn_no + 1);
            (names, after) = (app.names(about), base.session.head);
            create = None;
        }
        Some(base) => {
            let inheritance = fork::inherit(&base.session)
                .ok_or_else(|| ApiError::new(&codes::INTERNAL, "the parent was never created"))?;
            turn = inheritance.turn_no + 1;
            let parent = App::about(&base.session)?.id;
            session = fresh(app, again, turn, memory, Some(parent));
            names =
                SessionNames::new(&app.naming, &who.project, session, inheritance.lineage.clone());
            after = 0;
            create = Some(new(app, who, session, Some(inheritance), memory));
        }
        None => {
            turn = 1;
            session = fresh(app, again, turn, memory, None);
            names = SessionNames::new(&app.naming, &who.project, session, Vec::new());
            after = 0;
            create = Some(new(app, who, session, None, memory));
        }
    }
    let from = base.as_ref().map(|it| resolve::From { then: &it.session, now: &it.now, in_place });
    let said = resolve::resolve(app, who, &request.input, from).await?;
    let open = match &base {
        Some(base) => base.session.live.calls.iter().map(|(id, it)| (*id, it.state)).collect(),
        None => Vec::new(),
    };
    let target = Target { session, turn, memory, risky: risky(&tools) };
    let begin = Begin {
        items: said.items,
        answers: said.answers,
        approvals: said.approvals,
        terms: terms(app, request, tools),
        when_busy: WhenBusy::Refuse,
    };
    let (session, _alone) = match base {
        Some(base) if in_place => (Some(base.session), base.alone),
        Some(_) | None => (None, None),
    };
    Ok(Draft { target, names, create, begin, after, open, session, _alone })
}

fn fresh(
    app: &App,
    again: Option<&Target>,
    turn: TurnNo,
    memory: bool,
    parent: Option<SessionId>,
) -> SessionId {
    let same =
        again.filter(|it| it.turn == turn && it.memory == memory && Some(it.session) != parent);
    same.map_or_else(|| app.new_session(memory), |it| it.session)
}

fn new(
    app: &App,
    who: &Principal,
    id: SessionId,
    inheritance: Option<fork::Inheritance>,
    memory: bool,
) -> Create {
    Create {
        id,
        project: who.project.to_string(),
        door: DOOR.to_owned(),
        named: false,
        metadata: None,
        inheritance,
        epoch: app.epoch(memory),
    }
}

fn terms(app: &App, request: &CreateRequest, tools: Vec<Tool>) -> TurnTerms {
    let mut limits = app.settings.limits();
    if let Some(max) = request.max_tool_calls {
        limits.calls_max = limits.calls_max.min(max);
    }
    let tool_choice = tools::choice(&request.tool_choice, &tools);
    TurnTerms {
        agent: Arc::new(Agent {
            model: request.model.clone(),
            instructions: request.instructions.clone(),
            tools,
            tool_choice,
            sampling: request.sampling.clone(),
            extra: extra(request),
        }),
        limits,
        constraints: app.settings.constraints(),
        calls: Calls::Return,
        visible: Visible::AsItGoes,
        caller: if request.background { Caller::Detached } else { Caller::Attached },
        resumable: request.background && request.stream,
        voice: voice::REVISION.to_owned(),
        echo: Some(request.echo.clone()),
        trace: None,
        remind_every_ms: None,
        compact: None,
        by: None,
    }
}

/// What we do not act on goes where its dialect is spoken.
fn extra(request: &CreateRequest) -> BTreeMap<String, BTreeMap<String, Json>> {
    let mut extra = BTreeMap::new();
    if !request.extra.is_empty() {
        extra.insert(DIALECT.to_owned(), request.extra.clone());
    }
    extra
}

fn risky(tools: &[Tool]) -> bool {
    tools.iter().any(|it| match &it.runs {
        Runs::Server(server) => server.safety != Safety::ReadOnly,
        Runs::Client | Runs::Provider { .. } => false,
    })
}

/// What is continued from.
struct Base<'a> {
    /// As it stood when the response had ended.
    session: Arc<Session>,
    /// As it stands.
    now: Arc<Session>,
    /// The response is the last thing in a session that may be continued as it is.
    in_place: bool,
    alone: Option<MutexGuard<'a, ()>>,
}

async fn base<'a>(app: &'a Arc<App>, who: &Principal, id: &str) -> Result<Base<'a>> {
    let missing = || {
        ApiError::new(
            &codes::PREVIOUS_RESPONSE_NOT_FOUND,
            format!("Previous response with id '{}' not found.", shown(id)),
        )
        .param("previous_response_id")
    };
    let name = app.naming.read(&who.project, id).filter(|it| it.kind == Kind::Response);
    let name = name.ok_or_else(missing)?;
    let alone = app.gates.session(name.session).await;
    let session = match app.durable.host.look(name.session).await {
        Ok(session) => session,
        Err(FeedError::NotFound) => return Err(missing()),
        Err(err) => return Err(refuse::feed(err, name.session)),
    };
    if delete::is_deleted(app, who, name.session, name.turn).await? {
        return Err(missing());
    }
    let (ended, is_last) = match session.transcript.turns.get(&name.turn) {
        Some(past) => (past.ended, session.live.turn_no == name.turn),
        // What the session had said when it was carried here ends with its first row.
        None if carried(&session) == Some(name.turn) => {
            (Some(1), session.transcript.turns.is_empty())
        }
        None => return Err(missing()),
    };
    let Some(ended) = ended else {
        return Err(ApiError::new(
            &codes::PREVIOUS_RESPONSE_UNFINISHED,
            format!("Previous response with id '{}' is still in progress.", shown(id)),
        )
        .param("previous_response_id")
        .why("a conversation goes on from where it stands, and this does not stand yet")
        .attempt("wait for its end, or cancel it"));
    };
    if is_last {
        let named = session.about.as_ref().is_some_and(|it| it.named);
        return Ok(Base { now: session.clone(), session, in_place: !named, alone: Some(alone) });
    }
    let earlier = fold(app, name.session, ended).await?;
    Ok(Base { session: Arc::new(earlier), now: session, in_place: false, alone: None })
}

/// The last turn of an imported session that was begun elsewhere.
fn carried(session: &Session) -> Option<TurnNo> {
    let origin = session.about.as_ref()?.origin.as_ref()?;
    origin.renamed.last().map(|it| it.through)
}

/// The session as it stood after this row.
pub(crate) async fn fold(app: &App, session: SessionId, through: Seq) -> Result<Session> {
    let rows = app.durable.host.rows(session, 0, through).await?;
    let appends = rows.iter().filter_map(|it| match it {
        Told::Append(append) => Some(&**append),
        Told::Frame { .. } | Told::Shown(_) => None,
    });
    Ok(Session::replay(appends))
}

/// Says which of the calls that stand open need what.
pub(super) fn unanswered(
    open: &[(CallId, CallState)],
    names: &SessionNames,
    calls: &[CallId],
    session: SessionId,
) -> ApiError {
    let waits = |call: &CallId| {
        open.iter()
            .any(|(id, state)| id == call && matches!(state, CallState::AwaitingApproval { .. }))
    };
    // Calls of turn 0 are history that the request itself tells.
    match calls.iter().find(|it| !waits(it)) {
        Some(call) if call.turn == 0 => ApiError::new(
            &codes::CALL_UNANSWERED,
            format!("No tool output found for function call number {} of the input.", call.n),
        )
        .param("input"),
        Some(call) => ApiError::new(
            &codes::CALL_UNANSWERED,
            format!("No tool output found for function call {}.", names.call(*call)),
        )
        .param("input")
        .address(session),
        None => {
            let which: Vec<String> = calls.iter().map(|it| names.approval(*it)).collect();
            let text = format!("No approval response found for {}.", which.join(", "));
            ApiError::new(&codes::APPROVAL_MISSING, text)
                .param("input")
                .why("the call waits for a person; nothing can be said before it is answered")
                .address(session)
        }
    }
}

/// A turn, as this door calls it.
pub(crate) fn turn_name(names: &SessionNames, turn: TurnNo) -> String {
    names.turn(turn)
}
