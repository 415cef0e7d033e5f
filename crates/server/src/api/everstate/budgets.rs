//! What projects may spend, and what became of it.

use std::sync::Arc;

use axum::extract::State;
use everstate_runtime::ledger::{Here, Standing};
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id};
use crate::keys::Principal;

/// All that have a limit, for the admin; otherwise one's own.
pub(super) async fn list(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    let projects = match who.admin {
        true => app.keys.projects().await?,
        false => vec![who.project.to_string()],
    };
    let mut items = Vec::new();
    for project in projects {
        items.extend(budget(&app, &project).await?);
    }
    Ok(json!({ "items": items, "next": null }).into())
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(project): Id,
) -> Result<Answer> {
    let ours = who.admin || *project == *who.project;
    let found = match ours {
        true => budget(&app, &project).await?,
        false => None,
    };
    let missing = || {
        let name = shown(&project);
        let text = format!("no budget of a project `{name}` is known here");
        ApiError::new(&codes::NOT_FOUND, text)
            .param("project")
            .why("a project without a limit of its own has the one of [projects.\"*\"], if there is one")
            .attempt(format!("[projects.{name}] money = {{ usd = \"50.00\", per = \"month\" }}"))
    };
    found.map(Answer::from).ok_or_else(missing)
}

async fn budget(app: &App, project: &str) -> Result<Option<Value>> {
    let Some(ledger) = app.durable.host.ledger() else { return Ok(None) };
    // A name that nobody gave to a project has no budget, even if every project has one.
    if !ledger.limits().own.contains_key(project) && !app.keys.has_project(project).await? {
        return Ok(None);
    }
    let Some(standing) = ledger.standing(project).await? else { return Ok(None) };
    let mut here = standing.here;
    // Sessions that are not stored have a slice of their own.
    let known = app.memory.host.ledger().map(|it| it.known()).unwrap_or_default();
    for it in known.iter().filter(|it| it.project == project) {
        here = plus(here, it.here);
    }
    Ok(Some(told(&standing, here)))
}

fn plus(a: Here, b: Here) -> Here {
    Here {
        leased: a.leased + b.leased,
        reserved: a.reserved + b.reserved,
        unsettled: a.unsettled + b.unsettled,
    }
}

fn told(standing: &Standing, here: Here) -> Value {
    let Standing { project, limit, slices, .. } = standing;
    let rows: Vec<Value> = slices
        .out
        .iter()
        .filter(|(_, it)| !it.closed)
        .map(|(holder, it)| json!({ "holder": holder, "left_micros": it.left, "settled_to": it.settled_to }))
        .collect();
    // What was spent here and is not settled yet is spent, and is not to be had any more.
    let leased = slices.leased().saturating_sub(here.unsettled);
    json!({
        "project": project,
        "limit_micros": limit.amount,
        "per": limit.per,
        "since": slices.since,
        "until": limit.per.until(slices.since),
        "spent_micros": slices.spent().saturating_add(here.unsettled),
        "leased_micros": leased,
        "free_micros": slices.free(limit.amount),
        "here": {
            "leased_micros": here.leased,
            "reserved_micros": here.reserved,
            "unsettled_micros": here.unsettled,
        },
        "slices": rows,
    })
}
