//! What a driver does with each kind of mail.

use std::collections::BTreeSet;

use everstate_kernel::effect::Effect;
use everstate_kernel::erase;
use everstate_kernel::event::Event;
use everstate_kernel::ids::{AttemptId, ItemId, Millis};
use everstate_kernel::input::Input;
use everstate_kernel::item::Body;
use everstate_kernel::state::Rejection;
use tokio::sync::oneshot;

use super::leave::turn_away;
use super::{AGAIN_MAX_MS, AGAIN_MS, Driver, Leave, Trouble};
use crate::cluster::errand::{self, Errand, Reply};
use crate::host::{Fed, FeedError, lapsed};
use crate::hub::News;
use crate::ports::{Down, PostOutcome, RowKind};
use crate::table::{Mail, Nay};

impl Driver {
    pub(super) async fn open(&mut self, mail: Mail) -> Result<(), Leave> {
        if self.slot.fate.is_lost() {
            turn_away(mail);
            return Err(Leave::Lost);
        }
        // A session that moves takes what its running turn needs, and no more.
        if self.is_moving() && mail.is_from_outside() {
            turn_away(mail);
            return Ok(());
        }
        match mail {
            Mail::Feed { inputs, key, reply } => {
                let taken = self.feed(inputs, key).await;
                let (answer, leave) = self.answer(taken);
                reply.send(answer).ok();
                leave
            }
            Mail::Erase { items, reply } => {
                let taken = self.erase(items).await;
                let (answer, leave) = self.answer(taken);
                reply.send(answer).ok();
                leave
            }
            Mail::Delete { reply } => {
                let deleted = self.delete().await;
                let leave = if deleted.is_ok() { Leave::Deleted } else { Leave::Void };
                reply.send(deleted.map_err(|down| Nay::No(down.into()))).ok();
                Err(leave)
            }
            Mail::Adopt { reply } => {
                // Owning comes before any mail.
                reply.send(Ok(())).ok();
                Ok(())
            }
            Mail::Tick => self.tick().await,
            Mail::Inbox { reply } => {
                let read = self.read_inbox().await;
                if let Some(reply) = reply {
                    let answer = match &read {
                        Err(Trouble::Down(down)) => Err(down.clone()),
                        Ok(()) | Err(_) => Ok(()),
                    };
                    reply.send(answer).ok();
                }
                shrug(read)
            }
            // Looking again at what is wanted is all it takes.
            Mail::Reconsider => Ok(()),
            Mail::Close => self.close().await,
            Mail::Lost => Err(Leave::Lost),
            Mail::Frames { attempt, deltas, reply } => {
                let shown = self.show(attempt, deltas).await;
                reply_to_work(shown, reply)
            }
            Mail::Spoke { attempt, reply } => {
                let spoke = self.spoke(attempt).await;
                reply_to_work(spoke, reply)
            }
            Mail::Done { effect, input } => self.done(effect, *input).await,
        }
    }

    async fn feed(&mut self, mut inputs: Vec<Input>, key: Option<String>) -> Result<Fed, Trouble> {
        if let [Input::CallerLost { turn }] = inputs[..]
            && !self.host.caller_has_left(self.session, turn, None)
        {
            // Somebody came meanwhile.
            return Ok(Fed { seq: self.head.seq, events: Vec::new() });
        }
        self.sign(&mut inputs);
        let taken = self.take(inputs, key.clone(), Vec::new()).await;
        let is_from_memory = match &taken {
            Ok(fed) => fed.events.is_empty(),
            Err(Trouble::Rejected(_)) => true,
            Err(_) => false,
        };
        // Without a lease another node may know better by now. What landed did so because nobody does.
        if is_from_memory && !self.may_speak() {
            return Err(Trouble::Down(lapsed()));
        }
        let refused = match taken {
            Err(Trouble::Rejected(rejection)) => rejection,
            other => return other,
        };
        // The same input, decided again, is often refused: what became of the first one is the answer.
        let Some(key) = key else { return Err(Trouble::Rejected(refused)) };
        match self.host.ports.log.seen(self.session, &key).await {
            Ok(Some(seq)) => Err(Trouble::Seen(seq)),
            Ok(None) => Err(Trouble::Rejected(refused)),
            Err(down) => Err(Trouble::Down(down)),
        }
    }

