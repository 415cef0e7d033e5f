//! A turn's spans, read from its rows: what `teller` would have told of it, whoever asks and however late.

use std::collections::BTreeMap;

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{CallId, Millis, Seq, SessionId, TurnNo};
use everstate_kernel::item::Body;
use everstate_runtime::ports::{Down, Log, RowKind};
use serde_json::{Map, Value};

use super::otlp;
use super::turns::{Reading, hear};
use crate::config::telemetry::{Sampler, Share};
use crate::wiring::Source;

const PAGE: usize = 256;

/// What happened in a turn so far. A span that has not ended is not in it.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub began_at: Millis,
    /// An OTLP `ExportTraceServiceRequest`, as JSON.
    pub otlp: Map<String, Value>,
}

/// `began` is the turn's first row. `None`: it did not begin there.
pub(crate) async fn replay(
    log: &dyn Log,
    (session, no): (SessionId, TurnNo),
    began: Seq,
    (service, sources): (Option<&str>, &[Source]),
) -> Result<Option<Replayed>, Down> {
    let providers = super::providers(sources);
    let (mut names, mut spans) = (BTreeMap::new(), Vec::new());
    let (mut turn, mut began_at, mut last) = (None, None, began.saturating_sub(1));
    'rows: loop {
        let rows = log.read(session, last, PAGE).await?;
        let n_rows = rows.len();
        for row in rows {
            last = row.seq;
            if row.kind != RowKind::Events {
                continue;
            }
            let mut append = Append::decode(row.seq, &row.body)
                .map_err(|err| Down(format!("row {} is unreadable: {err}", row.seq)))?;
            // A row may begin with the end of the turn before, and end with the next one's beginning.
            if began_at.is_none() {
                let begins =
                    |it: &Event| matches!(it, Event::TurnStarted { turn, .. } if *turn == no);
                let Some(first) = append.events.iter().position(begins) else { return Ok(None) };
                append.events.drain(..first);
                began_at = Some(append.at);
            }
            let ends = |it: &Event| matches!(it, Event::TurnEnded { turn, .. } if *turn == no);
            let end = append.events.iter().position(ends);
            append.events.truncate(end.map_or(append.events.len(), |it| it + 1));
            learn(&mut names, &append);
            let reading = Reading { session, sampler: &ALL, providers: &providers, names: &names };
            spans.extend(hear(&mut turn, &append, &reading));
            if end.is_some() {
                break 'rows;
            }
        }
        if n_rows < PAGE {
            break;
        }
    }
    let otlp = otlp::request(service, &spans);
    Ok(began_at.map(|began_at| Replayed { began_at, otlp }))
}

/// Every span counts here, whatever share of them is sent elsewhere.
const ALL: Sampler = Sampler { parent_based: false, share: Share::All };

/// What the calls of a turn are called.
fn learn(names: &mut BTreeMap<CallId, String>, append: &Append) {
    for event in &append.events {
        let Event::Replied { items, .. } = event else { continue };
        for item in items {
            if let Body::Call { call, name, .. } = &item.body {
                names.insert(*call, name.clone());
            }
        }
    }
}
