//! What is due when, for `everstate retention show`.

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::ids::Millis;
use everstate_runtime::ports::ListKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::rules::Rules;
use super::sweep::{KIND, LAST, Seen, Swept, older_than, projects};
use crate::app::App;
use crate::error::Result;
use crate::http::{Answer, Params};
use crate::keys::Principal;

#[derive(Debug, Deserialize)]
pub(crate) struct Ahead {
    /// Sessions that are due within so many days are told; 1 unless said.
    days: Option<f64>,
}

const DAY_MS: f64 = 86_400_000.0;
const DAYS_MAX: f64 = 36_525.0;
const PAGE: usize = 500;
/// At most so many sessions are looked at, and so many are told.
const LOOKED_AT_MAX: usize = 10_000;
const TOLD_MAX: usize = 100;

/// All projects that keep something for a time only, for the admin; otherwise one's own.
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    who: Principal,
    Params(ahead): Params<Ahead>,
) -> Result<Answer> {
    let days = ahead.days.filter(|it| it.is_finite()).unwrap_or(1.0).clamp(0.0, DAYS_MAX);
    let until = app.clock.now().saturating_add((days * DAY_MS) as Millis);
    let mut items = Vec::new();
    for (project, rules) in projects(&app).await? {
        if who.admin || *project == *who.project {
            items.push(told(&app, &project, &rules, until).await?);
        }
    }
    let last = app.registry.get("", KIND, LAST).await?;
    let last: Option<Swept> = last.and_then(|it| serde_json::from_slice(&it.body).ok());
    Ok(json!({ "items": items, "next": null, "last_sweep": last }).into())
}

async fn told(app: &App, project: &str, rules: &Rules, until: Millis) -> Result<Value> {
    let now = app.clock.now();
    let (mut due, mut n_due, mut n_now, mut looked_at) = (Vec::new(), 0_u64, 0_u64, 0);
    // Only of sessions as a whole the list says when they are due.
    let of_sessions = Rules { sessions: rules.sessions, ..Rules::default() };
    let mut before = older_than(&of_sessions, until);
    while let Some(key) = before.take().filter(|_| looked_at < LOOKED_AT_MAX) {
        let page = app.durable.log.list(project, Some(key), PAGE).await?;
        looked_at += page.len();
        for listed in &page {
            let at = Seen::of(listed).and_then(|it| it.due(rules)).filter(|it| *it <= until);
            let Some(at) = at else { continue };
            n_due += 1;
            n_now += u64::from(at <= now);
            due.push((at, listed.session));
        }
        before = page
            .last()
            .filter(|_| page.len() == PAGE)
            .map(|it| ListKey { created_at: it.created_at, session: it.session });
    }
    due.sort();
    due.truncate(TOLD_MAX);
    let due: Vec<Value> =
        due.iter().map(|(at, session)| json!({ "session": session, "due_at": at })).collect();
    Ok(json!({
        "project": project,
        "sessions_ms": rules.sessions,
        "responses_ms": rules.responses,
        "items_ms": rules.items,
        "frames_ms": rules.frames,
        "until": until,
        "sessions_due": n_due,
        "sessions_overdue": n_now,
        "is_more": looked_at >= LOOKED_AT_MAX,
        "due": due,
    }))
}