    /// A session that begins here begins under our epoch.
    fn sign(&self, inputs: &mut [Input]) {
        let epoch = self.host.epoch_of(self.session);
        match inputs.first_mut() {
            Some(Input::Create(create)) => create.epoch = epoch,
            Some(Input::Import(import)) => import.create.epoch = epoch,
            Some(_) | None => (),
        }
    }

    /// What the sender hears, and whether the driver may go on.
    fn answer(&self, taken: Result<Fed, Trouble>) -> (Result<Fed, Nay>, Result<(), Leave>) {
        let (no, leave) = match taken {
            Ok(fed) => return (Ok(fed), Ok(())),
            Err(Trouble::Rejected(rejection)) => (refusal(rejection), Ok(())),
            Err(Trouble::Seen(seq)) => (FeedError::Seen(seq), Ok(())),
            Err(Trouble::Down(down)) => (FeedError::Down(down), Ok(())),
            Err(Trouble::Fenced) => {
                let session = self.session;
                let down = Down(format!("{session} was taken over by another node; try again"));
                (FeedError::Down(down), Err(Leave::Void))
            }
            Err(Trouble::Broken(reason)) => {
                let rejection = Rejection::Parked(reason.clone());
                (FeedError::Rejected(rejection), Err(Leave::Park(reason)))
            }
        };
        (Err(Nay::No(no)), leave)
    }

    /// It goes to another node, and no turn holds it back.
    fn is_moving(&self) -> bool {
        self.slot.fate.is_leaving() && self.state.live.turn.is_none()
    }

    /// `true` if this attempt is the one that is shown.
    async fn spoke(&mut self, attempt: AttemptId) -> Result<bool, Trouble> {
        match self.take(vec![Input::Spoke { attempt }], None, Vec::new()).await {
            Ok(_) | Err(Trouble::Rejected(_)) => {
                Ok(self.state.live.attempt(attempt).is_some_and(|it| it.chosen))
            }
            Err(trouble) => Err(trouble),
        }
    }

    pub(super) async fn tick(&mut self) -> Result<(), Leave> {
        let taken = self.take(vec![Input::Tick], None, Vec::new()).await;
        if !matches!(&taken, Ok(fed) if !fed.events.is_empty()) {
            self.deaf_until = self.host.ports.clock.now() + 1_000;
        }
        shrug(taken)
    }

    async fn done(&mut self, effect: Effect, input: Input) -> Result<(), Leave> {
        self.stuck.push_back((effect, input));
        match self.stuck.len() {
            1 => self.settle_stuck().await,
            _ => Ok(()),
        }
    }

    /// Offers outcomes to the machine, in the order they came, until the store does not take one.
    pub(super) async fn settle_stuck(&mut self) -> Result<(), Leave> {
        self.again_at = Millis::MAX;
        while let Some((effect, input)) = self.stuck.front().cloned() {
            match self.take(vec![input], None, Vec::new()).await {
                Ok(fed) => self.settled(effect, fed.events.is_empty())?,
                Err(Trouble::Rejected(_) | Trouble::Seen(_)) => self.settled(effect, true)?,
                Err(Trouble::Down(down)) => {
                    self.ask_again(&down);
                    return Ok(());
                }
                Err(trouble) => return shrug::<()>(Err(trouble)),
            }
        }
        Ok(())
    }

    fn settled(&mut self, effect: Effect, changed_nothing: bool) -> Result<(), Leave> {
        self.stuck.pop_front();
        self.again_ms = AGAIN_MS;
        self.running.remove(&effect);
        if changed_nothing && self.state.effects().contains(&effect) {
            // Doing it again would end the same way, for ever.
            return Err(Leave::Park(format!("the outcome of {effect:?} was refused")));
        }
        Ok(())
    }

