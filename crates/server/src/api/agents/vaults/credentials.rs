//! The credentials of a vault. They are kept sealed, each content under a key of its own; what is told of them has no
//! secrets, and nothing here makes a message of what a client sent.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use everstate_dialects::agents::saved::Times;
use everstate_dialects::agents::vault::read::{read_credential_create, read_credential_update};
use everstate_dialects::agents::vault::{Credential, CredentialPatch, credential_object};
use everstate_kernel::json::Json;
use everstate_runtime::ports::{Document, Order, Page as Piece, PutError};
use serde_json::json;

use super::{PIECE, find as find_vault};
use crate::api::agents::document::{self, Sort};
use crate::api::agents::filter::Filter;
use crate::api::agents::pages::{Asked as Query, Page};
use crate::api::responses::complaint;
use crate::app::App;
use crate::claim::Asked;
use crate::error::Result;
use crate::http::{Answer, Id, Ids, Params, Whole};
use crate::keys::Principal;

const SORT: Sort = Sort { prefix: "cred_", called: "credential" };

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/vaults/{id}/credentials", get(list).post(create)).route(
        "/v1/vaults/{id}/credentials/{credential}",
        get(retrieve).post(update).delete(delete),
    )
}

/// The documents of a vault are a kind of their own.
fn kind(vault: &str) -> String {
    format!("credential/{vault}")
}

async fn create(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(vault): Id,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Answer> {
    find_vault(&app, &who, &vault).await?;
    let credential = read_credential_create(&whole.0).map_err(complaint)?;
    // A claim keeps the hash of its request; of this one nobody may try secrets against it.
    let body = hmac::sign(&app.secret_claims, &whole.0);
    let path = format!("POST /v1/vaults/{vault}/credentials");
    let asked = Asked::read(&who, &path, &headers, body.as_ref())?;
    let made = SORT.make(&app, &*app.sealed, &kind(&vault), &asked, &credential).await?;
    // Was the vault deleted meanwhile? Then what was just made was perhaps not seen.
    if let Err(gone) = find_vault(&app, &who, &vault).await {
        app.sealed.remove(&who.project, &kind(&vault), &made.id).await?;
        return Err(gone);
    }
    told(&vault, &made)
}

async fn retrieve(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids((vault, id)): Ids<(String, String)>,
) -> Result<Answer> {
    told(&vault, &find(&app, &who, &vault, &id).await?)
}

/// Rotates its secrets, or replaces its metadata.
async fn update(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids((vault, id)): Ids<(String, String)>,
    whole: Whole,
) -> Result<Answer> {
    find(&app, &who, &vault, &id).await?;
    let patch = read_credential_update(&whole.0).map_err(complaint)?;
    loop {
        let found = find(&app, &who, &vault, &id).await?;
        if patch == CredentialPatch::default() {
            return told(&vault, &found);
        }
        let credential: Credential = document::read(&found)?;
        let credential = credential.merge(patch.clone()).map_err(complaint)?;
        let body = document::bytes(&credential);
        let now = app.clock.now().max(found.updated_at);
        let put = document::change(&who.project, &kind(&vault), &found, body.clone(), now);
        match app.sealed.put(put).await {
            Ok(_) => return told(&vault, &Document { body, updated_at: now, ..found }),
            Err(PutError::Conflict(Some(_))) => {}
            Err(PutError::Conflict(None)) => return Err(SORT.missing(&id)),
            Err(PutError::Down(down)) => return Err(down.into()),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(vault): Id,
    Params(query): Params<Query>,
) -> Result<Answer> {
    let (page, filter) = (Page::read(&query)?, Filter::read(&query)?);
    find_vault(&app, &who, &vault).await?;
    let tell = |it: &Document| {
        let credential: Credential = document::read(it)?;
        Ok(filter.takes(&credential.metadata).then(|| object(&vault, it, &credential)))
    };
    SORT.page(&*app.sealed, (&who.project, &kind(&vault)), &page, tell).await
}

/// When it is answered, no copy of the tables can be read for its secrets any more.
async fn delete(
    State(app): State<Arc<App>>,
    who: Principal,
    Ids((vault, id)): Ids<(String, String)>,
) -> Result<Answer> {
    find(&app, &who, &vault, &id).await?;
    app.sealed.remove(&who.project, &kind(&vault), &id).await?;
    Ok(json!({ "id": id, "object": "vault.credential.deleted", "deleted": true }).into())
}

/// Of a vault that is gone.
pub(super) async fn remove_all(app: &App, project: &str, vault: &str) -> Result<()> {
    loop {
        let page = Piece { order: Order::OldestFirst, after: None, limit: PIECE };
        let found = app.sealed.page(project, &kind(vault), page).await?;
        for it in &found {
            app.sealed.remove(project, &kind(vault), &it.id).await?;
        }
        if found.len() < PIECE {
            return Ok(());
        }
    }
}

async fn find(app: &App, who: &Principal, vault: &str, id: &str) -> Result<Document> {
    find_vault(app, who, vault).await?;
    let found = app.sealed.get(&who.project, &kind(vault), id).await?;
    found.ok_or_else(|| SORT.missing(id))
}

fn told(vault: &str, document: &Document) -> Result<Answer> {
    Ok(Answer(object(vault, document, &document::read(document)?).text().to_owned()))
}

fn object(vault: &str, document: &Document, credential: &Credential) -> Json {
    let times = Times { created_at: document.created_at, updated_at: document.updated_at };
    credential_object(&document.id, vault, times, credential)
}
