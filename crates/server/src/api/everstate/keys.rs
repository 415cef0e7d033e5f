//! Projects and their keys: made, listed, rotated, revoked.

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::ids::Millis;
use serde::Deserialize;
use serde_json::{Value, json};

use super::installation::admin;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id, Whole};
use crate::keys::admission::may;
use crate::keys::book::{Listed, NewKey};
use crate::keys::doc::{Standing, span};
use crate::keys::scope::{ROLES, Scope, Scopes, role};
use crate::keys::{Principal, project_name};
use crate::limits::Rates;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewProject {
    name: String,
}

pub(super) async fn create_project(
    State(app): State<Arc<App>>,
    who: Principal,
    whole: Whole,
) -> Result<Answer> {
    admin(&who)?;
    let new: NewProject = whole.read()?;
    let name = project_name(&new.name)?;
    app.keys.create_project(name).await?;
    Ok(json!({ "name": name }).into())
}

pub(super) async fn projects(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    admin(&who)?;
    let names = app.keys.projects().await?;
    let items: Vec<Value> = names.iter().map(|it| json!({ "name": it })).collect();
    Ok(json!({ "items": items, "next": null }).into())
}

pub(super) async fn list(State(app): State<Arc<App>>, who: Principal) -> Result<Answer> {
    let now = app.clock.now();
    let keys = app.keys.list(ours(&who)).await?;
    let items: Vec<Value> = keys.iter().map(|it| row(it, now)).collect();
    Ok(json!({ "items": items, "next": null }).into())
}

/// Of which project's keys it hears; the admin of all.
fn ours(who: &Principal) -> Option<&str> {
    (!who.admin).then_some(&*who.project)
}

