//! What the official clients may ask for and this release does not serve: said clearly, in the API's own shape.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;

use crate::app::App;
use crate::error::{ApiError, codes};
use crate::keys::Principal;

pub(crate) const LATER: &[&str] = &[
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    "/v1/conversations",
    "/v1/conversations/{*rest}",
    "/v1/chat/completions",
    "/v1/chat/completions/{*rest}",
    "/v1/completions",
    "/v1/files",
    "/v1/files/{*rest}",
    "/v1/uploads",
    "/v1/uploads/{*rest}",
    "/v1/vector_stores",
    "/v1/vector_stores/{*rest}",
    "/v1/containers",
    "/v1/containers/{*rest}",
    "/v1/skills",
    "/v1/skills/{*rest}",
    "/v1/batches",
    "/v1/batches/{*rest}",
    "/v1/evals",
    "/v1/evals/{*rest}",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/images/{*rest}",
    "/v1/audio/{*rest}",
    "/v1/realtime/{*rest}",
    "/v1/webhook_endpoints",
    "/v1/webhook_endpoints/{*rest}",
];

pub(crate) fn routes() -> Router<Arc<App>> {
    LATER.iter().fold(Router::new(), |router, path| router.route(path, any(later)))
}

async fn later(_who: Principal, request: Request) -> ApiError {
    let text = format!("{} {} is not available yet", request.method(), request.uri().path());
    ApiError::new(&codes::NOT_YET, text).why(
        "this release serves /v1/responses, /v1/agents, /v1/vaults, /v1/models and /everstate/v1",
    )
}
