//! The list of stores. A store joins the contract by a line here.

use std::any::Any;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use everstate_kernel::ids::{Millis, Seq, SessionId};
use everstate_runtime::ports::{
    AppendError, Head, Landed, Listing, Log, NewRow, Projection, Row, RowKind,
};
use everstate_store::keys::source::KeySource;
use everstate_store::open::{Settings, Store, open};
use everstate_test_postgres::{Bouncer, cluster};

/// A name, and where a new one is made; the folder is there for those who need one.
pub(crate) const STORES: &[(&str, Make)] = &[
    ("memory", |_| Some(Made::at("memory:".to_owned()))),
    ("sqlite", |folder| Some(Made::at(format!("sqlite:{}", folder.join("state.db").display())))),
    ("postgres", |_| {
        let cluster = cluster()?;
        Some(Made { url: cluster.fresh_database(), _servers: Box::new(cluster) })
    }),
    ("postgres behind pgbouncer", |_| {
        let bouncer = Bouncer::before(&cluster()?);
        Some(Made { url: bouncer.fresh_database(), _servers: Box::new(bouncer) })
    }),
];

/// `None` if it is to be skipped.
type Make = fn(&Path) -> Option<Made>;

/// The URL of a new store, and what has to run as long as it is used.
pub(crate) struct Made {
    url: String,
    _servers: Box<dyn Any>,
}

impl Made {
    fn at(url: String) -> Made {
        Made { url, _servers: Box::new(()) }
    }
}

/// A store, with a clock that is set by hand.
pub(crate) struct Place {
    pub(crate) store: Store,
    pub(crate) clock: Arc<AtomicU64>,
}

impl Place {
    pub(crate) fn log(&self) -> &dyn Log {
        &*self.store.log
    }
}

/// With a master key of its own: for stores that have no place for one.
pub(crate) fn settings(folder: &Path) -> Settings {
    let keys = Some(KeySource::File(folder.join("master.key")));
    Settings { keys, ..Settings::default() }
}

/// Runs a check on each store, one after the other.
pub(crate) fn on_each(check: impl AsyncFn(&Place)) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    for (name, make) in STORES {
        let folder = tempfile::tempdir().unwrap();
        let Some(made) = make(folder.path()) else { continue };
        runtime.block_on(async {
            let clock = Arc::new(AtomicU64::new(1_000));
            let now = Arc::clone(&clock);
            let now = Arc::new(move || now.load(Ordering::SeqCst));
            let settings = Settings { now, ..settings(folder.path()) };
            eprintln_name(name);
            let store = open(&made.url, settings).await.unwrap();
            check(&Place { store, clock }).await;
        });
    }
}

/// Shown only if the check fails.
#[allow(clippy::print_stderr)]
fn eprintln_name(name: &str) {
    eprintln!("store: {name}");
}

/// A session and the end of its log, as its owner knows it.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) session: SessionId,
    pub(crate) head: Head,
}

impl Owner {
    pub(crate) fn new(id: u128) -> Owner {
        Owner { session: SessionId(id), head: Head::default() }
    }

    pub(crate) fn row(&self, kind: RowKind, body: &[u8]) -> NewRow {
        let (session, prev, seq) = (self.session, self.head.hash, self.head.seq + 1);
        let (key, consumed, projection) = (None, Vec::new(), None);
        let body = Bytes::copy_from_slice(body);
        NewRow { session, seq, kind, at: 1_000 + seq, prev, body, key, consumed, projection }
    }

    pub(crate) async fn try_append(
        &mut self,
        log: &dyn Log,
        row: NewRow,
    ) -> Result<Seq, AppendError> {
        let Landed { head } = log.append(row).await?;
        self.head = head;
        Ok(head.seq)
    }

    pub(crate) async fn events(&mut self, log: &dyn Log, body: &str) -> Seq {
        let row = self.row(RowKind::Events, body.as_bytes());
        self.try_append(log, row).await.unwrap()
    }

    pub(crate) async fn frame(&mut self, log: &dyn Log, body: &str) -> Seq {
        let row = self.row(RowKind::Frame, body.as_bytes());
        self.try_append(log, row).await.unwrap()
    }

    pub(crate) async fn project(&mut self, log: &dyn Log, projection: Projection) -> Seq {
        let row = self.row(RowKind::Events, b"projected");
        self.try_append(log, NewRow { projection: Some(projection), ..row }).await.unwrap()
    }
}

pub(crate) fn projection(wake: Option<Millis>, ready: bool) -> Projection {
    Projection { wake, ready, listing: None }
}

pub(crate) fn listing(project: &str, created_at: Millis, summary: &str) -> Option<Listing> {
    Some(Listing { project: project.to_owned(), created_at, summary: summary.to_owned() })
}

/// `1 hello` for events, `2~ hel` for frames, `3! ` where something was erased.
pub(crate) fn show(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let mark = match row.kind {
            RowKind::Events => "",
            RowKind::Frame => "~",
        };
        let erased = if row.erased { "!" } else { "" };
        let body = String::from_utf8_lossy(&row.body);
        let body =
            if body.len() > 40 { format!("{} bytes", body.len()) } else { body.into_owned() };
        format!("{}{mark}{erased} {body}\n", row.seq)
    };
    rows.iter().map(line).collect()
}

pub(crate) async fn shown(log: &dyn Log, session: SessionId) -> String {
    show(&log.read(session, 0, 10_000).await.unwrap())
}

/// `rows 3, erased 0, head 3` or what is broken.
pub(crate) async fn verified(log: &dyn Log, session: SessionId) -> String {
    let verdict = match log.verify(session).await {
        Ok(verdict) => verdict,
        Err(down) => return format!("broken: {down}"),
    };
    match verdict.broken {
        Some(why) => format!("broken: {why}"),
        None => {
            let (rows, erased, head) = (verdict.rows, verdict.erased, verdict.head.seq);
            format!("rows {rows}, erased {erased}, head {head}")
        }
    }
}
