//! The timeline while it happens: a follower of the session's events prints it, and lets the play wait for a moment in
//! it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::Millis;
use reqwest::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::events::{self, Place};
use crate::out::Out;
use crate::session::SESSIONS;
use crate::timeline::{Look, Timeline};

#[derive(Clone, Debug)]
pub(crate) struct Show(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    look: Look,
    is_json: bool,
    told: Mutex<Told>,
    n_ended: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct Told {
    timeline: Timeline,
    place: Place,
    appends: Vec<Append>,
    has_head: bool,
}

impl Show {
    pub(crate) fn new(out: &Out) -> Show {
        let (n_ended, _) = watch::channel(0);
        Show(Arc::new(Inner {
            look: out.look.clone(),
            is_json: out.is_json,
            told: Mutex::default(),
            n_ended,
        }))
    }

    /// Follows from where it is, until the server is gone.
    pub(crate) fn follow(&self, client: &Client, session: &str) -> JoinHandle<()> {
        let (show, client, session) = (self.clone(), client.clone(), session.to_owned());
        tokio::spawn(async move {
            let after = show.told().place.after();
            let path = format!("{SESSIONS}/{session}/events?follow=true&after={after}");
            let Ok(mut stream) = client.stream(Method::GET, &path, None).await else { return };
            show.told().place.again();
            while let Ok(Some(event)) = stream.next().await {
                if let Ok(told) = serde_json::from_str(&event.data) {
                    show.hear(&told);
                }
            }
        })
    }

    fn hear(&self, event: &Value) {
        let mut told = self.told();
        if !told.place.is_new(event) {
            return;
        }
        let Some(append) = events::read(event) else { return };
        if self.0.is_json {
            self.out().json(event);
        } else if !std::mem::replace(&mut told.has_head, true) {
            self.out().line(&self.0.look.columns());
        }
        for line in told.timeline.hear(&append) {
            self.out().say(&self.0.look.line(&line));
        }
        let ended = append.events.iter().any(|it| matches!(it, Event::TurnEnded { .. }));
        told.appends.push(append);
        drop(told);
        if ended {
            self.0.n_ended.send_modify(|it| *it += 1);
        }
    }

    /// Until so many turns have ended.
    pub(crate) async fn ended(&self, n_turns: u32) {
        let mut ended = self.0.n_ended.subscribe();
        // The sender is ours, and lives as long as we do.
        ended.wait_for(|it| *it >= n_turns).await.ok();
    }

    pub(crate) fn stopped(&self, at: Millis, how: &str) {
        let line = self.told().timeline.stopped(at, how);
        self.out().say(&self.0.look.line(&line));
    }

    /// What the log had told so far, in the order it came.
    pub(crate) fn appends(&self) -> Vec<Append> {
        self.told().appends.clone()
    }

    pub(crate) fn header(&self) -> String {
        self.told().timeline.header()
    }

    fn out(&self) -> Out {
        Out { is_json: self.0.is_json, look: self.0.look.clone() }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
