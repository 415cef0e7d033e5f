//! Reads a store when no server runs: verifying its logs, explaining why a step went where it went, and what `doctor`
//! wants to know. Nothing is adopted, and no work is started.

pub use everstate_store::copy::Counts;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use everstate_kernel::event::Append;
use everstate_kernel::ids::{Seq, SessionId};
use everstate_kernel::offer::Offer;
use everstate_placement::offers::Offers;
use everstate_runtime::ports::{ListKey, Listed, RowKind, Verdict};
use everstate_store::copy::{self, CopyError, End, Outcome};
use everstate_store::open::{self, Store};
use serde_json::{Value, json};

use crate::api::everstate::{explain, installation};
use crate::config::Settings;
use crate::error::{ApiError, Result, codes, shown};
use crate::keys::{INSTALLATION, PROJECT, hex};
use crate::stall::OFFERS;
use crate::wiring::{self, Env};

/// One session's log, and what was found.
#[derive(Clone, Debug)]
pub struct Verified {
    pub session: SessionId,
    pub project: String,
    pub rows: u64,
    pub erased: u64,
    /// The first thing that is wrong, in words.
    pub broken: Option<String>,
    pub head: Seq,
    /// Hash of the newest header, in hexadecimal.
    pub hash: String,
    /// The log of another installation, kept with this session, that it was written in before it came here.
    pub kept_with: Option<SessionId>,
}

const PAGE: usize = 500;
/// A person waits for it.
const WAIT: Duration = Duration::from_secs(2);

/// Verifies every session of every project.
pub async fn verify(settings: &Settings, env: Env<'_>) -> Result<Vec<Verified>> {
    let store = open(settings, env).await?;
    let mut verified = Vec::new();
    for (project, ListKey { session, .. }) in sessions(&store).await? {
        let own = store.log.verify(session).await?;
        let kept = store.archive.verify(session).await?;
        let kept = kept.into_iter().map(|it| (it.session, it.verdict, Some(session)));
        for (session, verdict, kept_with) in [(session, own, None)].into_iter().chain(kept) {
            let Verdict { rows, erased, broken, head } = verdict;
            let (head, hash, project) = (head.seq, hex(&head.hash), project.clone());
            verified.push(Verified {
                session,
                project,
                rows,
                erased,
                broken,
                head,
                hash,
                kept_with,
            });
        }
    }
    Ok(verified)
}

