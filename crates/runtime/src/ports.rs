//! What the runtime needs from the outside. Each trait is implemented at the rim, and by the simulation.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everstate_kernel::delta::Piece;
use everstate_kernel::event::Append;
use everstate_kernel::ids::{ItemId, Millis, Seq, SessionId, TurnNo};
use everstate_kernel::input::{By, Failure, TurnTerms};
use everstate_kernel::item::{Outcome, Part};
use everstate_kernel::offer::Offer;
use everstate_kernel::request::Request;
use everstate_kernel::state::{Session, TurnedAway};
use everstate_kernel::tool::ServerTool;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::buckets::Buckets;
use crate::host::{Fed, FeedError};
use crate::tail::Told;

// ---- the log -----------------------------------------------------------------------------

/// The durable log of all sessions, and what is projected from it.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// Lands one row whole, or not at all. Returns when it is flushed. Whoever appends second at a position is
    /// [`Fenced`](AppendError::Fenced).
    async fn append(&self, row: NewRow) -> Result<Landed, AppendError>;

    /// As [`append`](Log::append), where what was said must not be written: the row holds the facts alone. Who keeps
    /// `contents` keeps them in memory; a log that does not know how lets them go.
    async fn append_facts(&self, row: NewRow, contents: Bytes) -> Result<Landed, AppendError> {
        drop(contents);
        self.append(row).await
    }

    /// Rows after `after`, oldest first, at most `limit`. Erased contents are gone, their rows are not.
    async fn read(&self, session: SessionId, after: Seq, limit: usize) -> Result<Vec<Row>, Down>;

    /// The end of a session's log; `None` if there is no such session.
    async fn head(&self, session: SessionId) -> Result<Option<Head>, Down>;

    /// Has an append with this key landed, and where?
    async fn seen(&self, session: SessionId, key: &str) -> Result<Option<Seq>, Down>;

    /// Sessions of these buckets whose wake-up time has come, earliest first.
    async fn due(
        &self,
        buckets: &Buckets,
        now: Millis,
        limit: usize,
    ) -> Result<Vec<(SessionId, Millis)>, Down>;

    /// When the earliest wake-up in these buckets is.
    async fn next_due(&self, buckets: &Buckets) -> Result<Option<Millis>, Down>;

    /// Sessions of these buckets that want work, in id order after `after`: what a node adopts when they become its own.
    async fn ready(
        &self,
        buckets: &Buckets,
        after: Option<SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionId>, Down>;

    /// A project's sessions, newest first, before the given one (exclusive).
    async fn list(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down>;

    /// Those of a project's sessions in which a turn has begun and not ended, whether it is at work or waits for
    /// somebody: newest first, before the given one (exclusive). Costs what they are, not what the project has.
    async fn under_way(
        &self,
        project: &str,
        before: Option<ListKey>,
        limit: usize,
    ) -> Result<Vec<Listed>, Down>;

    /// Rewrites what remains of a session under a new data key and destroys the old one. `redact` gets each row's
    /// body and answers what is left of it, or `None` if nothing in it has to go. The chain still verifies.
    async fn erase(&self, session: SessionId, redact: Redact) -> Result<(), Down>;

    /// Deletes a session: rows, projections, and the key that could read what backups still hold of it.
    async fn delete(&self, session: SessionId) -> Result<(), Down>;

    /// A cached fold, sealed like a row. Only a cache: it may be gone.
    async fn put_snapshot(&self, session: SessionId, at: Head, body: Bytes) -> Result<(), Down>;
    async fn snapshot(&self, session: SessionId) -> Result<Option<(Head, Bytes)>, Down>;

    /// Packs closed history up to and including `through` into one compressed segment, and drops frames in it.
    async fn roll_up(&self, session: SessionId, through: Seq) -> Result<(), Down>;

    /// Something for a session whose owner cannot take it now. Posting twice with one key is posting once.
    async fn post(&self, session: SessionId, key: &str, body: Bytes) -> Result<(), Down>;
    /// What is waiting in a session's inbox, in the order it was posted.
    async fn inbox(&self, session: SessionId) -> Result<Vec<Posted>, Down>;
    /// What became of a posted input: written by the append (or the refusal) that consumed it.
    async fn outcome(&self, session: SessionId, key: &str) -> Result<Option<PostOutcome>, Down>;
    /// Settles a posted input that led to no append.
    async fn settle(&self, session: SessionId, key: &str, outcome: PostOutcome)
    -> Result<(), Down>;

    /// Recomputes a session's chain: does every row say what was written?
    async fn verify(&self, session: SessionId) -> Result<Verdict, Down>;
}

pub type Redact = Box<dyn Fn(RowKind, Seq, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

/// A row to be appended at `seq`, which must be the position after the session's last.
#[derive(Clone, Debug)]
pub struct NewRow {
    pub session: SessionId,
    pub seq: Seq,
    pub kind: RowKind,
    pub at: Millis,
    /// Hash of the newest `Events` row's header; the chain skips frames.
    pub prev: Hash,
    pub body: Bytes,
    /// Recorded with the row, so that the same input is not taken twice.
    pub key: Option<String>,
    /// Inbox entries this append consumed.
    pub consumed: Vec<String>,
    /// How the session looks after it; `None` leaves the projections as they are (frames).
    pub projection: Option<Projection>,
}

/// What is kept beside the log, and could be rebuilt from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// When it wants to be woken, if nothing happens before.
    pub wake: Option<Millis>,
    /// Does it want work right now?
    pub ready: bool,
    /// Set by the first append, then kept.
    pub listing: Option<Listing>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    pub project: String,
    pub created_at: Millis,
    /// A small JSON object for lists: state, agent, cost. No contents. It begins with the state, by which stores find
    /// what is under way.
    pub summary: String,
}

impl Listing {
    /// How summaries begin of sessions in which no turn is under way. Stores that speak SQL compare as many letters.
    pub const AT_REST: [&str; 2] = ["{\"state\":\"idle\"", "{\"state\":\"parke"];

    pub fn is_under_way(summary: &str) -> bool {
        !Listing::AT_REST.iter().any(|it| summary.starts_with(it))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ListKey {
    pub created_at: Millis,
    pub session: SessionId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub session: SessionId,
    pub created_at: Millis,
    pub summary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Events,
    Frame,
}

pub type Hash = [u8; 32];

/// The end of a session's log. `hash` is of the newest `Events` row's header; zeroes before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub seq: Seq,
    pub hash: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    pub head: Head,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub seq: Seq,
    pub kind: RowKind,
    pub version: u16,
    pub at: Millis,
    /// Of an `Events` row: its header's hash.
    pub hash: Hash,
    pub body: Bytes,
    /// Something in it was erased.
    pub erased: bool,
}

#[derive(Clone, Debug)]
pub struct Posted {
    pub key: String,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PostOutcome {
    /// Consumed by the append at this position.
    Landed(Seq),
    /// Refused, and why.
    Refused(String),
}

/// What `verify` found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub rows: u64,
    /// Rows whose content was erased; their place in the chain holds.
    pub erased: u64,
    /// The first thing that is wrong, in words.
    pub broken: Option<String>,
    pub head: Head,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AppendError {
    /// Somebody else has written there: we are not the owner any more. Nothing of ours landed.
    Fenced,
    /// The key was seen before; the append that carried it is there.
    Seen(Seq),
    Down(Down),
}

/// The store cannot do it now: what it tried, and why not. Opaque; whoever gets it passes it on or gives up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Down(pub String);

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Down {}

// ---- the registry ------------------------------------------------------------------------

/// Documents with compare-and-set: projects, keys, claims, lists of offers.
#[async_trait]
pub trait Registry: Send + Sync + fmt::Debug {
    async fn get(&self, project: &str, kind: &str, id: &str) -> Result<Option<Document>, Down>;

    /// Writes a document if its revision is `expect` (`None`: if there is none yet). Returns the new revision.
    async fn put(&self, put: Put) -> Result<u64, PutError>;

    async fn remove(&self, project: &str, kind: &str, id: &str) -> Result<(), Down>;

    /// A project's documents of a kind, in the order of their making. A later change does not move one.
    async fn page(&self, project: &str, kind: &str, page: Page) -> Result<Vec<Document>, Down>;

    /// The newest of them before `before` (exclusive).
    async fn documents(
        &self,
        project: &str,
        kind: &str,
        before: Option<PageKey>,
        limit: usize,
    ) -> Result<Vec<Document>, Down> {
        self.page(project, kind, Page { order: Order::NewestFirst, after: before, limit }).await
    }
}

/// A piece of a list of documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub order: Order,
    /// What comes after this place in that order, without what stands there. `None`: from the beginning. There need
    /// not be anything at the place.
    pub after: Option<PageKey>,
    pub limit: usize,
}

/// When a document was made, and its id: of two that were made in the same millisecond the smaller id is the older one.
pub type PageKey = (Millis, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    NewestFirst,
    OldestFirst,
}

#[derive(Clone, Debug)]
pub struct Put {
    pub project: String,
    pub kind: String,
    pub id: String,
    pub expect: Option<u64>,
    pub body: Bytes,
    pub now: Millis,
    /// After this time the document is as good as gone, and is removed some time later.
    pub expires_at: Option<Millis>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub id: String,
    pub revision: u64,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub expires_at: Option<Millis>,
    pub body: Bytes,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PutError {
    /// It stands at another revision (or exists, or does not); here it is.
    Conflict(Option<Document>),
    Down(Down),
}

// ---- models ------------------------------------------------------------------------------

/// One configured provider. It classifies what went wrong, and never tries again by itself.
#[async_trait]
pub trait Model: Send + Sync + fmt::Debug {
    /// The bytes to send. Pure: the same request gives the same bytes.
    fn prepare(&self, offer: &Offer, request: &Request) -> Result<Prepared, Failure>;

    /// Sends them. Dropping the stream ends the request.
    async fn send(&self, offer: &Offer, prepared: Prepared) -> Result<ReplyStream, Failure>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    pub bytes: Bytes,
    /// Hash of the encoded request up to `n_prefix` items, in hexadecimal: equal hashes, equal cache.
    pub prefix: String,
    /// What could not be taken along, in words.
    pub left_behind: Vec<String>,
}

pub type ReplyStream = BoxStream<'static, Result<Piece, Failure>>;

// ---- tools -------------------------------------------------------------------------------

/// Runs the tools of the server's side.
#[async_trait]
pub trait Tools: Send + Sync + fmt::Debug {
    /// Runs one. `key` is the same whenever the same call is run again.
    async fn run(&self, run: ToolRun) -> ToolReturn;
}

#[derive(Clone, Debug)]
pub struct ToolRun {
    pub project: String,
    /// `session/turn/call`: unique in the world.
    pub key: String,
    pub name: String,
    pub server: ServerTool,
    /// A valid JSON object.
    pub arguments: String,
}

/// `Unknown` if the request may have arrived and no answer came.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolReturn {
    pub outcome: Outcome,
    pub output: Vec<Part>,
}

// ---- watching ----------------------------------------------------------------------------

/// Told of every append after it is acknowledged, with the state it led to: for tracing and the like.
pub trait Witness: Send + Sync + fmt::Debug {
    /// Called by the session's driver, which waits for it: has to return at once.
    fn told(&self, state: &Arc<Session>, append: &Arc<Append>);
}

// ---- what many share ---------------------------------------------------------------------

/// Lets turns begin, or not. It is asked by the session's owner, whichever door a turn comes through.
#[async_trait]
pub trait Turnstile: Send + Sync + fmt::Debug {
    /// A turn is about to begin. What is returned is held until its first fact has landed, or has not.
    async fn enter(&self, project: &str, terms: &TurnTerms) -> Result<Pass, NoEntry>;

    /// This landed. Has to return at once.
    fn landed(&self, by: &By, append: &Append);
}

/// A turn on its way in.
pub type Pass = Box<dyn Any + Send>;

#[derive(Clone, Debug, PartialEq)]
pub enum NoEntry {
    Away(TurnedAway),
    Down(Down),
}

// ---- time --------------------------------------------------------------------------------

#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Millis;
    async fn sleep_until(&self, at: Millis);

    /// Milliseconds since some moment of this process: it never goes back, and goes on while the process is stopped,
    /// whatever is done to the wall clock. Leases are measured by it.
    fn monotonic(&self) -> Millis;
    /// Waits for so long by [`monotonic`](Clock::monotonic).
    async fn pause(&self, ms: Millis);
}

// ---- other nodes -------------------------------------------------------------------------

/// What the nodes of a cluster say to each other. It makes them quick, never right: what is said here can also be
/// learned from the store, later. Every call ends within the node's own patience (some seconds), but for a tail.
#[async_trait]
pub trait Peers: Send + Sync + fmt::Debug {
    /// Something was posted to a session of yours. Answered when its inbox was read; done by
    /// [`Host::nudged`](crate::host::Host::nudged) over there.
    async fn nudge(&self, to: &Peer, session: SessionId) -> Result<(), Down>;

    /// Rows after `after`, then what happens, until the receiver drops it or the peer stops serving the session. It
    /// ends without an error only when the session was deleted: a connection that ends otherwise ends with one.
    /// [`Host::tail_for`](crate::host::Host::tail_for) over there.
    async fn tail(&self, to: &Peer, ask: TailAsk) -> Result<Tail, Down>;

    /// [`Host::erase_for`](crate::host::Host::erase_for) over there.
    async fn erase(
        &self,
        to: &Peer,
        session: SessionId,
        items: Vec<ItemId>,
    ) -> Result<Fed, FeedError>;

    /// [`Host::delete_for`](crate::host::Host::delete_for) over there.
    async fn delete(&self, to: &Peer, session: SessionId) -> Result<(), Down>;

    /// Who are you? `None` if certainly nobody of ours is there: the connection was refused, or something else
    /// answered. An error if that cannot be told, as after a time-out. [`Host::hello`](crate::host::Host::hello).
    async fn hello(&self, address: &str) -> Result<Option<Hello>, Down>;
}

/// What a tail tells.
pub type Tail = BoxStream<'static, Result<Told, Down>>;

/// A node as another one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    /// Where its peers reach it: a base URL.
    pub address: String,
    /// Of its process, drawn when it joined: a node that was started again has another.
    pub epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailAsk {
    pub session: SessionId,
    pub after: Seq,
    /// A caller of this turn is at the asking node. If this tail ends before the turn does, it is expected back for a
    /// while, and then gone.
    pub attends: Option<TurnNo>,
    /// Who asks: the epoch of its process.
    #[serde(default)]
    pub process: u64,
    /// What is shown and not kept is of no use there.
    #[serde(default)]
    pub kept_only: bool,
}

/// Who a node says it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub name: String,
    pub epoch: u64,
}
