//! Each fact in words.

use everstate_kernel::event::{Append, End, Event, Pause, Why};
use everstate_kernel::ids::{AttemptId, CallId, Millis, TurnNo};
use everstate_kernel::item::{Body, Item, Outcome, Part, Role};
use everstate_kernel::money::Usage;
use everstate_kernel::plan::Plan;
use everstate_kernel::tool::{Runs, Safety};

use super::{Called, Line, Tally, Timeline, Tone, words};
use crate::address::short;

/// Shorter waits are not worth a line.
const WAIT_MS_MIN: Millis = 1_000;
const QUOTE_CHARS_MAX: usize = 60;
const ANSWER_CHARS_MAX: usize = 200;

impl Timeline {
    /// `before` is the time of the last fact, whether something was under way then, and the epoch.
    pub(super) fn tell(
        &mut self,
        event: &Event,
        append: &Append,
        before: (Millis, bool, u64),
        lines: &mut Vec<Line>,
    ) {
        let at = append.at;
        match event {
            Event::Created { inheritance, .. } => {
                if let Some(from) = inheritance {
                    let is_import = |it: &Event| matches!(it, Event::Imported { .. });
                    if !append.events.iter().any(is_import) {
                        let text = format!("from {} at {}", from.parent, from.at);
                        lines.push(Line::row("forked", text));
                    }
                    for (id, call) in &from.open {
                        self.calls.insert(*id, Called::new(&call.name, &call.arguments));
                    }
                }
            }
            Event::Imported { origin } => {
                let at = origin.chains.last().map_or(0, |it| it.seq);
                let text = format!("from {} at {at}, of {}", origin.session, origin.project);
                lines.push(Line::row("imported", text));
                let left = origin.left_behind.iter();
                lines.extend(left.map(|it| Line::row("left", words::short(it, 200))));
            }
            Event::Configured(told) => {
                lines.push(Line::row("configured", words::configured(told)));
            }
            Event::Owned { epoch } => self.tell_owned(*epoch, at, before, lines),
            Event::TurnStarted { turn, terms, items } => {
                self.tally = Tally::default();
                self.failures.clear();
                for call in self.calls.values_mut().filter(|it| it.runs.is_none()) {
                    call.runs = terms.agent.tool(&call.name).map(|it| it.runs.clone());
                }
                self.tell_input(*turn, items, lines);
            }
            Event::Steered { turn, items } => self.tell_input(*turn, items, lines),
            Event::TurnEnded { turn, end } => self.tell_end(*turn, end, lines),
            Event::Paused { why: Pause::Spend, .. } => {
                let text = "what is left of the session's limit does not pay for one more step";
                lines.push(Line::row("PAUSED", text).tone(Tone::Bad));
            }
            Event::Resumed { .. } => lines.push(Line::row("resumed", "it goes on")),
            Event::Reminded { item } => {
                if let Body::Note { text } = &item.body {
                    lines.push(Line::row("told", text.as_str()));
                }
            }
            Event::StepStarted { .. } => {
                self.tally.steps += 1;
                self.failures.clear();
            }
            // Nothing has happened yet; `Placed` tells where it goes.
            Event::AttemptOpened { .. } => {}
            Event::Placed { attempt, plan } => lines.push(self.placed(*attempt, plan, at)),
            Event::NotPlaced { no_offer, .. } => {
                let n: usize = no_offer.against.values().map(|it| it.len()).sum();
                let looked = words::count(n as u64, "offer");
                let text = if no_offer.unknown_model {
                    "no offer has this model; nothing was sent".to_owned()
                } else {
                    format!("{looked} looked at, none may serve; nothing was sent")
                };
                lines.push(Line::row("NO OFFER", text).tone(Tone::Bad));
            }
            Event::AttemptChosen { attempt } => {
                let offer = self.offer(*attempt);
                lines.push(Line::row("chosen", format!("{offer} spoke first")).tone(Tone::Dim));
            }
            Event::SummedUp { attempt, end, cost } => {
                let text = self.used(*attempt, &end.usage, at);
                lines.push(Line::row("summary", text).cost(cost.micros, end.usage.estimated));
            }
            Event::Replied { attempt, items, end, cost } => {
                let text = self.used(*attempt, &end.usage, at);
                lines.push(Line::row("model", text).cost(cost.micros, end.usage.estimated));
                self.last_offer = Some(self.offer(*attempt));
                self.hear_items(items, lines);
            }
            Event::AttemptFailed { attempt, failure, cost } => {
                let offer = self.offer(*attempt);
                // The message begins with who said it; the offer says that already.
                let said = match failure.message.split_once(": ") {
                    Some((_, said)) if failure.status.is_some() => said,
                    _ => failure.message.as_str(),
                };
                let said = words::short(said, 120);
                let text = format!("{offer}   {}: {said}", words::failure(failure));
                let line = Line::row("failed", text).cost(cost.micros, cost.usage.estimated);
                lines.push(line.tone(Tone::Bad));
                self.failures.push((offer, failure.clone()));
            }
            Event::AttemptLost { attempt, frames, cost } => {
                let shown = match frames {
                    0 => "nothing of it had been shown".to_owned(),
                    n => format!("{} shown stay, as unfinished", words::count(*n, "piece")),
                };
                let text = format!("the answer of {}; {shown}", self.offer(*attempt));
                let line = Line::row("lost", text).cost(cost.micros, cost.usage.estimated);
                lines.push(line.tone(Tone::Bad));
            }
            Event::AttemptDropped { attempt, cost } => {
                let text = match self.placed.contains_key(&key(*attempt)) {
                    true => format!("{} is no longer wanted", self.offer(*attempt)),
                    false => "a try that had no offer yet".to_owned(),
                };
                let line = Line::row("dropped", text).cost(cost.micros, cost.usage.estimated);
                lines.push(line.tone(Tone::Dim));
            }
            Event::Sealed { .. } => {}
            Event::RetryScheduled { at: again, .. } => {
                let text = format!("again in {}", words::span(again.saturating_sub(at)));
                lines.push(Line::row("waits", text).tone(Tone::Dim));
            }
            Event::ApprovalRequested { call, expires_at } => {
                let what = self.called(*call, |it| it.asked_at = Some(at));
                let until = words::span(expires_at.saturating_sub(at));
                let tail = format!("asks a person, for {until}");
                lines.push(Line::row("APPROVAL", what).tail(tail).tone(Tone::Loud));
            }
            Event::ApprovalAnswered(answer) => {
                self.tally.approvals += 1;
                let asked = self.calls.get(&answer.call).and_then(|it| it.asked_at);
                let waited = asked.map_or(0, |it| at.saturating_sub(it));
                if waited >= WAIT_MS_MIN {
                    let text =
                        format!("... waited {}, no money, no memory ...", words::span(waited));
                    lines.push(Line::fold(text));
                }
                let reason = answer.reason.as_deref();
                let reason = reason
                    .map(|it| format!(", \"{}\"", words::short(it, QUOTE_CHARS_MAX)))
                    .unwrap_or_default();
                let text = format!("by {}{reason}", answer.by);
                lines.push(match answer.approve {
                    true => Line::row("approved", text).tone(Tone::Good),
                    false => Line::row("denied", text).tone(Tone::Bad),
                });
            }
            Event::ApprovalExpired { call } => {
                let what = self.called(*call, |_| {});
                let tail = "nobody answered in time; it was not run";
                lines.push(Line::row("expired", what).tail(tail).tone(Tone::Bad));
            }
            Event::ToolStarted { call } => {
                self.tally.tools += 1;
                let what = self.called(*call, |it| it.started_at = Some(at));
                let safety = self.safety(*call);
                // What changes nothing is told when it is over.
                if safety != Some(Safety::ReadOnly) {
                    let tail = match safety {
                        Some(Safety::Idempotent) => format!("sent, key .../{call}"),
                        _ => "sent".to_owned(),
                    };
                    lines.push(Line::row("tool", what).tail(tail));
                }
            }
            Event::ToolFinished { call, outcome, output, .. } => {
                lines.push(self.finished(*call, *outcome, output, at));
                if let (Outcome::Unknown, Some(about)) = (outcome, &self.session.about) {
                    let id = about.id.to_string();
                    let text = format!("everstate effect resolve {}/{call}", short(&id));
                    lines.push(Line::row("settle", text).tail("--ok or --failed"));
                }
            }
            Event::OutcomeLearned { call, outcome, output, .. } => {
                let name = self.doubts.get(call).map_or("a call", String::as_str);
                let said = words::short(&words::parts(output), QUOTE_CHARS_MAX);
                let text = format!("{name}  what was unknown is known: {} {said}", word(*outcome));
                lines.push(Line::row("learned", text).tone(Tone::Loud));
            }
            Event::Compacted { .. } => {
                lines.push(Line::row("compacted", "what came before stands as a summary"));
            }
            Event::ItemErased { items } => {
                let n = words::count(items.len() as u64, "item");
                lines.push(Line::row("erased", format!("{n}; their places remain")));
            }
            Event::Parked { reason } => {
                lines.push(Line::row("PARKED", words::short(reason, 200)).tone(Tone::Bad));
            }
            Event::Unparked => lines.push(Line::row("unparked", "it goes on")),
            Event::Foreign(foreign) => {
                let text = format!("`{}`, a fact of a later release: kept", foreign.kind);
                lines.push(Line::row("?", text).tone(Tone::Loud));
            }
        }
    }

