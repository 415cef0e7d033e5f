//! One session, from its log.

use clap::Args;
use serde_json::{Value, json};

use super::{SESSIONS, Which};
use crate::address::short;
use crate::client::Client;
use crate::desk::Desk;
use crate::events;
use crate::fault::{Done, Fault};
use crate::out::Out;
use crate::timeline::{Line, Timeline};

/// What happened, as a timeline
#[derive(Debug, Args)]
pub(crate) struct Show {
    #[command(flatten)]
    which: Which,
    /// Stay, and show what happens
    #[arg(long)]
    follow: bool,
}

impl Show {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        if self.follow {
            return super::watch::watch(desk, &self.which.session).await;
        }
        let client = desk.client()?;
        let session = &self.which.session;
        let standing = client.get(&format!("{SESSIONS}/{session}")).await?;
        let id = standing["id"].as_str().unwrap_or(session).to_owned();
        let events = all(&client, &id).await?;
        if desk.out.is_json {
            let mut whole = standing;
            whole["items"] = events.into();
            whole["next"] = Value::Null;
            desk.out.json(&whole);
            return Ok(());
        }
        let (timeline, lines) = told(&events);
        for line in desk.out.look.page(&timeline, &lines) {
            desk.out.line(&line);
        }
        next(&desk.out, &timeline, &id);
        Ok(())
    }
}

/// All events of a session.
pub(crate) async fn all(client: &Client, id: &str) -> Result<Vec<Value>, Fault> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let mut page = client.get(&format!("{SESSIONS}/{id}/events?after={after}")).await?;
        if let Value::Array(items) = page["items"].take() {
            all.extend(items);
        }
        match page["next"].as_u64() {
            Some(next) if next > after => after = next,
            _ => return Ok(all),
        }
    }
}

/// The whole timeline of these events.
pub(crate) fn told(told: &[Value]) -> (Timeline, Vec<Line>) {
    let mut timeline = Timeline::default();
    let appends = told.iter().filter_map(events::read);
    let lines = appends.flat_map(|it| timeline.hear(&it)).collect();
    (timeline, lines)
}

/// What to type next.
pub(crate) fn next(out: &Out, timeline: &Timeline, id: &str) {
    let id = short(id);
    let session = timeline.session();
    let mut next = Vec::new();
    if !timeline.waiting().is_empty() {
        next.push("everstate approval list".to_owned());
    }
    if session.live.turn_no > 0 {
        next.push(format!("everstate explain {id}/{}.1", session.live.turn_no));
    }
    next.push(format!("everstate session fork {id} --at {}", session.head));
    out.line(&format!("next: {}", next.join("    ")));
}

/// A standing session in one JSON object.
pub(super) fn standing(out: &Out, told: &Value, what: &str) {
    if out.is_json {
        out.json(told);
        return;
    }
    let id = told["id"].as_str().unwrap_or("?");
    let state = told["state"].as_str().unwrap_or("?");
    out.line(&format!("{id}   {what}   {state}"));
    out.line(&format!("next: everstate session show {}", short(id)));
}

/// For requests without content.
pub(super) fn nothing() -> Value {
    json!({})
}
