//! Reads an answer while it arrives: bytes in, pieces out, bounded in time and size, honest about how it ended.
//!
//! Every provider's answer goes through here, the rehearsal's too. What the bytes mean is the dialect's business.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use everstate_dialects::upstream::{Decoder, Dialect};
use everstate_kernel::delta::{Delta, Opening, Piece};
use everstate_kernel::input::{Failure, FailureClass};
use everstate_kernel::money::Usage;
use everstate_kernel::offer::Offer;
use everstate_runtime::ports::ReplyStream;
use futures_util::stream::{BoxStream, StreamExt, unfold};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Timeouts;
use crate::trouble::{failure, retry_after_ms, scrub};

/// An answer whose head is here. An error of the body says in words how it was cut.
pub(crate) struct Arrived {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: BoxStream<'static, Result<Bytes, String>>,
}

/// How to listen to it.
pub(crate) struct Listening {
    /// The address that was really asked, for messages.
    pub(crate) place: String,
    /// Bytes that were sent.
    pub(crate) sent: u64,
    /// When the request was put on its way.
    pub(crate) since: Instant,
    pub(crate) timeouts: Timeouts,
    pub(crate) bytes_max: u64,
    pub(crate) secret: Option<SecretString>,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listening").field("place", &self.place).finish_non_exhaustive()
    }
}

/// More of an error than this is not read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// An error whose body takes longer is told without the rest of it.
const ERROR_BODY: Duration = Duration::from_secs(5);
/// How long the rest after the end may take, so that the connection can be used again.
const REST: Duration = Duration::from_secs(1);

/// The pieces of an answer, or what it says instead of one.
pub(crate) async fn read(
    arrived: Arrived,
    dialect: &dyn Dialect,
    offer: &Offer,
    listening: Listening,
) -> Result<ReplyStream, Failure> {
    let kind = arrived.headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or("");
    let is_html = kind.to_ascii_lowercase().contains("html");
    if !(200..300).contains(&arrived.status) {
        return Err(refusal(arrived, is_html, dialect, &listening).await);
    }
    if is_html {
        let text = "answered with an HTML page: is `base_url` the address of an API?";
        let mut it = listening.failure(FailureClass::Broken, text);
        it.status = Some(arrived.status);
        return Err(it);
    }
    let reading = Reading {
        body: Some(arrived.body),
        decoder: dialect.decoder(offer),
        ready: VecDeque::new(),
        failed: None,
        bytes: 0,
        said: 0,
        last_sign: listening.since,
        spoke: false,
        listening,
    };
    Ok(unfold(reading, |mut it| async move { it.next().await.map(|piece| (piece, it)) }).boxed())
}

/// What a status that is no success means.
async fn refusal(
    mut arrived: Arrived,
    is_html: bool,
    dialect: &dyn Dialect,
    listening: &Listening,
) -> Failure {
    let status = arrived.status;
    if (300..400).contains(&status) {
        let to =
            arrived.headers.get(LOCATION).and_then(|it| it.to_str().ok()).unwrap_or("elsewhere");
        // Only scheme and host: a redirect's path and query may carry a secret of its own.
        let host = reqwest::Url::parse(to).map(|it| it.origin().ascii_serialization());
        let host = host.unwrap_or_else(|_| "another path".to_owned());
        let text =
            format!("answered {status}, a redirect to {host}; set `base_url` to where it leads");
        let mut it = listening.failure(FailureClass::NotFoundHere, &text);
        it.status = Some(status);
        return it;
    }
    let mut body = Vec::new();
    let collect = async {
        while let Some(Ok(bytes)) = arrived.body.next().await {
            let room = ERROR_BYTES_MAX - body.len();
            body.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if body.len() == ERROR_BYTES_MAX {
                break;
            }
        }
    };
    // A body that does not come to its end is told as far as it came.
    let _ =
        timeout(ERROR_BODY.min(Duration::from_millis(listening.timeouts.idle_ms)), collect).await;
    let wait = retry_after_ms(&arrived.headers, SystemTime::now());
    let mut it = dialect.failure(status, wait, if is_html { b"" } else { &body });
    it.message = match is_html {
        true => format!("{} answered {status} with an HTML page", listening.place),
        false => format!("{} answered {status}: {}", listening.place, it.message),
    };
    it.status = Some(status);
    it.retry_after_ms = it.retry_after_ms.or(wait);
    scrub(it, listening.secret())
}

impl Listening {
    pub(crate) fn failure(&self, class: FailureClass, text: &str) -> Failure {
        scrub(failure(class, format!("{} {text}", self.place)), self.secret())
    }

    fn secret(&self) -> Option<&str> {
        self.secret.as_ref().map(|it| it.expose_secret())
    }