/// What `/everstate/v1/sessions/{id}/explain` answers. `session` is an id, the unique beginning of one, or `@`.
pub async fn explain(
    settings: &Settings,
    env: Env<'_>,
    session: &str,
    step: Option<&str>,
) -> Result<Value> {
    let store = open(settings, env).await?;
    let wanted = step.map(explain::read_step).transpose()?;
    let id = find(&store, session).await?;
    let mut appends = Vec::new();
    let mut after = 0;
    loop {
        let rows = store.log.read(id, after, PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.seq;
        for row in rows.iter().filter(|it| it.kind == RowKind::Events) {
            let append = Append::decode(row.seq, &row.body).map_err(|err| {
                ApiError::new(&codes::STORE_FAILED, format!("row {} of {id}: {err}", row.seq))
            })?;
            appends.push(append);
        }
    }
    let mut attempts = explain::Attempts::new(id, wanted);
    for append in &appends {
        for revision in attempts.needs(append) {
            let found = store.registry.get(INSTALLATION, OFFERS, &revision.to_string()).await?;
            let list = found.and_then(|it| serde_json::from_slice::<Vec<Offer>>(&it.body).ok());
            attempts.know(revision, list.map(Offers::new));
        }
        attempts.hear(append);
    }
    attempts.told()
}

/// What there is to say about the store for `doctor`. `None`: there is none yet.
pub async fn store(settings: &Settings, env: Env<'_>) -> Result<Option<Value>> {
    if !is_there(settings, env).await? {
        return Ok(None);
    }
    let facts = open(settings, env).await?.upkeep.facts().await?;
    Ok(Some(installation::store_told(settings, &facts)))
}

/// Tries the place of the blobs, where one was named: what it is, and what is wrong with it.
pub async fn blobs(settings: &Settings, env: Env<'_>) -> Result<Option<Value>> {
    let Some(place) = wiring::blobs(settings, env)? else { return Ok(None) };
    let down = place.probe().await.err().map(|it| it.0);
    Ok(Some(json!({ "blobs": place.to_string(), "blobs_down": down })))
}

/// The providers that a server would have, and where their credentials come from. Nobody is asked.
pub fn providers(settings: &Settings, env: Env<'_>) -> Result<Value> {
    let (_, sources) = wiring::goods(settings, env, NOWHERE)?;
    Ok(installation::sources_told(&sources))
}

/// Copies the store of one configuration to that of another, and says how it goes. With `wait` it stays until nobody is
/// at work at the source.
pub async fn copy(
    from: &Settings,
    to: &Settings,
    env: Env<'_>,
    wait: bool,
    say: &mut (dyn FnMut(&Counts) + Send),
) -> Result<Copied> {
    let end = |settings| -> Result<End> {
        let (url, settings) = wiring::opening(settings, env, NOWHERE, WAIT)?;
        Ok(End { url, settings })
    };
    match copy::copy(&end(from)?, &end(to)?, wait, say).await {
        Ok(Outcome::Done { counts, verified, erased }) => Ok(Copied { counts, verified, erased }),
        Ok(Outcome::CaughtUp { counts, busy }) => {
            let Counts { rounds, changed, sessions, .. } = counts;
            let text = format!(
                "after {rounds} rounds the target holds nearly all of {sessions} sessions, and {busy}"
            );
            Err(ApiError::new(&codes::COPY_WAITS, text)
                .why(format!("{changed} sessions had changed in the last round; what changes now is not copied"))
                .attempt("stop the server, and run the same command again; or run it with --wait, and stop the server then"))
        }
        Err(CopyError::Open(err)) => {
            Err(wiring::not_opened(if to.is_shared() { to } else { from }, &err))
        }
        Err(CopyError::Refused(why)) => Err(ApiError::new(&codes::COPY_REFUSED, why)),
        Err(err @ CopyError::Differs(_)) => {
            Err(ApiError::new(&codes::COPY_DIFFERS, err.to_string()))
        }
        Err(CopyError::Down(down)) => Err(down.into()),
    }
}

/// A finished copy.
#[derive(Clone, Debug)]
pub struct Copied {
    pub counts: Counts,
    /// Rows of the target whose chains were followed, and how many of them are erased.
    pub verified: u64,
    pub erased: u64,
}

/// No server listens while a store is read.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn is_there(settings: &Settings, env: Env<'_>) -> Result<bool> {
    let (url, how) = wiring::opening(settings, env, NOWHERE, WAIT)?;
    open::is_there(&url, &how).await.map_err(|err| wiring::not_opened(settings, &err))
}

async fn open(settings: &Settings, env: Env<'_>) -> Result<Store> {
    if !is_there(settings, env).await? {
        let text = format!("there is no store at {}", settings.store_shown());
        return Err(ApiError::new(&codes::NOT_FOUND, text).attempt("--store sqlite:PATH"));
    }
    wiring::open_store(settings, env, NOWHERE, WAIT).await
}

/// All sessions with their projects, the newest of each project first.
async fn sessions(store: &Store) -> Result<Vec<(String, ListKey)>> {
    let mut all = Vec::new();
    let projects = store.registry.documents(INSTALLATION, PROJECT, None, 10_000).await?;
    for project in projects {
        let mut before = None;
        loop {
            let page = store.log.list(&project.id, before, PAGE).await?;
            let Some(last) = page.last() else { break };
            let key = |it: &Listed| ListKey { created_at: it.created_at, session: it.session };
            before = Some(key(last));
            all.extend(page.iter().map(|it| (project.id.clone(), key(it))));
        }
    }
    Ok(all)
}

async fn find(store: &Store, text: &str) -> Result<SessionId> {
    if let Ok(id) = text.parse::<SessionId>() {
        return Ok(id);
    }
    let missing = || {
        let text = format!("there is no session `{}` in this store", shown(text));
        ApiError::new(&codes::NOT_FOUND, text)
    };
    let all: Vec<ListKey> = sessions(store).await?.into_iter().map(|(_, key)| key).collect();
    if text == "@" {
        let newest = all.into_iter().max_by_key(|it| it.created_at);
        return newest.map(|it| it.session).ok_or_else(missing);
    }
    let found: Vec<SessionId> = all
        .into_iter()
        .map(|it| it.session)
        .filter(|it| it.to_string().starts_with(text))
        .collect();
    match found[..] {
        [only] => Ok(only),
        [] => Err(missing()),
        _ => {
            let names: Vec<Value> = found.iter().map(|it| json!(it)).collect();
            let text = format!("more than one session begins with `{}`", shown(text));
            Err(ApiError::new(&codes::NOT_POSSIBLE, text).why(Value::from(names).to_string()))
        }
    }
}
