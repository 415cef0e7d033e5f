//! How a driver goes: what it keeps, what it says, and what becomes of those who still knock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use everstate_kernel::ids::SessionId;
use everstate_kernel::input::Input;
use everstate_kernel::state::Rejection;

use super::{Driver, Leave};
use crate::cache::Kept;
use crate::host::{FeedError, Inner, elsewhere};
use crate::hub::News;
use crate::keep;
use crate::ports::Down;
use crate::start::adopt_later;
use crate::table::{Mail, Nay};

impl Driver {
    /// `false` if it has to stay, because somebody knocked at the last moment.
    pub(super) async fn leave(&mut self, leave: Leave) -> bool {
        let host = Arc::clone(&self.host);
        match leave {
            Leave::Idle => {
                self.roll_up_sometimes().await;
                return self.fall_asleep();
            }
            Leave::Unable(err) => {
                host.table().live.remove(&self.session);
                self.refuse_all(&err);
            }
            Leave::Void => {
                self.running.clear();
                host.hub.tell(self.session, 0, || News::Lost);
                self.let_money_go();
                self.abandon();
                // It may have been our own row, of which the store could not tell us.
                self.come_back_if_ours();
                self.forward_all();
            }
            Leave::Closed => {
                self.running.clear();
                self.let_money_go();
                self.abandon();
                match host.draining.load(Ordering::SeqCst) {
                    true => self.refuse_all(&FeedError::Draining),
                    false => {
                        self.come_back_if_ours();
                        self.turn_all_away();
                    }
                }
            }
            Leave::Lost => {
                self.running.clear();
                self.let_money_go();
                host.hub.tell(self.session, 0, || News::Lost);
                self.abandon();
                self.turn_all_away();
            }
            Leave::Park(reason) => {
                self.running.clear();
                tracing::error!(session = %self.session, reason, "a session is parked");
                self.write_parked(&reason).await;
                if host.cluster.is_some()
                    && let Err(down) = self.refuse_posts(&reason).await
                {
                    tracing::debug!(session = %self.session, %down, "posters are not answered");
                }
                host.table().parked.insert(self.session, reason.clone());
                self.let_money_go();
                self.abandon();
                self.refuse_all(&FeedError::Rejected(Rejection::Parked(reason)));
            }
            Leave::Deleted => {
                self.count_what_ran();
                let mut table = host.table();
                table.live.remove(&self.session);
                table.unclean.remove(&self.session);
                drop(table);
                self.forward_all();
            }
        }
        true
    }

    fn fall_asleep(&mut self) -> bool {
        let host = Arc::clone(&self.host);
        let mut table = host.table();
        if !self.mailbox.is_empty() {
            return false;
        }
        table.live.remove(&self.session);
        if self.in_doubt {
            // What is remembered here may be behind the log, and what landed may want work.
            table.unclean.insert(self.session);
            drop(table);
            host.spawn(adopt_later(Arc::clone(&host), self.session));
            return true;
        }
        if self.head.seq == 0 || !table.share.serving.hold(self.session) {
            return true;
        }
        let (settings, now) = (&host.settings, host.ports.clock.now());
        let kept = Kept {
            state: Arc::clone(&self.state),
            head: self.head,
            rolled: self.rolled,
            since_snapshot: self.since_snapshot,
            bytes: self.bytes,
        };
        table.cache.put(self.session, kept, now, settings.cached_max, settings.cached_bytes_max);
        drop(table);
        let wake = keep::wake(&self.state.effects());
        host.timers.promise(wake.unwrap_or(now + settings.linger_ms));
        true
    }

    /// Whatever ran here is settled by the next one who adopts the session.
    fn abandon(&self) {
        let mut table = self.host.table();
        table.live.remove(&self.session);
        table.unclean.insert(self.session);
    }

    /// Of many nodes this one may still be, or be again, the session's owner: nobody else would go on with it.
    fn come_back_if_ours(&self) {
        if self.host.cluster.is_some() && !self.host.is_far(self.session) {
            self.host.spawn(adopt_later(Arc::clone(&self.host), self.session));
        }
    }

    /// Whoever adopts the session counts what its attempts cost.
    fn let_money_go(&self) {
        if let (Some(ledger), Some(about)) = (self.host.ledger.get(), &self.state.about) {
            ledger.forget(&about.project, self.session);
        }
    }

    /// Nobody will be told any more what these attempts cost: what was expected of them counts.
    fn count_what_ran(&self) {
        let (Some(ledger), Some(about)) = (self.host.ledger.get(), &self.state.about) else {
            return;
        };
        let Some(turn) = &self.state.live.turn else { return };
        let ran = turn
            .under_way()
            .filter_map(|(id, it)| it.plan.as_ref().map(|plan| (id, plan.expected)));
        ledger.lost(&about.project, self.session, ran, self.host.ports.clock.now());
    }

