//! What became of a call, from what its tries heard. Doubt is said aloud.
//!
//! | heard | `read_only` | `idempotent` | `neither` |
//! | --- | --- | --- | --- |
//! | 2xx | ok | ok | ok |
//! | 2xx, but the answer cannot be used | failed | ok, and says so | ok, and says so |
//! | 4xx, 501, 505, 307/308 | failed | failed | failed |
//! | nothing was sent | tried again, failed | tried again, failed | failed |
//! | other 5xx, or no complete answer | tried again, failed | tried again, unknown | unknown |
//! | other redirects of a request that is not repeated | failed | unknown | unknown |
//!
//! A server that answers 500 or 502 may have done the work before something behind it broke: for whatever changes the
//! world that is no "no". Once one try of an `idempotent` call is in doubt, only a 2xx ends the doubt.

use everstate_kernel::item::Outcome;
use everstate_kernel::tool::Safety;
use reqwest::{Method, StatusCode, header};

use crate::fetch::{Lost, Reply, Why};
use crate::schema::Schema;

/// For the model.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
}

/// What has been heard so far.
#[derive(Debug)]
pub(crate) struct Tries {
    safety: Safety,
    method: Method,
    last: Option<Fate>,
    /// A try may have done its work without our hearing of it.
    doubt: bool,
}

#[derive(Debug)]
enum Fate {
    Done(Reply),
    /// It was done, but the answer cannot be used.
    Blind(String),
    /// The other side said no.
    No(String),
    /// It may have been done.
    Doubt(String),
    NotSent(String),
}

const EXCERPT_CHARS_MAX: usize = 2000;

impl Tries {
    pub(crate) fn new(safety: Safety, method: Method) -> Tries {
        Tries { safety, method, last: None, doubt: false }
    }

    /// Is that the end of it? Otherwise the same request may be sent again, if there are tries left.
    pub(crate) fn hear(&mut self, answer: Result<Reply, Lost>) -> bool {
        let (fate, again) = match answer {
            Ok(reply) => self.answered(reply),
            Err(lost) => self.lost(lost),
        };
        self.doubt |= matches!(fate, Fate::Doubt(_));
        self.last = Some(fate);
        !again
    }

    fn answered(&self, reply: Reply) -> (Fate, bool) {
        let status = reply.status;
        if status.is_success() {
            return (Fate::Done(reply), false);
        }
        let text = format!("it answered {}{}", shown(status), excerpt(&reply.body));
        match status.as_u16() {
            501 | 505 => (Fate::No(text), false),
            500..=599 => (Fate::Doubt(text), true),
            301..=303 if self.method != Method::GET => {
                let to = reply.headers.get(header::LOCATION).and_then(|it| it.to_str().ok());
                let to = to.map_or(String::new(), |it| format!(" to {it}"));
                (Fate::Doubt(format!("{text}{to}, and only a GET is sent on")), false)
            }
            _ => (Fate::No(text), false),
        }
    }

    fn lost(&self, lost: Lost) -> (Fate, bool) {
        match (lost.why, lost.status) {
            (Why::TooLarge, Some(status)) if status.is_success() => (Fate::Blind(lost.text), false),
            (Why::TooLarge, Some(status)) if !status.is_server_error() => {
                (Fate::No(format!("it answered {}, and {}", shown(status), lost.text)), false)
            }
            (why, _) if lost.may_have_arrived => {
                let again = match why {
                    Why::TimedOut | Why::Broken | Why::TooLarge | Why::Unreachable => true,
                    Why::Refused | Why::TooManyRedirects => false,
                };
                (Fate::Doubt(lost.text), again)
            }
            (why, _) => (Fate::NotSent(lost.text), why != Why::Refused),
        }
    }

    pub(crate) fn settle(self, output: Option<&Schema>) -> Settled {
        let doubt = self.doubt && self.safety != Safety::ReadOnly;
        let changes = self.safety != Safety::ReadOnly;
        let failed = |text| Settled { outcome: Outcome::Failed, text };
        let unknown = |text| Settled {
            outcome: Outcome::Unknown,
            text: format!("It is not known whether this was done: {text}."),
        };
        let blind = |why: String| {
            if changes {
                let text = format!("It was done, but its answer is left out: {why}.");
                Settled { outcome: Outcome::Ok, text }
            } else {
                failed(format!("The answer cannot be used: {why}."))
            }
        };
        match self.last {
            None => failed("Nothing was sent.".to_owned()),
            Some(Fate::Done(reply)) => match usable(&reply, output) {
                Ok(text) => Settled { outcome: Outcome::Ok, text },
                Err(why) => blind(why),
            },
            Some(Fate::Blind(why)) => blind(why),
            Some(Fate::Doubt(text)) if changes => unknown(text),
            Some(Fate::No(text) | Fate::NotSent(text)) if doubt => {
                unknown(format!("one try got no answer, and the last one failed: {text}"))
            }
            Some(Fate::No(text) | Fate::Doubt(text)) => failed(format!("It failed: {text}.")),
            Some(Fate::NotSent(text)) => failed(format!("Nothing was sent: {text}.")),
        }
    }
}

/// The body as text, if it is what the tool promised.
fn usable(reply: &Reply, output: Option<&Schema>) -> Result<String, String> {
    let binary = || "it is neither JSON nor text".to_owned();
    let text = std::str::from_utf8(&reply.body).map_err(|_| binary())?;
    let encoding = reply.headers.get(header::CONTENT_ENCODING);
    if text.contains('\0') || encoding.is_some_and(|it| it != "identity") {
        return Err(binary());
    }
    if let Some(schema) = output {
        let value = serde_json::from_str(text)
            .map_err(|error| format!("it should be JSON, but is not: {error}"))?;
        schema.check(&value).map_err(|wrong| format!("it does not fit its schema: {wrong}"))?;
    }
    if text.is_empty() {
        return Ok(format!("Done: {}, without content.", shown(reply.status)));
    }
    Ok(text.to_owned())
}

fn shown(status: StatusCode) -> String {
    format!("HTTP {}", status.as_u16())
}

fn excerpt(body: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(body) else { return String::new() };
    let text = text.trim();
    if text.is_empty() || text.contains('\0') {
        return String::new();
    }
    let end = text.char_indices().nth(EXCERPT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let cut = if end < text.len() { "…" } else { "" };
    format!(": {}{cut}", &text[..end])
}
