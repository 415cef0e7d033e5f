//! Follows a session, across breaks of the connection and of the server.

use clap::Args;
use everstate_kernel::event::Event;
use reqwest::Method;

use super::{SESSIONS, Which};
use crate::desk::Desk;
use crate::events::{self, Place};
use crate::fault::{Done, Fault, codes};
use crate::timeline::Timeline;

/// What happens, as it happens; ends with Ctrl-C
#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    which: Which,
    /// End when the session's turn ends
    #[arg(long)]
    until_idle: bool,
}

impl Watch {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        follow(desk, &self.which.session, self.until_idle).await.map(drop)
    }
}

pub(super) async fn watch(desk: &Desk, session: &str) -> Done {
    follow(desk, session, false).await.map(drop)
}

/// Tells a session's events, one line of JSON each or as a timeline. Comes back if the server does: the log has
/// what was missed.
pub(crate) async fn follow(
    desk: &Desk,
    session: &str,
    until_idle: bool,
) -> Result<Timeline, Fault> {
    let client = desk.client()?;
    let standing = client.get(&format!("{SESSIONS}/{session}")).await?;
    let id = standing["id"].as_str().unwrap_or(session).to_owned();
    let mut timeline = Timeline::default();
    let mut place = Place::default();
    let mut first = true;
    loop {
        let path = format!("{SESSIONS}/{id}/events?follow=true&after={}", place.after());
        let mut stream = match client.stream(Method::GET, &path, None).await {
            Ok(stream) => stream,
            Err(fault) if fault.word == codes::UNREACHABLE.word && !first => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            Err(fault) => return Err(fault),
        };
        place.again();
        // Broken off or ended: the server is gone or closing. It is asked again for what follows.
        while let Ok(Some(event)) = stream.next().await {
            let Ok(told) = serde_json::from_str(&event.data) else { continue };
            if !place.is_new(&told) {
                continue;
            }
            let Some(append) = events::read(&told) else { continue };
            if desk.out.is_json {
                desk.out.json(&told);
            } else if first {
                desk.out.line(&desk.out.look.columns());
            }
            first = false;
            for line in timeline.hear(&append) {
                desk.out.say(&desk.out.look.line(&line));
            }
            if crate::out::unheard() {
                return Ok(timeline);
            }
            let ended = matches!(append.events.last(), Some(Event::TurnEnded { .. }));
            if until_idle && ended {
                return Ok(timeline);
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

const AGAIN: std::time::Duration = std::time::Duration::from_millis(300);
