//! Hears of every append, keeps what is open of each session's turn, and sends what has ended. A turn that it did not
//! hear from its beginning, because another process began it, it reads from the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{CallId, Seq, SessionId};
use everstate_kernel::item::Body;
use everstate_kernel::state::Session;
use everstate_runtime::ports::{Down, Log, RowKind, Witness};
use tokio::sync::{mpsc, oneshot};

use super::export::Export;
use super::turns::{Providers, Reading, Turn, hear};
use crate::config::telemetry::Sampler;
use crate::meters;

/// What may wait to be told; more is not told.
pub(super) const UNTOLD_MAX: usize = 4_096;
/// Turns that are kept open. Beyond it those that have been heard of the longest time ago are read anew.
const OPEN_MAX: usize = 50_000;
const PAGE: usize = 256;

pub(super) enum News {
    Told(Told),
    /// All that came before has been sent.
    Flush(oneshot::Sender<()>),
}

pub(super) struct Told {
    log: Arc<dyn Log>,
    session: SessionId,
    append: Arc<Append>,
    names: BTreeMap<CallId, String>,
    /// The first row of the turn under way, or of the one that this append ends.
    began: Option<Seq>,
}

/// One host's ear.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) log: Arc<dyn Log>,
    pub(super) news: mpsc::Sender<News>,
}

impl Witness for Ear {
    fn told(&self, state: &Arc<Session>, append: &Arc<Append>) {
        let Some(about) = &state.about else { return };
        let past = state.transcript.turns.values().next_back();
        let told = Told {
            log: self.log.clone(),
            session: about.id,
            append: append.clone(),
            names: names(state, append),
            began: past
                .filter(|it| it.ended.is_none_or(|it| it >= append.seq))
                .map(|it| it.started),
        };
        if self.news.try_send(News::Told(told)).is_err() {
            meters::spans(1, false);
        }
    }
}

fn names(state: &Session, append: &Append) -> BTreeMap<CallId, String> {
    let mut names = BTreeMap::new();
    for event in &append.events {
        if let Event::ToolFinished { call, .. } = event {
            let open = state.live.calls.get(call).map(|it| &it.name);
            let said = || {
                state.transcript.entries.iter().rev().find_map(|it| match &it.item.body {
                    Body::Call { call: it, name, .. } if it == call => Some(name),
                    _ => None,
                })
            };
            if let Some(name) = open.or_else(said) {
                names.insert(*call, name.clone());
            }
        }
    }
    names
}

pub(super) struct Teller {
    pub(super) export: Arc<Export>,
    pub(super) sampler: Sampler,
    pub(super) providers: Providers,
}

impl Teller {
    pub(super) async fn run(self, mut news: mpsc::Receiver<News>) {
        let mut open: HashMap<SessionId, Turn> = HashMap::new();
        while let Some(news) = news.recv().await {
            match news {
                News::Told(told) => self.tell(&mut open, &told).await,
                News::Flush(done) => {
                    done.send(()).ok();
                }
            }
        }
    }

    async fn tell(&self, open: &mut HashMap<SessionId, Turn>, told: &Told) {
        let is_ours = told.append.events.iter().all(|it| !matches!(it, Event::Owned { .. }));
        let mut turn = open.remove(&told.session).filter(|_| is_ours);
        if let (None, Some(began)) = (&turn, told.began.filter(|it| *it < told.append.seq)) {
            turn = match self.remember(told, began).await {
                Ok(turn) => turn,
                Err(err) => {
                    tracing::debug!(session = %told.session, %err, "a turn is not traced");
                    return;
                }
            };
        }
        let reading = self.reading(told.session, &told.names);
        hear(&mut turn, &told.append, &reading).into_iter().for_each(|it| self.export.send(it));
        if let Some(turn) = turn {
            if open.len() >= OPEN_MAX {
                // Each is read from the log again when it is heard of.
                open.clear();
            }
            open.insert(told.session, turn);
        }
    }

    /// What happened in the turn before this append. Whoever did it has told it.
    async fn remember(&self, told: &Told, began: Seq) -> Result<Option<Turn>, Down> {
        let nameless = BTreeMap::new();
        let reading = self.reading(told.session, &nameless);
        let (mut turn, mut last) = (None, began - 1);
        loop {
            let rows = told.log.read(told.session, last, PAGE).await?;
            let n_rows = rows.len();
            for row in rows {
                last = row.seq;
                if last >= told.append.seq {
                    return Ok(turn);
                }
                if row.kind == RowKind::Events {
                    let append = Append::decode(row.seq, &row.body)
                        .map_err(|err| Down(format!("row {} is unreadable: {err}", row.seq)))?;
                    drop(hear(&mut turn, &append, &reading));
                }
            }
            if n_rows < PAGE {
                return Ok(turn);
            }
        }
    }

    fn reading<'a>(
        &'a self,
        session: SessionId,
        names: &'a BTreeMap<CallId, String>,
    ) -> Reading<'a> {
        Reading { session, sampler: &self.sampler, providers: &self.providers, names }
    }
}
