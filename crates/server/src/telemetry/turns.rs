//! A turn as spans: read off its facts, so that they say what the log says, whoever ended what another began.
//!
//! Names of attributes follow the OpenTelemetry semantic conventions for generative AI, 1.41 (in development there);
//! what they have no word for is `everstate.*`. No contents: neither prompts, answers, arguments, results nor what
//! a provider says about an error, which may quote them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everstate_kernel::delta::Finish;
use everstate_kernel::event::{Append, Cost, Cut, End, Event, Try, Why};
use everstate_kernel::ids::{AttemptId, CallId, Millis, SessionId, StepNo, TurnNo};
use everstate_kernel::input::{Calls, TurnTerms};
use everstate_kernel::item::{Body, Outcome};
use everstate_kernel::money::Usage;
use everstate_kernel::plan::Plan;
use everstate_kernel::tool::Runs;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use serde::Serialize;

use super::context::{Place, span_of};
use crate::config::telemetry::Sampler;

/// What the conventions call each configured provider.
pub(super) type Providers = BTreeMap<String, String>;

/// A session's turn under way.
#[derive(Debug)]
pub(super) struct Turn {
    session: SessionId,
    no: TurnNo,
    place: Place,
    model: String,
    started_at: Millis,
    step: Option<(StepNo, Millis)>,
    attempts: BTreeMap<AttemptId, Attempt>,
    /// Tools that its client runs while it waits.
    clients: BTreeSet<String>,
    /// Those under way.
    tools: BTreeMap<CallId, Tool>,
    usage: Usage,
    cost_micros: u64,
    /// That answered last.
    provider: Option<String>,
}

#[derive(Debug)]
struct Tool {
    started_at: Millis,
    step: StepNo,
    /// The conventions' word: `function` for the client's, `extension` for ours.
    kind: &'static str,
}

#[derive(Debug)]
struct Attempt {
    opened_at: Millis,
    why: Try,
    plan: Option<Plan>,
}

/// What is needed to read an append.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) session: SessionId,
    pub(super) sampler: &'a Sampler,
    pub(super) providers: &'a Providers,
    /// Of the tools that begin or end in it.
    pub(super) names: &'a BTreeMap<CallId, String>,
}

/// Takes in the next append of a session. `None` afterwards: no turn is under way.
pub(super) fn hear(
    turn: &mut Option<Turn>,
    append: &Append,
    reading: &Reading<'_>,
) -> Vec<SpanData> {
    let mut spans = Vec::new();
    for event in &append.events {
        if let Event::TurnStarted { turn: no, terms, .. } = event {
            *turn = Some(Turn::new(reading, *no, terms, append.at));
        }
        let Some(open) = turn else { continue };
        open.hear(event, append.at, reading, &mut spans);
        if matches!(event, Event::TurnEnded { .. }) {
            *turn = None;
        }
    }
    spans
}

/// A turn that ends with its client's calls open does not wait for them.
fn waited_for(terms: &TurnTerms) -> BTreeSet<String> {
    let tools = terms.agent.tools.iter().filter(|it| it.runs == Runs::Client);
    match terms.calls {
        Calls::Hold => tools.map(|it| it.name.clone()).collect(),
        Calls::Return => BTreeSet::new(),
    }
}

impl Turn {
    fn new(reading: &Reading<'_>, no: TurnNo, terms: &TurnTerms, at: Millis) -> Turn {
        let session = reading.session;
        Turn {
            session,
            no,
            place: Place::of_turn(terms.trace.as_deref(), session, no, reading.sampler),
            model: terms.agent.model.clone(),
            started_at: at,
            step: None,
            attempts: BTreeMap::new(),
            clients: waited_for(terms),
            tools: BTreeMap::new(),
            usage: Usage::default(),
            cost_micros: 0,
            provider: None,
        }
    }

