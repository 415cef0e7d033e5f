//! `/everstate/v1`: sessions as they are, with everything the log knows. The command line uses nothing else.

mod approvals;
mod bundles;
mod budgets;
mod effects;
mod events;
pub(crate) mod explain;
pub(crate) mod installation;
mod keys;
mod nodes;
mod say;
mod sessions;
pub(crate) mod stop;
mod verify;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};

use crate::app::App;

pub(crate) fn routes() -> Router<Arc<App>> {
    let sessions = Router::new()
        .route("/", get(sessions::list))
        .route("/{id}", get(sessions::show).delete(sessions::delete))
        .route("/{id}/events", get(events::events))
        .route("/{id}/items", get(sessions::items))
        .route("/{id}/say", post(say::say))
        .route("/{id}/fork", post(sessions::fork))
        .route("/{id}/cancel", post(sessions::cancel))
        .route("/{id}/unpark", post(sessions::unpark))
        .route("/{id}/explain", get(explain::explain))
        .route("/{id}/verify", get(verify::verify))
        .route("/{id}/export", get(bundles::export))
        .route("/{id}/origin", get(bundles::origin))
        .route("/import", post(bundles::import));
    Router::new()
        .nest("/everstate/v1/sessions", sessions)
        .route("/everstate/v1/recipient", get(bundles::recipient))
        .route("/everstate/v1/stop", get(stop::standing).post(stop::stop))
        .route("/everstate/v1/start", post(stop::start))
        .route("/everstate/v1/approvals", get(approvals::list).post(approvals::answer))
        .route("/everstate/v1/effects", get(effects::list))
        .route("/everstate/v1/effects/resolve", post(effects::resolve))
        .route("/everstate/v1/budgets", get(budgets::list))
        .route("/everstate/v1/budgets/{id}", get(budgets::show))
        .route("/everstate/v1/retention", get(crate::retention::told::show))
        .route("/everstate/v1/nodes", get(nodes::list))
        .route("/everstate/v1/nodes/{name}", get(nodes::show))
        .route("/everstate/v1/offers", get(installation::offers))
        .route("/everstate/v1/tools", get(installation::tools))
        .route("/everstate/v1/config", get(installation::config))
        .route("/everstate/v1/doctor", get(installation::doctor))
        .route("/everstate/v1/codes", get(installation::codes))
        .route("/everstate/v1/projects", get(keys::projects).post(keys::create_project))
        .route("/everstate/v1/keys", get(keys::list).post(keys::create))
        .route("/everstate/v1/keys/{id}", delete(keys::revoke))
        .route("/everstate/v1/keys/{id}/rotate", post(keys::rotate))
}

/// The door's name in a session's first fact.
pub(crate) const DOOR: &str = "everstate";
