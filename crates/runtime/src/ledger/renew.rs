//! Writing a limit's document: settle, lease more, give back. By compare-and-set, and never for a single step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everstate_kernel::ids::Millis;
use everstate_kernel::money::Micros;
use everstate_kernel::slice::{Slices, portion};

use super::{Here, KIND, Ledger, MONEY, Pocket, lock, logs};
use crate::ports::{Document, Down, Put, PutError};

/// What was spent is settled this often.
const SETTLE_MS: Millis = 1_000;
/// The documents of limits in use are looked at this often, for holders that died.
pub(super) const LOOK_MS: Millis = 10_000;

/// What a document is written for.
#[derive(Clone, Copy, Debug)]
enum For {
    /// A step needs so much, now.
    Step(Micros),
    /// What was spent is settled, and the slice is kept filled.
    Round,
    /// Nobody uses it.
    Idle,
    /// It will be used.
    Entry,
    /// This process ends.
    End,
}

/// Goes on until it is dropped.
pub(crate) async fn run(ledger: Arc<Ledger>) {
    let mut look_at = 0;
    loop {
        let now = ledger.clock.now();
        let looks = now >= look_at;
        if looks {
            look_at = now + LOOK_MS;
        }
        let pockets: Vec<Arc<Pocket>> = lock(&ledger.pockets).values().cloned().collect();
        for pocket in pockets {
            if let Err(down) = ledger.tend(&pocket, now, looks).await {
                tracing::debug!(project = pocket.project, %down, "money is settled later");
            }
        }
        tokio::select! {
            biased;
            () = ledger.wake.notified() => (),
            () = ledger.clock.sleep_until(now + SETTLE_MS) => (),
        }
    }
}

impl Ledger {
    async fn tend(&self, pocket: &Pocket, now: Millis, looks: bool) -> Result<(), Down> {
        let (is_idle, wants, in_use) = {
            let purse = pocket.purse();
            let is_idle = purse.is_idle(now);
            let wants = purse.has_unsettled() || purse.is_low();
            (is_idle, wants, purse.used_at() + 6 * LOOK_MS > now)
        };
        if is_idle {
            self.renew(pocket, For::Idle).await?;
        } else if wants {
            self.renew(pocket, For::Round).await?;
        }
        let is_new = lock(&pocket.seen).is_none();
        if pocket.looks.load(Ordering::SeqCst) && (looks || is_new) || looks && in_use {
            self.reclaim(pocket).await?;
        }
        Ok(())
    }

    /// Settles all, and keeps only what is reserved.
    pub(crate) async fn close(&self) {
        let pockets: Vec<Arc<Pocket>> = lock(&self.pockets).values().cloned().collect();
        for pocket in pockets {
            let here = pocket.purse().here();
            if here == Here::default() && !pocket.is_known.load(Ordering::SeqCst) {
                continue;
            }
            if let Err(down) = self.renew(&pocket, For::End).await {
                tracing::warn!(
                    project = pocket.project, %down,
                    "money is not given back; the next start reads from the logs what was spent"
                );
            }
        }
    }

    /// Now, as far as the store can take it.
    pub(crate) async fn settle(&self, project: &str) {
        let Some(pocket) = self.pocket(project) else { return };
        if pocket.purse().has_unsettled()
            && let Err(down) = self.renew(&pocket, For::Round).await
        {
            tracing::warn!(project, %down, "money is settled later");
        }
    }

    pub(super) async fn enter(&self, pocket: &Pocket) -> Result<(), Down> {
        self.renew(pocket, For::Entry).await
    }

    /// More, so that a step can be reserved. Says nothing if there is no more.
    pub(super) async fn lease(&self, pocket: &Pocket, need: Micros) -> Result<(), Down> {
        self.renew(pocket, For::Step(need)).await
    }

