//! Saved agents. Each is a document with its newest version; what it was before is kept beside it, version by version.
//!
//! An older version is written down before the newer one takes its place, and never changes: so whoever updates at the
//! same time, or again after a crash, writes the same. A session has its agent's configuration itself, and goes on
//! whatever becomes of the agent.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use everstate_dialects::agents::config::AgentConfig;
use everstate_dialects::agents::request::{read_agent_create, read_agent_update};
use everstate_dialects::agents::saved::{Times, agent_object, agent_version_object};
use everstate_kernel::ids::Millis;
use everstate_kernel::json::Json;
use everstate_runtime::ports::{Document, Put, PutError};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::document::{self, Sort};
use super::draft::AGENT;
use super::pages::{self, Asked as Query, Page, no_such};
use crate::api::responses::complaint;
use crate::app::App;
use crate::claim::Asked;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id, Ids, Params, Whole};
use crate::keys::Principal;

/// Old versions in the registry, named `<agent>/<number>`.
const VERSION: &str = "agent.version";

const SORT: Sort = Sort { prefix: "agent_", called: "agent" };

/// A version of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Saved {
    config: AgentConfig,
    version: u64,
    /// When this version came to be.
    at: Millis,
}

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/agents", get(list).post(create))
        .route("/v1/agents/{id}", get(retrieve).post(update).delete(delete))
        .route("/everstate/v1/agents/{id}", get(show))
        .route("/everstate/v1/agents/{id}/versions", get(versions))
        .route("/everstate/v1/agents/{id}/versions/{version}", get(version))
}

async fn create(
    State(app): State<Arc<App>>,
    who: Principal,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Answer> {
    let config = read_agent_create(&whole.0).map_err(complaint)?;
    let asked = Asked::read(&who, "POST /v1/agents", &headers, &whole.0)?;
    let saved = Saved { config, version: 1, at: app.clock.now() };
    let made = SORT.make(&app, &*app.registry, AGENT, &asked, &saved).await?;
    Ok(Answer(object(&made)?.text().to_owned()))
}

async fn retrieve(State(app): State<Arc<App>>, who: Principal, Id(id): Id) -> Result<Answer> {
    let (found, _) = find(&app, &who, &id).await?;
    Ok(Answer(object(&found)?.text().to_owned()))
}

async fn update(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    whole: Whole,
) -> Result<Answer> {
    find(&app, &who, &id).await?;
    let patch = read_agent_update(&whole.0).map_err(complaint)?;
    loop {
        let (found, old) = find(&app, &who, &id).await?;
        let mut config = old.config.clone();
        config.merge(&patch);
        if config == old.config {
            return Ok(Answer(object(&found)?.text().to_owned()));
        }
        keep(&app, &who, &id, &old).await?;
        let now = app.clock.now().max(found.updated_at);
        let saved = Saved { config, version: old.version + 1, at: now };
        let put = document::change(&who.project, AGENT, &found, document::bytes(&saved), now);
        let body = put.body.clone();
        match app.registry.put(put).await {
            Ok(revision) => {
                let written = Document { revision, updated_at: now, body, ..found };
                return Ok(Answer(object(&written)?.text().to_owned()));
            }
            // Somebody else changed it: then this is a change to that.
            Err(PutError::Conflict(Some(_))) => {}
            Err(PutError::Conflict(None)) => {
                app.registry.remove(&who.project, VERSION, &name(&id, old.version)).await?;
                return Err(SORT.missing(&id));
            }
            Err(PutError::Down(down)) => return Err(down.into()),
        }
    }
}

/// Writes down a version that is about to be an old one.
async fn keep(app: &App, who: &Principal, id: &str, old: &Saved) -> Result<()> {
    let put = Put {
        project: who.project.to_string(),
        kind: VERSION.to_owned(),
        id: name(id, old.version),
        expect: None,
        body: document::bytes(old),
        now: app.clock.now(),
        expires_at: None,
    };
    match app.registry.put(put).await {
        Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
        Err(PutError::Down(down)) => Err(down.into()),
    }
}

async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Params(query): Params<Query>,
) -> Result<Answer> {
    let page = Page::read(&query)?;
    SORT.page(&*app.registry, (&who.project, AGENT), &page, |it| object(it).map(Some)).await
}

/// Its versions go first: if the process dies meanwhile, the agent is still there to be deleted.
async fn delete(State(app): State<Arc<App>>, who: Principal, Id(id): Id) -> Result<Answer> {
    let (_, saved) = find(&app, &who, &id).await?;
    for version in 1..=saved.version {
        app.registry.remove(&who.project, VERSION, &name(&id, version)).await?;
    }
    app.registry.remove(&who.project, AGENT, &id).await?;
    Ok(json!({ "id": id, "object": "agent.deleted", "deleted": true }).into())
}

// ---- versions ----------------------------------------------------------------------------

async fn show(State(app): State<Arc<App>>, who: Principal, Id(id): Id) -> Result<Answer> {
    let (found, saved) = find(&app, &who, &id).await?;
    Ok(Answer(version_object(&found, &saved).text().to_owned()))
}

async fn versions(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(query): Params<Query>,
) -> Result<Answer> {
    let page = Page::read(&query)?;
    let (found, newest) = find(&app, &who, &id).await?;
    let all: Vec<u64> = (1..=newest.version).collect();
    let (numbers, has_more) = page.cut(all, ToString::to_string)?;
    let mut rows = Vec::new();
    for (name, number) in numbers {
        let saved = at(&app, &who, &id, &newest, number).await?.ok_or_else(|| no_such(&name))?;
        rows.push((name, version_object(&found, &saved)));
    }
    Ok(pages::answer(&rows, has_more))
}

async fn version(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids((id, number)): Ids<(String, String)>,
) -> Result<Answer> {
    let (found, newest) = find(&app, &who, &id).await?;
    let missing = || {
        let text = format!("the agent `{}` has no version `{}`", shown(&id), shown(&number));
        ApiError::new(&codes::NOT_FOUND, text)
            .why(format!("it has the versions 1 to {}", newest.version))
    };
    let n: u64 = number.parse().map_err(|_| missing())?;
    let saved = at(&app, &who, &id, &newest, n).await?.ok_or_else(missing)?;
    Ok(Answer(version_object(&found, &saved).text().to_owned()))
}

async fn at(
    app: &App,
    who: &Principal,
    id: &str,
    newest: &Saved,
    version: u64,
) -> Result<Option<Saved>> {
    if version == newest.version {
        return Ok(Some(newest.clone()));
    }
    let old = app.registry.get(&who.project, VERSION, &name(id, version)).await?;
    old.as_ref().map(document::read).transpose()
}

// ---- the documents -----------------------------------------------------------------------

fn name(id: &str, version: u64) -> String {
    format!("{id}/{version}")
}

async fn find(app: &App, who: &Principal, id: &str) -> Result<(Document, Saved)> {
    let found = app.registry.get(&who.project, AGENT, id).await?;
    let found = found.ok_or_else(|| SORT.missing(id))?;
    let saved = document::read(&found)?;
    Ok((found, saved))
}

fn object(document: &Document) -> Result<Json> {
    let saved: Saved = document::read(document)?;
    let times = Times { created_at: document.created_at, updated_at: document.updated_at };
    Ok(agent_object(&document.id, times, &saved.config))
}

fn version_object(document: &Document, saved: &Saved) -> Json {
    let times = Times { created_at: document.created_at, updated_at: saved.at };
    agent_version_object(&document.id, times, saved.version, &saved.config)
}
