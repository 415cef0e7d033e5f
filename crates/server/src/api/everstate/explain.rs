//! Why a step went where it went: each attempt's plan, and what was said about every other offer.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{AttemptId, Millis, SessionId, StepNo, TurnNo};
use everstate_kernel::plan::{Ask, NoOffer, Plan};
use everstate_kernel::state::Session;
use everstate_placement::explain::{Cache, Row, Verdict, rows, why};
use everstate_placement::offers::Offers;
use everstate_runtime::tail::Told;
use serde::Deserialize;
use serde_json::{Value, json};

use super::sessions::named;
use crate::app::App;
use crate::error::{ApiError, Result, codes, shown};
use crate::http::{Answer, Id, Params};
use crate::keys::Principal;

#[derive(Debug, Deserialize)]
pub(super) struct Which {
    /// `1.3`: turn 1, step 3. Absent: all steps.
    step: Option<String>,
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    who: Principal,
    Id(id): Id,
    Params(which): Params<Which>,
) -> Result<Answer> {
    let session = named(&app, &who, &id).await?;
    let id = App::about(&session)?.id;
    let wanted = which.step.as_deref().map(read_step).transpose()?;
    let told = app.durable.host.rows(id, 0, session.head).await?;
    let mut attempts = Attempts::new(id, wanted);
    for told in &told {
        let Told::Append(append) = told else { continue };
        for revision in attempts.needs(append) {
            attempts.know(revision, app.stall.offers_of(revision).await?);
        }
        attempts.hear(append);
    }
    Ok(attempts.told()?.into())
}

/// The attempts of a log, heard append by append.
#[derive(Debug)]
pub(crate) struct Attempts {
    session: SessionId,
    /// Only these.
    wanted: Option<(TurnNo, Option<StepNo>)>,
    state: Session,
    items: Vec<Value>,
    /// Lists of offers by revision; some are no longer known.
    lists: BTreeMap<u64, Option<Offers>>,
}

impl Attempts {
    pub(crate) fn new(session: SessionId, wanted: Option<(TurnNo, Option<StepNo>)>) -> Attempts {
        Attempts {
            session,
            wanted,
            state: Session::default(),
            items: Vec::new(),
            lists: BTreeMap::new(),
        }
    }

    /// Lists that have to be known before this is heard.
    pub(crate) fn needs(&self, append: &Append) -> Vec<u64> {
        let revisions = append.events.iter().filter_map(|it| match it {
            Event::Placed { plan, .. } => Some(plan.offers_revision),
            Event::NotPlaced { no_offer, .. } => Some(no_offer.offers_revision),
            _ => None,
        });
        revisions.filter(|it| !self.lists.contains_key(it)).collect()
    }

    pub(crate) fn know(&mut self, revision: u64, offers: Option<Offers>) {
        self.lists.insert(revision, offers);
    }

    pub(crate) fn hear(&mut self, append: &Append) {
        for event in &append.events {
            self.hear_one(event, append);
            // One by one: a step may begin and be placed in the same row.
            let Append { seq, at, .. } = *append;
            self.state.apply(&Append { seq, at, events: vec![event.clone()] });
        }
    }

    fn hear_one(&mut self, event: &Event, append: &Append) {
        if let Some(attempt) = attempt_of(event) {
            let fits = |(turn, step): (TurnNo, Option<StepNo>)| {
                attempt.turn == turn && step.is_none_or(|it| it == attempt.step)
            };
            if self.wanted.is_none_or(fits) {
                self.hear_event(event, attempt, append);
            }
        }
    }

    fn hear_event(&mut self, event: &Event, attempt: AttemptId, append: &Append) {
        let (id, seq, at) = (self.session, append.seq, append.at);
        match event {
            Event::Placed { plan, .. } => {
                let offers = self.lists.get(&plan.offers_revision).cloned().flatten();
                let ask = self.state.ask(attempt);
                let asked = ask.as_ref().map(|it| (it, at));
                self.items.push(placed(id, seq, at, attempt, plan, offers, asked));
            }
            Event::NotPlaced { no_offer, .. } => {
                let offers = self.lists.get(&no_offer.offers_revision).cloned().flatten();
                let ask = self.state.ask(attempt);
                let asked = ask.as_ref().map(|it| (it, at));
                self.items.push(not_placed(id, seq, at, attempt, no_offer, offers, asked));
            }
            Event::Replied { cost, end, .. } => outcome(
                &mut self.items,
                attempt,
                json!({ "kind": "replied", "seq": seq, "at": at, "cost_micros": cost.micros, "usage": end.usage }),
            ),
            Event::SummedUp { cost, end, .. } => outcome(
                &mut self.items,
                attempt,
                json!({ "kind": "summed_up", "seq": seq, "at": at, "cost_micros": cost.micros, "usage": end.usage }),
            ),
            Event::AttemptFailed { failure, cost, .. } => outcome(
                &mut self.items,
                attempt,
                json!({ "kind": "failed", "seq": seq, "at": at, "cost_micros": cost.micros, "failure": failure }),
            ),
            Event::AttemptLost { frames, cost, .. } => outcome(
                &mut self.items,
                attempt,
                json!({ "kind": "lost", "seq": seq, "at": at, "cost_micros": cost.micros, "frames": frames }),
            ),
            Event::AttemptDropped { cost, .. } => outcome(
                &mut self.items,
                attempt,
                json!({ "kind": "dropped", "seq": seq, "at": at, "cost_micros": cost.micros }),
            ),
            _ => {}
        }
    }

