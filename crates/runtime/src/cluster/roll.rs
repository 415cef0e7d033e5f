//! The roll: what nodes write about themselves, and the assignment, as documents of the registry.
//!
//! Every change is made against the revision that was read. Nothing here expires by anybody's wall clock while it
//! matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use everstate_kernel::ids::{Millis, SessionId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::assignment::{Assignment, Seen};
use crate::ports::{Down, Peer, Put, PutError, Registry};

const KIND: &str = "cluster";
const NODE: &str = "node/";
const ASSIGNMENT: &str = "assignment";
const KNOCK: &str = "knock/";
const PAGE: usize = 512;
/// How long a dead node is remembered, and a knock that nobody heard.
const REMEMBERED_MS: Millis = 3_600_000;

/// What a node says about itself; of a dead one, what another said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodePaper {
    pub(crate) name: String,
    pub(crate) address: String,
    /// Its release.
    pub(crate) version: String,
    /// The newest version of rows it can read.
    pub(crate) reads: u16,
    /// Of its process.
    pub(crate) epoch: u64,
    pub(crate) beat: u64,
    pub(crate) state: NodeState,
    /// It follows the assignment up to this revision: of the buckets that are not its own by it, it works in none but
    /// those in `holding`.
    pub(crate) settled: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) holding: BTreeSet<u16>,
    #[serde(default)]
    pub(crate) n_live: usize,
    #[serde(default)]
    pub(crate) n_ready: usize,
    #[serde(default)]
    pub(crate) n_posted: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    Live,
    /// It gives back what it has, to stop.
    Leaving,
    /// It was silent for the whole lease. It may not renew: it has to join anew.
    Dead,
}

/// A document as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Paper<T> {
    pub(crate) revision: u64,
    pub(crate) body: T,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Roll {
    pub(crate) nodes: BTreeMap<String, Paper<NodePaper>>,
    pub(crate) assignment: Option<Paper<Arc<Assignment>>>,
    /// Sessions with something in their inbox that their owner could not be told of.
    pub(crate) knocks: BTreeSet<SessionId>,
}

impl Roll {
    /// What has not changed since `last` is taken from there.
    pub(crate) async fn read(registry: &dyn Registry, last: &Roll) -> Result<Roll, Down> {
        let (mut roll, mut before) = (Roll::default(), None);
        loop {
            let page = registry.documents("", KIND, before, PAGE).await?;
            let n_read = page.len();
            before = page.last().map(|it| (it.created_at, it.id.clone()));
            for document in page {
                let (id, revision) = (document.id.as_str(), document.revision);
                if let Some(name) = id.strip_prefix(NODE) {
                    let body = read_paper(id, &document.body)?;
                    roll.nodes.insert(name.to_owned(), Paper { revision, body });
                } else if id == ASSIGNMENT {
                    roll.assignment = Some(match &last.assignment {
                        Some(known) if known.revision == revision => known.clone(),
                        Some(_) | None => {
                            Paper { revision, body: Arc::new(read_paper(id, &document.body)?) }
                        }
                    });
                } else if let Some(Ok(session)) = id.strip_prefix(KNOCK).map(str::parse) {
                    roll.knocks.insert(session);
                }
            }
            if n_read < PAGE {
                return Ok(roll);
            }
        }
    }

    /// Is there a living node whose process this is?
    pub(crate) fn has(&self, process: u64) -> bool {
        self.nodes.values().any(|it| it.body.epoch == process && it.body.state != NodeState::Dead)
    }

    /// Who is to have buckets.
    pub(crate) fn members(&self) -> BTreeSet<String> {
        let live = self.nodes.iter().filter(|(_, it)| it.body.state == NodeState::Live);
        live.map(|(name, _)| name.clone()).collect()
    }

    /// The version that all of these nodes read.
    pub(crate) fn version(&self) -> Option<u16> {
        let alive = self.nodes.values().filter(|it| it.body.state != NodeState::Dead);
        alive.map(|it| it.body.reads).min()
    }

    /// A node that is not known to be dead.
    pub(crate) fn peer(&self, name: &str) -> Option<Peer> {
        let node = &self.nodes.get(name)?.body;
        (node.state != NodeState::Dead).then(|| Peer {
            name: node.name.clone(),
            address: node.address.clone(),
            epoch: node.epoch,
        })
    }

    /// Who decides for a session, then who may still be at work on it.
    pub(crate) fn owners(&self, session: SessionId) -> Vec<Peer> {
        let assignment = self.assignment.as_ref().map(|it| &it.body);
        let Some(seat) = assignment.and_then(|it| it.seat(session.bucket())) else {
            return Vec::new();
        };
        [&seat.owner].into_iter().chain(&seat.from).filter_map(|it| self.peer(it)).collect()
    }
}

impl Seen for Roll {
    fn is_gone(&self, node: &str) -> bool {
        self.nodes.get(node).is_none_or(|it| it.body.state == NodeState::Dead)
    }

    fn has_let_go(&self, node: &str, bucket: u16, since: u64) -> bool {
        self.nodes.get(node).is_none_or(|it| {
            let it = &it.body;
            it.state == NodeState::Dead || it.settled >= since && !it.holding.contains(&bucket)
        })
    }
}

fn read_paper<T: DeserializeOwned>(id: &str, body: &[u8]) -> Result<T, Down> {
    serde_json::from_slice(body).map_err(|err| {
        Down(format!("cannot read the registry's document {KIND}/{id}: {err}; run a later release"))
    })
}

pub(crate) async fn put_node(
    registry: &dyn Registry,
    expect: Option<u64>,
    node: &NodePaper,
    now: Millis,
) -> Result<u64, PutError> {
    let is_dead = node.state == NodeState::Dead;
    let put = Put {
        project: String::new(),
        kind: KIND.to_owned(),
        id: format!("{NODE}{}", node.name),
        expect,
        body: Bytes::from(serde_json::to_vec(node).expect("a node has a JSON form")),
        now,
        expires_at: is_dead.then_some(now + REMEMBERED_MS),
    };
    registry.put(put).await
}

pub(crate) async fn remove_node(registry: &dyn Registry, name: &str) -> Result<(), Down> {
    registry.remove("", KIND, &format!("{NODE}{name}")).await
}

pub(crate) async fn put_assignment(
    registry: &dyn Registry,
    expect: Option<u64>,
    assignment: &Assignment,
    now: Millis,
) -> Result<u64, PutError> {
    let put = Put {
        project: String::new(),
        kind: KIND.to_owned(),
        id: ASSIGNMENT.to_owned(),
        expect,
        body: Bytes::from(serde_json::to_vec(assignment).expect("an assignment has a JSON form")),
        now,
        expires_at: None,
    };
    registry.put(put).await
}

/// Leaves word that something waits in a session's inbox, for an owner that cannot be told.
pub(crate) async fn put_knock(
    registry: &dyn Registry,
    session: SessionId,
    now: Millis,
) -> Result<(), Down> {
    let put = Put {
        project: String::new(),
        kind: KIND.to_owned(),
        id: format!("{KNOCK}{session}"),
        expect: None,
        body: Bytes::from_static(b"{}"),
        now,
        expires_at: Some(now + REMEMBERED_MS),
    };
    match registry.put(put).await {
        // Somebody else has knocked there.
        Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
        Err(PutError::Down(down)) => Err(down),
    }
}

pub(crate) async fn remove_knock(registry: &dyn Registry, session: SessionId) -> Result<(), Down> {
    registry.remove("", KIND, &format!("{KNOCK}{session}")).await
}
