//! Why a turn or a session failed, in the API's words. The kernel's own word goes along, as `why`.

use everstate_kernel::event::{Cut, End};

use crate::json::Obj;

/// What went wrong, for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// One of the API's codes; `None` for a session's own trouble, for which it has none.
    pub code: Option<&'static str>,
    pub message: String,
    why: String,
}

/// Every code a failed turn may have.
pub const CODES: &[&str] = &[
    "context_length_exceeded",
    "max_output_tokens",
    "session_budget_exceeded",
    "usage_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_not_active",
    "credit_balance_exhausted",
    "rate_limit_exceeded",
    "flex_unavailable",
    "server_overloaded",
    "cyber_policy",
    "misalignment_policy_violation",
    "connection_failed",
    "server_error",
    "authentication_error",
    "invalid_request",
    "resource_not_found",
    "sandbox_error",
    "executor_version_incompatible",
    "active_turn_not_steerable",
    "request_timeout",
    "internal_error",
];

impl Trouble {
    /// `None`: the turn did not fail. The API knows no turn that is incomplete: an answer that was cut short failed.
    pub fn of_end(end: &End) -> Option<Trouble> {
        match end {
            End::Failed { code, message } => Some(Trouble {
                code: Some(of_word(code)),
                message: message.clone(),
                why: code.clone(),
            }),
            End::Incomplete(cut) => {
                let (code, why, message) = of_cut(*cut);
                Some(Trouble { code: Some(code), message: message.to_owned(), why: why.to_owned() })
            }
            End::Completed | End::Cancelled(_) | End::Steered => None,
        }
    }

    pub(crate) fn of_parking(reason: &str) -> Trouble {
        Trouble { code: None, message: reason.to_owned(), why: "parked".to_owned() }
    }

    /// A turn's `error`.
    pub(crate) fn turn_json(&self) -> String {
        let mut out = Obj::new();
        out.str("code", self.code.unwrap_or("internal_error")).str("message", &self.message);
        out.str("why", &self.why);
        out.text()
    }

    /// The `error` of an error event.
    pub(crate) fn event_json(&self) -> String {
        let kind = match self.code {
            Some(
                "context_length_exceeded"
                | "cyber_policy"
                | "invalid_request"
                | "resource_not_found",
            ) => "invalid_request_error",
            Some(_) | None => "server_error",
        };
        let mut out = Obj::of_kind(kind);
        out.str_or_null("code", self.code).str("message", &self.message).null("param");
        out.str("why", &self.why);
        out.text()
    }
}

fn of_word(word: &str) -> &'static str {
    match word {
        "insufficient_quota" => "usage_limit_exceeded",
        "model_not_found" | "no_offer" => "resource_not_found",
        "upstream_overloaded" => "server_overloaded",
        "upstream_auth" => "authentication_error",
        "upstream_timeout" => "request_timeout",
        "upstream_broken" => "server_error",
        "upstream_invalid_request" => "invalid_request",
        "content_refused" => "cyber_policy",
        same => CODES.iter().copied().find(|it| *it == same).unwrap_or("internal_error"),
    }
}

fn of_cut(cut: Cut) -> (&'static str, &'static str, &'static str) {
    const BUDGET: &str = "session_budget_exceeded";
    match cut {
        Cut::OutputTokens => (
            "max_output_tokens",
            "output_tokens",
            "the model reached its limit of output tokens before it was done",
        ),
        Cut::ContentFilter => (
            "cyber_policy",
            "content_filter",
            "a content filter of the model's provider cut the answer short",
        ),
        Cut::Steps => (BUDGET, "steps", "the turn made as many model calls as it may"),
        Cut::Tokens => (BUDGET, "tokens", "the turn used as many tokens as it may"),
        Cut::Bytes => (BUDGET, "bytes", "the turn brought forth as many bytes as it may"),
        Cut::Cost => (BUDGET, "cost", "the turn spent as much money as it may"),
        Cut::WorkTime => (BUDGET, "work_time", "the turn worked as long as it may"),
    }
}
