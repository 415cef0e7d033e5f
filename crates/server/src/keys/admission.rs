//! The door keeper: who asks, whether the key has the scope its route asks for, and whether it is within its limits.
//! No handler is reached without it, and nothing of a body is read before.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::error::{ApiError, Result, codes};
use crate::keys::Principal;
use crate::keys::scope::{Asks, Scope, asks};

pub(crate) async fn admit(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    // Where nothing is served, there is nothing to guard.
    let Some(route) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let scope = match asks(request.method(), route.as_str()) {
        Some(Asks::Nothing | Asks::Seal) => return next.run(request).await,
        Some(Asks::Scope(scope)) => scope,
        None => Scope::Admin,
    };
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.and_then(|it| it.to_str().ok()).map(str::to_owned);
    let who = match app.keys.admit(header.as_deref()).await {
        Ok(who) => who,
        Err(err) => return err.into_response(),
    };
    let mut response = match app.limits.ask(&who).and_then(|()| may(&who, scope)) {
        Ok(()) => {
            request.extensions_mut().insert(who.clone());
            next.run(request).await
        }
        Err(err) => err.into_response(),
    };
    app.limits.tell(&who, response.headers_mut());
    response
}

/// Has the key this scope?
pub(crate) fn may(who: &Principal, scope: Scope) -> Result<()> {
    if who.scopes.has(scope) {
        return Ok(());
    }
    if scope == Scope::Admin {
        return Err(ApiError::new(&codes::ADMIN_ONLY, "this needs the admin key")
            .why(format!("the key `{}` is of the project `{}`", who.name, who.project)));
    }
    let word = scope.word();
    let text = format!("the key `{}` lacks the scope `{word}`", who.name);
    let project = &who.project;
    Err(ApiError::new(&codes::MISSING_SCOPE, text)
        .why(format!("it has: {}", who.scopes.words().join(", ")))
        .attempt(format!("everstate key create NAME --project {project} --scopes {word}")))
}