    fn tell_owned(
        &mut self,
        epoch: u64,
        at: Millis,
        (last_at, was_at_work, last_epoch): (Millis, bool, u64),
        lines: &mut Vec<Line>,
    ) {
        if last_epoch == 0 {
            return;
        }
        if was_at_work && !self.stop_told {
            lines.push(Line {
                shape: super::Shape::Divider,
                ..Line::row("", "the server stopped here, in the middle of its work")
                    .tone(Tone::Bad)
            });
        }
        self.stop_told = false;
        let gap = words::span(at.saturating_sub(last_at));
        lines.push(Line::row("adopted", format!("epoch {epoch}, {gap} after its last fact")));
    }

    fn tell_input(&mut self, turn: TurnNo, items: &[Item], lines: &mut Vec<Line>) {
        for item in items {
            if let Body::Message { role, parts } = &item.body {
                let word = match role {
                    Role::User => "user",
                    Role::System => "system",
                    Role::Developer => "developer",
                    Role::Assistant => "assistant",
                };
                let text = format!("\"{}\"", words::short(&words::parts(parts), 200));
                lines.push(Line::row(word, text).step(turn.to_string()));
            }
        }
    }

    fn tell_end(&mut self, turn: TurnNo, end: &End, lines: &mut Vec<Line>) {
        let tally = std::mem::take(&mut self.tally);
        let mut did = vec![words::count(tally.steps.into(), "step")];
        if tally.tools > 0 {
            did.push(words::count(tally.tools.into(), "tool"));
        }
        if tally.approvals > 0 {
            did.push(words::count(tally.approvals.into(), "approval"));
        }
        let did = did.join(", ");
        let open: Vec<&str> = self.open_calls();
        let line = match end {
            End::Completed if !open.is_empty() => {
                let text = format!("for an answer to {}; {did}", open.join(", "));
                Line::row("waits", text).tone(Tone::Loud)
            }
            End::Completed => {
                let quote = words::short(&tally.last_text, ANSWER_CHARS_MAX);
                Line::row("done", format!("\"{quote}\"")).tail(did).tone(Tone::Good)
            }
            End::Incomplete(_) => {
                let text = format!("cut short: {}; {did}", words::end(end));
                Line::row("done", text).tone(Tone::Loud)
            }
            End::Failed { .. } => Line::row("FAILED", words::end(end)).tone(Tone::Bad),
            End::Cancelled(Why::Asked | Why::CallerLost) => {
                Line::row("cancelled", format!("{}; {did}", words::end(end))).tone(Tone::Loud)
            }
            End::Steered => Line::row("steered", words::end(end)),
        };
        lines.push(line.step(turn.to_string()));
    }

