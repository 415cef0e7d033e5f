//! `/v1/responses`, as the official clients use it. A response is a turn whose calls return to the caller.
//!
//! How the wire looks is `dialects`' business; here ids are resolved, turns begun, followed and told.

mod create;
mod draft;
pub(crate) mod delete;
mod follow;
mod resolve;
mod retrieve;
mod standing;
mod support;
pub(crate) mod tools;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::app::App;

/// Where responses are made.
pub(crate) const PATH: &str = "/v1/responses";

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(PATH, post(create::create))
        .route("/v1/responses/{id}", get(retrieve::retrieve).delete(delete::delete))
        .route("/v1/responses/{id}/cancel", post(retrieve::cancel))
        .route("/v1/responses/{id}/input_items", get(retrieve::input_items))
}

pub(crate) use draft::{fold, turn_name};
pub(crate) use follow::complaint;

/// The door's name in a session's first fact.
pub(crate) const DOOR: &str = "responses";
