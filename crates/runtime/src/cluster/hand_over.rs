//! Taking buckets on and letting them go: what becomes of their drivers and of what is remembered of their sessions.

use std::sync::Arc;

use everstate_kernel::ids::SessionId;

use crate::buckets::Buckets;
use crate::host::Inner;
use crate::hub::News;
use crate::table::Mail;

impl Inner {
    /// These buckets are ours, and nobody else is at work in them. Whatever was remembered may be old.
    /// `epoch` tells with which epoch each one's sessions are adopted.
    pub(crate) fn take_on(&self, buckets: &Buckets, epoch: impl Fn(u16) -> u64) {
        let mut table = self.table();
        table.cache.forget(|it| buckets.hold(it));
        table.parked.retain(|it, _| !buckets.hold(*it));
        for bucket in buckets.iter() {
            table.share.epochs[usize::from(bucket)] = epoch(bucket);
        }
        table.share.serving = table.share.serving.union(buckets);
        table.share.leaving = table.share.leaving.without(buckets);
    }

    /// Buckets that were given away and come back before they were let go: nobody else has been there.
    pub(crate) fn keep_on(&self, buckets: &Buckets) {
        let mut table = self.table();
        table.share.serving = table.share.serving.union(buckets);
        table.share.leaving = table.share.leaving.without(buckets);
        for (_, slot) in table.live.iter().filter(|(it, _)| buckets.hold(**it)) {
            slot.fate.stay();
            slot.mail.send(Mail::Reconsider).ok();
        }
    }

    /// These buckets are another node's from here on. What is under way may end.
    pub(crate) fn give_away(&self, buckets: &Buckets) {
        let mut table = self.table();
        table.share.serving = table.share.serving.without(buckets);
        table.share.leaving = table.share.leaving.union(buckets);
        table.cache.forget(|it| buckets.hold(it));
        for (_, slot) in table.live.iter().filter(|(it, _)| buckets.hold(**it)) {
            slot.fate.leave();
            slot.mail.send(Mail::Reconsider).ok();
        }
    }

    /// Lets go of the buckets in which nothing is at work any more. Those that remain are answered.
    pub(crate) fn let_go(&self) -> Buckets {
        let mut table = self.table();
        if table.share.leaving.is_empty() {
            return Buckets::none();
        }
        let busy: Buckets = table.live.keys().map(|it| it.bucket()).collect();
        let free = table.share.leaving.without(&busy);
        table.share.leaving = table.share.leaving.without(&free);
        table.share.leaving.clone()
    }

    /// The time for what was under way there is over.
    pub(crate) fn cut_short(&self, buckets: &Buckets) {
        for (_, slot) in self.table().live.iter().filter(|(it, _)| buckets.hold(**it)) {
            slot.mail.send(Mail::Close).ok();
        }
    }

    /// Others hold us dead: nothing is ours any more.
    pub(crate) fn lose_all(&self) {
        let mut table = self.table();
        table.share.serving = Buckets::none();
        table.share.leaving = Buckets::none();
        table.cache.forget(|_| true);
        for slot in table.live.values() {
            slot.fate.lose();
            slot.mail.send(Mail::Lost).ok();
        }
        let live: Vec<SessionId> = table.live.keys().copied().collect();
        drop(table);
        // What was told and is unread is void with the rest.
        live.into_iter().for_each(|it| self.hub.tell(it, 0, || News::Lost));
    }

    /// Buckets in which somebody is at work.
    pub(crate) fn busy(&self) -> Buckets {
        self.table().live.keys().map(|it| it.bucket()).collect()
    }

    /// Neither served nor still worked on here.
    pub(crate) fn is_far(&self, session: SessionId) -> bool {
        let table = self.table();
        let is_lost = || table.live.get(&session).is_none_or(|it| it.fate.is_lost());
        !table.share.serving.hold(session) && is_lost()
    }

    /// The lease is back: what waited for it may begin.
    pub(crate) fn wake_all(self: &Arc<Inner>) {
        for slot in self.table().live.values() {
            slot.mail.send(Mail::Reconsider).ok();
        }
    }
}