    /// Names of the calls that the turn leaves to others: asked for, and neither run nor closed.
    fn open_calls(&self) -> Vec<&str> {
        let open = self.calls.values().filter(|it| it.started_at.is_none());
        open.map(|it| it.name.as_str()).collect()
    }

    fn placed(&mut self, attempt: AttemptId, plan: &Plan, at: Millis) -> Line {
        self.placed.insert(key(attempt), (at, plan.offer.clone()));
        let moved = self.last_offer.as_ref().is_some_and(|it| *it != plan.offer);
        let stayed = self.last_offer.as_ref() == Some(&plan.offer);
        let failed = self.failures.last().filter(|(offer, _)| *offer != plan.offer);
        let mut why = match failed {
            Some((offer, failure)) => format!("{} {}", provider(offer), words::failure(failure)),
            None => words::why(plan),
        };
        if !plan.left_behind.is_empty() {
            why = format!("{why}; left behind: {}", plan.left_behind.join(", "));
        }
        let (word, tone) = match (moved, stayed) {
            (true, _) => ("MOVED", Tone::Loud),
            (_, true) => ("stayed", Tone::Plain),
            (false, false) => ("placed", Tone::Plain),
        };
        let place = (attempt.turn, attempt.step);
        let step = match self.step_told.replace(place) {
            Some(told) if told == place => String::new(),
            _ => format!("{}.{}", place.0, place.1),
        };
        Line::row(word, format!("{}   {why}", plan.offer)).step(step).tone(tone)
    }

