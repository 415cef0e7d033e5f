//! Vaults. What is in them is in `credentials`.
//!
//! Deleting one is noted before anything is done, and finished by whoever is there: none of its credentials stays
//! behind. What is made in a vault while it is deleted goes with it.

pub(super) mod credentials;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::get;
use everstate_dialects::agents::vault::read::{read_vault_create, read_vault_update};
use everstate_dialects::agents::vault::{Vault, vault_object};
use everstate_kernel::ids::Millis;
use everstate_kernel::json::Json;
use everstate_runtime::ports::{Document, Put, PutError};
use serde_json::json;

use super::document::{self, Sort};
use super::filter::Filter;
use super::pages::{Asked as Query, Page};
use crate::api::responses::complaint;
use crate::app::App;
use crate::claim::Asked;
use crate::error::Result;
use crate::http::{Answer, Id, Params, Whole};
use crate::keys::{INSTALLATION, Principal};

const VAULT: &str = "vault";
/// Vaults that are being deleted: `<project>/<vault>`, of the installation.
const LEAVING: &str = "vault.leaving";
/// So long a vault's last credentials are looked for: no request takes longer.
const LEAVES_MS: Millis = 10 * 60_000;
const PIECE: usize = 100;

const SORT: Sort = Sort { prefix: "vault_", called: "vault" };

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/vaults", get(list).post(create))
        .route("/v1/vaults/{id}", get(retrieve).post(update).delete(delete))
        .merge(credentials::routes())
}

async fn create(
    State(app): State<Arc<App>>,
    who: Principal,
    headers: HeaderMap,
    whole: Whole,
) -> Result<Answer> {
    let vault = read_vault_create(&whole.0).map_err(complaint)?;
    let asked = Asked::read(&who, "POST /v1/vaults", &headers, &whole.0)?;
    let made = SORT.make(&app, &*app.registry, VAULT, &asked, &vault).await?;
    told(&made)
}

async fn retrieve(State(app): State<Arc<App>>, who: Principal, Id(id): Id) -> Result<Answer> {
    told(&find(&app, &who, &id).await?)
}

async fn update(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    whole: Whole,
) -> Result<Answer> {
    find(&app, &who, &id).await?;
    let patch = read_vault_update(&whole.0).map_err(complaint)?;
    loop {
        let found = find(&app, &who, &id).await?;
        let mut vault: Vault = document::read(&found)?;
        vault.merge(patch.clone());
        let body = document::bytes(&vault);
        let put = document::change(&who.project, VAULT, &found, body.clone(), app.clock.now());
        match app.registry.put(put).await {
            Ok(_) => return told(&Document { body, ..found }),
            Err(PutError::Conflict(Some(_))) => {}
            Err(PutError::Conflict(None)) => return Err(SORT.missing(&id)),
            Err(PutError::Down(down)) => return Err(down.into()),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    who: Principal,
    Params(query): Params<Query>,
) -> Result<Answer> {
    let (page, filter) = (Page::read(&query)?, Filter::read(&query)?);
    let tell = |it: &Document| {
        let vault: Vault = document::read(it)?;
        Ok(filter.takes(&vault.metadata).then(|| object(it, &vault)))
    };
    SORT.page(&*app.registry, (&who.project, VAULT), &page, tell).await
}

async fn delete(State(app): State<Arc<App>>, who: Principal, Id(id): Id) -> Result<Answer> {
    find(&app, &who, &id).await?;
    let put = Put {
        project: INSTALLATION.to_owned(),
        kind: LEAVING.to_owned(),
        id: format!("{}/{id}", who.project),
        expect: None,
        body: "{}".into(),
        now: app.clock.now(),
        expires_at: None,
    };
    match app.registry.put(put).await {
        Ok(_) | Err(PutError::Conflict(_)) => {}
        Err(PutError::Down(down)) => return Err(down.into()),
    }
    remove(&app, &who.project, &id).await?;
    Ok(json!({ "id": id, "object": "vault.deleted", "deleted": true }).into())
}

/// The vault first, so that nothing is found in it any more.
async fn remove(app: &App, project: &str, id: &str) -> Result<()> {
    app.registry.remove(project, VAULT, id).await?;
    credentials::remove_all(app, project, id).await
}

/// Finishes what was begun, here or elsewhere.
pub(crate) async fn finish_deletions(app: &App) -> Result<()> {
    let mut before = None;
    loop {
        let found = app.registry.documents(INSTALLATION, LEAVING, before, PIECE).await?;
        let n_found = found.len();
        before = found.last().map(|it| (it.created_at, it.id.clone()));
        for it in found {
            let Some((project, id)) = it.id.split_once('/') else { continue };
            remove(app, project, id).await?;
            if it.created_at.saturating_add(LEAVES_MS) <= app.clock.now() {
                app.registry.remove(INSTALLATION, LEAVING, &it.id).await?;
            }
        }
        if n_found < PIECE {
            return Ok(());
        }
    }
}

/// Are all of these vaults of this project?
pub(crate) async fn check(app: &App, who: &Principal, ids: &[String]) -> Result<()> {
    for id in ids {
        find(app, who, id).await.map_err(|err| err.param("vault_ids"))?;
    }
    Ok(())
}

async fn find(app: &App, who: &Principal, id: &str) -> Result<Document> {
    let found = app.registry.get(&who.project, VAULT, id).await?;
    found.ok_or_else(|| SORT.missing(id))
}

fn told(document: &Document) -> Result<Answer> {
    Ok(Answer(object(document, &document::read(document)?).text().to_owned()))
}

fn object(document: &Document, vault: &Vault) -> Json {
    vault_object(&document.id, document.created_at, vault)
}
