//! Finds what is due, project by project, in the list of sessions: what is younger than the shortest time is not looked
//! at. What is due goes by the doors a client would use, so a crash in between leaves nothing half done, and the next
//! sweep finds the rest. Of many nodes one sweeps at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use everstate_kernel::ids::{ItemId, Millis, SessionId, TurnNo};
use everstate_kernel::item::Body;
use everstate_kernel::state::Session;
use everstate_runtime::host::FeedError;
use everstate_runtime::ports::{Down, ListKey, Listed, Put, PutError};
use serde::{Deserialize, Serialize};

use super::own;
use super::rules::Rules;
use crate::api::responses::{DOOR, delete};
use crate::app::App;
use crate::config::projects::EVERY;
use crate::error::Result;
use crate::{meters, refuse};

pub(super) const KIND: &str = "retention";
/// The document of whoever sweeps, until it is time again.
const TURN: &str = "turn";
/// The document of the last sweep that came to its end.
pub(super) const LAST: &str = "last";
/// A sweep is at most this long after the one before...
const EVERY_MS: Millis = 10 * 60 * 1_000;
/// ...and at least.
const SOON_MS: Millis = 1_000;
/// Who sweeps and says nothing for so long has died.
const LEASE_MS: Millis = 60_000;
const PAGE: usize = 200;
/// Between two things that are done, so that nobody who waits for an answer notices.
const PACE: Duration = Duration::from_millis(2);
/// Of so many sessions it is remembered when something in them is due.
const KNOWN_MAX: usize = 200_000;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Swept {
    pub(crate) at: Millis,
    pub(crate) took_ms: Millis,
    pub(crate) sessions: u64,
    pub(crate) responses: u64,
    pub(crate) items: u64,
    /// Sessions whose streams were dropped.
    pub(crate) streams: u64,
    /// What could not be done now, and is tried again.
    pub(crate) failed: u64,
}

struct Sweeper {
    app: Arc<App>,
    /// When something inside a session is due, as far as that was found out.
    known: BTreeMap<SessionId, Known>,
    /// The revision of the document by which it is our turn.
    turn: u64,
}

struct Known {
    last_at: Millis,
    next: Millis,
}

/// A project's rules, by name: of those that have any.
pub(super) async fn projects(app: &App) -> Result<BTreeMap<String, Rules>> {
    let config = &app.settings.file.projects;
    let rules = names(app).await?.into_iter().map(|it| (Rules::of(config, &it), it));
    Ok(rules.filter(|it| it.0.shortest().is_some()).map(|(rules, it)| (it, rules)).collect())
}

async fn names(app: &App) -> Result<BTreeSet<String>> {
    let named = app.settings.file.projects.keys().filter(|it| *it != EVERY).cloned();
    Ok(app.keys.projects().await?.into_iter().chain(named).collect())
}

/// Goes on until it is dropped.
pub(crate) async fn run(app: Arc<App>) {
    let rules =
        app.settings.file.projects.keys().map(|it| Rules::of(&app.settings.file.projects, it));
    let shortest = rules.filter_map(|it| it.shortest()).min().unwrap_or(Millis::MAX);
    let every = (shortest / 4).clamp(SOON_MS, EVERY_MS);
    let mut sweeper = Sweeper { app, known: BTreeMap::new(), turn: 0 };
    loop {
        tokio::time::sleep(Duration::from_millis(every)).await;
        match sweeper.take_turn(every).await {
            Ok(Some(swept)) if swept.failed > 0 => {
                tracing::warn!(?swept, "not all that is due could be deleted; it is tried again");
            }
            Ok(_) => {}
            Err(err) => tracing::warn!(%err, "what is due is deleted later"),
        }
    }
}

impl Sweeper {
    /// `None`: another node does it.
    async fn take_turn(&mut self, every: Millis) -> Result<Option<Swept>> {
        match self.hold(None, LEASE_MS).await? {
            Some(revision) => self.turn = revision,
            None => return Ok(None),
        }
        let began = Instant::now();
        let mut swept = Swept { at: self.app.clock.now(), ..Swept::default() };
        for (project, rules) in projects(&self.app).await? {
            self.project(&project, &rules, &mut swept).await?;
        }
        for project in names(&self.app).await? {
            self.by_themselves(&project, &mut swept).await?;
        }
        swept.took_ms = began.elapsed().as_millis() as Millis;
        self.write_down(&swept).await?;
        self.hold(Some(self.turn), every / 2).await?;
        Ok(Some(swept))
    }

    /// The new revision of the document that says whose turn it is; `None` if it is another's.
    async fn hold(&self, expect: Option<u64>, for_ms: Millis) -> Result<Option<u64>> {
        let now = self.app.clock.now();
        let put = Put {
            project: String::new(),
            kind: KIND.to_owned(),
            id: TURN.to_owned(),
            expect,
            body: Vec::new().into(),
            now,
            expires_at: Some(now + for_ms),
        };
        match self.app.registry.put(put).await {
            Ok(revision) => Ok(Some(revision)),
            Err(PutError::Conflict(_)) => Ok(None),
            Err(PutError::Down(down)) => Err(down.into()),
        }
    }

