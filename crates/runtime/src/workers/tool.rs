//! Running a tool of ours.

use std::sync::Arc;

use everstate_kernel::ids::{CallId, SessionId};
use everstate_kernel::input::Input;
use everstate_kernel::item::{Outcome, Part};
use everstate_kernel::state::Session;
use everstate_kernel::tool::{Runs, Safety};

use crate::host::Inner;
use crate::ports::ToolRun;
use crate::table::Fate;

#[derive(Debug)]
pub(crate) struct ToolWork {
    call: CallId,
    run: ToolRun,
    host: Arc<Inner>,
    fate: Arc<Fate>,
}

impl ToolWork {
    /// `None` if the call is not one that we run.
    pub(crate) fn new(
        session: SessionId,
        state: &Session,
        call: CallId,
        (host, fate): (Arc<Inner>, Arc<Fate>),
    ) -> Option<ToolWork> {
        let about = state.about.as_ref()?;
        let open = state.live.calls.get(&call)?;
        let Runs::Server(server) = &open.runs else { return None };
        let run = ToolRun {
            project: about.project.clone(),
            key: format!("{session}/{call}"),
            name: open.name.clone(),
            server: server.clone(),
            arguments: open.arguments.clone(),
        };
        Some(ToolWork { call, run, host, fate })
    }

    /// Stopping it in the middle would only hide what it did.
    pub(crate) fn to_the_end(&self) -> bool {
        match self.run.server.safety {
            Safety::ReadOnly => false,
            Safety::Idempotent | Safety::Neither => true,
        }
    }

    pub(crate) fn broken(&self) -> Input {
        Input::Returned {
            call: self.call,
            outcome: Outcome::Unknown,
            output: vec![Part::text("the tool broke down; whether it did its work is not known")],
        }
    }

    pub(crate) async fn run(self) -> Input {
        // Without a lease another node may be running it by now; whoever finds that out ends this task.
        self.host.may_begin(&self.fate).await;
        let back = self.host.ports.tools.run(self.run).await;
        Input::Returned { call: self.call, outcome: back.outcome, output: back.output }
    }
}
