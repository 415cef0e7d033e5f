//! What the logs of a project say it spent: read when counting begins, and when a holder died.

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::Millis;
use everstate_kernel::money::Micros;
use everstate_kernel::slice::Spent;
use serde::Deserialize;

use super::cost;
use crate::cluster::epoch::process_of;
use crate::ports::{Down, ListKey, Listed, Log, RowKind};

const SESSIONS: usize = 512;
const ROWS: usize = 512;

/// What a list says of a session. What an older release did not write there reads as nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Summary {
    epoch: u64,
    cost_micros: Micros,
    reserved_micros: Micros,
    last_at: Millis,
}

/// A holder's traces.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// After the time that was asked for.
    pub(super) spent: Vec<Spent>,
    /// Reserved for attempts that nobody has taken over.
    pub(super) under_way: Micros,
}

/// What the process with this epoch spent after `after`.
pub(super) async fn of_holder(
    log: &dyn Log,
    project: &str,
    epoch: u64,
    after: Millis,
) -> Result<Traces, Down> {
    let mut traces = Traces::default();
    let mut sessions = Sessions::of(project);
    while let Some((listed, summary)) = sessions.next(log).await? {
        if process_of(summary.epoch) == epoch {
            traces.under_way = traces.under_way.saturating_add(summary.reserved_micros);
        }
        if summary.last_at > after {
            let by_it = |by: u64, at: Millis| process_of(by) == epoch && at > after;
            traces.spent.extend(spent(log, &listed, by_it).await?);
        }
    }
    Ok(traces)
}

/// What was spent from `since` up to and including `through`.
pub(super) async fn of_period(
    log: &dyn Log,
    project: &str,
    since: Millis,
    through: Millis,
) -> Result<Micros, Down> {
    let mut sum: Micros = 0;
    let mut sessions = Sessions::of(project);
    while let Some((listed, summary)) = sessions.next(log).await? {
        if summary.last_at < since {
            continue;
        }
        let spent_then = if listed.created_at >= since && summary.last_at <= through {
            summary.cost_micros
        } else {
            let then = |_: u64, at: Millis| at >= since && at <= through;
            spent(log, &listed, then).await?.iter().map(|it| it.amount).sum()
        };
        sum = sum.saturating_add(spent_then);
    }
    Ok(sum)
}

/// What a session's log says it spent, where the owner's epoch and the time are the right ones.
async fn spent(
    log: &dyn Log,
    listed: &Listed,
    counts: impl Fn(u64, Millis) -> bool,
) -> Result<Vec<Spent>, Down> {
    let (mut spent, mut after, mut epoch) = (Vec::new(), 0, 0);
    loop {
        let rows = log.read(listed.session, after, ROWS).await?;
        let Some(last) = rows.last() else { return Ok(spent) };
        after = last.seq;
        for row in rows.iter().filter(|it| it.kind == RowKind::Events) {
            let Ok(append) = Append::decode(row.seq, &row.body) else {
                tracing::warn!(session = %listed.session, seq = row.seq, "a row cannot be read, and is not counted");
                continue;
            };
            for event in &append.events {
                if let Event::Owned { epoch: next } = event {
                    epoch = *next;
                }
                if let Some((_, amount)) = cost(event)
                    && amount > 0
                    && counts(epoch, append.at)
                {
                    spent.push(Spent { at: append.at, amount });
                }
            }
        }
    }
}

/// A project's sessions, page by page.
struct Sessions<'a> {
    project: &'a str,
    before: Option<ListKey>,
    page: std::vec::IntoIter<Listed>,
    is_over: bool,
}

impl Sessions<'_> {
    fn of(project: &str) -> Sessions<'_> {
        Sessions { project, before: None, page: Vec::new().into_iter(), is_over: false }
    }

    async fn next(&mut self, log: &dyn Log) -> Result<Option<(Listed, Summary)>, Down> {
        loop {
            if let Some(listed) = self.page.next() {
                let summary = serde_json::from_str(&listed.summary).unwrap_or_default();
                return Ok(Some((listed, summary)));
            }
            if self.is_over {
                return Ok(None);
            }
            let page = log.list(self.project, self.before.clone(), SESSIONS).await?;
            self.is_over = page.len() < SESSIONS;
            self.before =
                page.last().map(|it| ListKey { created_at: it.created_at, session: it.session });
            self.page = page.into_iter();
        }
    }
}
