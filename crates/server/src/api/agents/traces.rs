//! GET /v1/agents/sessions/{id}/traces: each turn as an OTLP request of its own, read from its facts. The same spans
//! that are sent to a collector, where one is named; and like those without contents.

use std::sync::Arc;

use axum::extract::State;
use everstate_dialects::Names;
use everstate_kernel::ids::{Seq, TurnNo};
use everstate_kernel::json::Json;
use serde_json::json;

use super::pages::{self, Asked as Query, Page};
use super::sessions::find;
use crate::app::App;
use crate::error::Result;
use crate::http::{Answer, Id, Params};
use crate::keys::Principal;
use crate::telemetry::replay::replay;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(query): Params<Query>,
) -> Result<Answer> {
    let page = Page::read(&query)?;
    let found = find(&app, &who, &id).await?;
    // Those it inherited were told by the sessions they happened in.
    let turns: Vec<(TurnNo, Seq)> =
        found.session.transcript.turns.iter().map(|(no, past)| (*no, past.started)).collect();
    let (turns, has_more) = page.cut(turns, |(no, _)| found.names.session_turn(*no))?;
    let service = app.settings.telemetry.as_ref().and_then(|it| it.service_name.as_ref());
    let service = service.map(|it| it.value.as_str());
    let mut rows = Vec::new();
    for (name, (no, began)) in turns {
        let told =
            replay(&*app.durable.log, (found.id, no), began, (service, &app.sources)).await?;
        let Some(told) = told else { continue };
        let trace = json!({
            "id": name,
            "object": "agent.session.trace",
            "session_id": found.id,
            "created_at": told.began_at / 1_000,
            "otlp": told.otlp,
        });
        rows.push((name, Json::of(&trace)));
    }
    Ok(pages::answer(&rows, has_more))
}
