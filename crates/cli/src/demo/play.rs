//! The play, scene by scene. It talks to the server as the official SDK would: a background response, streamed, taken up
//! again where it was.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everstate_kernel::ids::Millis;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::bank::{Bank, Ledger};
use super::child::{Server, Start};
use super::person::Key;
use super::show::Show;
use super::stage::{Cast, INSTRUCTIONS, TASK, TOOLS};
use crate::client::Client;
use crate::desk::Desk;
use crate::fault::{Fault, codes};
use crate::sse::{Event, Events};
use crate::timeline::Tone;

pub(crate) struct Play<'a> {
    pub(crate) desk: &'a Desk,
    pub(crate) cast: &'a Cast,
    pub(crate) start: Start,
    pub(crate) fast: bool,
}

/// How it went: everything the proof looks at.
#[derive(Debug)]
pub(crate) struct Played {
    /// The server that ran last; it lives as long as this does.
    pub(crate) server: Server,
    pub(crate) session: String,
    pub(crate) response: String,
    pub(crate) show: Show,
    pub(crate) ledger: Ledger,
    pub(crate) killed_pid: u32,
    /// The second response's stream as its client saw it, before and after the kill.
    pub(crate) before: Vec<Event>,
    pub(crate) after: Vec<Event>,
}

/// Nothing here takes so long, unless something hangs.
const SCENE_MAX: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(10);

impl Play<'_> {
    pub(crate) async fn run(&self, mut bank: Bank) -> Result<Played, Fault> {
        let server = self.start.server(None).await?;
        let show = Show::new(&self.desk.out);

        let mut stream = self.respond(&server.client, &json!({ "input": TASK })).await?;
        let first =
            within("the first event", stream.next()).await?.ok_or_else(|| cut("at once"))?;
        let response = response_id(&first).ok_or_else(|| cut("without a response"))?;
        let session = stream.session.take().ok_or_else(|| cut("without its session"))?;
        let following = show.follow(&server.client, &session);
        let events = within("the first turn", rest(&mut stream)).await?;
        let approval = events.iter().find_map(approval_id).ok_or_else(|| {
            failed("the model did not ask for the refund").why("no approval was asked for")
        })?;
        within("the first turn's end", ended(&show, 1)).await?;
        self.ask().await;

        let answer = json!([{
            "type": "mcp_approval_response",
            "approval_request_id": approval,
            "approve": true,
            "reason": "the second charge is ours",
        }]);
        let body = json!({ "previous_response_id": response, "input": answer });
        let mut stream = self.respond(&server.client, &body).await?;
        let mut before = Vec::new();
        let held = async {
            loop {
                tokio::select! {
                    event = stream.next() => match event? {
                        Some(event) => before.push(event),
                        None => return Err(cut("before the refund was made")),
                    },
                    _ = bank.held.recv() => break,
                }
            }
            // The bank has paid and says nothing: what the client was shown meanwhile is taken along.
            let moment = tokio::time::sleep(self.pause(900));
            tokio::pin!(moment);
            loop {
                tokio::select! {
                    event = stream.next() => match event? {
                        Some(event) => before.push(event),
                        None => return Err(cut("in the middle of the refund")),
                    },
                    () = &mut moment => return Ok(()),
                }
            }
        };
        within("the refund", held).await?;
        let response =
            before.iter().find_map(response_id).ok_or_else(|| cut("without a response"))?;

        let killed_pid = server.pid;
        let listen = server.kill().await?;
        following.abort();
        let how = format!(
            "server process {killed_pid} killed (signal 9): the bank has paid, its answer never arrived"
        );
        show.stopped(now(), &how);
        tokio::time::sleep(self.pause(1_200)).await;

        let server = self.start.server(Some(&listen)).await?;
        show.follow(&server.client, &session);
        let last = before.iter().filter_map(number).next_back().unwrap_or_default();
        let path = format!("/v1/responses/{response}?stream=true&starting_after={last}");
        let mut stream = server.client.stream(Method::GET, &path, None).await?;
        let after = within("the rest", rest(&mut stream)).await?;
        within("the end", ended(&show, 2)).await?;
        let ledger = bank.ledger();
        Ok(Played { server, session, response, show, ledger, killed_pid, before, after })
    }

    async fn respond(&self, client: &Client, more: &Value) -> Result<Events, Fault> {
        let mut body = json!({
            "model": self.cast.model(),
            "instructions": INSTRUCTIONS,
            "tools": [{ "type": "mcp", "server_label": "everstate", "allowed_tools": TOOLS }],
            "background": true,
            "stream": true,
            "store": true,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        client.stream(Method::POST, "/v1/responses", Some(&body)).await
    }

    /// Waits for the person, who is never needed.
    async fn ask(&self) {
        let out = &self.desk.out;
        if self.fast || out.is_json || !out.can_ask() {
            out.say(&out.look.tint(Tone::Dim, "                  (a person would be asked here; this time it is approved by itself)"));
            tokio::time::sleep(self.pause(1_500)).await;
            return;
        }
        let text = "                  press a to approve the refund (by itself in 10 s) ";
        out.note(&out.look.tint(Tone::Loud, text));
        let mut key = Key::wait();
        tokio::select! {
            () = key.pressed() => {}
            () = tokio::time::sleep(ASK) => {}
        }
    }

    fn pause(&self, ms: u64) -> Duration {
        Duration::from_millis(if self.fast { ms / 6 } else { ms })
    }
}

async fn ended(show: &Show, n_turns: u32) -> Result<(), Fault> {
    show.ended(n_turns).await;
    Ok(())
}

async fn within<T>(what: &str, doing: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let done = timeout(SCENE_MAX, doing).await;
    done.unwrap_or_else(|_| Err(failed(format!("{what} did not come within a minute"))))
}

/// All events to the end of a stream, which has to have the end that a response's stream has.
async fn rest(stream: &mut Events) -> Result<Vec<Event>, Fault> {
    let mut events = Vec::new();
    let mut has_end = false;
    while let Some(event) = stream.next().await? {
        match field(&event, "type").as_str() {
            "response.completed" | "response.incomplete" => has_end = true,
            "response.failed" => return Err(failed("the response failed").why(error(&event))),
            _ => {}
        }
        events.push(event);
    }
    if has_end { Ok(events) } else { Err(cut("without an end")) }
}

fn failed(what: impl Into<String>) -> Fault {
    Fault::new(&codes::DEMO_FAILED, what).attempt("everstate demo --keep")
}

fn cut(how: &str) -> Fault {
    failed(format!("the server's stream ended {how}"))
}

fn json_of(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap_or_default()
}

fn field(event: &Event, name: &str) -> String {
    json_of(event)[name].as_str().unwrap_or_default().to_owned()
}

fn error(event: &Event) -> String {
    json_of(event)["response"]["error"]["message"].as_str().unwrap_or("no reason given").to_owned()
}

fn response_id(event: &Event) -> Option<String> {
    json_of(event)["response"]["id"].as_str().map(str::to_owned)
}

fn approval_id(event: &Event) -> Option<String> {
    let item = &json_of(event)["item"];
    let is_request = item["type"] == "mcp_approval_request";
    is_request.then(|| item["id"].as_str().map(str::to_owned))?
}

pub(crate) fn number(event: &Event) -> Option<u64> {
    json_of(event)["sequence_number"].as_u64()
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |it| it.as_millis() as Millis)
}
