//! `/v1/agents` and `/v1/vaults`, as the official clients use them. A session is a kernel session that keeps its configuration among its
//! settings; its turns wait for the results of a client's functions, and go on whether anybody listens or not.
//!
//! How the wire looks is `dialects`' business; here names are resolved, sessions fed, followed and listed, documents kept
//! and told.

mod create;
mod document;
mod draft;
mod events;
mod filter;
mod images;
mod index;
mod items;
pub(crate) mod later;
mod list;
mod pages;
mod sessions;
mod stored;
mod stream;
mod subagents;
mod traces;
mod turns;
pub(crate) mod vaults;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;

// For what is said and done to a session of this door through ours.
pub(crate) use draft::{forked, terms};
pub(crate) use index::{leave, pairs};
pub(crate) use sessions::settings;

pub(crate) fn routes() -> Router<Arc<App>> {
    let session = Router::new()
        .route("/", get(sessions::retrieve).post(sessions::update).delete(sessions::delete))
        .route("/events", get(stream::follow).post(events::submit))
        .route("/items", get(items::of_session))
        .route("/turns", get(turns::list))
        .route("/turns/{turn}", get(turns::retrieve))
        .route("/turns/{turn}/items", get(items::of_turn))
        .route("/traces", get(traces::list))
        .route("/subagents", get(subagents::list))
        .route("/subagents/{subagent}", get(subagents::missing))
        .route("/subagents/{subagent}/{*rest}", get(subagents::missing));
    Router::new()
        .route("/v1/agents/sessions", post(create::create).get(list::list))
        .nest("/v1/agents/sessions/{id}", session)
        .merge(stored::routes())
        .merge(vaults::routes())
        .merge(later::routes())
}