    /// The tokens of an answer, and how long it took.
    fn used(&self, attempt: AttemptId, usage: &Usage, at: Millis) -> String {
        let took = self.placed.get(&key(attempt)).map(|it| at.saturating_sub(it.0));
        let cached = match usage.cached {
            0 => String::new(),
            n => format!(" ({} from cache)", words::number(n)),
        };
        let took = took.map(|it| format!(", {}", words::span(it))).unwrap_or_default();
        let (input, output) = (words::number(usage.input), words::number(usage.output));
        format!("{input} in{cached}, {output} out{took}")
    }

    /// What the model said and asked for.
    fn hear_items(&mut self, items: &[Item], lines: &mut Vec<Line>) {
        for item in items {
            match &item.body {
                Body::Message { parts, .. } => self.tally.last_text = words::parts(parts),
                Body::Call { call, name, arguments } => {
                    let turn = self.session.live.turn.as_ref();
                    let tool = turn.and_then(|it| it.terms.agent.tool(name));
                    let runs = tool.map(|it| it.runs.clone());
                    if runs == Some(Runs::Client) {
                        let what = words::call(name, arguments);
                        lines.push(Line::row("call", what).tail("for the client to run"));
                    }
                    self.calls.insert(*call, Called { runs, ..Called::new(name, arguments) });
                }
                Body::Reasoning(_)
                | Body::Result { .. }
                | Body::Compaction { .. }
                | Body::Note { .. }
                | Body::Opaque { .. }
                | Body::Erased => {}
            }
        }
    }

    fn finished(&mut self, call: CallId, outcome: Outcome, output: &[Part], at: Millis) -> Line {
        let safety = self.safety(call);
        let called = self.calls.remove(&call);
        let name = called.as_ref().map_or("a call", |it| it.name.as_str());
        if matches!(outcome, Outcome::Unknown | Outcome::Cancelled) {
            self.doubts.insert(call, name.to_owned());
        }
        let took = called.as_ref().and_then(|it| it.started_at);
        let took = took.map(|it| format!(" {}", words::span(at.saturating_sub(it))));
        let took = took.unwrap_or_default();
        let said = words::short(&words::parts(output), 80);
        let what = called.as_ref().map(|it| words::call(&it.name, &it.arguments));
        match (outcome, safety) {
            (Outcome::Unknown, _) => {
                let text = format!(
                    "{name}  may have happened; it is not run again, and the model is told"
                );
                Line::row("UNKNOWN", text).tone(Tone::Bad)
            }
            (Outcome::Ok, Some(Safety::ReadOnly)) => {
                let what = what.unwrap_or_else(|| name.to_owned());
                Line::row("tool", what).tail(format!("read-only  ok{took}"))
            }
            (Outcome::Ok, Some(_)) => {
                Line::row("tool", format!("{name}  ok{took}: {said}")).tone(Tone::Good)
            }
            (Outcome::Ok, None) => Line::row("result", format!("{name}  ok: {said}")),
            (Outcome::Failed | Outcome::Denied | Outcome::Cancelled, _) => {
                let text = format!("{name}  {}{took}: {said}", word(outcome));
                Line::row("tool", text).tone(Tone::Bad)
            }
        }
    }

    fn called(&mut self, call: CallId, note: impl FnOnce(&mut Called)) -> String {
        match self.calls.get_mut(&call) {
            Some(called) => {
                note(called);
                words::call(&called.name, &called.arguments)
            }
            None => format!("call {call}"),
        }
    }

    fn safety(&self, call: CallId) -> Option<Safety> {
        match self.calls.get(&call)?.runs.as_ref()? {
            Runs::Server(server) => Some(server.safety),
            Runs::Client | Runs::Provider { .. } => None,
        }
    }

    fn offer(&self, attempt: AttemptId) -> String {
        self.placed.get(&key(attempt)).map_or_else(|| "an offer".to_owned(), |it| it.1.clone())
    }
}

fn key(attempt: AttemptId) -> (u32, u32, u32) {
    (attempt.turn, attempt.step, attempt.attempt)
}

/// The first part of an offer's name.
fn provider(offer: &str) -> &str {
    offer.split('/').next().unwrap_or(offer)
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Denied => "denied",
        Outcome::Cancelled => "cancelled",
        Outcome::Unknown => "UNKNOWN",
    }
}
