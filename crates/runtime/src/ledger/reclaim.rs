//! Slices of holders that died: what their logs say they spent is settled, what they have under way stays out until it
//! is taken over, the rest comes back.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use everstate_kernel::slice::Slice;

use super::{KIND, Ledger, MONEY, Pocket, UNSTORED, lock, logs};
use crate::ports::{Down, PutError};

impl Ledger {
    /// Looks at the document, and takes back what the dead hold.
    pub(super) async fn reclaim(&self, pocket: &Pocket) -> Result<(), Down> {
        let holder = self.holder();
        let found = {
            let mut document = pocket.document.lock().await;
            *document = self.load(pocket, &holder).await?;
            document.clone()
        };
        let is_dead = |(name, it): &(&String, &Slice)| !it.closed && !self.lives(name);
        let mut is_over = true;
        // One of a process's two ledgers takes back what the dead hold of both: the one that is told who lives.
        if let Some((_, slices)) = found.as_ref().filter(|_| self.stored) {
            let dead: BTreeMap<String, Slice> =
                slices.out.iter().filter(is_dead).map(|(name, it)| (name.clone(), *it)).collect();
            let names = dead.keys().cloned().collect();
            let suspects = std::mem::replace(&mut *lock(&pocket.suspects), names);
            // Where others may live, one that has just come is not known to all: it is looked at twice.
            let is_alone = lock(&self.is_alive).is_none();
            for (name, slice) in dead {
                let is_certain = is_alone || suspects.contains(&name);
                is_over &= is_certain && self.reclaim_one(pocket, &name, slice).await?;
            }
        }
        pocket.looks.store(!is_over, Ordering::SeqCst);
        Ok(())
    }

    /// `false` if something of it has to wait.
    async fn reclaim_one(&self, pocket: &Pocket, name: &str, slice: Slice) -> Result<bool, Down> {
        let epoch = epoch_of(name).unwrap_or(0);
        let traces = match slice.unlogged {
            true => None,
            false => {
                let project = &pocket.project;
                Some(logs::of_holder(&*self.log, project, epoch, slice.settled_to).await?)
            }
        };
        let mut document = pocket.document.lock().await;
        loop {
            *document = self.load(pocket, &self.holder()).await?;
            let Some((revision, mut slices)) = document.take() else { return Ok(true) };
            // It moved meanwhile: it is not dead, or somebody else has done this.
            if slices.out.get(name) != Some(&slice) {
                *document = Some((revision, slices));
                return Ok(false);
            }
            let now = self.clock.now();
            slices.pass(now);
            match &traces {
                Some(traces) => slices.reclaim(name, &traces.spent, traces.under_way),
                None => slices.forfeit(name),
            }
            if slices.out.get(name) == Some(&slice) {
                // All of it is still under way.
                *document = Some((revision, slices));
                return Ok(false);
            }
            match self.put(&pocket.project, Some(revision), &slices, now).await {
                Ok(revision) => {
                    let left = slices.out.get(name).map_or(0, |it| it.left);
                    tracing::info!(
                        project = pocket.project,
                        holder = name,
                        came_back = slice.left.saturating_sub(left),
                        "the money of a process that is gone was taken back ({KIND}/{MONEY})"
                    );
                    self.know(pocket, &self.holder(), &slices);
                    *document = Some((revision, slices));
                    return Ok(left == 0);
                }
                Err(PutError::Conflict(_)) => (),
                Err(PutError::Down(down)) => return Err(down),
            }
        }
    }

    fn lives(&self, name: &str) -> bool {
        let Some(epoch) = epoch_of(name) else { return false };
        let mine = *lock(&self.epoch);
        let is_alive = lock(&self.is_alive).clone();
        match is_alive {
            Some(is_alive) => epoch == mine || is_alive(epoch),
            None => epoch == mine,
        }
    }
}

fn epoch_of(name: &str) -> Option<u64> {
    name.strip_suffix(UNSTORED).unwrap_or(name).parse().ok()
}
