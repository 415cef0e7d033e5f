//! Is the process alive, does it take work, and what has it counted? Open to everybody who can reach the port.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use everstate_runtime::buckets::Buckets;

use crate::app::App;
use crate::meters;

/// What probes ask for.
pub(crate) const PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    if app.closing() {
        return (StatusCode::SERVICE_UNAVAILABLE, "closing\n").into_response();
    }
    if !*app.started.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    }
    if app.node().is_some_and(|it| !it.is_alive) {
        let text = "this node has lost its lease\n";
        return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    }
    match app.durable.log.next_due(&Buckets::all()).await {
        Ok(_) => "ok\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n").into_response(),
    }
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    let nodes = app.durable.host.nodes();
    if !nodes.is_empty() {
        meters::nodes(&nodes);
    }
    meters::live(app.durable.host.n_live() + app.memory.host.n_live());
    if let Some(ledger) = app.durable.host.ledger() {
        let known = ledger.known();
        known
            .iter()
            .filter(|it| ledger.limits().own.contains_key(&it.project))
            .for_each(meters::budget);
    }
    let text = meters::handle().render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