    fn hear(
        &mut self,
        event: &Event,
        at: Millis,
        reading: &Reading<'_>,
        spans: &mut Vec<SpanData>,
    ) {
        match event {
            Event::StepStarted { step, .. } => {
                spans.extend(self.step_span(at));
                self.step = Some((*step, at));
            }
            Event::AttemptOpened { attempt, why } => {
                let opened = Attempt { opened_at: at, why: *why, plan: None };
                self.attempts.insert(*attempt, opened);
            }
            Event::Placed { attempt, plan } => {
                if let Some(open) = self.attempts.get_mut(attempt) {
                    open.plan = Some(plan.clone());
                }
            }
            Event::NotPlaced { attempt, .. } => {
                spans.extend(self.attempt_span(*attempt, at, reading, Some("no_offer"), vec![]));
            }
            Event::Replied { attempt, items, end, cost } => {
                let asks = items.iter().any(|it| matches!(it.body, Body::Call { .. }));
                let finish = match end.finish {
                    Finish::Stop if asks => "tool_calls",
                    Finish::Stop => "stop",
                    Finish::Length => "length",
                    Finish::Filter => "content_filter",
                };
                let reasons = Value::Array(Array::String(vec![StringValue::from(finish)]));
                let mut more = vec![KeyValue::new("gen_ai.response.finish_reasons", reasons)];
                if let Some(model) = &end.model {
                    more.push(KeyValue::new("gen_ai.response.model", model.clone()));
                }
                if let Some(id) = &end.provider_id {
                    more.push(KeyValue::new("gen_ai.response.id", id.clone()));
                }
                more.extend(self.spent(cost));
                spans.extend(self.attempt_span(*attempt, at, reading, None, more));
                for item in items {
                    if let Body::Call { call, name, .. } = &item.body
                        && self.clients.contains(name)
                    {
                        self.start_tool(*call, at, "function");
                    }
                }
            }
            Event::SummedUp { attempt, cost, .. } => {
                let more = self.spent(cost);
                spans.extend(self.attempt_span(*attempt, at, reading, None, more));
            }
            Event::AttemptFailed { attempt, failure, cost } => {
                let mut more = self.spent(cost);
                if let Some(status) = failure.status {
                    more.push(KeyValue::new("http.response.status_code", i64::from(status)));
                }
                let word = word(&failure.class);
                spans.extend(self.attempt_span(*attempt, at, reading, Some(&word), more));
            }
            Event::AttemptLost { attempt, cost, .. } => {
                let more = self.spent(cost);
                let lost = Some("process_lost");
                spans.extend(self.attempt_span(*attempt, at, reading, lost, more));
            }
            Event::AttemptDropped { attempt, cost } => {
                let mut more = self.spent(cost);
                more.push(KeyValue::new("everstate.dropped", true));
                spans.extend(self.attempt_span(*attempt, at, reading, None, more));
            }
            Event::ToolStarted { call } => self.start_tool(*call, at, "extension"),
            Event::ToolFinished { call, outcome, .. } => {
                spans.extend(self.tool_span(*call, at, *outcome, reading));
            }
            Event::TurnEnded { end, .. } => {
                spans.extend(self.step_span(at));
                spans.push(self.turn_span(end, at));
            }
            Event::TurnStarted { .. }
            | Event::Created { .. }
            | Event::Imported { .. }
            | Event::Configured(_)
            | Event::Owned { .. }
            | Event::Steered { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Reminded { .. }
            | Event::AttemptChosen { .. }
            | Event::Sealed { .. }
            | Event::RetryScheduled { .. }
            | Event::ApprovalRequested { .. }
            | Event::ApprovalAnswered(_)
            | Event::ApprovalExpired { .. }
            | Event::OutcomeLearned { .. }
            | Event::Compacted { .. }
            | Event::ItemErased { .. }
            | Event::Parked { .. }
            | Event::Unparked
            | Event::Foreign(_) => {}
        }
    }

    fn start_tool(&mut self, call: CallId, at: Millis, kind: &'static str) {
        let step = self.step.map_or(0, |(step, _)| step);
        self.tools.insert(call, Tool { started_at: at, step, kind });
    }

    /// The usage of one attempt, which also counts for the turn.
    fn spent(&mut self, cost: &Cost) -> Vec<KeyValue> {
        self.usage.add(&cost.usage);
        self.cost_micros = self.cost_micros.saturating_add(cost.micros);
        spent(&cost.usage, cost.micros)
    }

    fn turn_span(&self, end: &End, at: Millis) -> SpanData {
        let (ended, error) = match end {
            End::Completed => ("completed", None),
            End::Incomplete(cut) => (cut_word(*cut), None),
            End::Failed { code, .. } => ("failed", Some(code.as_str())),
            End::Cancelled(Why::Asked) => ("cancelled", None),
            End::Cancelled(Why::CallerLost) => ("caller_lost", None),
            End::Steered => ("steered", None),
        };
        let provider = self.provider.as_deref().unwrap_or("everstate").to_owned();
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", "invoke_agent"),
            KeyValue::new("gen_ai.provider.name", provider),
            KeyValue::new("gen_ai.request.model", self.model.clone()),
            KeyValue::new("everstate.end", ended),
        ];
        attributes.extend(spent(&self.usage, self.cost_micros));
        let address = self.no.to_string();
        let parent = self.place.span;
        let mut span = self.span("invoke_agent".into(), &address, parent, self.started_at, at);
        span.parent_span_is_remote = parent != SpanId::INVALID;
        finish(span, SpanKind::Internal, attributes, error)
    }

