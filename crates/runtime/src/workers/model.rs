//! Asking a model, and handing on what it says.
//!
//! Pieces are shown in bundles, one under way at a time. A resumable turn's bundle is on the log before it is shown,
//! so a store that stalls holds back the stream: first the reading, and after a while the attempt is given up.

use std::sync::Arc;

use everstate_kernel::delta::{Delta, Fold, Piece, ReplyEnd};
use everstate_kernel::ids::{AttemptId, Millis};
use everstate_kernel::input::{Failure, FailureClass, Input};
use futures_util::StreamExt;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::host::Inner;
use crate::ports::{Down, ReplyStream};
use crate::table::{Fate, Mail};
use crate::think::Letter;

/// The pause before a bundle that the store did not take is offered again; it doubles.
const AGAIN_MS: Millis = 50;
const AGAIN_MAX_MS: Millis = 2_000;

#[derive(Debug)]
pub(crate) struct ModelWork {
    pub(crate) attempt: AttemptId,
    pub(crate) letter: Letter,
    /// Is what it says kept, bundled, and shown when it is on the log? Else it is shown at once.
    pub(crate) resumable: bool,
    /// Others may speak for the same step: ask before the first word is shown.
    pub(crate) asks_first: bool,
    /// Is anybody told what it says? Of a summary only the whole is of use, and only to the session.
    pub(crate) is_shown: bool,
    pub(crate) host: Arc<Inner>,
    pub(crate) fate: Arc<Fate>,
    pub(crate) mail: UnboundedSender<Mail>,
}

impl ModelWork {
    pub(crate) fn broken(attempt: AttemptId) -> Input {
        failed(attempt, broken("the provider's code broke down"))
    }

    pub(crate) async fn run(self) -> Input {
        let attempt = self.attempt;
        let (host, offer) = (Arc::clone(&self.host), self.letter.offer.id.clone());
        match self.ask().await {
            Ok((outputs, end)) => {
                host.health.answered(&offer);
                Input::Replied { attempt, outputs: outputs.finish(), end }
            }
            Err(Trouble { failure, ours }) => {
                if !ours {
                    host.health.failed(&offer, &failure, host.ports.clock.now());
                }
                failed(attempt, failure)
            }
        }
    }

    async fn ask(self) -> Result<(Fold, ReplyEnd), Trouble> {
        let prepared = self.letter.prepared.clone().map_err(theirs)?;
        let gate = self.host.gate(&self.letter.offer.id);
        let permit = permit(gate).await;
        self.host.may_begin(&self.fate).await;
        let asked_at = self.host.ports.clock.now();
        let stream = self.letter.model.send(&self.letter.offer, prepared).await.map_err(theirs)?;
        let talk = Talk {
            work: &self,
            stream,
            permit: Some(permit),
            asked_at,
            whole: Fold::default(),
            held: Vec::new(),
            held_bytes: 0,
            held_since: None,
            may_speak: !self.asks_first,
            has_spoken: false,
            again_ms: AGAIN_MS,
        };
        talk.listen().await
    }
}

/// A failed attempt; `ours` if the provider is not to blame.
struct Trouble {
    failure: Failure,
    ours: bool,
}

fn theirs(failure: Failure) -> Trouble {
    Trouble { failure, ours: false }
}

async fn permit(gate: Arc<Semaphore>) -> OwnedSemaphorePermit {
    gate.acquire_owned().await.expect("gates are never closed")
}

struct Talk<'a> {
    work: &'a ModelWork,
    stream: ReplyStream,
    /// Held until the first word.
    permit: Option<OwnedSemaphorePermit>,
    asked_at: Millis,
    whole: Fold,
    /// Heard, and not handed on.
    held: Vec<Delta>,
    held_bytes: usize,
    held_since: Option<Millis>,
    may_speak: bool,
    has_spoken: bool,
    again_ms: Millis,
}

/// A bundle on its way, and what it holds in case it has to be offered again.
struct OnItsWay {
    deltas: Vec<Delta>,
    bytes: usize,
    shown: oneshot::Receiver<Result<(), Down>>,
    since: Millis,
}

