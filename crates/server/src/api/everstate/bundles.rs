//! Sessions that travel: out in a bundle, and in from one. The form is `bundle`'s business.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use everstate_dialects::Names as _;
use everstate_kernel::erase;
use everstate_kernel::ids::{CallId, ItemId, Seq, SessionId, TurnNo};
use everstate_kernel::import::{Chain, Import, Origin};
use everstate_kernel::input::{Create, Input};
use everstate_kernel::item::Body as ItemBody;
use everstate_kernel::state::{About, Session};
use everstate_runtime::host::{Feed, FeedError};
use everstate_store::archive::{Archive, hex};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{Semaphore, mpsc};

use super::sessions::{named, told};
use crate::app::App;
use crate::bundle::Bad;
use crate::bundle::case::{Found, Reader, Writer};
use crate::bundle::intake::{Intake, Refused, Taken};
use crate::bundle::record::{End, Manifest, Name, Record, Records};
use crate::bundle::seal::Recipient;
use crate::claim::{Asked, Claimed, Target};
use crate::error::{ApiError, Result, codes};
use crate::http::{Answer, Id, Params};
use crate::ids::SessionNames;
use crate::keys::Principal;
use crate::refuse;

/// Whom bundles for this installation are sealed to.
pub(super) async fn recipient(State(app): State<Arc<App>>, _who: Principal) -> Answer {
    json!({ "recipient": app.identity.recipient().to_string() }).into()
}

// ---- out ---------------------------------------------------------------------------------

#[derive(Debug, Deserialize)]
pub(super) struct How {
    /// Sealed to this recipient.
    to: Option<String>,
    /// Readable by anybody.
    plain: Option<bool>,
}

/// How many rows are looked at at once.
const PAGE: usize = 64;
/// How many pieces of a bundle wait for a slow reader.
const AHEAD: usize = 4;