    /// Until when the next sign of life has to be there, and what to say if it is not.
    pub(crate) fn deadline(&self, last_sign: Instant, spoke: bool) -> (Instant, String) {
        let in_ms = |from: Instant, ms: u64| from + Duration::from_millis(ms);
        let total = in_ms(self.since, self.timeouts.total_ms);
        let (quiet, name, ms) = match spoke {
            false => {
                let ms = self.timeouts.first_token_ms;
                (in_ms(self.since, ms), "first_token_ms", ms)
            }
            true => {
                let ms = self.timeouts.idle_ms;
                (in_ms(last_sign, ms), "idle_ms", ms)
            }
        };
        if total <= quiet {
            let ms = self.timeouts.total_ms;
            return (total, format!("did not come to an end within {ms} ms (timeouts.total_ms)"));
        }
        let text = match spoke {
            false => format!("said nothing for {ms} ms (timeouts.{name})"),
            true => {
                format!("fell silent in the middle of its answer for {ms} ms (timeouts.{name})")
            }
        };
        (quiet, text)
    }
}

struct Reading {
    /// `None` when nothing more is read.
    body: Option<BoxStream<'static, Result<Bytes, String>>>,
    decoder: Box<dyn Decoder>,
    ready: VecDeque<Piece>,
    /// Told after what is ready.
    failed: Option<Failure>,
    bytes: u64,
    /// Bytes of text, reasoning and arguments among them.
    said: u64,
    last_sign: Instant,
    spoke: bool,
    listening: Listening,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        loop {
            if let Some(mut piece) = self.ready.pop_front() {
                match &mut piece {
                    Piece::Delta(delta) => self.said += len(delta),
                    Piece::End(end) => {
                        estimate(&mut end.usage, self.listening.sent, self.said);
                        self.end();
                    }
                }
                return Some(Ok(piece));
            }
            if let Some(failed) = self.failed.take() {
                self.body = None;
                return Some(Err(failed));
            }
            let body = self.body.as_mut()?;
            let (deadline, silence) = self.listening.deadline(self.last_sign, self.spoke);
            let heard = timeout_at(deadline, body.next()).await;
            match heard {
                Err(_) => self.fail(FailureClass::Timeout, &silence),
                Ok(Some(Err(cut))) => {
                    self.fail(FailureClass::Broken, &format!("broke off its answer: {cut}"));
                }
                Ok(Some(Ok(bytes))) => self.hear(&bytes),
                Ok(None) => self.close(),
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.last_sign = Instant::now();
        self.bytes += bytes.len() as u64;
        if self.bytes > self.listening.bytes_max {
            let max = self.listening.bytes_max;
            let text = format!("sent more than {max} bytes (reply_max_bytes)");
            return self.fail(FailureClass::Broken, &text);
        }
        let mut out = Vec::new();
        let outcome = self.decoder.push(bytes, &mut out);
        self.take(out, outcome);
    }

    /// The body came to its end: was it the answer's too?
    fn close(&mut self) {
        self.body = None;
        let mut out = Vec::new();
        let outcome = self.decoder.finish(&mut out);
        self.take(out, outcome);
        let ended = self.ready.iter().any(|it| matches!(it, Piece::End(_)));
        if !ended && self.failed.is_none() {
            let text = "closed the stream before its answer had come to an end";
            self.fail(FailureClass::Broken, text);
        }
    }

    fn take(&mut self, out: Vec<Piece>, outcome: Result<(), Failure>) {
        self.spoke |= !out.is_empty();
        for piece in out {
            let end = matches!(piece, Piece::End(_));
            self.ready.push_back(piece);
            if end {
                // What follows the end does not belong to the answer, and cannot spoil it.
                return;
            }
        }
        if let Err(mut it) = outcome {
            it.message = format!("{}: {}", self.listening.place, it.message);
            self.failed = Some(scrub(it, self.listening.secret()));
        }
    }

    fn fail(&mut self, class: FailureClass, text: &str) {
        self.failed = Some(self.listening.failure(class, text));
    }

    /// The answer is whole. The few bytes after it are read aside, so that the connection can be used again.
    fn end(&mut self) {
        self.ready.clear();
        self.failed = None;
        if let Some(mut body) = self.body.take() {
            tokio::spawn(timeout(
                REST,
                async move { while let Some(Ok(_)) = body.next().await {} },
            ));
        }
    }
}

/// About so many bytes of a request or an answer are a token.
pub(crate) const BYTES_PER_TOKEN: u64 = 4;

/// Not every server counts. What was used has to count all the same, or no budget would ever end.
fn estimate(usage: &mut Usage, sent: u64, said: u64) {
    if usage.estimated && usage.tokens() == 0 {
        usage.input = sent.div_ceil(BYTES_PER_TOKEN);
        usage.output = said.div_ceil(BYTES_PER_TOKEN);
    }
}

fn len(delta: &Delta) -> u64 {
    let bytes = match delta {
        Delta::Text { text, .. }
        | Delta::Refusal { text, .. }
        | Delta::Summary { text, .. }
        | Delta::Thought { text, .. }
        | Delta::Arguments { text, .. } => text.len(),
        Delta::Open { opening: Opening::Call { name }, .. } => name.len(),
        Delta::Open { opening: Opening::Opaque { json, .. }, .. } => json.text().len(),
        Delta::Open { opening: Opening::Message | Opening::Reasoning, .. }
        | Delta::TextPart { .. }
        | Delta::Annotation { .. }
        | Delta::SummaryPart { .. }
        | Delta::Sealed { .. }
        | Delta::Extra { .. }
        | Delta::Close { .. } => 0,
    };
    bytes as u64
}