impl Talk<'_> {
    async fn listen(mut self) -> Result<(Fold, ReplyEnd), Trouble> {
        let clock = Arc::clone(&self.work.host.ports.clock);
        let settings = self.work.host.settings.clone();
        let mut on_its_way: Option<OnItsWay> = None;
        let mut not_before: Millis = 0;
        let mut end: Option<ReplyEnd> = None;
        loop {
            let now = clock.now();
            let due_at = self.due_at(end.is_some()).max(not_before);
            if on_its_way.is_none() && !self.held.is_empty() && due_at <= now {
                self.ask_to_speak().await?;
                on_its_way = Some(self.hand_on(now)?);
                continue;
            }
            if let Some(end) = end.take_if(|_| on_its_way.is_none() && self.held.is_empty()) {
                return Ok((self.whole, end));
            }
            let is_full = self.held_bytes >= settings.held_bytes_max;
            // An answer that is complete waits for the store as long as it takes.
            let is_stuck = is_full && end.is_none();
            let stalls_at = match (&on_its_way, self.held_since) {
                (Some(bundle), _) if is_stuck => bundle.since + settings.stall_ms,
                (None, Some(since)) if is_stuck => since + settings.stall_ms,
                (Some(_) | None, _) => Millis::MAX,
            };
            let wake_at = match (&on_its_way, self.held.is_empty()) {
                (None, false) => due_at.min(stalls_at),
                (Some(_), _) | (None, true) => stalls_at,
            };
            tokio::select! {
                biased;
                shown = arrival(&mut on_its_way) => {
                    let bundle = on_its_way.take().expect("it just arrived");
                    match shown {
                        Ok(()) => self.again_ms = AGAIN_MS,
                        Err(_) => {
                            self.take_back(bundle);
                            not_before = clock.now() + self.again_ms;
                            self.again_ms = (self.again_ms * 2).min(AGAIN_MAX_MS);
                        }
                    }
                }
                piece = self.stream.next(), if end.is_none() && !is_full => match piece {
                    Some(Ok(Piece::Delta(delta))) => self.hear(delta, clock.now()),
                    Some(Ok(Piece::End(it))) => end = Some(it),
                    Some(Err(failure)) => return Err(theirs(failure)),
                    None => return Err(theirs(broken("the answer stopped without an end"))),
                },
                () = clock.sleep_until(wake_at), if wake_at < Millis::MAX => {
                    if clock.now() >= stalls_at {
                        return Err(Trouble { failure: broken("store stalled: what was said could not be kept"), ours: true });
                    }
                }
            }
        }
    }

    fn hear(&mut self, delta: Delta, now: Millis) {
        if self.permit.take().is_some() {
            let offer = &self.work.letter.offer.id;
            self.work.host.health.spoke(offer, now.saturating_sub(self.asked_at));
        }
        self.whole.push(&delta);
        if !self.work.is_shown {
            return;
        }
        self.held_bytes += weight(&delta);
        self.held_since.get_or_insert(now);
        self.held.push(delta);
    }

    /// When the held deltas are to be handed on.
    fn due_at(&self, is_over: bool) -> Millis {
        let settings = &self.work.host.settings;
        let at_once = is_over
            || !self.work.resumable
            || !self.has_spoken
            || self.held_bytes >= settings.flush_bytes;
        match self.held_since {
            Some(since) if !at_once => since + settings.flush_ms,
            Some(_) | None => 0,
        }
    }

    fn hand_on(&mut self, now: Millis) -> Result<OnItsWay, Trouble> {
        let (reply, shown) = oneshot::channel();
        let deltas = std::mem::take(&mut self.held);
        let bytes = std::mem::take(&mut self.held_bytes);
        let since = self.held_since.take().filter(|_| self.again_ms > AGAIN_MS).unwrap_or(now);
        self.has_spoken = true;
        let frames = Mail::Frames { attempt: self.work.attempt, deltas: deltas.clone(), reply };
        self.work.mail.send(frames).map_err(|_| nobody())?;
        Ok(OnItsWay { deltas, bytes, shown, since })
    }

    /// The store did not take it: it goes before what was heard since.
    fn take_back(&mut self, mut bundle: OnItsWay) {
        bundle.deltas.append(&mut self.held);
        self.held = bundle.deltas;
        self.held_bytes += bundle.bytes;
        self.held_since = Some(bundle.since);
    }

    /// Waits until this attempt is the one that is shown. If another is, this one is ended from outside.
    async fn ask_to_speak(&mut self) -> Result<(), Trouble> {
        let clock = &self.work.host.ports.clock;
        while !self.may_speak {
            let (reply, answer) = oneshot::channel();
            let spoke = Mail::Spoke { attempt: self.work.attempt, reply };
            self.work.mail.send(spoke).map_err(|_| nobody())?;
            match answer.await {
                Ok(Ok(true)) => self.may_speak = true,
                Ok(Ok(false)) => std::future::pending::<()>().await,
                Ok(Err(_)) => {
                    clock.sleep_until(clock.now() + self.again_ms).await;
                    self.again_ms = (self.again_ms * 2).min(AGAIN_MAX_MS);
                }
                Err(_) => return Err(nobody()),
            }
        }
        Ok(())
    }
}

/// Waits for the bundle under way to be shown; for ever if there is none.
async fn arrival(on_its_way: &mut Option<OnItsWay>) -> Result<(), Down> {
    match on_its_way {
        Some(bundle) => (&mut bundle.shown).await.unwrap_or_else(|_| Err(crate::host::closed())),
        None => std::future::pending().await,
    }
}

/// About how much memory a delta takes.
fn weight(delta: &Delta) -> usize {
    32 + match delta {
        Delta::Text { text, .. }
        | Delta::Refusal { text, .. }
        | Delta::Summary { text, .. }
        | Delta::Thought { text, .. }
        | Delta::Arguments { text, .. } => text.len(),
        Delta::Annotation { annotation: json, .. } | Delta::Extra { extra: json, .. } => {
            json.text().len()
        }
        Delta::Sealed { sealed, .. } => sealed.content.len(),
        Delta::Open { .. }
        | Delta::TextPart { .. }
        | Delta::SummaryPart { .. }
        | Delta::Close { .. } => 64,
    }
}

fn failed(attempt: AttemptId, failure: Failure) -> Input {
    Input::AttemptFailed { attempt, failure }
}

fn broken(message: &str) -> Failure {
    Failure {
        class: FailureClass::Broken,
        message: message.to_owned(),
        status: None,
        code: None,
        retry_after_ms: None,
    }
}

fn nobody() -> Trouble {
    Trouble { failure: broken("its session is not at work any more"), ours: true }
}
