//! The tools that this server runs, by their label and name.

use std::collections::BTreeMap;

use everstate_kernel::tool::{Runs, Tool};

/// The label of the tools in our own configuration.
pub(crate) const LABEL: &str = "everstate";

#[derive(Clone, Debug, Default)]
pub(crate) struct Menu {
    tools: BTreeMap<String, Tool>,
}

impl Menu {
    /// Tools that are not run by the server have no place here.
    pub(crate) fn new(tools: impl IntoIterator<Item = Tool>) -> Menu {
        let ours = tools.into_iter().filter(|it| matches!(it.runs, Runs::Server(_)));
        Menu { tools: ours.map(|it| (it.name.clone(), it)).collect() }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.tools.keys().map(String::as_str).collect()
    }
}
