//! Reads server-sent events off an answer.

use reqwest::Response;

use crate::client::deepest;
use crate::fault::{Fault, codes};

#[derive(Debug)]
pub(crate) struct Events {
    /// The session that the stream is about, if the server says so.
    pub(crate) session: Option<String>,
    response: Response,
    buffer: Vec<u8>,
}

const SESSION: &str = "x-everstate-session";

/// One event. `raw` is what stood on the wire, blank line included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    pub(crate) data: String,
    pub(crate) raw: Vec<u8>,
}

impl Events {
    pub(crate) fn new(response: Response) -> Events {
        let session = response.headers().get(SESSION).and_then(|it| it.to_str().ok());
        Events { session: session.map(str::to_owned), response, buffer: Vec::new() }
    }

    /// The next event; `None` at the stream's end. A stream that breaks off is a fault.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Fault> {
        loop {
            while let Some(event) = take(&mut self.buffer) {
                if !event.data.is_empty() {
                    return Ok(Some(event));
                }
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Ok(None),
                Err(err) => {
                    return Err(Fault::new(&codes::UNREACHABLE, "the stream broke off")
                        .why(deepest(&err))
                        .attempt("the same command again: nothing of the log is lost"));
                }
            }
        }
    }
}

/// Takes the first whole event off the buffer. Our server ends lines with one `\n`.
fn take(buffer: &mut Vec<u8>) -> Option<Event> {
    let end = buffer.windows(2).position(|it| it == b"\n\n")? + 2;
    let raw: Vec<u8> = buffer.drain(..end).collect();
    let text = String::from_utf8_lossy(&raw);
    let data: Vec<&str> =
        text.lines().filter_map(|it| it.strip_prefix("data:")).map(|it| it.trim_start()).collect();
    Some(Event { data: data.join("\n"), raw: raw.clone() })
}

#[cfg(test)]
mod tests;