    pub(crate) fn told(self) -> Result<Value> {
        let id = self.session;
        if self.items.is_empty()
            && let Some((turn, step)) = self.wanted
        {
            let step = step.map(|it| format!(".{it}")).unwrap_or_default();
            let text = format!("nothing was placed at {id}/{turn}{step}");
            return Err(ApiError::new(&codes::NOT_FOUND, text)
                .param("step")
                .attempt(format!("everstate session show {id}")));
        }
        Ok(json!({ "session": id, "items": self.items, "next": null }))
    }
}

pub(crate) fn read_step(text: &str) -> Result<(TurnNo, Option<StepNo>)> {
    let (turn, step) = match text.split_once('.') {
        Some((turn, step)) => (turn.parse().ok(), step.parse().ok().map(Some)),
        None => (text.parse().ok(), Some(None)),
    };
    turn.zip(step).ok_or_else(|| {
        let text = format!("`{}` is no step: write `1.3` for turn 1, step 3", shown(text));
        ApiError::new(&codes::INVALID_VALUE, text).param("step")
    })
}

fn attempt_of(event: &Event) -> Option<AttemptId> {
    match event {
        Event::Placed { attempt, .. }
        | Event::NotPlaced { attempt, .. }
        | Event::Replied { attempt, .. }
        | Event::SummedUp { attempt, .. }
        | Event::AttemptFailed { attempt, .. }
        | Event::AttemptLost { attempt, .. }
        | Event::AttemptDropped { attempt, .. } => Some(*attempt),
        _ => None,
    }
}

/// What became of an attempt stands with the attempt.
fn outcome(attempts: &mut [Value], attempt: AttemptId, outcome: Value) {
    let name = json!(attempt);
    if let Some(row) = attempts.iter_mut().rev().find(|it| it["attempt"] == name) {
        row["outcome"] = outcome;
    }
}

fn head(session: SessionId, seq: u64, at: Millis, attempt: AttemptId) -> Value {
    json!({
        "address": format!("{session}/{}.{}", attempt.turn, attempt.step),
        "attempt": attempt,
        "seq": seq,
        "at": at,
    })
}

fn placed(
    session: SessionId,
    seq: u64,
    at: Millis,
    attempt: AttemptId,
    plan: &Plan,
    offers: Option<Offers>,
    asked: Option<(&Ask, Millis)>,
) -> Value {
    let mut row = head(session, seq, at, attempt);
    row["placed"] = true.into();
    row["offer"] = plan.offer.clone().into();
    row["provider"] = plan.provider.clone().into();
    row["model"] = plan.model.clone().into();
    row["because"] = why(plan.why).into();
    row["moved_from"] = plan.moved_from.clone().into();
    row["left_behind"] = plan.left_behind.clone().into();
    row["expected_micros"] = plan.expected.into();
    row["reserved_micros"] = plan.reserved.into();
    row["max_output_tokens"] = plan.max_output_tokens.into();
    row["project_budget_micros"] = plan.project_budget.into();
    row["prefix"] = plan.prefix.clone().into();
    row["offers_revision"] = plan.offers_revision.into();
    row["policy_revision"] = plan.policy_revision.into();
    row["offers"] = told(Ok(plan), offers, asked);
    row["outcome"] = Value::Null;
    row
}

fn not_placed(
    session: SessionId,
    seq: u64,
    at: Millis,
    attempt: AttemptId,
    no_offer: &NoOffer,
    offers: Option<Offers>,
    asked: Option<(&Ask, Millis)>,
) -> Value {
    let mut row = head(session, seq, at, attempt);
    row["placed"] = false.into();
    row["because"] = match (no_offer.unknown_model, no_offer.project_budget) {
        (true, _) => "no offer has this model".into(),
        (false, Some(_)) => {
            "the project's budget does not pay for this step; nothing was sent".into()
        }
        (false, None) => "no offer may or can serve this step; nothing was sent".into(),
    };
    row["project_budget_micros"] = no_offer.project_budget.into();
    row["again_at"] = no_offer.again_at.into();
    row["offers_revision"] = no_offer.offers_revision.into();
    row["offers"] = told(Err(no_offer), offers, asked);
    row["outcome"] = Value::Null;
    row
}

fn told(
    answer: std::result::Result<&Plan, &NoOffer>,
    offers: Option<Offers>,
    asked: Option<(&Ask, Millis)>,
) -> Value {
    let offers = offers.unwrap_or_else(|| Offers::new(Vec::new()));
    rows(answer, &offers, asked).iter().map(row).collect()
}

fn row(row: &Row) -> Value {
    json!({
        "offer": row.offer,
        "verdict": match row.verdict {
            Verdict::Chosen => "chosen",
            Verdict::Passed => "passed over",
            Verdict::Out => "refused",
        },
        "expected_micros": row.expected,
        "cache": row.cache.map(|it| match it {
            Cache::Warm => "warm",
            Cache::Cold => "cold",
        }),
        "why": row.why,
    })
}