    /// Says on the log that the session is parked, if that much still works.
    async fn write_parked(&mut self, reason: &str) {
        if self.state.about.is_some() {
            let input = Input::Park { reason: reason.to_owned() };
            self.take(vec![input], None, Vec::new()).await.ok();
        }
    }

    async fn roll_up_sometimes(&mut self) {
        let grown = self.head.seq.saturating_sub(self.rolled);
        if self.state.live.turn.is_some() || grown < self.host.settings.roll_up_rows {
            return;
        }
        let project = self.state.about.as_ref().map_or("", |it| it.project.as_str());
        let kept = self.host.settings.stream_kept_ms_of(project);
        let before = self.host.ports.clock.now().saturating_sub(kept);
        match keep::roll_up(&*self.host.ports.log, self.session, &self.state, before).await {
            // Not looked at again before as many rows have come once more.
            Ok(_) => self.rolled = self.head.seq,
            Err(down) => tracing::debug!(session = %self.session, %down, "history is packed later"),
        }
    }

    fn refuse_all(&mut self, err: &FeedError) {
        while let Ok(mail) = self.mailbox.try_recv() {
            refuse(mail, err);
        }
    }

    fn turn_all_away(&mut self) {
        while let Ok(mail) = self.mailbox.try_recv() {
            turn_away(mail);
        }
    }

    /// Whoever knocked meanwhile is served by a driver that begins with the log.
    fn forward_all(&mut self) {
        while let Ok(mail) = self.mailbox.try_recv() {
            forward(&self.host, self.session, mail);
        }
    }
}

fn forward(host: &Arc<Inner>, session: SessionId, mail: Mail) {
    match mail {
        Mail::Feed { .. }
        | Mail::Adopt { .. }
        | Mail::Tick
        | Mail::Inbox { .. }
        | Mail::Erase { .. }
        | Mail::Delete { .. } => host.send(session, mail),
        // Meant for this driver alone.
        Mail::Reconsider
        | Mail::Close
        | Mail::Lost
        | Mail::Frames { .. }
        | Mail::Spoke { .. }
        | Mail::Done { .. } => (),
    }
}

impl Mail {
    /// Does it ask something of the session that any owner could do?
    pub(crate) fn is_from_outside(&self) -> bool {
        match self {
            Mail::Feed { .. }
            | Mail::Adopt { .. }
            | Mail::Tick
            | Mail::Inbox { .. }
            | Mail::Erase { .. }
            | Mail::Delete { .. } => true,
            Mail::Reconsider
            | Mail::Close
            | Mail::Lost
            | Mail::Frames { .. }
            | Mail::Spoke { .. }
            | Mail::Done { .. } => false,
        }
    }
}

/// The session is not this node's: whoever asked has to ask its owner.
pub(crate) fn turn_away(mail: Mail) {
    match mail {
        Mail::Feed { inputs, key, reply } => {
            reply.send(Err(Nay::Moved { inputs, key })).ok();
        }
        Mail::Erase { reply, .. } => {
            reply.send(Err(Nay::moved())).ok();
        }
        Mail::Delete { reply } => {
            reply.send(Err(Nay::moved())).ok();
        }
        // Its owner adopts it.
        Mail::Adopt { reply } => {
            reply.send(Ok(())).ok();
        }
        Mail::Inbox { reply: Some(reply) } => {
            reply.send(Err(elsewhere())).ok();
        }
        Mail::Inbox { reply: None }
        | Mail::Tick
        | Mail::Reconsider
        | Mail::Close
        | Mail::Lost
        | Mail::Frames { .. }
        | Mail::Spoke { .. }
        | Mail::Done { .. } => (),
    }
}

fn refuse(mail: Mail, err: &FeedError) {
    let down = || match err {
        FeedError::Down(down) => down.clone(),
        other => Down(other.to_string()),
    };
    match mail {
        Mail::Feed { reply, .. } | Mail::Erase { reply, .. } => {
            reply.send(Err(Nay::No(err.clone()))).ok();
        }
        // A session that cannot go on keeps no host from starting; a store that is down does.
        Mail::Adopt { reply } => {
            let answer = if matches!(err, FeedError::Down(_)) { Err(down()) } else { Ok(()) };
            reply.send(answer).ok();
        }
        Mail::Delete { reply } => {
            reply.send(Err(Nay::No(down().into()))).ok();
        }
        Mail::Inbox { reply: Some(reply) } => {
            reply.send(Err(down())).ok();
        }
        Mail::Inbox { reply: None }
        | Mail::Tick
        | Mail::Reconsider
        | Mail::Close
        | Mail::Lost
        | Mail::Frames { .. }
        | Mail::Spoke { .. }
        | Mail::Done { .. } => (),
    }
}
