//! Stops what runs: one session's turn, an agent's, a project's, all. And keeps new turns from beginning, until that is
//! lifted.
//!
//! What runs is found by the store's own index. A turn ends as by a cancel: in its log, whoever owns it, also while it
//! waits for its client or a person. Each node is asked to end its own, because that is quick, and because sessions that
//! are not stored are known to nobody else.

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::ids::{Millis, SessionId, TurnNo};
use everstate_kernel::input::Input;
use everstate_kernel::state::{Rejection, Session};
use everstate_runtime::host::{Feed, FeedError};
use everstate_runtime::ports::{Down, ListKey, Listed, Peer};
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::sessions::named;
use crate::app::{App, Side};
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Whole};
use crate::keys::admission::may;
use crate::keys::scope::Scope;
use crate::keys::{Principal, project_name};
use crate::limits::holds::{ALL, TRUST_MS};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stop {
    session: Option<String>,
    /// Its sessions in the project.
    agent: Option<String>,
    /// By default the key's own.
    project: Option<String>,
    #[serde(default)]
    all: bool,
    /// Also refuse new turns, until `start`.
    #[serde(default)]
    hold: bool,
}

/// Of which turns it is asked, at this node or another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Which {
    pub(crate) projects: Vec<String>,
    pub(crate) agent: Option<String>,
}

/// What became of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stopped {
    pub(crate) turns: Vec<(SessionId, TurnNo)>,
    /// What could not be reached, in words.
    pub(crate) failed: Vec<String>,
}

impl Stopped {
    fn add(&mut self, others: Stopped) {
        self.turns.extend(others.turns);
        self.failed.extend(others.failed);
    }
}

/// So many are told in an answer; all are counted.
const TOLD_MAX: usize = 1_000;
const PAGE: usize = 500;
/// So many are ended at once.
const AT_ONCE: usize = 128;

pub(super) async fn stop(
    State(app): State<Arc<App>>,
    who: Principal,
    whole: Whole,
) -> Result<Answer> {
    let ask: Stop = whole.read()?;
    let began = app.clock.now();
    if let Some(session) = &ask.session {
        if ask.agent.is_some() || ask.project.is_some() || ask.all || ask.hold {
            return Err(one_of());
        }
        let session = named(&app, &who, session).await?;
        let stopped = one(&app, &session).await;
        return told(&app, stopped, None, began);
    }
    let (held, which) = which(&app, &who, &ask).await?;
    if let Some(held) = held {
        app.holds.hold(held).await?;
    }
    let mut stopped = everywhere(&app, &which).await;
    if held.is_some() {
        // Another node may have let something begin that looked a moment before it was said.
        app.clock.pause(TRUST_MS).await;
        stopped.add(everywhere(&app, &which).await);
    }
    told(&app, stopped, held, began)
}

fn one_of() -> ApiError {
    let text = "say what is to stop: `session`, `agent`, `project` or `all`";
    ApiError::new(&codes::INVALID_VALUE, text)
        .why("an agent may be named with its project; `hold` goes with a project or all")
}

/// Under which name it is held, if so, and whose turns are meant.
async fn which<'a>(
    app: &App,
    who: &'a Principal,
    ask: &'a Stop,
) -> Result<(Option<&'a str>, Which)> {
    let bad = (ask.all && (ask.project.is_some() || ask.agent.is_some()))
        || (!ask.all && ask.project.is_none() && ask.agent.is_none())
        || (ask.agent.is_some() && ask.hold);
    if bad {
        return Err(one_of());
    }
    if ask.all {
        may(who, Scope::Admin)?;
        let projects = app.keys.projects().await?;
        return Ok((ask.hold.then_some(ALL), Which { projects, agent: None }));
    }
    let project = theirs(app, who, ask.project.as_deref()).await?;
    let which = Which { projects: vec![project.to_owned()], agent: ask.agent.clone() };
    Ok((ask.hold.then_some(project), which))
}

/// A project that this key may stop and start. What is another's is not there.
async fn theirs<'a>(app: &App, who: &'a Principal, name: Option<&'a str>) -> Result<&'a str> {
    let project = project_name(name.unwrap_or(&who.project))?;
    let ours = who.admin || *project == *who.project;
    if !ours || !app.keys.has_project(project).await? {
        let text = format!("there is no project `{}`", shown(project));
        return Err(ApiError::new(&codes::NOT_FOUND, text).param("project"));
    }
    Ok(project)
}

fn told(app: &App, stopped: Stopped, held: Option<&str>, began: Millis) -> Result<Answer> {
    let n_failed = stopped.failed.len();
    if n_failed > 0 {
        let text = format!("{n_failed} could not be stopped; {} were", stopped.turns.len());
        let error = ApiError::new(&codes::STORE_UNAVAILABLE, text);
        let why = stopped.failed.into_iter().take(3);
        return Err(why.fold(error, ApiError::why).attempt("ask again: what has ended stays so"));
    }
    let items: Vec<Value> = stopped
        .turns
        .iter()
        .take(TOLD_MAX)
        .map(|(session, turn)| json!({ "session": session, "turn": turn }))
        .collect();
    let held: Vec<&str> = held.into_iter().collect();
    let took = app.clock.now().saturating_sub(began);
    Ok(json!({
        "stopped": stopped.turns.len(),
        "items": items,
        "held": held,
        "took_ms": took,
    })
    .into())
}

async fn one(app: &App, session: &Session) -> Stopped {
    let mut stopped = Stopped::default();
    if let (Some(about), Some(turn)) = (&session.about, &session.live.turn) {
        end(&app.durable, about.id, turn.no, &mut stopped).await;
    }
    stopped
}