    fn step_span(&mut self, at: Millis) -> Option<SpanData> {
        let (step, started_at) = self.step.take()?;
        let address = format!("{}.{step}", self.no);
        let name = format!("step {step}");
        let span = self.span(name.into(), &address, self.turn_id(), started_at, at);
        Some(finish(span, SpanKind::Internal, Vec::new(), None))
    }

    fn attempt_span(
        &mut self,
        id: AttemptId,
        at: Millis,
        reading: &Reading<'_>,
        error: Option<&str>,
        more: Vec<KeyValue>,
    ) -> Option<SpanData> {
        let Attempt { opened_at, why, plan } = self.attempts.remove(&id)?;
        let model = plan.as_ref().map_or(&self.model, |it| &it.model).clone();
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", "chat"),
            KeyValue::new("gen_ai.request.model", model.clone()),
            KeyValue::new("everstate.attempt.why", word(&why)),
        ];
        if let Some(plan) = &plan {
            let provider = reading.providers.get(&plan.provider).unwrap_or(&plan.provider).clone();
            self.provider = Some(provider.clone());
            attributes.push(KeyValue::new("gen_ai.provider.name", provider));
            attributes.push(KeyValue::new("everstate.offer", plan.offer.clone()));
            attributes.push(KeyValue::new("everstate.placement.why", word(&plan.why)));
            if let Some(max) = plan.max_output_tokens {
                attributes.push(number("gen_ai.request.max_tokens", max));
            }
        }
        attributes.extend(more);
        // Without a plan nobody was asked.
        let kind = if plan.is_some() { SpanKind::Client } else { SpanKind::Internal };
        let address = format!("{}.{}.{}", id.turn, id.step, id.attempt);
        let span = self.span(
            format!("chat {model}").into(),
            &address,
            self.step_id(id.step),
            opened_at,
            at,
        );
        Some(finish(span, kind, attributes, error))
    }

    fn tool_span(
        &mut self,
        call: CallId,
        at: Millis,
        outcome: Outcome,
        reading: &Reading<'_>,
    ) -> Option<SpanData> {
        // Calls that were never started have a result too; nothing ran.
        let Tool { started_at, step, kind } = self.tools.remove(&call)?;
        let error = match outcome {
            Outcome::Ok => None,
            Outcome::Failed => Some("failed"),
            Outcome::Denied => Some("denied"),
            Outcome::Cancelled => Some("cancelled"),
            Outcome::Unknown => Some("unknown"),
        };
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", "execute_tool"),
            KeyValue::new("gen_ai.tool.type", kind),
            KeyValue::new("gen_ai.tool.call.id", format!("{}/{call}", self.session)),
        ];
        let mut title = "execute_tool".to_owned();
        if let Some(name) = reading.names.get(&call) {
            title = format!("{title} {name}");
            attributes.push(KeyValue::new("gen_ai.tool.name", name.clone()));
        }
        let span = self.span(title.into(), &call.to_string(), self.step_id(step), started_at, at);
        Some(finish(span, SpanKind::Internal, attributes, error))
    }

    fn turn_id(&self) -> SpanId {
        span_of(self.session, &self.no.to_string())
    }

    /// What was asked for before the first step belongs to the turn itself.
    fn step_id(&self, step: StepNo) -> SpanId {
        match step {
            0 => self.turn_id(),
            _ => span_of(self.session, &format!("{}.{step}", self.no)),
        }
    }

    fn span(
        &self,
        name: Cow<'static, str>,
        address: &str,
        parent: SpanId,
        started_at: Millis,
        at: Millis,
    ) -> SpanData {
        let place = self.place.below(span_of(self.session, address));
        let attributes = vec![
            KeyValue::new("gen_ai.conversation.id", self.session.to_string()),
            KeyValue::new("everstate.address", format!("{}/{address}", self.session)),
        ];
        bare(name, place, parent, (time(started_at), time(at)), attributes)
    }
}

