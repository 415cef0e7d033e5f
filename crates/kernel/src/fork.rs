//! Forking: a new session that begins with what another had said.
//!
//! A fork starts no inherited work and inherits no approval. It inherits the settings, with nothing spent; no pause. Calls that we run and that were open at the cut are
//! closed: `unknown` if they had started, else `cancelled`. Calls a client runs stay open for the fork's first input.

use serde::{Deserialize, Serialize};

use crate::ids::{CallId, ItemId, Seq, SessionId, TurnNo};
use crate::input::Visible;
use crate::item::{Body, Item, Outcome, Part, Status};
use crate::json::Json;
use crate::money::Micros;
use crate::plan::Warm;
use crate::state::{About, Call, CallState, Doubt, Entry, Session};

/// What a fork begins with, copied: deleting the parent harms no fork.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inheritance {
    pub parent: SessionId,
    /// The parent's append after which it was cut.
    pub at: Seq,
    /// The fork counts its turns from here.
    pub turn_no: TurnNo,
    pub lineage: Vec<Lineage>,
    pub items: Vec<Item>,
    /// Calls that clients run, still open.
    pub open: Vec<(CallId, Call)>,
    /// Calls that we had started and whose outcome the fork does not know.
    pub doubts: Vec<(CallId, Doubt)>,
    pub warm: Option<Warm>,
    /// The labels of the tool servers that its calls went to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub served: Vec<(CallId, String)>,
    /// The door's own document about the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Json>,
    /// What each of both may spend. The fork begins with nothing spent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spend_max: Option<Micros>,
}

/// Who minted the names of items and calls: `session` those of turns up to `through` (and after the entry before).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    pub session: SessionId,
    pub through: TurnNo,
}

/// Why a session begins with what another had said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Fork,
    Import,
}

/// What a fork of this session would begin with. To fork at an earlier place, fold the log only so far.
pub fn inherit(session: &Session) -> Option<Inheritance> {
    copy(session, How::Fork)
}

pub(crate) fn copy(session: &Session, how: How) -> Option<Inheritance> {
    let about = session.about.as_ref()?;
    let live = &session.live;
    let turn_no = live.turn_no + 1;
    // A turn that is visible only at its end leaves nothing before it has one.
    let unseen = live.turn.as_ref().filter(|it| it.terms.visible == Visible::AtEnd).map(|it| it.no);
    let seen = |item: &Item| Some(item.id.turn) != unseen || outlives_its_turn(item);

    let entries = &session.transcript.entries;
    let is_kept = |it: &&Entry| {
        let item = &it.item;
        !it.hidden && item.status == Status::Completed && item.body != Body::Erased && seen(item)
    };
    let mut items: Vec<Item> =
        entries.iter().filter(is_kept).map(|it| (*it.item).clone()).collect();
    for item in &mut items {
        // A summary goes on standing for the same, also where its last item is not taken along.
        if let Body::Compaction { through, .. } = &mut item.body
            && let Some(last) = entries.iter().position(|it| it.item.id == *through)
            && let Some(last) = entries[..=last].iter().rfind(is_kept)
        {
            *through = last.item.id;
        }
    }

    let mut open = Vec::new();
    let mut doubts: Vec<(CallId, Doubt)> =
        live.doubts.iter().map(|(id, it)| (*id, it.clone())).collect();
    let mut idx = 0;
    for (&id, call) in live.calls.iter().filter(|(id, _)| Some(id.turn) != unseen) {
        let outcome = match call.state {
            CallState::WithClient => {
                open.push((id, call.clone()));
                continue;
            }
            CallState::Started => Outcome::Unknown,
            CallState::Asked | CallState::AwaitingApproval { .. } | CallState::Approved => {
                Outcome::Cancelled
            }
        };
        if outcome == Outcome::Unknown {
            doubts.push((id, Doubt { closed: outcome }));
        }
        items.push(Item {
            id: ItemId { turn: turn_no, idx },
            body: Body::Result {
                call: id,
                outcome,
                output: vec![Part::text(closed(outcome, how))],
            },
            status: Status::Completed,
            provider_id: None,
            extra: None,
        });
        idx += 1;
    }
    items.extend(session.transcript.waiting.iter().filter(|it| seen(it)).map(|it| (**it).clone()));

    let mut lineage = about.lineage.clone();
    lineage.push(Lineage { session: about.id, through: live.turn_no });
    Some(Inheritance {
        parent: about.id,
        at: session.head,
        turn_no,
        lineage,
        items,
        open,
        doubts,
        warm: live.warm.clone(),
        served: session.transcript.served.iter().map(|(id, it)| (*id, it.clone())).collect(),
        settings: about.settings.clone(),
        spend_max: live.spend_max,
    })
}

/// What stays even of a turn that leaves nothing: without a result an earlier turn's call would stand unanswered, and
/// what became of an outside effect is true whatever became of the turn.
pub(crate) fn outlives_its_turn(item: &Item) -> bool {
    match &item.body {
        Body::Result { call, .. } => call.turn != item.id.turn,
        Body::Note { .. } => true,
        Body::Message { .. }
        | Body::Reasoning(_)
        | Body::Call { .. }
        | Body::Compaction { .. }
        | Body::Opaque { .. }
        | Body::Erased => false,
    }
}

fn closed(outcome: Outcome, how: How) -> &'static str {
    match (outcome, how) {
        (Outcome::Unknown, How::Fork) => {
            "It is not known whether this call took effect: the session was forked while it was running."
        }
        (Outcome::Unknown, How::Import) => {
            "It is not known whether this call took effect: the session was carried to another place while it was running."
        }
        (Outcome::Ok | Outcome::Failed | Outcome::Denied | Outcome::Cancelled, How::Fork) => {
            "This call was not run: the session was forked before it started."
        }
        (Outcome::Ok | Outcome::Failed | Outcome::Denied | Outcome::Cancelled, How::Import) => {
            "This call was not run: the session was carried to another place before it started."
        }
    }
}

impl About {
    /// Which session minted the names of this turn's items and calls.
    pub fn minted_by(&self, turn: TurnNo) -> SessionId {
        self.lineage.iter().find(|it| turn <= it.through).map_or(self.id, |it| it.session)
    }
}
