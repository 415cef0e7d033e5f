//! What happened in a session, and what happens: from the log, then live, without a gap and without a double.

use std::collections::VecDeque;
use std::sync::Arc;

use everstate_kernel::delta::Frame;
use everstate_kernel::event::Append;
use everstate_kernel::ids::{AttemptId, Seq, SessionId};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use crate::cluster::follow::{Wish, follow};
use crate::host::{Host, Inner};
use crate::hub::{Heard, Listener, News};
use crate::ports::{Down, Log, Row, RowKind, Tail};

/// Rows read at once.
pub(crate) const PAGE: usize = 256;

/// Its JSON form is what one node tells another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    #[serde(with = "row")]
    Append(Arc<Append>),
    Frame {
        seq: Seq,
        frame: Arc<Frame>,
    },
    /// Of a foreground turn: shown, not kept, without a place in the sequence. Those of one attempt come from its first
    /// on and without a gap, or end early; what is missing then is in the fact that settles the attempt.
    Shown(Arc<Piece>),
}

/// Something that was shown and is not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Piece {
    /// How many of this attempt came before it.
    pub n: u64,
    pub frame: Frame,
}

impl Told {
    /// Its row, if it has one.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Told::Append(append) => Some(append.seq),
            Told::Frame { seq, .. } => Some(*seq),
            Told::Shown(_) => None,
        }
    }
}

/// An append as its row holds it, so that facts of a later release pass unchanged.
mod row {
    use std::sync::Arc;

    use everstate_kernel::event::Append;
    use everstate_kernel::ids::Seq;
    use everstate_kernel::json::Json;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Row {
        seq: Seq,
        body: Json,
    }

    pub(super) fn serialize<S: Serializer>(append: &Append, to: S) -> Result<S::Ok, S::Error> {
        let text = String::from_utf8(append.encode()).expect("JSON is UTF-8");
        let body = Json::parse(text).expect("a body is JSON");
        Row { seq: append.seq, body }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Append>, D::Error> {
        let Row { seq, body } = Row::deserialize(from)?;
        Append::decode(seq, body.text().as_bytes()).map(Arc::new).map_err(D::Error::custom)
    }
}

/// What a listener has use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hears {
    /// Also what is shown and not kept.
    All,
    /// What is on the log.
    Kept,
}

impl Host {
    /// Rows after `after`, then what happens, until the receiver drops it. Listening begins with this call, so
    /// whatever is fed after it will be heard. A reader that is too slow is served from the log. It goes on at whichever
    /// node has the session, and ends with an error where it cannot, never as if all had been told.
    pub fn tail(self: &Arc<Host>, session: SessionId, after: Seq) -> Tail {
        self.tail_of(session, after, Hears::All)
    }

    /// The same without what is shown and not kept.
    pub fn tail_kept(self: &Arc<Host>, session: SessionId, after: Seq) -> Tail {
        self.tail_of(session, after, Hears::Kept)
    }

    fn tail_of(self: &Arc<Host>, session: SessionId, after: Seq, hears: Hears) -> Tail {
        if let Some(cluster) = &self.inner.cluster {
            return follow(&self.inner, cluster, Wish { session, after, hears, attends: None });
        }
        let reader = Reader::new(&self.inner, session, after);
        let state = Some((reader, Pieces::new(hears)));
        stream::unfold(state, |state| async {
            let (mut reader, mut pieces) = state?;
            loop {
                return match reader.next().await {
                    Ok(Some(told)) if !pieces.take(&told) => continue,
                    Ok(Some(told)) => Some((Ok(told), Some((reader, pieces)))),
                    Ok(None) => None,
                    Err(Break::Lost) => Some((Err(reader.lost()), None)),
                    Err(Break::Down(down)) => Some((Err(down), None)),
                };
            }
        })
        .boxed()
    }

    /// Rows after `after`, up to and including `through`. Frames that were packed away are not among them.
    pub async fn rows(
        &self,
        session: SessionId,
        after: Seq,
        through: Seq,
    ) -> Result<Vec<Told>, Down> {
        let (mut rows, mut last) = (Vec::new(), after);
        while last < through {
            let page = self.inner.ports.log.read(session, last, PAGE).await?;
            let n_rows = page.len();
            for row in page.into_iter().take_while(|it| it.seq <= through) {
                last = row.seq;
                rows.push(told(session, row)?);
            }
            if n_rows < PAGE {
                break;
            }
        }
        Ok(rows)
    }
}

