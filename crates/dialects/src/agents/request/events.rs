//! `POST /v1/agents/sessions/{id}/events`: what a client tells a session.

use everstate_kernel::input::NewItem;
use everstate_kernel::item::{Outcome, Part};
use everstate_kernel::json::Json;

use crate::agents::request::{input, missing, only, too_many, within};
use crate::json::{Fields, string};
use crate::responses::request::check::{
    boolean, fields, invalid, list, one_of, optional_text, required, required_text,
};
use crate::responses::request::{Complaint, read_object};

const EVENTS_MAX: usize = 100;
const NAMESPACE: &str = "agent.session.input.";

#[derive(Clone, Debug, PartialEq)]
pub enum SessionInput {
    /// Begins a turn, or is heard by the one that runs. Never empty.
    Message(Vec<NewItem>),
    /// Ends the turn that runs.
    Cancel,
    ToolResult {
        turn_id: String,
        call_id: String,
        /// `Ok` or `Failed`.
        outcome: Outcome,
        output: Vec<Part>,
    },
    McpApproval {
        request_id: String,
        decision: Decision,
    },
    ComputerUseApproval {
        request_id: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Approve,
    Deny,
    /// The request is dismissed; the turn goes on.
    Cancel,
}

/// Never empty.
pub fn read_events(body: &[u8]) -> Result<Vec<SessionInput>, Complaint> {
    let body = read_object(body)?;
    only("", &body, &["events"])?;
    let Some(json) = body.get("events") else { return Err(missing("events")) };
    let told = list("events", json)?;
    if told.is_empty() {
        return Err(invalid("events", "Invalid 'events': there is no event.".to_owned()));
    }
    if told.len() > EVENTS_MAX {
        return Err(too_many("events", "events", EVENTS_MAX, told.len()));
    }
    told.iter().enumerate().map(|(i, it)| read_event(&format!("events[{i}]"), it)).collect()
}

fn read_event(param: &str, json: &Json) -> Result<SessionInput, Complaint> {
    let event = fields(param, json)?;
    let kind = required_text(param, &event, "type")?;
    let names = [
        "message",
        "cancel",
        "tool_result",
        "mcp_approval_request_result",
        "computer_use_approval_request_result",
    ]
    .map(|it| format!("{NAMESPACE}{it}"));
    one_of(&within(param, "type"), &kind, &names.each_ref().map(String::as_str))?;
    match kind.strip_prefix(NAMESPACE).unwrap_or_default() {
        "message" => {
            only(param, &event, &["type", "input"])?;
            let at = within(param, "input");
            Ok(SessionInput::Message(input::read_messages(&at, required(param, &event, "input")?)?))
        }
        "cancel" => {
            only(param, &event, &["type"])?;
            Ok(SessionInput::Cancel)
        }
        "tool_result" => read_result(param, &event),
        "mcp_approval_request_result" => {
            only(param, &event, &["type", "request_id", "response"])?;
            let request_id = required_text(param, &event, "request_id")?;
            let decision =
                read_decision(&within(param, "response"), required(param, &event, "response")?)?;
            Ok(SessionInput::McpApproval { request_id, decision })
        }
        _ => {
            only(param, &event, &["type", "request_id", "response"])?;
            let request_id = required_text(param, &event, "request_id")?;
            fields(&within(param, "response"), required(param, &event, "response")?)?;
            Ok(SessionInput::ComputerUseApproval { request_id })
        }
    }
}

fn read_decision(at: &str, json: &Json) -> Result<Decision, Complaint> {
    let response = fields(at, json)?;
    only(at, &response, &["type", "decision"])?;
    one_of(&within(at, "type"), &required_text(at, &response, "type")?, &["mcp_tool_call"])?;
    let word = required_text(at, &response, "decision")?;
    one_of(&within(at, "decision"), &word, &["approve", "deny", "cancel"])?;
    Ok(match word.as_str() {
        "approve" => Decision::Approve,
        "deny" => Decision::Deny,
        _ => Decision::Cancel,
    })
}

fn read_result(param: &str, event: &Fields) -> Result<SessionInput, Complaint> {
    only(param, event, &["type", "turn_id", "call_id", "success", "output", "error"])?;
    let success = boolean(&within(param, "success"), required(param, event, "success")?)?;
    let error = optional_text(param, event, "error")?;
    let at = within(param, "output");
    let output = match event.get("output") {
        Some(json) => match string(json) {
            Some(text) => Some(vec![Part::text(text)]),
            None if json.text() == "[]" => Some(Vec::new()),
            None => Some(input::read_parts(&at, json)?),
        },
        None => None,
    };
    let (outcome, output) = match (success, error, output) {
        (true, Some(_), _) => {
            let at = within(param, "error");
            return Err(invalid(
                &at,
                format!("Invalid '{at}': a call that succeeded has no error."),
            ));
        }
        (true, None, output) => (Outcome::Ok, output.unwrap_or_default()),
        (false, Some(error), output) => {
            let parts = std::iter::once(Part::text(error)).chain(output.unwrap_or_default());
            (Outcome::Failed, parts.collect())
        }
        (false, None, output) => (Outcome::Failed, output.unwrap_or_default()),
    };
    Ok(SessionInput::ToolResult {
        turn_id: required_text(param, event, "turn_id")?,
        call_id: required_text(param, event, "call_id")?,
        outcome,
        output,
    })
}
