//! What happened in a session, and what happens: from the log, then live, without a gap and without a double.

use std::collections::VecDeque;
use std::sync::Arc;

use everstate_kernel::delta::Frame;
use everstate_kernel::event::Append;
use everstate_kernel::ids::{Seq, SessionId};
use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use crate::cluster::follow::follow;
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
    /// Of a foreground turn: shown, not kept, without a place in the sequence.
    Shown(Arc<Frame>),
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

impl Host {
    /// Rows after `after`, then what happens, until the receiver drops it. Listening begins with this call, so
    /// whatever is fed after it will be heard. A reader that is too slow is served from the log; where that cannot
    /// help (unpersisted pieces were missed) the stream ends with an error, never as if all had been told.
    pub fn tail(self: &Arc<Host>, session: SessionId, after: Seq) -> Tail {
        if let Some(cluster) = &self.inner.cluster {
            return follow(&self.inner, cluster, session, after, None);
        }
        let reader = Some(Reader::new(&self.inner, session, after));
        stream::unfold(reader, |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(Some(told)) => Some((Ok(told), Some(reader))),
                Ok(None) => None,
                Err(Break::Lost) => Some((Err(reader.lost()), None)),
                Err(Break::Slow(down) | Break::Down(down)) => Some((Err(down), None)),
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

/// Follows a session that is served here: the log, then what its driver tells.
pub(crate) struct Reader {
    log: Arc<dyn Log>,
    session: SessionId,
    listener: Listener,
    /// The last row that was passed on.
    last: Seq,
    /// Unpersisted pieces that were passed on, or told before this reader came.
    n_shown: u64,
    ready: VecDeque<Told>,
    /// The log is to be read up to here first.
    behind: Option<Seq>,
    /// Heard, to be passed on after that.
    held: Option<Heard>,
}

/// Why there is nothing more to read.
#[derive(Debug)]
pub(crate) enum Break {
    /// This host speaks for the session no more.
    Lost,
    /// Unpersisted pieces were told too fast.
    Slow(Down),
    /// The log cannot be read now. Asking again goes on where it was.
    Down(Down),
}

impl Reader {
    /// Listening begins with this call.
    pub(crate) fn new(inner: &Inner, session: SessionId, after: Seq) -> Reader {
        let listener = inner.hub.listen(session);
        Reader {
            log: Arc::clone(&inner.ports.log),
            session,
            last: after,
            n_shown: listener.n_shown,
            listener,
            ready: VecDeque::new(),
            behind: Some(Seq::MAX),
            held: None,
        }
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
                    Some(_) => self.ready.push_back(told),
                    None if heard.n_shown == self.n_shown => {
                        self.n_shown += 1;
                        self.ready.push_back(told);
                    }
                    None => {
                        return Err(Break::Slow(Down(format!(
                            "the reader of {} was too slow: parts of a stream that is not kept are gone; \
                             retrieve the answer when it is complete",
                            self.session
                        ))));
                    }
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
