//! A driver's round: compare what is wanted with what runs, then wait for something to happen.

use std::sync::Arc;

use everstate_kernel::effect::Effect;
use everstate_kernel::ids::{AttemptId, CallId, Millis};
use everstate_kernel::input::{Caller, Failure, FailureClass, Input};

use super::{Driver, Leave, SOON_MS, Trouble};
use crate::keep;
use crate::table::Mail;
use crate::think::write;
use crate::workers::{self, ModelWork, ToolWork};

/// What there is to do next.
enum Next {
    Mail(Mail),
    /// The session wants to look at the clock.
    Wake,
    /// What waits for the store may be offered again.
    Again,
}

impl Driver {
    /// `false` when nothing is left to do.
    pub(super) async fn round(&mut self) -> Result<bool, Leave> {
        self.reconcile().await?;
        self.snapshot_sometimes().await;
        let effects = self.state.effects();
        let wake = keep::wake(&effects);
        if self.may_leave(&effects, wake) && self.mailbox.is_empty() {
            return Ok(false);
        }
        match self.next(wake).await {
            Next::Mail(mail) => self.open(mail).await?,
            Next::Wake => self.tick().await?,
            Next::Again => self.settle_stuck().await?,
        }
        Ok(true)
    }

    async fn next(&mut self, wake: Option<Millis>) -> Next {
        let clock = Arc::clone(&self.host.ports.clock);
        let wake_at = wake.map_or(Millis::MAX, |it| it.max(self.deaf_until));
        let at = wake_at.min(self.again_at);
        if at > clock.now() {
            tokio::select! {
                biased;
                mail = self.mailbox.recv() => {
                    return Next::Mail(mail.expect("the slot keeps a sender"));
                }
                () = clock.sleep_until(at), if at < Millis::MAX => (),
            }
        }
        if self.again_at <= wake_at { Next::Again } else { Next::Wake }
    }

    fn may_leave(&self, effects: &[Effect], wake: Option<Millis>) -> bool {
        if !self.running.is_empty() || !self.stuck.is_empty() {
            return false;
        }
        let soon = self.host.ports.clock.now() + SOON_MS;
        let sleeps = effects.iter().all(|it| matches!(it, Effect::Wake(_)));
        self.is_holding_back() || sleeps && wake.is_none_or(|it| it > soon)
    }

    /// Starts what is wanted and does not run, stops what runs and is not wanted.
    async fn reconcile(&mut self) -> Result<(), Leave> {
        if self.state.effects().iter().any(|it| matches!(it, Effect::Place(_)))
            && !self.is_holding_back()
            && self.again_at == Millis::MAX
        {
            self.place_now().await?;
        }
        let wanted = self.state.effects();
        self.running.retain(|effect, it| wanted.contains(effect) || it.to_the_end);
        let live = &self.state.live;
        self.letters.retain(|attempt, _| live.attempt(*attempt).is_some());
        self.shown.retain(|attempt, _| live.attempt(*attempt).is_some());
        let holds_back = self.is_holding_back();
        if !self.may_speak() {
            // When it is back, the host says so.
            return Ok(());
        }
        for effect in wanted {
            if self.running.contains_key(&effect) {
                continue;
            }
            match effect {
                Effect::Model(attempt) if !holds_back => self.start_model(attempt),
                // Also in a shutdown: the log says that it has started, and the next owner could not tell that it
                // has not.
                Effect::Tool(call) => self.start_tool(call)?,
                Effect::Model(_) | Effect::Place(_) | Effect::Wake(_) => (),
            }
        }
        Ok(())
    }

    /// Attempts that were not placed in the append that opened them, as when the store was down or the host held back.
    async fn place_now(&mut self) -> Result<(), Leave> {
        match self.take(Vec::new(), None, Vec::new()).await {
            Ok(fed) if !fed.events.is_empty() => Ok(()),
            Ok(_) | Err(Trouble::Rejected(_) | Trouble::Seen(_)) => {
                Err(Leave::Park("an attempt could neither be placed nor refused".to_owned()))
            }
            Err(Trouble::Down(down)) => {
                self.ask_again(&down);
                Ok(())
            }
            Err(Trouble::Fenced) => Err(Leave::Void),
            Err(Trouble::Broken(reason)) => Err(Leave::Park(reason)),
        }
    }

    fn start_model(&mut self, attempt: AttemptId) {
        let Some(turn) = &self.state.live.turn else { return };
        let effect = Effect::Model(attempt);
        let letter = self.letters.remove(&attempt).or_else(|| {
            let plan = self.state.live.attempt(attempt)?.plan.as_ref()?;
            let market = self.host.market();
            write(&self.state, attempt, &plan.offer, plan.max_output_tokens, &market)
        });
        let mail = self.slot.mail.clone();
        let Some(letter) = letter else {
            let gone = offer_is_gone(attempt);
            let work = std::future::ready(gone.clone());
            self.running.insert(effect, workers::start(effect, work, gone, false, mail));
            return;
        };
        let work = ModelWork {
            attempt,
            letter,
            resumable: turn.terms.resumable,
            asks_first: turn.attempts.len() > 1 || turn.terms.limits.hedge_after_ms.is_some(),
            is_shown: !attempt.is_aside(),
            host: Arc::clone(&self.host),
            fate: Arc::clone(&self.slot.fate),
            mail: mail.clone(),
        };
        let broken = ModelWork::broken(attempt);
        self.running.insert(effect, workers::start(effect, work.run(), broken, false, mail));
    }

    fn start_tool(&mut self, call: CallId) -> Result<(), Leave> {
        let around = (Arc::clone(&self.host), Arc::clone(&self.slot.fate));
        let Some(work) = ToolWork::new(self.session, &self.state, call, around) else {
            return Err(Leave::Park(format!("call {call} is to be run, but is not ours to run")));
        };
        let (broken, to_the_end) = (work.broken(), work.to_the_end());
        let effect = Effect::Tool(call);
        let mail = self.slot.mail.clone();
        let running = workers::start(effect, work.run(), broken, to_the_end, mail);
        self.running.insert(effect, running);
        Ok(())
    }

    /// The end of a shutdown: a turn with a caller ends with a word; others are left to the next owner.
    pub(super) async fn close(&mut self) -> Result<(), Leave> {
        let turn = self.state.live.turn.as_ref();
        let attached = turn.filter(|it| it.terms.caller == Caller::Attached).map(|it| it.no);
        if let Some(turn) = attached {
            // If the store does not take it, the next owner says the same.
            self.take(vec![Input::CallerLost { turn }], None, Vec::new()).await.ok();
        }
        Err(Leave::Closed)
    }
}

fn offer_is_gone(attempt: AttemptId) -> Input {
    let failure = Failure {
        class: FailureClass::NotFoundHere,
        message: "its offer is not configured any more".to_owned(),
        status: None,
        code: None,
        retry_after_ms: None,
    };
    Input::AttemptFailed { attempt, failure }
}