fn row(key: &Listed, now: Millis) -> Value {
    let doc = &key.doc;
    let state = match doc.standing(now) {
        Standing::Good(_) => "active",
        Standing::Expired(_) => "expired",
        Standing::Revoked(_) => "revoked",
        Standing::Replaced(_) => "replaced",
    };
    json!({
        "id": key.id,
        "project": doc.project,
        "name": doc.name,
        "state": state,
        "admin": doc.scopes().has(Scope::Admin),
        "role": doc.role,
        "scopes": doc.scopes().words(),
        "hint": doc.hint,
        "created_at": doc.created_at,
        "expires_at": doc.expires_at,
        "revoked_at": doc.revoked_at,
        "old_text_until": key.old_until.filter(|it| *it > now),
        "last_used_at": key.used_at,
        "limits": doc.limits,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    /// By default the project of the key that asks.
    project: Option<String>,
    name: String,
    /// The same as `role: admin`.
    #[serde(default)]
    admin: bool,
    role: Option<String>,
    scopes: Option<Vec<String>>,
    /// From now on: `30d`, `12h`.
    expires: Option<String>,
    /// In milliseconds since 1970.
    expires_at: Option<Millis>,
    limits: Option<Rates>,
}

const NAME_CHARS_MAX: usize = 100;

pub(super) async fn create(
    State(app): State<Arc<App>>,
    who: Principal,
    whole: Whole,
) -> Result<Answer> {
    let new: New = whole.read()?;
    let project = project_name(new.project.as_deref().unwrap_or(&who.project))?;
    if new.name.is_empty() || new.name.chars().count() > NAME_CHARS_MAX {
        let text = format!("a key's name has 1 to {NAME_CHARS_MAX} characters");
        return Err(ApiError::new(&codes::INVALID_VALUE, text).param("name"));
    }
    let (named, scopes) = asked(&new)?;
    let theirs = ours(&who).is_some_and(|it| it != project);
    if theirs || !app.keys.has_project(project).await? {
        return Err(ApiError::new(&codes::NOT_FOUND, format!("there is no project `{project}`"))
            .param("project"));
    }
    gives_no_more(&who, scopes)?;
    if let Some(name) = new.limits.and_then(|it| it.mistake()) {
        let text = format!("`{name}` is at least 1; leave it out for the project's limit");
        return Err(ApiError::new(&codes::INVALID_VALUE, text).param(format!("limits.{name}")));
    }
    let now = app.clock.now();
    let expires_at = ends(&new, now)?;
    let key = NewKey {
        project: project.to_owned(),
        name: new.name.clone(),
        role: named.map(str::to_owned),
        scopes,
        expires_at,
        limits: new.limits,
    };
    let made = app.keys.create(key).await?;
    Ok(json!({
        "id": made.id,
        "project": project,
        "name": new.name,
        "admin": scopes.has(Scope::Admin),
        "role": named,
        "scopes": scopes.words(),
        "expires_at": expires_at,
        "limits": new.limits,
        "key": made.text,
    })
    .into())
}

/// The role that was named, if one was, and the scopes that are meant.
fn asked(new: &New) -> Result<(Option<&str>, Scopes)> {
    let named = match (&new.role, new.admin) {
        (Some(_), true) => {
            let text = "`admin` is a role of its own: say it or another";
            return Err(ApiError::new(&codes::INVALID_VALUE, text).param("role"));
        }
        (Some(name), false) => Some(name.as_str()),
        (None, true) => Some("admin"),
        (None, false) => None,
    };
    match (named, &new.scopes) {
        (Some(_), Some(_)) => {
            let text = "a role is a set of scopes: say `role` or `scopes`, not both";
            Err(ApiError::new(&codes::INVALID_VALUE, text).param("scopes"))
        }
        (None, Some(words)) => {
            let read = Scopes::read(words.iter().map(String::as_str));
            let scopes = read.map_err(|word| {
                let text = format!("there is no scope `{}`", shown(word));
                ApiError::new(&codes::INVALID_VALUE, text)
                    .param("scopes")
                    .why(format!("the scopes are: {}", Scopes::all().words().join(", ")))
            })?;
            if scopes == Scopes::default() {
                let text = "a key without a scope may do nothing";
                return Err(ApiError::new(&codes::INVALID_VALUE, text).param("scopes"));
            }
            Ok((None, scopes))
        }
        (named, None) => {
            let name = named.unwrap_or("member");
            let found = role(name).ok_or_else(|| {
                let names: Vec<&str> = ROLES.iter().map(|it| it.name).collect();
                let text = format!("there is no role `{}`", shown(name));
                ApiError::new(&codes::INVALID_VALUE, text)
                    .param("role")
                    .why(format!("the roles are: {}", names.join(", ")))
            })?;
            Ok((Some(found.name), (found.scopes)()))
        }
    }
}

/// Nobody makes a key that may do more than he himself.
fn gives_no_more(who: &Principal, scopes: Scopes) -> Result<()> {
    match who.scopes.lacks(scopes) {
        Some(Scope::Admin) => may(who, Scope::Admin),
        Some(scope) => may(who, scope).map_err(|err| err.why("a key gives no more than it has")),
        None => Ok(()),
    }
}

fn ends(new: &New, now: Millis) -> Result<Option<Millis>> {
    let bad =
        |param: &str, text: &str| Err(ApiError::new(&codes::INVALID_VALUE, text).param(param));
    match (&new.expires, new.expires_at) {
        (Some(_), Some(_)) => bad("expires_at", "say `expires` or `expires_at`, not both"),
        (None, Some(at)) if at <= now => bad("expires_at", "that time has passed"),
        (None, at) => Ok(at),
        (Some(text), None) => match span(text).filter(|it| *it > 0) {
            Some(ms) => Ok(Some(now.saturating_add(ms))),
            None => bad("expires", "a time to live is a number with s, m, h or d: `30d`"),
        },
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotate {
    /// How long the old text is good beside the new one.
    grace: Option<String>,
}

const GRACE: &str = "24h";

pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    whole: Whole,
) -> Result<Answer> {
    let how: Rotate = whole.read()?;
    let grace = span(how.grace.as_deref().unwrap_or(GRACE)).ok_or_else(|| {
        let text = "a time of grace is a number with s, m, h or d: `24h`, or `0s` for none";
        ApiError::new(&codes::INVALID_VALUE, text).param("grace")
    })?;
    let key = meant(&app, &who, &id).await?;
    gives_no_more(&who, key.doc.scopes())?;
    let made = app.keys.rotate(&key.id, ours(&who), grace).await?.ok_or_else(|| {
        ApiError::new(&codes::NOT_POSSIBLE, "the key has expired or was revoked")
            .attempt("everstate key create NAME")
    })?;
    let until = app.clock.now().saturating_add(grace);
    let (project, name) = (key.doc.project, key.doc.name);
    Ok(json!({
        "id": made.id, "project": project, "name": name, "old_text_until": until, "key": made.text,
    })
    .into())
}

pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
) -> Result<Answer> {
    let key = meant(&app, &who, &id).await?;
    // Whoever could revoke a key that may do more could lock its holder out.
    gives_no_more(&who, key.doc.scopes())?;
    if !app.keys.revoke(&key.id, ours(&who)).await? {
        return Err(missing());
    }
    Ok(json!({ "id": key.id, "deleted": true }).into())
}

/// The key of this id, or the only one whose id begins so: old ids are longer than anybody types.
async fn meant(app: &App, who: &Principal, id: &str) -> Result<Listed> {
    let mut theirs = app.keys.list(ours(who)).await?;
    theirs.retain(|it| it.id == id || (id.len() >= SHORTEST && it.id.starts_with(id)));
    match theirs.len() {
        1 => Ok(theirs.remove(0)),
        _ => Err(missing()),
    }
}

const SHORTEST: usize = 12;

fn missing() -> ApiError {
    ApiError::new(&codes::NOT_FOUND, "there is no such key").param("id")
}