async fn end(side: &Side, session: SessionId, turn: TurnNo, stopped: &mut Stopped) {
    match side.host.feed(session, vec![Input::Cancel { turn }], Feed::default()).await {
        Ok(_) => stopped.turns.push((session, turn)),
        // It has ended by itself, or with its session.
        Err(
            FeedError::Rejected(Rejection::NoSuchTurn | Rejection::NotCreated)
            | FeedError::NotFound
            | FeedError::Seen(_),
        ) => {}
        Err(err) => stopped.failed.push(format!("{session}: {err}")),
    }
}

/// Every node ends its own; then what is left is ended from here, through the inboxes of whoever owns it.
async fn everywhere(app: &Arc<App>, which: &Which) -> Stopped {
    let peers: Vec<Peer> = app
        .durable
        .host
        .nodes()
        .into_iter()
        .filter(|it| it.is_alive && !it.is_self)
        .map(|it| Peer { name: it.name, address: it.address, epoch: it.epoch })
        .collect();
    let far = join_all(peers.into_iter().map(|peer| {
        let (http, which) = (app.peers.clone(), which.clone());
        async move {
            match http {
                Some(http) => http.stop(&peer, &which).await,
                None => Ok(Stopped::default()),
            }
        }
    }));
    let (mut stopped, far) = tokio::join!(here(app, which), far);
    for far in far {
        match far {
            Ok(far) => stopped.add(far),
            // It may have some that nobody else knows of.
            Err(Down(why)) => stopped.failed.push(why),
        }
    }
    stopped.add(at(app, &app.durable, which, Whose::Anybodys).await);
    stopped
}

/// This node's own, stored or not.
pub(crate) async fn here(app: &App, which: &Which) -> Stopped {
    let stored = at(app, &app.durable, which, Whose::Ours);
    let (mut stopped, unstored) = tokio::join!(stored, at(app, &app.memory, which, Whose::Ours));
    stopped.add(unstored);
    stopped
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Ours,
    Anybodys,
}

async fn at(app: &App, side: &Side, which: &Which, whose: Whose) -> Stopped {
    let mut stopped = Stopped::default();
    for project in &which.projects {
        let mut before = None;
        loop {
            let page = match side.log.under_way(project, before, PAGE).await {
                Ok(page) => page,
                Err(Down(why)) => {
                    stopped.failed.push(why);
                    break;
                }
            };
            let is_full = page.len() == PAGE;
            before =
                page.last().map(|it| ListKey { created_at: it.created_at, session: it.session });
            let meant =
                |it: &Listed| whose == Whose::Anybodys || !side.host.is_elsewhere(it.session);
            let mut ended = stream::iter(page.into_iter().filter(meant))
                .map(|it| ended(app, side, it, which))
                .buffer_unordered(AT_ONCE);
            while let Some(it) = ended.next().await {
                stopped.add(it);
            }
            if !is_full {
                break;
            }
        }
    }
    stopped
}

/// What is read of a session's summary: the turn under way is the last one.
#[derive(Deserialize)]
struct Summary {
    turns: TurnNo,
}

async fn ended(app: &App, side: &Side, listed: Listed, which: &Which) -> Stopped {
    let mut stopped = Stopped::default();
    if let Some(agent) = &which.agent {
        match side.host.look(listed.session).await {
            Ok(session) if agent_of(&session).as_deref() == Some(agent) => {}
            Ok(_) | Err(FeedError::NotFound | FeedError::Rejected(_)) => return stopped,
            Err(err) => {
                stopped.failed.push(format!("{}: {err}", listed.session));
                return stopped;
            }
        }
    }
    let turn = serde_json::from_str::<Summary>(&listed.summary).map(|it| it.turns);
    match turn {
        Ok(turn) => end(side, listed.session, turn, &mut stopped).await,
        // Of a release that tells it otherwise.
        Err(_) => match side.host.look(listed.session).await {
            Ok(session) => stopped.add(one(app, &session).await),
            Err(err) => stopped.failed.push(format!("{}: {err}", listed.session)),
        },
    }
    stopped
}

/// The saved agent that a session was begun with.
fn agent_of(session: &Session) -> Option<String> {
    let settings = session.about.as_ref()?.settings.as_ref()?;
    let settings: Value = serde_json::from_str(settings.text()).ok()?;
    settings["agent_id"].as_str().map(str::to_owned)
}

/// Which projects are held.
pub(super) async fn standing(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    let held = app.holds.list().await?;
    let ours = |it: &&String| who.admin || **it == *who.project || *it == ALL;
    let items: Vec<Value> = held.iter().filter(ours).map(|it| json!({ "project": it })).collect();
    Ok(json!({ "items": items, "next": null }).into())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Start {
    project: Option<String>,
    #[serde(default)]
    all: bool,
}

pub(super) async fn start(
    State(app): State<Arc<App>>,
    who: Principal,
    whole: Whole,
) -> Result<Answer> {
    let ask: Start = whole.read()?;
    let held = match (&ask.project, ask.all) {
        (Some(_), true) => {
            let text = "say `project` or `all`, not both";
            return Err(ApiError::new(&codes::INVALID_VALUE, text).param("all"));
        }
        (_, true) => {
            may(&who, Scope::Admin)?;
            ALL
        }
        (name, false) => theirs(&app, &who, name.as_deref()).await?,
    };
    let lifted = app.holds.lift(held).await?;
    Ok(json!({ "project": held, "lifted": lifted, "still_held": app.holds.list().await?.contains(&ALL.to_owned()) }).into())
}
