//! The lists of sessions: documents in the registry, one for each list a session stands in. They are entered before
//! the session is made, and before it gets the metadata they are about; what a list finds is looked at before it is told.

use std::collections::{BTreeMap, BTreeSet};

use everstate_dialects::agents::config::SessionDoc;
use everstate_kernel::ids::{Millis, SessionId};
use everstate_kernel::state::Session;
use everstate_runtime::ports::{Put, PutError};
use futures_util::future::try_join_all;

use super::sessions::settings;
use crate::app::App;
use crate::error::Result;
use crate::keys::{hex, sha256};
use crate::retention::own;

/// All sessions of a project.
pub(super) const ALL: &str = "agents.session";

/// The sessions of a saved agent.
pub(super) fn of_agent(agent_id: &str) -> String {
    format!("{ALL}/{agent_id}")
}

/// The sessions that have this in their metadata. Hashed, so that any key and value make a good name.
pub(super) fn of_pair(key: &str, value: &str) -> String {
    let hash = sha256(&[key.as_bytes(), b"\0", value.as_bytes()].concat());
    format!("{ALL}/{}", &hex(&hash)[..32])
}

pub(crate) type Pairs = BTreeMap<String, String>;

/// A session that is about to be made.
pub(super) async fn enter(
    app: &App,
    project: &str,
    session: SessionId,
    doc: &SessionDoc,
    metadata: &Pairs,
) -> Result<()> {
    if let Some(kept) = own::of_pairs(metadata)?.or(own::of_pairs(&doc.agent.metadata)?) {
        own::note(app, project, session, kept).await?;
    }
    let agent = doc.agent_version.map(|_| of_agent(&doc.agent_id));
    let pairs = metadata.iter().map(|(key, value)| of_pair(key, value));
    let kinds = std::iter::once(ALL.to_owned()).chain(agent).chain(pairs);
    put_all(app, project, session, kinds, app.clock.now()).await
}

/// Metadata that a session is about to have.
pub(super) async fn add_pairs(
    app: &App,
    project: &str,
    session: SessionId,
    metadata: &Pairs,
) -> Result<()> {
    if let Some(kept) = own::of_pairs(metadata)? {
        own::note(app, project, session, kept).await?;
    }
    // In all lists it stands where it was made.
    let entered = app.registry.get(project, ALL, &session.to_string()).await?;
    let at = entered.map_or_else(|| app.clock.now(), |it| it.created_at);
    let kinds = metadata.iter().map(|(key, value)| of_pair(key, value));
    put_all(app, project, session, kinds, at).await
}

/// What `before` had in its metadata and the session has no more.
pub(super) async fn drop_pairs(
    app: &App,
    project: &str,
    before: &Session,
    session: SessionId,
) -> Result<()> {
    let Ok(now) = app.durable.host.look(session).await else { return Ok(()) };
    let left: BTreeSet<(String, String)> = pairs(&now).into_iter().collect();
    for (key, value) in pairs(before).into_iter().filter(|it| !left.contains(it)) {
        app.registry.remove(project, &of_pair(&key, &value), &session.to_string()).await?;
    }
    Ok(())
}

/// A session that is gone.
pub(crate) async fn leave(app: &App, project: &str, session: &Session) -> Result<()> {
    let (Some(id), Some(doc)) = (session.id(), settings(session)) else { return Ok(()) };
    let pairs = pairs(session);
    let kinds = pairs.iter().map(|(key, value)| of_pair(key, value));
    let kinds = kinds.chain([of_agent(&doc.agent_id), ALL.to_owned()]);
    for kind in kinds {
        app.registry.remove(project, &kind, &id.to_string()).await?;
    }
    Ok(())
}

/// A session's metadata as it stands.
pub(crate) fn pairs(session: &Session) -> Pairs {
    let metadata = session.about.as_ref().and_then(|it| it.metadata.as_ref());
    metadata.and_then(|it| serde_json::from_str(it.text()).ok()).unwrap_or_default()
}

async fn put_all(
    app: &App,
    project: &str,
    session: SessionId,
    kinds: impl Iterator<Item = String>,
    at: Millis,
) -> Result<()> {
    let put = |kind: String| async move {
        let put = Put {
            project: project.to_owned(),
            kind,
            id: session.to_string(),
            expect: None,
            body: "{}".into(),
            now: at,
            expires_at: None,
        };
        match app.registry.put(put).await {
            // It stands there already: a repeat, or a pair that it had before.
            Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down.into()),
        }
    };
    try_join_all(kinds.map(put)).await.map(drop)
}
