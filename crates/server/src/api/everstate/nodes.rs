//! The nodes of the cluster, as this one sees them.

use std::sync::Arc;

use axum::extract::State;
use everstate_runtime::cluster::NodeFacts;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id};
use crate::keys::Principal;

use super::installation::admin;

/// None, if the server is alone on its store.
pub(super) async fn list(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    admin(&who)?;
    let items: Vec<Value> = app.durable.host.nodes().iter().map(told).collect();
    Ok(json!({ "items": items, "next": null }).into())
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(name): Id,
) -> Result<Answer> {
    admin(&who)?;
    let nodes = app.durable.host.nodes();
    match nodes.iter().find(|it| it.name == name) {
        Some(node) => Ok(told(node).into()),
        None => {
            let names: Vec<&str> = nodes.iter().map(|it| it.name.as_str()).collect();
            let known = if names.is_empty() {
                "this server is alone on its store".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            let text = format!("there is no node `{}`", shown(&name));
            Err(ApiError::new(&codes::NOT_FOUND, text).param("name").why(known))
        }
    }
}

fn told(node: &NodeFacts) -> Value {
    json!({
        "name": node.name,
        "state": state(node),
        "address": node.address,
        "version": node.version,
        "epoch": node.epoch,
        "is_self": node.is_self,
        "buckets": node.n_buckets,
        "buckets_moving": node.n_moving,
        "sessions_live": node.n_live,
        "sessions_ready": node.n_ready,
        "beat_age_ms": node.beat_age_ms,
        "revision": node.revision,
        "lag": node.lag,
    })
}

fn state(node: &NodeFacts) -> &'static str {
    match (node.is_alive, node.is_leaving) {
        (false, _) => "lost",
        (true, true) => "leaving",
        (true, false) => "alive",
    }
}
