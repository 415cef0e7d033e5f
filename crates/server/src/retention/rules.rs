//! What the configuration says of keeping, as it holds for one project.

use std::collections::{BTreeMap, BTreeSet};

use everstate_kernel::ids::Millis;

use crate::config::projects::{EVERY, Projects};
use crate::config::retention::{Days, Kept, RetentionConfig};

/// What holds for a project, in milliseconds. `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) sessions: Option<Millis>,
    pub(crate) responses: Option<Millis>,
    pub(crate) items: Option<Millis>,
    pub(crate) frames: Option<Millis>,
    /// Nothing is written but facts.
    pub(crate) is_zero: bool,
}

impl Rules {
    pub(crate) fn of(projects: &Projects, project: &str) -> Rules {
        let config = projects.get(project).or_else(|| projects.get(EVERY));
        let Some(RetentionConfig { sessions, responses, items, frames }) =
            config.map(|it| &it.retention)
        else {
            return Rules::default();
        };
        let ms = |it: &Option<Days>| it.map(Days::ms);
        let is_zero = *items == Some(Kept::Zero);
        let items = match items {
            Some(Kept::For(days)) => Some(*days),
            Some(Kept::Zero) | None => None,
        };
        Rules {
            sessions: ms(sessions),
            responses: ms(responses),
            items: ms(&items),
            frames: ms(frames),
            is_zero,
        }
    }

    /// What is younger than this cannot be due.
    pub(crate) fn shortest(&self) -> Option<Millis> {
        [self.sessions, self.within_sessions()].into_iter().flatten().min()
    }

    /// The shortest time after which something inside a session is due.
    pub(crate) fn within_sessions(&self) -> Option<Millis> {
        [self.responses, self.items, self.frames].into_iter().flatten().min()
    }
}

/// How long streams are kept, for the projects that say so.
pub(crate) fn streams(projects: &Projects) -> BTreeMap<String, Millis> {
    let frames =
        projects.iter().filter_map(|(name, it)| Some((name.clone(), it.retention.frames?.ms())));
    frames.collect()
}

/// The projects of which nothing is written but facts, and those that say otherwise.
pub(crate) fn veiled(projects: &Projects) -> (BTreeSet<String>, BTreeSet<String>) {
    let is_zero = |it: &String| Rules::of(projects, it).is_zero;
    projects.keys().cloned().partition(is_zero)
}

#[cfg(test)]
mod tests;