    async fn renew(&self, pocket: &Pocket, what: For) -> Result<(), Down> {
        let mut document = pocket.document.lock().await;
        if let For::Step(need) = what
            && pocket.purse().lacks(need) == 0
        {
            // Somebody else has just asked.
            return Ok(());
        }
        if *lock(&self.epoch) == 0 {
            return Err(Down("the host has not started".to_owned()));
        }
        let holder = self.holder();
        loop {
            if document.is_none() {
                *document = self.load(pocket, &holder).await?;
            }
            let known = document.take();
            let now = self.clock.now();
            let (mut slices, revision) = match known {
                Some((revision, slices)) if slices.per == pocket.limit.per => {
                    (slices, Some(revision))
                }
                other => self.count(pocket, other, now).await?,
            };
            slices.pass(now);
            let want = {
                let mut purse = pocket.purse();
                if matches!(what, For::Idle | For::End) {
                    purse.empty();
                }
                let (through, spent) = purse.cut(now);
                slices.settle(&holder, &spent, through, !self.stored);
                let need = match what {
                    For::Step(need) => need,
                    For::Round if purse.is_low() => purse.need(),
                    For::Round | For::Entry => 0,
                    For::Idle => {
                        slices.give_back(&holder, purse.in_use(through));
                        0
                    }
                    For::End => {
                        slices.give_back(&holder, purse.in_use(through));
                        slices.close(&holder);
                        0
                    }
                };
                let target = portion(slices.free(pocket.limit.amount), need);
                match need {
                    0 => 0,
                    _ => target.saturating_sub(purse.free()).max(purse.lacks(need)),
                }
            };
            if want > 0 {
                slices.lease(pocket.limit.amount, &holder, want);
            }
            match self.put(&pocket.project, revision, &slices, now).await {
                Ok(revision) => {
                    self.know(pocket, &holder, &slices);
                    *document = Some((revision, slices));
                    return Ok(());
                }
                // Somebody else wrote: what they wrote is where we begin.
                Err(PutError::Conflict(_)) => (),
                Err(PutError::Down(down)) => return Err(down),
            }
        }
    }

    /// The document as it is. What an earlier write of ours settled, though we were not told, is settled.
    pub(super) async fn load(
        &self,
        pocket: &Pocket,
        holder: &str,
    ) -> Result<Option<(u64, Slices)>, Down> {
        let found = self.registry.get(&pocket.project, KIND, MONEY).await?;
        let Some(found) = found else { return Ok(None) };
        let slices = read(&found)?;
        self.know(pocket, holder, &slices);
        Ok(Some((found.revision, slices)))
    }

    /// Begins to count, or counts anew, from the logs.
    pub(super) async fn count(
        &self,
        pocket: &Pocket,
        standing: Option<(u64, Slices)>,
        now: Millis,
    ) -> Result<(Slices, Option<u64>), Down> {
        let per = pocket.limit.per;
        let spent = logs::of_period(&*self.log, &pocket.project, per.since(now), now).await?;
        Ok(match standing {
            Some((revision, mut slices)) => {
                slices.recount(per, now, spent, now);
                (slices, Some(revision))
            }
            None => (Slices::begin(per, now, spent, now), None),
        })
    }

    pub(super) fn know(&self, pocket: &Pocket, holder: &str, slices: &Slices) {
        let slice = slices.out.get(holder).copied();
        pocket.is_known.store(slice.is_some_and(|it| !it.closed), Ordering::SeqCst);
        let slice = slice.unwrap_or_default();
        let has_more = slices.free(pocket.limit.amount) > 0;
        let others_hold = slices.leased() > slice.left;
        pocket.purse().know(slice, has_more, others_hold);
        *lock(&pocket.seen) = Some(slices.clone());
    }

    pub(super) async fn put(
        &self,
        project: &str,
        expect: Option<u64>,
        slices: &Slices,
        now: Millis,
    ) -> Result<u64, PutError> {
        let put = Put {
            project: project.to_owned(),
            kind: KIND.to_owned(),
            id: MONEY.to_owned(),
            expect,
            body: Bytes::from(serde_json::to_vec(slices).expect("slices have a JSON form")),
            now,
            expires_at: None,
        };
        self.registry.put(put).await
    }
}

pub(super) fn read(document: &Document) -> Result<Slices, Down> {
    serde_json::from_slice(&document.body).map_err(|err| {
        Down(format!("the registry's document {KIND}/{} cannot be read: {err}", document.id))
    })
}
