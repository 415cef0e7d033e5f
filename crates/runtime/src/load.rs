//! Reading a session from its log: a snapshot if there is one, then the rows after it.

use std::collections::BTreeMap;

use everstate_kernel::delta::{Fold, Frame};
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{AttemptId, Seq, SessionId};
use everstate_kernel::input::Shown;
use everstate_kernel::state::Session;

use crate::ports::{Down, Head, Log, RowKind};

const PAGE: usize = 512;

#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: Session,
    pub(crate) head: Head,
    /// How many appends were read after the snapshot.
    pub(crate) since_snapshot: u64,
    /// Of what was read.
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) enum LoadError {
    Down(Down),
    /// The log cannot be folded here: why.
    Broken(String),
}

impl From<Down> for LoadError {
    fn from(down: Down) -> LoadError {
        LoadError::Down(down)
    }
}

/// `None` if there is no such session.
pub(crate) async fn load(log: &dyn Log, session: SessionId) -> Result<Option<Loaded>, LoadError> {
    let (state, head, bytes) = snapshot(log, session).await?.unwrap_or_default();
    go_on(log, session, state, head, bytes).await
}

/// Folds what came after.
pub(crate) async fn go_on(
    log: &dyn Log,
    session: SessionId,
    mut state: Session,
    mut head: Head,
    mut bytes: u64,
) -> Result<Option<Loaded>, LoadError> {
    let mut since_snapshot = 0;
    loop {
        let rows = log.read(session, head.seq, PAGE).await?;
        let n_rows = rows.len();
        for row in rows {
            if row.seq <= head.seq {
                return Err(LoadError::Broken(format!("row {} is out of order", row.seq)));
            }
            head.seq = row.seq;
            if row.kind == RowKind::Frame {
                continue;
            }
            head.hash = row.hash;
            bytes += row.body.len() as u64;
            let append = Append::decode(row.seq, &row.body).map_err(|err| {
                LoadError::Broken(format!("row {} is unreadable: {err}", row.seq))
            })?;
            if let Some(foreign) = foreign(&append) {
                return Err(LoadError::Broken(format!(
                    "row {} holds `{foreign}`, which this release does not know; run a later one",
                    row.seq
                )));
            }
            fold(&mut state, &append).map_err(LoadError::Broken)?;
            since_snapshot += 1;
        }
        if n_rows < PAGE {
            return Ok((head.seq > 0).then_some(Loaded { state, head, since_snapshot, bytes }));
        }
    }
}

/// A snapshot is a cache: one that cannot be read is as good as none.
async fn snapshot(log: &dyn Log, session: SessionId) -> Result<Option<(Session, Head, u64)>, Down> {
    let Some((head, body)) = log.snapshot(session).await? else { return Ok(None) };
    match serde_json::from_slice::<Session>(&body) {
        Ok(state) if state.head <= head.seq && state.id() == Some(session) => {
            Ok(Some((state, head, body.len() as u64)))
        }
        Ok(_) | Err(_) => {
            tracing::warn!(%session, "the snapshot does not fit; folding the whole log");
            Ok(None)
        }
    }
}

fn foreign(append: &Append) -> Option<&str> {
    append.events.iter().find_map(|it| match it {
        Event::Foreign(foreign) => Some(foreign.kind.as_str()),
        _ => None,
    })
}

/// Folding is total; should it ever not be, it is this session alone that stops.
pub(crate) fn fold(state: &mut Session, append: &Append) -> Result<(), String> {
    let apply = std::panic::AssertUnwindSafe(|| state.apply(append));
    std::panic::catch_unwind(apply).map_err(|panic| {
        format!("row {} cannot be folded: {}", append.seq, crate::keep::panic_text(&*panic))
    })
}

/// What had been shown of the attempts under way when the last owner stopped.
pub(crate) async fn shown(
    log: &dyn Log,
    session: SessionId,
    state: &Session,
) -> Result<BTreeMap<AttemptId, ShownFold>, LoadError> {
    let mut folds: BTreeMap<AttemptId, ShownFold> = BTreeMap::new();
    let turn = state.live.turn.as_ref();
    let Some(turn) = turn.filter(|it| it.terms.resumable && !it.attempts.is_empty()) else {
        return Ok(folds);
    };
    let started = state.transcript.turns.get(&turn.no).map_or(0, |it| it.started);
    let mut last: Seq = started;
    loop {
        let rows = log.read(session, last, PAGE).await?;
        let n_rows = rows.len();
        for row in rows {
            last = row.seq;
            if row.kind == RowKind::Events {
                continue;
            }
            let frame: Frame = serde_json::from_slice(&row.body).map_err(|err| {
                LoadError::Broken(format!("frame {} is unreadable: {err}", row.seq))
            })?;
            if state.live.attempt(frame.attempt).is_some() {
                folds.entry(frame.attempt).or_default().push(&frame);
            }
        }
        if n_rows < PAGE {
            return Ok(folds);
        }
    }
}

/// What was shown of one attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct ShownFold {
    fold: Fold,
    n_frames: u64,
}

impl ShownFold {
    pub(crate) fn push(&mut self, frame: &Frame) {
        frame.deltas.iter().for_each(|it| self.fold.push(it));
        self.n_frames += 1;
    }

    pub(crate) fn n_frames(&self) -> u64 {
        self.n_frames
    }

    /// As if the attempt ended here.
    pub(crate) fn cut(&self, attempt: AttemptId) -> Shown {
        Shown { attempt, outputs: self.fold.clone().cut(), frames: self.n_frames }
    }
}
