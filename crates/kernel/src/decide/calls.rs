//! Tool calls: which are run, which wait for a person or a client, and how each of them ends.

use super::{Draft, item};
use crate::event::Event;
use crate::ids::CallId;
use crate::input::{Answer, Approval};
use crate::item::{Body, Outcome, Part};
use crate::state::{CallState, Rejection};
use crate::tool::Runs;

impl Draft<'_> {
    /// What the model has just asked for is started, put before a person, or answered at once.
    pub(super) fn start_calls(&mut self) {
        let asked = self
            .live
            .calls
            .iter()
            .filter(|(_, it)| matches!(it.state, CallState::Asked | CallState::WithClient));
        for call in asked.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.start_call(call);
        }
    }

    fn start_call(&mut self, call: CallId) {
        let (Some(turn), Some(open)) = (&self.live.turn, self.live.calls.get(&call)) else {
            return;
        };
        let name = &open.name;
        if !turn.may_call(name) {
            let why = format!(
                "Denied: `{name}` is not among the tools allowed in this step. It was not run."
            );
            return self.finish_call(call, Outcome::Denied, &why);
        }
        let server = match (&open.state, &open.runs) {
            (CallState::WithClient, _) => return,
            (CallState::Asked, Runs::Server(server)) => server.clone(),
            (
                CallState::Asked
                | CallState::AwaitingApproval { .. }
                | CallState::Approved
                | CallState::Started,
                Runs::Client | Runs::Provider { .. } | Runs::Server(_),
            ) => {
                let why = format!(
                    "There is no tool named `{name}`. Use one of the tools you were given."
                );
                return self.finish_call(call, Outcome::Failed, &why);
            }
        };
        let arguments: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_str(&open.arguments);
        if let Err(err) = arguments {
            let why = format!(
                "Not run: the arguments are not a JSON object ({err}). Send them again, corrected."
            );
            return self.finish_call(call, Outcome::Failed, &why);
        }
        let waiting = self
            .live
            .calls
            .values()
            .filter(|it| matches!(it.state, CallState::AwaitingApproval { .. }));
        if turn.calls_run as usize + waiting.count() >= turn.terms.limits.calls_max as usize {
            let max = turn.terms.limits.calls_max;
            let why = format!("Denied: a turn may run {max} calls, and has. It was not run.");
            return self.finish_call(call, Outcome::Denied, &why);
        }
        if server.approval {
            let expires_at = self.now.saturating_add(turn.terms.limits.approval_ms_max);
            self.push(Event::ApprovalRequested { call, expires_at });
        } else {
            self.push(Event::ToolStarted { call });
        }
    }

    /// A client's results, for a turn that waits for them or a session that was left with its calls open.
    pub(super) fn answer(&mut self, answers: Vec<Answer>) -> Result<(), Rejection> {
        for answer in &answers {
            self.close_answered(answer)?;
        }
        self.go_on();
        Ok(())
    }

    pub(super) fn close_answered(&mut self, answer: &Answer) -> Result<(), Rejection> {
        self.expect_with_client(answer.call)?;
        self.finish(answer.call, answer.outcome, answer.output.clone());
        Ok(())
    }

    pub(super) fn approve(&mut self, approval: Approval) -> Result<(), Rejection> {
        self.expect_waiting(approval.call)?;
        self.answer_approval(approval);
        self.go_on();
        Ok(())
    }

    /// The call is run as it stands in the log; an answer brings no arguments.
    pub(super) fn answer_approval(&mut self, approval: Approval) {
        let call = approval.call;
        let why = match (&approval.reason, approval.approve) {
            (_, true) => None,
            (Some(reason), false) => Some(format!("Denied by a person: {reason}. It was not run.")),
            (None, false) => Some("Denied by a person. It was not run.".to_owned()),
        };
        self.push(Event::ApprovalAnswered(approval));
        match why {
            Some(why) => self.finish_call(call, Outcome::Denied, &why),
            // Without a turn it stays approved, and starts with the next one.
            None if self.live.turn.is_some() => self.push(Event::ToolStarted { call }),
            None => (),
        }
    }

    pub(super) fn expect_with_client(&self, call: CallId) -> Result<(), Rejection> {
        match self.live.calls.get(&call).map(|it| it.state) {
            Some(CallState::WithClient) => Ok(()),
            Some(_) => Err(Rejection::WrongAnswer(call)),
            None => Err(Rejection::CallNotOpen(call)),
        }
    }

    pub(super) fn expect_waiting(&self, call: CallId) -> Result<(), Rejection> {
        match self.live.calls.get(&call).map(|it| it.state) {
            Some(CallState::AwaitingApproval { expires_at }) if expires_at <= self.now => {
                Err(Rejection::Expired(call))
            }
            Some(CallState::AwaitingApproval { .. }) => Ok(()),
            Some(CallState::WithClient) => Err(Rejection::WrongAnswer(call)),
            // It has its answer already.
            Some(CallState::Asked | CallState::Approved | CallState::Started) | None => {
                Err(Rejection::CallNotOpen(call))
            }
        }
    }

    /// A tool that we run came back: in time, or after its call had been closed in doubt, or too late for either.
    pub(super) fn returned(&mut self, call: CallId, outcome: Outcome, output: Vec<Part>) {
        if self.live.calls.get(&call).is_some_and(|it| it.state == CallState::Started) {
            self.finish(call, outcome, output);
            self.go_on();
        } else if let Some(doubt) = self.live.doubts.get(&call)
            && matches!(outcome, Outcome::Ok | Outcome::Failed)
        {
            let closed = word(doubt.closed);
            let called =
                self.session.transcript.entries.iter().find_map(|it| match &it.item.body {
                    Body::Call { call: it, name, .. } if *it == call => Some(format!("`{name}`")),
                    _ => None,
                });
            let name = called.unwrap_or_else(|| "a tool".into());
            let became = if outcome == Outcome::Ok { "it did take effect" } else { "it failed" };
            let told: String = output.iter().filter_map(text).collect::<Vec<_>>().join("\n");
            let text = format!(
                "The earlier call of {name}, closed as {closed}, is settled: {became}. Its answer: {told}"
            );
            let note = item(self.next_aside(), Body::Note { text });
            self.push(Event::OutcomeLearned { call, outcome, output, note });
        }
    }

    pub(super) fn finish_call(&mut self, call: CallId, outcome: Outcome, why: &str) {
        self.finish(call, outcome, vec![Part::text(why)]);
    }

    fn finish(&mut self, call: CallId, outcome: Outcome, output: Vec<Part>) {
        let item = self.next_item();
        self.push(Event::ToolFinished { call, item, outcome, output });
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::Denied => "denied",
        Outcome::Cancelled => "cancelled",
        Outcome::Unknown => "unknown",
    }
}

fn text(part: &Part) -> Option<&str> {
    match part {
        Part::Text { text, .. } | Part::Refusal { text } => Some(text),
        Part::Image { .. } | Part::Opaque { .. } => None,
    }
}
