//! What this server is made of: offers, tools, configuration, and what `doctor` wants to know.

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::tool::Runs;
use everstate_store::facts::Facts;
use serde_json::{Value, json};

use crate::app::App;
use crate::config::Settings;
use crate::error::{Result, codes};
use crate::http::Answer;
use crate::keys::Principal;
use crate::keys::admission::may;
use crate::keys::scope::Scope;
use crate::wiring::Source;

pub(super) async fn offers(State(app): State<Arc<App>>, _who: Principal) -> Answer {
    let offers = app.stall.offers();
    let usable = |provider: &str| app.sources.iter().any(|it| it.provider == provider && it.usable);
    let items: Vec<Value> = offers
        .list
        .iter()
        .map(|offer| {
            let mut row = serde_json::to_value(offer).unwrap_or_default();
            row["usable"] = usable(&offer.provider).into();
            row
        })
        .collect();
    json!({ "items": items, "next": null, "revision": offers.revision }).into()
}

pub(super) async fn tools(State(app): State<Arc<App>>, _who: Principal) -> Answer {
    let items: Vec<Value> = app
        .menu
        .all()
        .map(|tool| {
            let server = match &tool.runs {
                Runs::Server(server) => serde_json::to_value(server).unwrap_or_default(),
                Runs::Client | Runs::Provider { .. } => Value::Null,
            };
            json!({
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
                "runs": server,
            })
        })
        .collect();
    json!({ "items": items, "next": null }).into()
}

pub(super) async fn config(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    admin(&who)?;
    let items: Vec<Value> = app
        .settings
        .shown()
        .into_iter()
        .map(|it| json!({ "key": it.key, "value": it.value, "origin": it.origin.to_string() }))
        .collect();
    Ok(json!({ "items": items, "next": null }).into())
}

pub(super) async fn doctor(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    admin(&who)?;
    let facts = app.upkeep.facts().await?;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "config": app.settings.path.as_ref().map(|it| it.display().to_string()),
        "store": store_told(&app.settings, &facts),
        "providers": sources_told(&app.sources),
        "offers": app.stall.offers().list.len(),
        "tools": app.menu.names(),
        "sessions_live": app.durable.host.n_live(),
    })
    .into())
}

pub(crate) fn store_told(settings: &Settings, facts: &Facts) -> Value {
    json!({
        "url": settings.store_shown(),
        "path": facts.path.as_ref().map(|it| it.display().to_string()),
        "schema": facts.schema,
        "bytes": facts.bytes,
        "flush_us": facts.flush.map(|it| it.as_micros() as u64),
        "keys": facts.keys,
        "server": facts.server,
        "promise": facts.promise,
        "blobs": facts.blobs,
        "blobs_down": facts.blobs_down,
    })
}

pub(crate) fn sources_told(sources: &[Source]) -> Value {
    let row = |it: &Source| {
        json!({
            "provider": it.provider,
            "kind": it.kind,
            "base_url": it.base_url,
            "credentials": it.credentials,
            "usable": it.usable,
            "simulation": it.simulation,
        })
    };
    sources.iter().map(row).collect()
}

pub(super) async fn codes(_who: Principal) -> Answer {
    let items: Vec<Value> = codes::CODES
        .iter()
        .map(|it| {
            json!({
                "code": it.word,
                "status": it.status,
                "retry": it.retry,
                "exit": it.exit,
                "explain": it.explain,
            })
        })
        .collect();
    json!({ "items": items, "next": null }).into()
}

pub(super) fn admin(who: &Principal) -> Result<()> {
    may(who, Scope::Admin)
}
