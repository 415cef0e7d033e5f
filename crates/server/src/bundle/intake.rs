//! Takes a bundle in, record by record: follows every chain, folds the last, and keeps the rows as they come. It
//! holds one piece of them in memory, and the state they fold to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::SessionId;
use everstate_kernel::import::{self, Chain, Luggage};
use everstate_kernel::state::Session;
use everstate_runtime::ports::Down;
use everstate_store::archive::{Archive, KeptRow, hex};
use everstate_store::chain::{ChainRow, Walk};

use super::Bad;
use super::record::{Manifest, Name, Record};

/// Rows are kept in pieces of about so many bytes, and of at most so many rows.
const PIECE_BYTES: usize = 1024 * 1024;
const PIECE_ROWS: usize = 4096;

/// Why a bundle was not taken.
#[derive(Debug)]
pub(crate) enum Refused {
    Bad(Bad),
    Down(Down),
}

impl From<Bad> for Refused {
    fn from(bad: Bad) -> Refused {
        Refused::Bad(bad)
    }
}

impl From<Down> for Refused {
    fn from(down: Down) -> Refused {
        Refused::Down(down)
    }
}

/// A bundle that is being read.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    archive: &'a Archive,
    /// What it becomes here.
    session: SessionId,
    manifest: Option<Manifest>,
    /// How many of the manifest's chains have begun.
    n_chains: usize,
    walk: Option<Walk>,
    n_rows: u64,
    n_erased: u64,
    state: Session,
    piece: Vec<KeptRow>,
    piece_bytes: usize,
    names: Vec<Name>,
    ended: bool,
}

/// All of a bundle, read and kept.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) manifest: Manifest,
    pub(crate) luggage: Luggage,
    pub(crate) metadata: Option<everstate_kernel::json::Json>,
    pub(crate) names: Vec<Name>,
    pub(crate) rows: u64,
    pub(crate) erased: u64,
}

impl<'a> Intake<'a> {
    pub(crate) fn new(archive: &'a Archive, session: SessionId) -> Intake<'a> {
        Intake {
            archive,
            session,
            manifest: None,
            n_chains: 0,
            walk: None,
            n_rows: 0,
            n_erased: 0,
            state: Session::default(),
            piece: Vec::new(),
            piece_bytes: 0,
            names: Vec::new(),
            ended: false,
        }
    }

    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    pub(crate) async fn take(&mut self, record: Record) -> Result<(), Refused> {
        if self.ended {
            return Err(damaged("something follows after its end").into());
        }
        match record {
            Record::Manifest(manifest) => self.begin(manifest)?,
            Record::Chain(session) => self.chain(session)?,
            Record::Row(row) => self.row(row).await?,
            Record::Names(names) => {
                self.close()?;
                self.names = names;
            }
            Record::End(end) => {
                self.close()?;
                if end.rows != self.n_rows {
                    let text = format!("it had {} rows and has {}", end.rows, self.n_rows);
                    return Err(damaged(text).into());
                }
                self.flush().await?;
                self.ended = true;
            }
        }
        Ok(())
    }

    fn begin(&mut self, manifest: Manifest) -> Result<(), Bad> {
        if self.manifest.is_some() {
            return Err(damaged("it has two manifests"));
        }
        if manifest.chains.last().is_none_or(|it| it.session != manifest.session) {
            return Err(damaged("its manifest does not name the session's own log last"));
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    /// The next of the chains that the manifest names.
    fn expected(&self, n: usize) -> Option<&Chain> {
        self.manifest.as_ref()?.chains.get(n)
    }

    fn chain(&mut self, session: SessionId) -> Result<(), Bad> {
        self.close()?;
        if self.expected(self.n_chains).is_none_or(|it| it.session != session) {
            return Err(damaged(format!("the log of {session} is not where its manifest says")));
        }
        self.n_chains += 1;
        self.walk = Some(Walk::new(session));
        Ok(())
    }

    /// A chain has to end where the manifest says.
    fn close(&mut self) -> Result<(), Bad> {
        let Some(walk) = self.walk.take() else {
            return match self.n_chains {
                0 if self.manifest.is_none() => Err(damaged("it has no manifest")),
                _ => Ok(()),
            };
        };
        let chain = self.expected(self.n_chains - 1).expect("it was there when the chain began");
        if walk.head.seq != chain.seq || hex(&walk.head.hash) != chain.hash {
            let Chain { session, seq, .. } = chain;
            let text =
                format!("the log of {session} does not end at row {seq} as its manifest says");
            return Err(damaged(text));
        }
        self.n_erased += walk.erased;
        Ok(())
    }

    async fn row(&mut self, row: ChainRow) -> Result<(), Refused> {
        let Some(walk) = &mut self.walk else {
            return Err(damaged("a row stands outside of any log").into());
        };
        walk.step(&row).map_err(|why| damaged(format!("in the log of {}: {why}", walk.session)))?;
        let of = walk.session;
        let n_chains = self.manifest.as_ref().map_or(0, |it| it.chains.len());
        if self.n_chains == n_chains {
            self.fold(&row)?;
        }
        self.n_rows += 1;
        self.piece_bytes += row.body.len();
        self.piece.push((of, row));
        if self.piece_bytes >= PIECE_BYTES || self.piece.len() >= PIECE_ROWS {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Refused> {
        if self.piece.is_empty() {
            return Ok(());
        }
        self.archive.keep(self.session, &self.piece).await?;
        self.piece.clear();
        self.piece_bytes = 0;
        Ok(())
    }

    fn fold(&mut self, row: &ChainRow) -> Result<(), Bad> {
        let seq = row.seq;
        let append = Append::decode(seq, &row.body)
            .map_err(|err| damaged(format!("row {seq} cannot be read: {err}")))?;
        let foreign = append.events.iter().find_map(|it| match it {
            Event::Foreign(it) => Some(&it.kind),
            _ => None,
        });
        if let Some(kind) = foreign {
            return Err(Bad::Newer(format!("row {seq} holds `{}`", crate::error::shown(kind))));
        }
        // A log that nobody wrote may say what cannot be added up.
        let folded = catch_unwind(AssertUnwindSafe(|| self.state.apply(&append)));
        folded.map_err(|_| damaged(format!("what row {seq} says cannot be")))
    }

    /// The whole of it, if that was it.
    pub(crate) fn end(self) -> Result<Taken, Bad> {
        if !self.ended {
            return Err(Bad::Cut);
        }
        let manifest = self.manifest.ok_or(Bad::Cut)?;
        if self.n_chains != manifest.chains.len() {
            return Err(damaged("a log that its manifest names is missing"));
        }
        let about = self.state.about.as_ref();
        let about = about.filter(|it| it.id == manifest.session);
        let about = about.ok_or_else(|| damaged("its log does not begin with its session"))?;
        let earlier = about.origin.as_ref().map_or(&[][..], |it| &it.chains);
        if *earlier != manifest.chains[..manifest.chains.len() - 1] {
            return Err(damaged("it does not hold the logs that its session says it comes from"));
        }
        let metadata = about.metadata.clone();
        let packed = catch_unwind(AssertUnwindSafe(|| import::pack(&self.state)));
        let luggage = packed.ok().flatten();
        let luggage = luggage.ok_or_else(|| damaged("what its log says cannot be"))?;
        import::check(&luggage.inheritance).map_err(damaged)?;
        let (names, rows, erased) = (self.names, self.n_rows, self.n_erased);
        Ok(Taken { manifest, luggage, metadata, names, rows, erased })
    }
}

fn damaged(why: impl Into<String>) -> Bad {
    Bad::Damaged(why.into())
}
