//! Projects in which no turn begins until somebody lifts that. Each is a document; every node looks again after a short
//! while, and only when a turn is about to begin.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everstate_kernel::ids::Millis;
use everstate_runtime::ports::{Clock, Down, Put, PutError, Registry};

use crate::keys::INSTALLATION;

const HOLD: &str = "hold";
/// Stands for every project.
pub(crate) const ALL: &str = "*";
/// How long a node trusts what it read.
pub(crate) const TRUST_MS: Millis = 250;
/// As many projects can be held one by one; beyond that it is all.
const HOLDS_MAX: usize = 10_000;

#[derive(Debug)]
pub(crate) struct Holds {
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    seen: Mutex<Option<(Millis, Arc<BTreeSet<String>>)>>,
}

impl Holds {
    pub(crate) fn new(registry: Arc<dyn Registry>, clock: Arc<dyn Clock>) -> Holds {
        Holds { registry, clock, seen: Mutex::default() }
    }

    /// Does nothing begin in this project?
    pub(crate) async fn holds(&self, project: &str) -> Result<bool, Down> {
        let now = self.clock.monotonic();
        let seen = self.seen().clone().filter(|(until, _)| now < *until);
        let held = match seen {
            Some((_, held)) => held,
            None => {
                let held: Arc<BTreeSet<String>> =
                    Arc::new(self.list().await?.into_iter().collect());
                // What was read is as old as the question.
                *self.seen() = Some((now + TRUST_MS, held.clone()));
                held
            }
        };
        Ok(held.contains(project) || held.contains(ALL))
    }

    pub(crate) async fn list(&self) -> Result<Vec<String>, Down> {
        let documents = self.registry.documents(INSTALLATION, HOLD, None, HOLDS_MAX).await?;
        let mut names: Vec<String> = documents.into_iter().map(|it| it.id).collect();
        names.sort();
        Ok(names)
    }

    pub(crate) async fn hold(&self, project: &str) -> Result<(), Down> {
        let put = Put {
            project: INSTALLATION.to_owned(),
            kind: HOLD.to_owned(),
            id: project.to_owned(),
            expect: None,
            body: b"{}".to_vec().into(),
            now: self.clock.now(),
            expires_at: None,
        };
        let put = self.registry.put(put).await;
        *self.seen() = None;
        match put {
            Ok(_) | Err(PutError::Conflict(_)) => Ok(()),
            Err(PutError::Down(down)) => Err(down),
        }
    }

    /// `false` if it was not held by this name.
    pub(crate) async fn lift(&self, project: &str) -> Result<bool, Down> {
        let there = self.registry.get(INSTALLATION, HOLD, project).await?.is_some();
        self.registry.remove(INSTALLATION, HOLD, project).await?;
        *self.seen() = None;
        Ok(there)
    }

    fn seen(&self) -> MutexGuard<'_, Option<(Millis, Arc<BTreeSet<String>>)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
