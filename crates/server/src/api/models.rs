//! `/v1/models`: the models that can be asked for. What each costs and where it may run is told by `/everstate/v1`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde_json::{Value, json};

use crate::app::App;
use crate::config::REHEARSAL;
use crate::error::Result;
use crate::http::{Answer, Id};
use crate::keys::Principal;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models", get(list)).route("/v1/models/{*id}", get(one))
}

async fn list(State(app): State<Arc<App>>, _who: Principal) -> Answer {
    let data: Vec<Value> = models(&app).into_values().collect();
    json!({ "object": "list", "data": data }).into()
}

async fn one(State(app): State<Arc<App>>, _who: Principal, Id(id): Id) -> Result<Answer> {
    models(&app).remove(&id).map(Answer::from).ok_or_else(|| app.stall.unknown(&id))
}

fn models(app: &App) -> BTreeMap<String, Value> {
    let offers = app.stall.offers();
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for offer in &offers.list {
        let sellers = by_name.entry(offer.model.clone()).or_default();
        if !sellers.contains(&offer.provider.as_str()) {
            sellers.push(&offer.provider);
        }
    }
    by_name
        .into_iter()
        .map(|(model, sellers)| {
            let mut row = json!({
                "id": model,
                "object": "model",
                // Nobody knows; the field has to be a number.
                "created": 0,
                "owned_by": sellers.join(","),
            });
            if sellers == [REHEARSAL] {
                row["simulation"] = true.into();
            }
            (model, row)
        })
        .collect()
}
