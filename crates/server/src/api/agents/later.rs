//! What this API has and this release does not: each operation with its reason, said in the API's own shape, and so
//! that no client tries again by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};

use crate::app::App;
use crate::error::{ApiError, codes};
use crate::keys::Principal;

/// An operation that is refused.
#[derive(Debug)]
pub(crate) struct Operation {
    pub method: Method,
    pub path: &'static str,
    /// Why, as a sentence.
    pub why: &'static str,
}

const ENVIRONMENTS: &str = "an agent's commands run nowhere yet: sessions have the environment `none`, and functions of their client";
const FILES: &str = "there are no environments yet whose files these would be";
const TEMPLATES: &str = "there are no environments yet that could be made from a template";
const AUTOMATIONS: &str = "nothing begins a turn at a time of its own yet: a scheduler of yours can send a session an event";
const ARTIFACTS: &str = "artifacts are files of an environment, and there are none yet";

macro_rules! operations {
    ($($method:ident $path:literal $why:ident;)*) => {
        /// All of them.
        pub(crate) const OPERATIONS: &[Operation] =
            &[$(Operation { method: Method::$method, path: $path, why: $why }),*];
    };
}

operations! {
    POST "/v1/agents/environments" ENVIRONMENTS;
    GET "/v1/agents/environments" ENVIRONMENTS;
    GET "/v1/agents/environments/{id}" ENVIRONMENTS;
    POST "/v1/agents/environments/{id}/files" FILES;
    GET "/v1/agents/environments/{id}/files" FILES;
    POST "/v1/agents/environments/templates" TEMPLATES;
    GET "/v1/agents/environments/templates" TEMPLATES;
    GET "/v1/agents/environments/templates/{id}" TEMPLATES;
    POST "/v1/agents/environments/templates/{id}" TEMPLATES;
    DELETE "/v1/agents/environments/templates/{id}" TEMPLATES;
    POST "/v1/agents/automations" AUTOMATIONS;
    GET "/v1/agents/automations" AUTOMATIONS;
    GET "/v1/agents/automations/{id}" AUTOMATIONS;
    POST "/v1/agents/automations/{id}" AUTOMATIONS;
    DELETE "/v1/agents/automations/{id}" AUTOMATIONS;
    POST "/v1/agents/automations/{id}/pause" AUTOMATIONS;
    POST "/v1/agents/automations/{id}/resume" AUTOMATIONS;
    POST "/v1/agents/automations/{id}/invocations" AUTOMATIONS;
    GET "/v1/agents/automations/{id}/invocations" AUTOMATIONS;
    GET "/v1/agents/automations/{id}/invocations/{invocation}" AUTOMATIONS;
    GET "/v1/agents/sessions/{id}/artifacts" ARTIFACTS;
    GET "/v1/agents/sessions/{id}/artifacts/{artifact}" ARTIFACTS;
    DELETE "/v1/agents/sessions/{id}/artifacts/{artifact}" ARTIFACTS;
    GET "/v1/agents/sessions/{id}/artifacts/{artifact}/content" ARTIFACTS;
}

pub(super) fn routes() -> Router<Arc<App>> {
    let mut paths: BTreeMap<&str, MethodRouter<Arc<App>>> = BTreeMap::new();
    for operation in OPERATIONS {
        let why = operation.why;
        let refuse = move |_: Principal, request: Request| async move { refusal(&request, why) };
        let filter = MethodFilter::try_from(operation.method.clone());
        let filter = filter.expect("the table holds methods that can be routed");
        let router = paths.remove(operation.path).unwrap_or_default();
        paths.insert(operation.path, router.merge(on(filter, refuse)));
    }
    paths.into_iter().fold(Router::new(), |all, (path, router)| all.route(path, router))
}

fn refusal(request: &Request, why: &str) -> ApiError {
    let text = format!("{} {} is not available yet", request.method(), request.uri().path());
    ApiError::new(&codes::NOT_YET, text).why(why)
}
