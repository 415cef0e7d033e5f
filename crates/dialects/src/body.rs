//! An answer's body, whatever its form: a stream of events, one JSON object, or no answer at all (a proxy's error
//! page). What events and objects mean is each dialect's business.

use everstate_kernel::delta::Piece;
use everstate_kernel::input::Failure;
use everstate_kernel::json::Json;

use crate::failure;
use crate::json::{Fields, tidy};
use crate::sse::{Event, Parser};
use crate::upstream::Decoder;

const WHOLE_BYTES_MAX: usize = 64 << 20;
const HEAD_BYTES: usize = 200;

/// What a dialect makes of an answer. Once it has said the end, nothing more is asked of it.
pub(crate) trait Hear: Send {
    /// One event's data.
    fn event(&mut self, kind: &str, data: Fields, out: &mut Vec<Piece>) -> Result<(), Failure>;
    /// The answer in one object.
    fn whole(&mut self, body: Fields, out: &mut Vec<Piece>) -> Result<(), Failure>;
    /// The stream said `[DONE]`, or simply ended. `true`: the answer had come to its end.
    fn end(&mut self, out: &mut Vec<Piece>) -> Result<bool, Failure>;
}

#[derive(Debug)]
pub(crate) struct Body<H> {
    hear: H,
    form: Form,
    /// The first bytes, for the message if nothing can be made of them.
    head: Vec<u8>,
    n_events: u64,
    over: bool,
}

#[derive(Debug)]
enum Form {
    /// Only white space so far.
    Unknown,
    Events(Parser),
    Whole(Vec<u8>),
}

impl<H: Hear> Body<H> {
    pub(crate) fn new(hear: H) -> Body<H> {
        Body { hear, form: Form::Unknown, head: Vec::new(), n_events: 0, over: false }
    }

    fn events(&mut self, events: Vec<Event>, out: &mut Vec<Piece>) -> Result<(), Failure> {
        for event in events {
            if self.over {
                break;
            }
            let data = event.data.trim();
            if data == "[DONE]" {
                self.over = self.hear.end(out)?;
                continue;
            }
            if data.is_empty() {
                continue;
            }
            self.n_events += 1;
            let fields = read(data)?;
            self.hear.event(&event.kind, fields, out)?;
            self.over = matches!(out.last(), Some(Piece::End(_)));
        }
        Ok(())
    }

    fn nonsense(&self) -> Failure {
        let head = String::from_utf8_lossy(&self.head);
        failure::broken(match head.trim() {
            "" => "the provider's answer is empty".to_owned(),
            head => format!(
                "the provider's answer is neither a stream of events nor JSON: `{}`",
                failure::excerpt(head)
            ),
        })
    }

    fn take(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), Failure> {
        match &mut self.form {
            Form::Unknown => {}
            Form::Whole(whole) => {
                whole.extend_from_slice(bytes);
                if whole.len() > WHOLE_BYTES_MAX {
                    return Err(failure::broken("the provider's answer is too large".to_owned()));
                }
            }
            Form::Events(parser) => {
                let mut events = Vec::new();
                let fits = parser.push(bytes, &mut events);
                self.events(events, out)?;
                if fits.is_err() {
                    return Err(failure::broken(
                        "an event of the provider's stream is too large".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }
}

impl<H: Hear> Decoder for Body<H> {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Piece>) -> Result<(), Failure> {
        if self.over {
            return Ok(());
        }
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        let begun = match self.form {
            Form::Unknown => begin(&self.head),
            Form::Events(_) | Form::Whole(_) => None,
        };
        let taken = match begun {
            Some(form) => {
                self.form = form;
                // What was held back while the form was unknown is all in the head: it is only white space.
                let mut whole = self.head[..self.head.len() - room].to_vec();
                whole.extend_from_slice(bytes);
                self.take(&whole, out)
            }
            None => self.take(bytes, out),
        };
        self.over |= taken.is_err();
        taken
    }

    fn finish(&mut self, out: &mut Vec<Piece>) -> Result<(), Failure> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        match std::mem::replace(&mut self.form, Form::Unknown) {
            Form::Unknown => Err(self.nonsense()),
            Form::Whole(whole) => {
                let text = std::str::from_utf8(&whole).map_err(|_| self.nonsense())?;
                self.hear.whole(read(text)?, out)
            }
            Form::Events(mut parser) => {
                let mut events = Vec::new();
                parser.finish(&mut events);
                self.over = false;
                self.events(events, out)?;
                let over = std::mem::replace(&mut self.over, true);
                if over || self.hear.end(out)? {
                    return Ok(());
                }
                if self.n_events == 0 {
                    return Err(self.nonsense());
                }
                Err(failure::broken("the provider's stream ended without an end".to_owned()))
            }
        }
    }
}

/// The form of an answer, from its first byte that is not white space. The head is long enough for any sane
/// beginning; one that is all white space is read as events, of which it has none.
fn begin(head: &[u8]) -> Option<Form> {
    let mark = b"\xef\xbb\xbf";
    if head.len() < mark.len() && mark.starts_with(head) {
        return None;
    }
    let text = head.strip_prefix(mark).unwrap_or(head);
    match text.iter().find(|it| !it.is_ascii_whitespace()) {
        Some(b'{') => Some(Form::Whole(Vec::new())),
        Some(_) => Some(Form::Events(Parser::default())),
        None if head.len() >= HEAD_BYTES => Some(Form::Events(Parser::default())),
        None => None,
    }
}

fn read(text: &str) -> Result<Fields, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Ok(tidied) = tidy(text) else {
        return Err(failure::broken("the provider's answer is nested too deeply".to_owned()));
    };
    let json = Json::parse(tidied).ok();
    json.as_ref().and_then(Fields::of).ok_or_else(|| {
        failure::broken(format!(
            "the provider's stream holds what is no JSON object: `{}`",
            failure::excerpt(text)
        ))
    })
}