pub(super) async fn export(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(how): Params<How>,
) -> Result<Response> {
    let to = match (&how.to, how.plain.unwrap_or(false)) {
        (Some(to), false) => Some(
            to.parse::<Recipient>()
                .map_err(|err| ApiError::new(&codes::INVALID_VALUE, err.to_string()).param("to"))?,
        ),
        (None, true) => None,
        _ => {
            return Err(ApiError::new(
                &codes::INVALID_VALUE,
                "a bundle is sealed to a recipient (`to=evr_...`), or plain (`plain=true`): say one",
            )
            .param("to"));
        }
    };
    let session = named(&app, &who, &id).await?;
    let about = App::about(&session)?;
    let own = own_chain(&app.archive, about.id, session.head).await?;
    let earlier = about.origin.iter().flat_map(|it| it.chains.iter().cloned());
    let manifest = Manifest {
        session: about.id,
        project: about.project.clone(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        exported_at: app.clock.now(),
        chains: earlier.chain([own.clone()]).collect(),
    };
    let (case, head) = Writer::new(to.as_ref()).ok_or_else(|| {
        ApiError::new(&codes::INVALID_VALUE, "nothing can be sealed to this recipient").param("to")
    })?;
    let file = format!("attachment; filename=\"{}.everstate\"", about.id);
    let marks = [
        (header::CONTENT_TYPE, "application/vnd.everstate.bundle".to_owned()),
        (header::CONTENT_DISPOSITION, file),
        (header::HeaderName::from_static("x-everstate-session"), about.id.to_string()),
        (header::HeaderName::from_static(HEAD), format!("{}:{}", own.seq, own.hash)),
    ];
    let (pieces, ready) = mpsc::channel(AHEAD);
    let out = Out { app: app.clone(), session, case, pieces };
    tokio::spawn(out.run(head, manifest));
    let ready = stream::unfold(ready, |mut it| async { Some((it.recv().await?, it)) });
    let mut response = Body::from_stream(ready).into_response();
    for (name, value) in marks {
        let value = HeaderValue::from_str(&value).expect("ids, numbers and plain letters");
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// Where the exported log ends: its row, and its header's hash.
const HEAD: &str = "x-everstate-head";

async fn own_chain(archive: &Archive, session: SessionId, head: Seq) -> Result<Chain> {
    let last = archive.rows(session, head.saturating_sub(1), PAGE).await?;
    let last = last.into_iter().find(|it| it.seq == head);
    let last = last.ok_or_else(|| ApiError::new(&codes::NOT_FOUND, "the session was deleted"))?;
    Ok(Chain { session, seq: head, hash: hex(&last.hash(session)) })
}

/// One export under way. A reader that is gone ends it; an error breaks the body off, so that nobody takes it for whole.
struct Out {
    app: Arc<App>,
    session: Arc<Session>,
    case: Writer,
    pieces: mpsc::Sender<std::result::Result<Bytes, ApiError>>,
}

/// Nobody reads any more.
struct Gone;

impl Out {
    async fn run(mut self, head: Vec<u8>, manifest: Manifest) {
        match self.tell(head, manifest).await {
            Ok(Ok(())) => {
                let end = self.case.end();
                self.pieces.send(Ok(end.into())).await.ok();
            }
            Ok(Err(Gone)) => {}
            Err(err) => _ = self.pieces.send(Err(err)).await,
        }
    }

    async fn tell(
        &mut self,
        head: Vec<u8>,
        manifest: Manifest,
    ) -> Result<std::result::Result<(), Gone>> {
        let about = App::about(&self.session)?.clone();
        let mut rows = 0;
        if self.send(head).await.is_err() || self.put(Record::Manifest(manifest)).await.is_err() {
            return Ok(Err(Gone));
        }
        let gone = erased(&self.session);
        let archive = self.app.archive.clone();
        let mut last = None;
        for piece in archive.pieces(about.id).await? {
            for (of, row) in archive.piece(about.id, piece).await? {
                if last != Some(of) && self.put(Record::Chain(of)).await.is_err() {
                    return Ok(Err(Gone));
                }
                last = Some(of);
                rows += 1;
                if self.put(redacted(row, &gone)).await.is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
        if self.put(Record::Chain(about.id)).await.is_err() {
            return Ok(Err(Gone));
        }
        let (mut after, head) = (0, self.session.head);
        while after < head {
            let page = archive.rows(about.id, after, PAGE).await?;
            let deleted = || ApiError::new(&codes::NOT_FOUND, "the session was deleted meanwhile");
            after = page.last().ok_or_else(deleted)?.seq;
            for row in page.into_iter().filter(|it| it.seq <= head) {
                rows += 1;
                if self.put(redacted(row, &gone)).await.is_err() {
                    return Ok(Err(Gone));
                }
            }
        }
        let names = names(&self.app.names(&about), &self.session);
        let sent = self.put(Record::Names(names)).await.is_ok()
            && self.put(Record::End(End { rows })).await.is_ok();
        Ok(if sent { Ok(()) } else { Err(Gone) })
    }

    async fn put(&mut self, record: Record) -> std::result::Result<(), Gone> {
        let bytes = self.case.write(&record.encode());
        self.send(bytes).await
    }

    async fn send(&self, bytes: Vec<u8>) -> std::result::Result<(), Gone> {
        match bytes.is_empty() {
            true => Ok(()),
            false => self.pieces.send(Ok(bytes.into())).await.map_err(|_| Gone),
        }
    }
}

/// What was erased does not travel, also where the log is still to be rewritten.
fn erased(session: &Session) -> BTreeSet<ItemId> {
    let transcript = &session.transcript;
    let all = transcript.entries.iter().map(|it| &it.item).chain(&transcript.waiting);
    all.filter(|it| it.body == ItemBody::Erased).map(|it| it.id).collect()
}

fn redacted(mut row: everstate_store::chain::ChainRow, gone: &BTreeSet<ItemId>) -> Record {
    if !gone.is_empty()
        && row.salt.is_some()
        && let Some(left) = erase::redact(false, row.seq, &row.body, gone)
    {
        (row.salt, row.body) = (None, left);
    }
    Record::Row(row)
}

/// The names that clients here may hold: of turns, and of calls.
fn names(names: &SessionNames, session: &Session) -> Vec<Name> {
    let entries = &session.transcript.entries;
    let inherited = entries.iter().map(|it| it.item.id.turn).filter(|it| *it > 0);
    let turns: BTreeSet<TurnNo> =
        session.transcript.turns.keys().copied().chain(inherited).collect();
    let calls: BTreeSet<CallId> = entries
        .iter()
        .filter_map(|it| match &it.item.body {
            ItemBody::Call { call, .. } => Some(*call),
            _ => None,
        })
        .collect();
    let turns = turns.into_iter().map(|turn| Name { was: names.turn(turn), turn, call: None });
    let calls =
        calls.into_iter().map(|it| Name { was: names.call(it), turn: it.turn, call: Some(it.n) });
    turns.chain(calls).collect()
}

// ---- in ----------------------------------------------------------------------------------

/// So many bundles are taken in at the same time; more wait.
static IMPORTS: Semaphore = Semaphore::const_new(4);
/// A bundle that takes longer to arrive is given up: what was kept of it so far would not be kept for ever.
const WHOLE_WITHIN: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Hash of the last header of the log that is to come, as the exporting side told it.
    head: Option<String>,
}

pub(super) async fn import(
    State(app): State<Arc<App>>,
    who: Principal,
    Params(wanted): Params<Wanted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer> {
    refuse::kept_by_nobody(&app, &who)?;
    let _turn = IMPORTS.acquire().await;
    let session = app.new_session(false);
    let mut body = body.into_data_stream();
    let taking = async {
        let taken = take(&app, &who, &headers, &wanted, session, &mut body).await;
        if taken.is_err() {
            drain(&mut body).await;
        }
        taken
    };
    let taken = tokio::time::timeout(WHOLE_WITHIN, taking).await;
    let taken = taken.unwrap_or_else(|_| {
        Err(ApiError::new(&codes::INVALID_VALUE, "the bundle did not arrive within half an hour"))
    });
    let outcome = match taken {
        Ok(Arrived::Before(earlier)) => Ok((earlier, None)),
        Ok(Arrived::Whole(taken, asked)) => {
            begin(&app, &who, session, taken, asked).await.map(|it| (session, Some(it)))
        }
        Err(err) => Err((err, true)),
    };
    let (session, told_of) = match outcome {
        Ok(it) => it,
        Err((err, nothing_landed)) => {
            // Unless its append may have landed: then what is kept is collected if it has not.
            if nothing_landed && let Err(down) = app.archive.let_go(session).await {
                tracing::warn!(%session, %down, "what was kept of a refused bundle is collected later");
            }
            return Err(err);
        }
    };
    let state = app.session(&who, session).await?;
    let mut answer = told(&app, &state)?;
    answer["imported"] = match told_of {
        Some(it) => it,
        None => origin_told(App::about(&state)?),
    };
    Ok(answer.into())
}

enum Arrived {
    /// The same request came before, and this came of it.
    Before(SessionId),
    Whole(Box<Taken>, Option<Asked>),
}

async fn take(
    app: &Arc<App>,
    who: &Principal,
    headers: &HeaderMap,
    wanted: &Wanted,
    session: SessionId,
    body: &mut BodyDataStream,
) -> Result<Arrived> {
    let mut case = Reader::new(Some(&app.identity));
    let mut records = Records::default();
    let mut intake = Intake::new(&app.archive, session);
    let mut asked = None;
    let mut whole = false;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|err| {
            ApiError::new(&codes::BUNDLE_DAMAGED, format!("the bundle did not arrive: {err}"))
        })?;
        case.push(&bytes).map_err(bad)?;
        while let Some(found) = case.step().map_err(bad)? {
            match found {
                Found::Head(_) => continue,
                Found::End => {
                    whole = true;
                    break;
                }
                Found::Bytes(bytes) => records.push(&bytes),
            }
            while let Some(record) = records.step().map_err(bad)? {
                let is_manifest = matches!(record, Record::Manifest(_));
                intake.take(record).await.map_err(refused)?;
                if is_manifest {
                    expected(&intake, wanted).map_err(bad)?;
                }
                if is_manifest && headers.contains_key("idempotency-key") {
                    let manifest = intake.manifest().expect("it was just taken");
                    asked = Some(claimed(who, headers, manifest)?);
                }
                if is_manifest
                    && let Some(asked) = &asked
                    && let Some(earlier) = app.claims.earlier(asked).await?
                    && app.session(who, earlier.target.session).await.is_ok()
                {
                    // Read to its end all the same: a client that still sends would not read the answer.
                    drain(body).await;
                    return Ok(Arrived::Before(earlier.target.session));
                }
            }
        }
    }
    if !whole || !records.is_empty() {
        return Err(bad(Bad::Cut));
    }
    Ok(Arrived::Whole(Box::new(intake.end().map_err(bad)?), asked))
}

/// Is it the session that the other side told of, as it stood then?
fn expected(intake: &Intake<'_>, wanted: &Wanted) -> std::result::Result<(), Bad> {
    let Some(head) = &wanted.head else { return Ok(()) };
    let is = intake.manifest().and_then(|it| it.chains.last());
    match is.is_some_and(|it| it.hash == *head) {
        true => Ok(()),
        false => {
            Err(Bad::Damaged("its log does not end in the head that was asked for".to_owned()))
        }
    }
}

/// A client that still sends would not read the answer: what is left is read a while longer, and dropped.
async fn drain(body: &mut BodyDataStream) {
    let mut left = LEFT_MAX;
    while let Some(Ok(bytes)) = body.next().await {
        match left.checked_sub(bytes.len()) {
            Some(it) => left = it,
            None => return,
        }
    }
}

const LEFT_MAX: usize = 64 * 1024 * 1024;

/// With a key, the same bundle is taken in once: it is known by its manifest.
fn claimed(who: &Principal, headers: &HeaderMap, manifest: &Manifest) -> Result<Asked> {
    let text = serde_json::to_vec(manifest).expect("a manifest has a JSON form");
    Asked::read(who, "POST /everstate/v1/sessions/import", headers, &text)
}

/// The first append. The error says whether it is certain that nothing landed.
async fn begin(
    app: &Arc<App>,
    who: &Principal,
    session: SessionId,
    taken: Box<Taken>,
    asked: Option<Asked>,
) -> std::result::Result<Value, (ApiError, bool)> {
    let Taken { manifest, luggage, metadata, names, rows, erased } = *taken;
    let Manifest { session: was, project, release, exported_at, chains } = manifest;
    let mut left_behind = luggage.left_behind;
    left_behind.push("the pieces of streams that were kept for readers".to_owned());
    let open: Vec<CallId> = luggage.inheritance.open.iter().map(|(id, _)| *id).collect();
    let origin = Origin {
        session: was,
        project,
        release,
        exported_at,
        chains,
        renamed: luggage.renamed,
        left_behind,
    };
    let create = Create {
        id: session,
        project: who.project.to_string(),
        door: super::DOOR.to_owned(),
        named: false,
        metadata,
        inheritance: Some(luggage.inheritance),
        epoch: app.epoch(false),
    };
    if let Some(asked) = asked {
        let target = Target { session, turn: 0, memory: false, risky: false };
        let earlier = app.claims.earlier(&asked).await.map_err(|err| (err, true))?;
        let won = app.claims.claim(&asked, &target, earlier.as_ref()).await;
        if let Claimed::Theirs(_) = won.map_err(|err| (err, true))? {
            let text =
                "another request with this Idempotency-Key takes the same bundle in just now";
            return Err((ApiError::new(&codes::NOT_POSSIBLE, text), true));
        }
    }
    let import = Input::Import(Box::new(Import { create, origin: origin.clone() }));
    let fed = app.durable.host.feed(session, vec![import], Feed::default()).await;
    fed.map_err(|err| {
        let nothing_landed = !matches!(err, FeedError::Down(_));
        (refuse::feed(err, session), nothing_landed)
    })?;
    let ours = SessionNames::new(&app.naming, &who.project, session, Vec::new());
    let ids: BTreeMap<String, String> = names
        .into_iter()
        .map(|Name { was, turn, call }| {
            let is = call.map_or_else(|| ours.turn(turn), |n| ours.call(CallId { turn, n }));
            (was, is)
        })
        .collect();
    let mut told = json!({ "origin": origin, "ids": ids, "rows": rows, "erased": erased });
    told["open_calls"] = open.iter().map(|it| Value::from(ours.call(*it))).collect();
    Ok(told)
}

fn refused(refused: Refused) -> ApiError {
    match refused {
        Refused::Bad(it) => bad(it),
        Refused::Down(down) => down.into(),
    }
}

fn bad(bad: Bad) -> ApiError {
    ApiError::from(bad).why("nothing of it was kept")
}

// ---- where it comes from -----------------------------------------------------------------

#[derive(Debug, Deserialize)]
pub(super) struct Old {
    /// A name from the other installation: what is it here?
    name: Option<String>,
}

pub(super) async fn origin(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(old): Params<Old>,
) -> Result<Answer> {
    let session = named(&app, &who, &id).await?;
    let about = App::about(&session)?;
    let Some(origin) = &about.origin else {
        let text = format!("{} was not imported: it began here", about.id);
        return Err(ApiError::new(&codes::NOT_FOUND, text));
    };
    let mut told = origin_told(about);
    if let Some(old) = old.name {
        let ours = app.names(about);
        let found = app.naming.peek(&old).filter(|name| {
            let renamed = origin.renamed.iter().find(|it| name.turn <= it.through);
            renamed.is_some_and(|it| it.session == name.session)
        });
        let found = found.ok_or_else(|| {
            ApiError::new(&codes::NOT_FOUND, "this was no name of what was imported").param("name")
        })?;
        told["ids"] = json!({ old: ours.of_kind(found.kind, found.turn, found.n) });
    }
    Ok(told.into())
}

fn origin_told(about: &About) -> Value {
    json!({ "origin": about.origin, "ids": {} })
}
