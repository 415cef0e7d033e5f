//! A session that says for itself how long it is kept, or whose agent does: in its metadata, under a name of ours.
//!
//! Such sessions are found by a document each, written before the session is what it says. The session itself is the
//! truth: what a document points to is looked at before anything is deleted.

use std::collections::BTreeMap;

use everstate_kernel::ids::{Millis, SessionId};
use everstate_kernel::state::Session;
use everstate_runtime::ports::{Put, PutError};

use crate::api::agents;
use crate::app::App;
use crate::config::retention::Days;
use crate::error::{ApiError, Result, codes};

/// Days without anything happening after which the session is deleted.
const KEY: &str = "everstate.retention_days";
pub(super) const KIND: &str = "retention.session";

/// What this metadata says. What is no time is refused, so that nobody relies on it.
pub(crate) fn of_pairs(metadata: &BTreeMap<String, String>) -> Result<Option<Millis>> {
    let Some(text) = metadata.get(KEY) else { return Ok(None) };
    let days = text.parse::<f64>().ok().and_then(Days::new);
    let days = days.ok_or_else(|| {
        ApiError::new(&codes::INVALID_VALUE, format!("`{KEY}` is a number of days, more than 0"))
            .param(format!("metadata.{KEY}"))
    })?;
    Ok(Some(days.ms()))
}

/// What holds for a session: what it says itself, or its agent.
pub(super) fn of_session(session: &Session) -> Option<Millis> {
    let own = of_pairs(&agents::pairs(session)).ok().flatten();
    own.or_else(|| of_pairs(&agents::settings(session)?.agent.metadata).ok().flatten())
}

/// The session is to be looked at when this time has passed.
pub(crate) async fn note(app: &App, project: &str, session: SessionId, kept: Millis) -> Result<()> {
    let id = session.to_string();
    let mut expect = None;
    loop {
        let put = Put {
            project: project.to_owned(),
            kind: KIND.to_owned(),
            id: id.clone(),
            expect,
            body: kept.to_string().into(),
            now: app.clock.now(),
            expires_at: None,
        };
        match app.registry.put(put).await {
            Ok(_) => return Ok(()),
            Err(PutError::Conflict(there)) => expect = there.map(|it| it.revision),
            Err(PutError::Down(down)) => return Err(down.into()),
        }
    }
}