/// Which of the pieces that are not kept are passed on: after a gap none of the same attempt.
#[derive(Debug)]
pub(crate) struct Pieces {
    hears: Hears,
    /// Of the attempt heard last, how many.
    heard: Option<(AttemptId, u64)>,
}

impl Pieces {
    pub(crate) fn new(hears: Hears) -> Pieces {
        Pieces { hears, heard: None }
    }

    /// Is this to be passed on? Rows are.
    pub(crate) fn take(&mut self, told: &Told) -> bool {
        let Told::Shown(piece) = told else { return true };
        if self.hears == Hears::Kept {
            return false;
        }
        let attempt = piece.frame.attempt;
        let heard = self.heard.filter(|(it, _)| *it == attempt).map_or(0, |(_, n)| n);
        let follows = piece.n == heard;
        if follows {
            self.heard = Some((attempt, heard + 1));
        }
        follows
    }
}

/// Follows a session that is served here: the log, then what its driver tells.
pub(crate) struct Reader {
    log: Arc<dyn Log>,
    session: SessionId,
    listener: Listener,
    /// The last row that was passed on.
    last: Seq,
    ready: VecDeque<Told>,
    /// The log is to be read up to here first.
    behind: Option<Seq>,
    /// Heard, to be passed on after that.
    held: Option<Heard>,
    /// Nothing more is waited for.
    is_last: bool,
}

/// Why there is nothing more to read.
#[derive(Debug)]
pub(crate) enum Break {
    /// This host speaks for the session no more.
    Lost,
    /// The log cannot be read now. Asking again goes on where it was.
    Down(Down),
}

impl Reader {
    /// Listening begins with this call.
    pub(crate) fn new(inner: &Inner, session: SessionId, after: Seq) -> Reader {
        Reader {
            log: Arc::clone(&inner.ports.log),
            session,
            last: after,
            listener: inner.hub.listen(session),
            ready: VecDeque::new(),
            behind: Some(Seq::MAX),
            held: None,
            is_last: false,
        }
    }

    /// What was told already is still passed on; then it is over.
    pub(crate) fn wait_no_more(&mut self) {
        self.is_last = true;
    }

    /// `None` when the session was deleted. Nothing is lost if the waiting is given up.
    pub(crate) async fn next(&mut self) -> Result<Option<Told>, Break> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                self.last = told.seq().unwrap_or(self.last);
                return Ok(Some(told));
            }
            if let Some(goal) = self.behind {
                self.catch_up(goal).await.map_err(Break::Down)?;
                continue;
            }
            let heard = match self.held.take() {
                Some(heard) => heard,
                None if self.is_last => self.listener.heard().ok_or(Break::Lost)?,
                None => self.listener.next().await,
            };
            if heard.after > self.last {
                self.behind = Some(heard.after);
                self.held = Some(heard);
                continue;
            }
            match heard.news {
                News::Told(told) => match told.seq() {
                    Some(seq) if seq <= self.last => (),
                    Some(_) | None => self.ready.push_back(told),
                },
                News::Read => (),
                News::Lost => return Err(Break::Lost),
                News::Deleted => return Ok(None),
            }
        }
    }

    fn lost(&self) -> Down {
        Down(format!(
            "{} is no longer served here; ask again to go on after row {}",
            self.session, self.last
        ))
    }

    async fn catch_up(&mut self, goal: Seq) -> Result<(), Down> {
        let rows = self.log.read(self.session, self.last, PAGE).await?;
        let more = rows.len() == PAGE && rows.last().is_some_and(|it| it.seq < goal);
        for row in rows.into_iter().take_while(|it| it.seq <= goal) {
            self.ready.push_back(told(self.session, row)?);
        }
        if !more {
            self.behind = None;
            if goal != Seq::MAX && self.ready.is_empty() {
                // What would have been here was packed away.
                self.last = goal;
            }
        }
        Ok(())
    }
}

pub(crate) fn told(session: SessionId, row: Row) -> Result<Told, Down> {
    let unread = |err| Down(format!("cannot read row {} of {session}: {err}", row.seq));
    match row.kind {
        RowKind::Events => {
            Ok(Told::Append(Arc::new(Append::decode(row.seq, &row.body).map_err(unread)?)))
        }
        RowKind::Frame => {
            let frame = serde_json::from_slice(&row.body).map_err(unread)?;
            Ok(Told::Frame { seq: row.seq, frame: Arc::new(frame) })
        }
    }
}
