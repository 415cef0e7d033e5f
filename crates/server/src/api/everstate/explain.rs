//! Why a step went where it went: each attempt's plan, and what was said about every other offer.

use std::sync::Arc;

use axum::extract::State;
use everstate_kernel::event::Event;
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
    let mut state = Session::default();
    let mut attempts: Vec<Value> = Vec::new();
    for told in &told {
        let Told::Append(append) = told else { continue };
        for event in &append.events {
            let Some(attempt) = attempt_of(event) else { continue };
            let fits = |(turn, step): (TurnNo, Option<StepNo>)| {
                attempt.turn == turn && step.is_none_or(|it| it == attempt.step)
            };
            if !wanted.is_none_or(fits) {
                continue;
            }
            match event {
                Event::Placed { plan, .. } => {
                    let offers = app.stall.offers_of(plan.offers_revision).await?;
                    let ask = state.ask(attempt);
                    let asked = ask.as_ref().map(|it| (it, append.at));
                    attempts.push(placed(id, append.seq, append.at, attempt, plan, offers, asked));
                }
                Event::NotPlaced { no_offer, .. } => {
                    let offers = app.stall.offers_of(no_offer.offers_revision).await?;
                    let ask = state.ask(attempt);
                    let asked = ask.as_ref().map(|it| (it, append.at));
                    attempts.push(not_placed(
                        id, append.seq, append.at, attempt, no_offer, offers, asked,
                    ));
                }
                Event::Replied { cost, end, .. } => outcome(
                    &mut attempts,
                    attempt,
                    json!({ "kind": "replied", "seq": append.seq, "at": append.at, "cost_micros": cost.micros, "usage": end.usage }),
                ),
                Event::AttemptFailed { failure, cost, .. } => outcome(
                    &mut attempts,
                    attempt,
                    json!({ "kind": "failed", "seq": append.seq, "at": append.at, "cost_micros": cost.micros, "failure": failure }),
                ),
                Event::AttemptLost { frames, cost, .. } => outcome(
                    &mut attempts,
                    attempt,
                    json!({ "kind": "lost", "seq": append.seq, "at": append.at, "cost_micros": cost.micros, "frames": frames }),
                ),
                Event::AttemptDropped { cost, .. } => outcome(
                    &mut attempts,
                    attempt,
                    json!({ "kind": "dropped", "seq": append.seq, "at": append.at, "cost_micros": cost.micros }),
                ),
                _ => {}
            }
        }
        state.apply(append);
    }
    if attempts.is_empty()
        && let Some((turn, step)) = wanted
    {
        let step = step.map(|it| format!(".{it}")).unwrap_or_default();
        return Err(ApiError::new(
            &codes::NOT_FOUND,
            format!("nothing was placed at {id}/{turn}{step}"),
        )
        .param("step")
        .attempt(format!("everstate session show {id}")));
    }
    Ok(json!({ "session": id, "items": attempts, "next": null }).into())
}

fn read_step(text: &str) -> Result<(TurnNo, Option<StepNo>)> {
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
    row["because"] = match no_offer.unknown_model {
        true => "no offer has this model".into(),
        false => "no offer may or can serve this step; nothing was sent".into(),
    };
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