/// A span with nothing but its place and its time.
pub(super) fn bare(
    name: Cow<'static, str>,
    place: Place,
    parent: SpanId,
    (start_time, end_time): (SystemTime, SystemTime),
    attributes: Vec<KeyValue>,
) -> SpanData {
    SpanData {
        span_context: place.context(),
        parent_span_id: parent,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name,
        start_time,
        end_time,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("everstate")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

pub(super) fn finish(
    mut span: SpanData,
    kind: SpanKind,
    attributes: Vec<KeyValue>,
    error: Option<&str>,
) -> SpanData {
    span.span_kind = kind;
    span.attributes.extend(attributes);
    if let Some(error) = error {
        span.attributes.push(KeyValue::new("error.type", error.to_owned()));
        span.status = Status::error("");
    }
    span
}

fn spent(usage: &Usage, micros: u64) -> Vec<KeyValue> {
    let mut spent = vec![
        number("gen_ai.usage.input_tokens", usage.input),
        number("gen_ai.usage.output_tokens", usage.output),
        number("everstate.cost_micros", micros),
    ];
    let some = [
        ("gen_ai.usage.cache_read.input_tokens", usage.cached),
        ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
    ];
    spent.extend(some.iter().filter(|(_, n)| *n > 0).map(|(name, n)| number(name, *n)));
    if usage.estimated {
        spent.push(KeyValue::new("everstate.usage_estimated", true));
    }
    spent
}

fn number(name: &'static str, n: u64) -> KeyValue {
    KeyValue::new(name, i64::try_from(n).unwrap_or(i64::MAX))
}

fn cut_word(cut: Cut) -> &'static str {
    match cut {
        Cut::OutputTokens => "incomplete: output_tokens",
        Cut::ContentFilter => "incomplete: content_filter",
        Cut::Steps => "incomplete: steps",
        Cut::Tokens => "incomplete: tokens",
        Cut::Bytes => "incomplete: bytes",
        Cut::Cost => "incomplete: cost",
        Cut::WorkTime => "incomplete: work_time",
    }
}

/// As it stands in the log.
fn word(it: &impl Serialize) -> String {
    match serde_json::to_value(it) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(_) | Err(_) => "other".to_owned(),
    }
}

fn time(at: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(at)
}
