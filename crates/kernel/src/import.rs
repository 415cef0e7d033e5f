//! Importing: a new session that begins with what another installation's had said.
//!
//! It is a fork whose parent is elsewhere: no inherited work starts, no approval is inherited, calls that clients run
//! stay open. Beyond that, what only the other installation or its providers can read is left behind, and named.
//!
//! Turns, items and calls keep their numbers, and the session that has them is a new one: so the map from old names
//! to new ones is the list of the sessions that had minted them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::fork::{How, Inheritance, Lineage, copy};
use crate::ids::{ASIDE, CallId, ItemId, Millis, Seq, SessionId, TurnNo};
use crate::input::Create;
use crate::item::{Body, Item, Outcome, Role, Status};
use crate::request::illegal;
use crate::state::{CallState, Entry, Session, Transcript};

/// Where an imported session comes from, as its bundle says. Its chains were checked against their heads; that the
/// heads are the true ones is known only to whoever compares them with the other installation's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub session: SessionId,
    /// What it was called there; not a project of ours.
    pub project: String,
    /// The release that wrote the bundle.
    pub release: String,
    pub exported_at: Millis,
    /// The logs it was written in, the oldest first; the last is the session's own.
    pub chains: Vec<Chain>,
    /// The map of names: those minted by each of these sessions, up to this turn, are this session's with the same
    /// numbers.
    pub renamed: Vec<Lineage>,
    /// What could not come along, in words.
    pub left_behind: Vec<String>,
}

/// The end of a log that is kept with the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub session: SessionId,
    pub seq: Seq,
    /// Of its last header, in hexadecimal.
    pub hash: String,
}

/// The first input of an imported session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    pub create: Create,
    pub origin: Origin,
}

/// What an import of a session begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Luggage {
    pub inheritance: Inheritance,
    pub renamed: Vec<Lineage>,
    pub left_behind: Vec<String>,
}

/// What can be taken along of a session that was folded from its own log; `None` before it was created.
pub fn pack(session: &Session) -> Option<Luggage> {
    let mut inheritance = copy(session, How::Import)?;
    // Its names are minted anew, all by the session that inherits them.
    let renamed = std::mem::take(&mut inheritance.lineage);
    let mut left_behind = Vec::new();
    if session.about.as_ref().is_some_and(|it| it.named) {
        left_behind.push("its name as a conversation".to_owned());
    }
    if let Some(turn) = &session.live.turn {
        left_behind.push(format!("turn {}, which was under way", turn.no));
    }
    left_behind.extend(calls_left(session));
    left_behind.extend(strip(&mut inheritance.items));
    if let Some(warm) = inheritance.warm.take() {
        left_behind.push(format!(
            "what the provider of `{}` had cached ({} tokens)",
            warm.offer, warm.tokens
        ));
    }
    Some(Luggage { inheritance, renamed, left_behind })
}

/// Can a session begin with this? What was written by ourselves always can; what somebody else wrote is looked at.
/// The error says what cannot be, in words.
pub fn check(inheritance: &Inheritance) -> Result<(), String> {
    let Inheritance { turn_no, items, open, settings, .. } = inheritance;
    if *turn_no > TURNS_MAX {
        return Err(format!("it counts {turn_no} turns"));
    }
    let mut names = BTreeSet::new();
    for item in items {
        let (turn, idx) = (item.id.turn, item.id.idx);
        if turn > *turn_no || !names.insert(item.id) {
            return Err(format!("its item {turn}:{idx} has a name that cannot be its own"));
        }
    }
    if let Some((id, _)) = open.iter().find(|(_, it)| it.state != CallState::WithClient) {
        return Err(format!("its call {id} is open and is not a client's"));
    }
    if settings.as_ref().is_some_and(|it| !it.value().is_object()) {
        return Err("its settings are no JSON object".to_owned());
    }
    // With its open calls answered, what it would send has to be what may be sent.
    let answers = open.iter().map(|(call, _)| {
        let body = Body::Result { call: *call, outcome: Outcome::Ok, output: Vec::new() };
        let id = ItemId { turn: TurnNo::MAX, idx: call.n };
        Item { id, body, status: Status::Completed, provider_id: None, extra: None }
    });
    let entry = |item: Item| Entry { item: Arc::new(item), hidden: false };
    let entries = items.iter().cloned().chain(answers).map(entry).collect();
    let transcript = Transcript { entries, ..Transcript::default() };
    illegal(&transcript.sent()).map_or(Ok(()), Err)
}

/// No session has had more.
const TURNS_MAX: TurnNo = 1 << 30;

/// Calls that were open and do not go on here.
fn calls_left(session: &Session) -> Vec<String> {
    let line = |id: &CallId, name: &str, became: &str| format!("call {id} of `{name}`: {became}");
    let calls = session.live.calls.iter().filter_map(|(id, call)| {
        let became = match call.state {
            CallState::WithClient => return None,
            CallState::Started => "it was running; here it is unknown",
            CallState::AwaitingApproval { .. } => {
                "it waited for a person; the approval is not inherited, here it is cancelled"
            }
            CallState::Approved => {
                "a person had said yes; the approval is not inherited, here it is cancelled"
            }
            CallState::Asked => "it had not started; here it is cancelled",
        };
        Some(line(id, &call.name, became))
    });
    calls.collect()
}

/// Takes away what only a provider could read, and says how much it was.
fn strip(items: &mut [Item]) -> Vec<String> {
    let mut sealed: BTreeMap<String, u32> = BTreeMap::new();
    let mut n_ids = 0;
    for item in items {
        if let Body::Reasoning(reasoning) = &mut item.body
            && let Some(it) = reasoning.sealed.take()
        {
            *sealed.entry(it.domain).or_default() += 1;
        }
        if is_providers(item) && item.provider_id.take().is_some() {
            n_ids += 1;
        }
    }
    let mut left: Vec<String> = sealed
        .into_iter()
        .map(|(domain, n)| format!("sealed reasoning of `{domain}`, {n} items: only their text, if they had any, came along"))
        .collect();
    if n_ids > 0 {
        left.push(format!("the names that providers had given to {n_ids} items"));
    }
    left
}

/// Was it a provider that named it, and not the client?
fn is_providers(item: &Item) -> bool {
    match &item.body {
        Body::Message { role, .. } => *role == Role::Assistant,
        Body::Call { call, .. } => call.n < ASIDE,
        Body::Reasoning(_) | Body::Opaque { .. } => true,
        Body::Result { .. } | Body::Compaction { .. } | Body::Note { .. } | Body::Erased => false,
    }
}