    async fn write_down(&self, swept: &Swept) -> Result<()> {
        let there = self.app.registry.get("", KIND, LAST).await?;
        let put = Put {
            project: String::new(),
            kind: KIND.to_owned(),
            id: LAST.to_owned(),
            expect: there.map(|it| it.revision),
            body: serde_json::to_vec(swept).expect("numbers have a JSON form").into(),
            now: self.app.clock.now(),
            expires_at: None,
        };
        match self.app.registry.put(put).await {
            Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down.into()),
        }
    }

    async fn project(&mut self, project: &str, rules: &Rules, swept: &mut Swept) -> Result<()> {
        let now = self.app.clock.now();
        let mut before = older_than(rules, now);
        while let Some(key) = before {
            let page = self.app.durable.log.list(project, Some(key), PAGE).await?;
            for listed in &page {
                self.session(project, rules, listed, swept).await?;
            }
            before = page
                .last()
                .filter(|_| page.len() == PAGE)
                .map(|it| ListKey { created_at: it.created_at, session: it.session });
            match self.hold(Some(self.turn), LEASE_MS).await? {
                Some(revision) => self.turn = revision,
                None => return Err(Down("another node sweeps".to_owned()).into()),
            }
        }
        Ok(())
    }

    /// Sessions that say for themselves how long they are kept.
    async fn by_themselves(&mut self, project: &str, swept: &mut Swept) -> Result<()> {
        let registry = self.app.registry.clone();
        let mut before = None;
        loop {
            let page = registry.documents(project, own::KIND, before, PAGE).await?;
            before = page.last().map(|it| (it.created_at, it.id.clone()));
            let is_last = page.len() < PAGE;
            for document in page {
                let kept = std::str::from_utf8(&document.body).ok().and_then(|it| it.parse().ok());
                let kept: Millis = kept.unwrap_or_default();
                let Ok(session) = document.id.parse::<SessionId>() else { continue };
                if document.updated_at.saturating_add(kept) <= self.app.clock.now() {
                    self.by_itself(project, session, swept).await?;
                }
            }
            match self.hold(Some(self.turn), LEASE_MS).await? {
                Some(revision) => self.turn = revision,
                None => return Err(Down("another node sweeps".to_owned()).into()),
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn by_itself(
        &mut self,
        project: &str,
        session: SessionId,
        swept: &mut Swept,
    ) -> Result<()> {
        let now = self.app.clock.now();
        let state = match self.app.durable.host.look(session).await {
            Ok(state) => Some(state),
            Err(FeedError::NotFound) => None,
            Err(_) => return Ok(()),
        };
        let kept = state.as_ref().and_then(|it| Some((own::of_session(it)?, it)));
        if let Some((kept, state)) = kept {
            let works = state.live.turn.is_some() && state.live.calls.is_empty();
            if works || state.live.last_at.saturating_add(kept) > now {
                return Ok(());
            }
            let done = delete::whole(&self.app, project, session).await;
            let is_done = done.is_ok();
            count(done.map(|()| 1), &mut swept.sessions, &mut swept.failed, ("session", session));
            if !is_done {
                return Ok(());
            }
        }
        // It never came to be, is gone, or says so no more.
        self.app.registry.remove(project, own::KIND, &session.to_string()).await?;
        tokio::time::sleep(PACE).await;
        Ok(())
    }

    async fn session(
        &mut self,
        project: &str,
        rules: &Rules,
        listed: &Listed,
        swept: &mut Swept,
    ) -> Result<()> {
        let (now, session) = (self.app.clock.now(), listed.session);
        let Some(seen) = Seen::of(listed) else { return Ok(()) };
        if seen.due(rules).is_some_and(|at| at <= now) {
            self.known.remove(&session);
            let done = delete::whole(&self.app, project, session).await;
            count(done.map(|()| 1), &mut swept.sessions, &mut swept.failed, ("session", session));
            tokio::time::sleep(PACE).await;
            return Ok(());
        }
        let Some(within) = rules.within_sessions() else { return Ok(()) };
        let next = self.known.get(&session).map_or(0, |it| match it.last_at == seen.last_at {
            true => it.next,
            false => it.next.min(it.last_at.saturating_add(within)),
        });
        if next > now {
            return Ok(());
        }
        match self.within(project, rules, session, swept).await {
            Ok(next) => {
                if self.known.len() >= KNOWN_MAX {
                    self.known.pop_first();
                }
                self.known.insert(session, Known { last_at: seen.last_at, next });
            }
            Err(err) => {
                swept.failed += 1;
                meters::retention_failed();
                tracing::debug!(%session, %err, "what is due in it is deleted later");
            }
        }
        tokio::time::sleep(PACE).await;
        Ok(())
    }

    /// Does away with what is due inside a session, and says when the next of it is.
    async fn within(
        &self,
        project: &str,
        rules: &Rules,
        session: SessionId,
        swept: &mut Swept,
    ) -> Result<Millis> {
        let host = &self.app.durable.host;
        let state = match host.look(session).await {
            Ok(state) => state,
            Err(FeedError::NotFound) => return Ok(Millis::MAX),
            Err(err) => return Err(refuse::feed(err, session)),
        };
        let now = self.app.clock.now();
        let due = self.due(&state, rules, now).await?;
        if !due.responses.is_empty() && is_of_responses(&state) {
            let gone = delete::gone(&self.app, project, session).await?;
            let new: Vec<TurnNo> = due.responses.difference(&gone).copied().collect();
            if !new.is_empty() {
                delete::away(&self.app, project, session, &new).await?;
                swept.responses += new.len() as u64;
                meters::retained("response", new.len() as u64);
            }
        }
        let items = due.items.map(|through| erasable(&state, through)).unwrap_or_default();
        if !items.is_empty() {
            let n_items = items.len() as u64;
            match host.erase(session, items).await {
                Ok(_) | Err(FeedError::NotFound) => {}
                Err(err) => return Err(refuse::feed(err, session)),
            }
            swept.items += n_items;
            meters::retained("item", n_items);
        }
        if let Some(kept) = rules.frames.filter(|_| due.streams) {
            match host.drop_streams(session, now.saturating_sub(kept)).await {
                Ok(true) => {
                    swept.streams += 1;
                    meters::retained("stream", 1);
                }
                Ok(false) | Err(FeedError::NotFound) => {}
                Err(err) => return Err(refuse::feed(err, session)),
            }
        }
        Ok(due.next)
    }

    async fn due(&self, state: &Session, rules: &Rules, now: Millis) -> Result<Due> {
        let mut due = Due { next: Millis::MAX, ..Due::default() };
        let session = App::about(state)?.id;
        for (&turn, past) in &state.transcript.turns {
            let Some(ended) = past.ended else { continue };
            let rows = self.app.durable.log.read(session, ended - 1, 1).await?;
            let Some(at) = rows.first().map(|it| it.at) else { continue };
            let mut is_due = |kept: Option<Millis>| {
                let when = kept.map(|it| at.saturating_add(it));
                due.next = when.filter(|it| *it > now).map_or(due.next, |it| due.next.min(it));
                when.is_some_and(|it| it <= now)
            };
            let (response, item, stream) =
                (is_due(rules.responses), is_due(rules.items), is_due(rules.frames));
            if response {
                due.responses.insert(turn);
            }
            due.items = if item { Some(turn) } else { due.items };
            due.streams |= stream;
            if !(response || item || stream) {
                // Those that come after it are younger.
                break;
            }
        }
        Ok(due)
    }
}

/// What is due inside a session.
#[derive(Default)]
struct Due {
    responses: BTreeSet<TurnNo>,
    /// Items up to and with this turn.
    items: Option<TurnNo>,
    streams: bool,
    /// When there is more.
    next: Millis,
}

/// What the list says of a session.
#[derive(Deserialize)]
pub(super) struct Seen {
    state: String,
    pub(super) last_at: Millis,
}

impl Seen {
    pub(super) fn of(listed: &Listed) -> Option<Seen> {
        serde_json::from_str(&listed.summary).ok()
    }

    /// When the session is; `None` if it is at work, or is kept for ever.
    pub(super) fn due(&self, rules: &Rules) -> Option<Millis> {
        let kept = rules.sessions.filter(|_| self.state != "running")?;
        Some(self.last_at.saturating_add(kept))
    }
}

/// From where on the list may hold something that is due.
pub(super) fn older_than(rules: &Rules, now: Millis) -> Option<ListKey> {
    let created_at = now.checked_sub(rules.shortest()?)?;
    Some(ListKey { created_at, session: SessionId(u128::MAX) })
}

fn is_of_responses(state: &Session) -> bool {
    state.about.as_ref().is_some_and(|it| it.door == DOOR && !it.named)
}

/// What is left of turns up to this one. A call that is open stays until it has its result.
fn erasable(state: &Session, through: TurnNo) -> Vec<ItemId> {
    if state.live.turn.as_ref().is_some_and(|it| it.no <= through) {
        return Vec::new();
    }
    let transcript = &state.transcript;
    let all = transcript.entries.iter().map(|it| &it.item).chain(&transcript.waiting);
    let is_open = |body: &Body| match body {
        Body::Call { call, .. } => state.live.calls.contains_key(call),
        _ => false,
    };
    let old = all.filter(|it| it.id.turn <= through);
    old.filter(|it| it.body != Body::Erased && !is_open(&it.body)).map(|it| it.id).collect()
}

fn count(done: Result<u64>, into: &mut u64, failed: &mut u64, of: (&'static str, SessionId)) {
    match done {
        Ok(n) => {
            *into += n;
            meters::retained(of.0, n);
        }
        Err(err) => {
            *failed += 1;
            meters::retention_failed();
            tracing::debug!(session = %of.1, %err, "what is due is deleted later");
        }
    }
}
