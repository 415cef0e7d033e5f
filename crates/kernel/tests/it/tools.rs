//! The tools and terms that stories and worlds are played with.

use std::sync::Arc;

use everstate_kernel::agent::{Agent, Limits};
use everstate_kernel::input::{Caller, Calls, TurnTerms, Visible};
use everstate_kernel::plan::{Plan, Why};
use everstate_kernel::policy::Constraints;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool};

/// `read` changes nothing, `book` is idempotent, `pay` is neither and needs a yes; `ask` is the client's.
pub(crate) fn all() -> Vec<Tool> {
    vec![
        server("read", Safety::ReadOnly, false),
        server("book", Safety::Idempotent, false),
        server("post", Safety::Neither, false),
        server("pay", Safety::Neither, true),
        tool("ask", Runs::Client),
    ]
}

fn server(name: &str, safety: Safety, approval: bool) -> Tool {
    let label = "everstate".to_owned();
    tool(name, Runs::Server(ServerTool { label, safety, approval, timeout_ms: 1_000 }))
}

fn tool(name: &str, runs: Runs) -> Tool {
    Tool { name: name.into(), description: None, parameters: None, strict: None, runs, extra: None }
}

/// A detached turn that returns with its client's calls open, and can be resumed.
pub(crate) fn terms() -> TurnTerms {
    TurnTerms {
        agent: Arc::new(Agent { model: "m".into(), tools: all(), ..Agent::default() }),
        limits: Limits {
            steps_max: 8,
            attempts_max: 4,
            backoff_ms: 100,
            approval_ms_max: 10_000,
            work_ms_max: 100_000,
            ..Limits::default()
        },
        constraints: Constraints::default(),
        calls: Calls::Return,
        visible: Visible::AsItGoes,
        caller: Caller::Detached,
        resumable: true,
        voice: "test/1".into(),
        echo: None,
        trace: None,
        remind_every_ms: None,
        compact: None,
        by: None,
    }
}

pub(crate) fn plan(offer: &str, others: u32) -> Plan {
    Plan {
        offer: offer.into(),
        provider: offer.into(),
        model: "m".into(),
        why: Why::Cheapest,
        against: Default::default(),
        offers_revision: 1,
        policy_revision: 0,
        others,
        price: everstate_kernel::money::Price {
            input: 1_000_000,
            cached: 0,
            cache_write: 0,
            output: 2_000_000,
        },
        expected: 5,
        reserved: 9,
        max_output_tokens: None,
        crypto_domain: offer.into(),
        prefix: String::new(),
        left_behind: Vec::new(),
        moved_from: None,
        project_budget: None,
    }
}