    /// The store is down: what waits for it is offered again after a pause.
    pub(super) fn ask_again(&mut self, down: &Down) {
        tracing::warn!(session = %self.session, %down, "what was done waits for the store");
        self.again_at = self.host.ports.clock.now() + self.again_ms;
        self.again_ms = (self.again_ms * 2).min(AGAIN_MAX_MS);
    }

    /// Takes what others left here while nobody was in.
    pub(super) async fn read_inbox(&mut self) -> Result<(), Trouble> {
        let posted = self.host.ports.log.inbox(self.session).await.map_err(Trouble::Down)?;
        for post in posted {
            if self.is_moving() {
                return Ok(());
            }
            let outcome = match Errand::read(&post.body) {
                Err(err) => PostOutcome::Refused(format!("not an input: {err}")),
                Ok(errand) => match self.run_errand(errand, &post.key).await? {
                    Some(outcome) => outcome,
                    // The append that consumed it has said so.
                    None => continue,
                },
            };
            let settle = self.host.ports.log.settle(self.session, &post.key, outcome);
            settle.await.map_err(Trouble::Down)?;
        }
        Ok(())
    }

    /// The session cannot go on: who waits for an outcome hears that.
    pub(super) async fn refuse_posts(&self, reason: &str) -> Result<(), Down> {
        let log = &self.host.ports.log;
        for post in log.inbox(self.session).await? {
            let is_waited_for = Errand::read(&post.body).is_ok_and(|it| it.from_peer);
            if is_waited_for && self.may_speak() {
                let parked = Rejection::Parked(reason.to_owned());
                let reply = Reply::No(FeedError::Rejected(parked)).write();
                log.settle(self.session, &post.key, PostOutcome::Refused(reply)).await?;
            }
        }
        Ok(())
    }

    /// What came of a posted input, unless its append tells.
    async fn run_errand(
        &mut self,
        errand: Errand,
        posted_as: &str,
    ) -> Result<Option<PostOutcome>, Trouble> {
        let Errand { mut inputs, key, from_peer } = errand;
        if let [Input::CallerLost { turn }] = inputs[..]
            && from_peer
            && !self.host.caller_has_left(self.session, turn, errand::process(posted_as))
        {
            // Others wait for the same turn.
            let reply = Reply::Nothing { seq: self.head.seq };
            return Ok(Some(PostOutcome::Refused(reply.write())));
        }
        if matches!(inputs.first(), Some(Input::Unpark)) {
            // Asked to try again: perhaps this release can read it.
            self.host.table().parked.remove(&self.session);
        }
        self.sign(&mut inputs);
        let append_key = key.clone().unwrap_or_else(|| posted_as.to_owned());
        let taken = self.take(inputs, Some(append_key), vec![posted_as.to_owned()]).await;
        if matches!(&taken, Ok(fed) if !fed.events.is_empty()) {
            return Ok(None);
        }
        if !self.may_speak() {
            return Err(Trouble::Down(lapsed()));
        }
        let reply = match taken {
            Ok(fed) if from_peer => Reply::Nothing { seq: fed.seq },
            Ok(fed) => return Ok(Some(PostOutcome::Landed(fed.seq))),
            // With the poster's own key it may have been taken in another errand, or by its own neighbour.
            Err(Trouble::Seen(seq)) => match key {
                Some(_) => Reply::No(FeedError::Seen(seq)),
                None => return Ok(Some(PostOutcome::Landed(seq))),
            },
            Err(Trouble::Rejected(why)) if !from_peer => {
                return Ok(Some(PostOutcome::Refused(format!("{why:?}"))));
            }
            Err(Trouble::Rejected(why)) => {
                let seen = match &key {
                    Some(key) => self.host.ports.log.seen(self.session, key).await,
                    None => Ok(None),
                };
                Reply::No(match seen.map_err(Trouble::Down)? {
                    Some(seq) => FeedError::Seen(seq),
                    None => refusal(why),
                })
            }
            Err(trouble) => return Err(trouble),
        };
        Ok(Some(PostOutcome::Refused(reply.write())))
    }

    /// The fact first, then the contents. Asked again, it finishes what was begun.
    async fn erase(&mut self, items: Vec<ItemId>) -> Result<Fed, Trouble> {
        let is_decided = {
            let find = |it: &ItemId| self.state.transcript.find(*it);
            items.iter().all(|it| find(it).is_some_and(|it| it.body == Body::Erased))
        };
        // What is left to do then is to rewrite the log, and a turn that began since does not mind.
        let fed = match is_decided {
            true => Fed { seq: self.head.seq, events: Vec::new() },
            false => self.take(vec![Input::Erase { items }], None, Vec::new()).await?,
        };
        let told = fed.events.iter().flat_map(|it| match it {
            Event::ItemErased { items } => items.as_slice(),
            _ => &[],
        });
        let transcript = &self.state.transcript;
        let all = transcript.entries.iter().map(|it| &it.item).chain(&transcript.waiting);
        let erased = all.filter(|it| it.body == Body::Erased).map(|it| it.id);
        let gone: BTreeSet<ItemId> = erased.chain(told.copied()).collect();
        // The chain guards appends, not what is rewritten.
        if !self.may_speak() {
            return Err(Trouble::Down(lapsed()));
        }
        let redact =
            move |kind, seq, body: &[u8]| erase::redact(kind == RowKind::Frame, seq, body, &gone);
        self.host.ports.log.erase(self.session, Box::new(redact)).await.map_err(Trouble::Down)?;
        Ok(fed)
    }

    /// A session that cannot be read can still be deleted. `true` if that was asked for, and is done.
    pub(super) async fn delete_unread(&mut self) -> bool {
        let mut others = Vec::new();
        while let Ok(mail) = self.mailbox.try_recv() {
            let Mail::Delete { reply } = mail else {
                others.push(mail);
                continue;
            };
            let deleted = self.delete().await;
            let is_done = deleted.is_ok();
            reply.send(deleted.map_err(|down| Nay::No(down.into()))).ok();
            if is_done {
                others.into_iter().for_each(|it| drop(self.slot.mail.send(it)));
                return true;
            }
        }
        others.into_iter().for_each(|it| drop(self.slot.mail.send(it)));
        false
    }

    async fn delete(&mut self) -> Result<(), Down> {
        if !self.may_speak() {
            return Err(lapsed());
        }
        self.running.clear();
        if let (Some(ledger), Some(about)) = (self.host.ledger.get(), &self.state.about) {
            // When the log is gone, nobody can read from it any more what was spent.
            ledger.settle(&about.project).await;
        }
        self.host.ports.log.delete(self.session).await?;
        self.host.hub.tell(self.session, 0, || News::Deleted);
        Ok(())
    }
}

fn reply_to_work<T>(
    done: Result<T, Trouble>,
    reply: oneshot::Sender<Result<T, Down>>,
) -> Result<(), Leave> {
    match done {
        Ok(it) => {
            // A worker that is gone has no use for it.
            reply.send(Ok(it)).ok();
            Ok(())
        }
        Err(Trouble::Down(down)) => {
            reply.send(Err(down)).ok();
            Ok(())
        }
        Err(trouble) => shrug::<T>(Err(trouble)),
    }
}

/// For what nobody waits for: only what makes the driver leave matters.
fn shrug<T>(done: Result<T, Trouble>) -> Result<(), Leave> {
    match done {
        Ok(_) | Err(Trouble::Rejected(_) | Trouble::Seen(_) | Trouble::Down(_)) => Ok(()),
        Err(Trouble::Fenced) => Err(Leave::Void),
        Err(Trouble::Broken(reason)) => Err(Leave::Park(reason)),
    }
}

fn refusal(why: Rejection) -> FeedError {
    match why {
        Rejection::NotCreated => FeedError::NotFound,
        why => FeedError::Rejected(why),
    }
}
