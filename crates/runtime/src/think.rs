//! One round of thought: what follows from some inputs, and where the attempts it opens shall go.
//!
//! Pure over what it is handed, so nothing has happened until its events are on the log. Placing is thought too: it
//! is computed here and lands in the same append as the fact that asked for it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use everstate_kernel::effect::Effect;
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{AttemptId, Millis, Seq};
use everstate_kernel::input::{Failure, FailureClass, Input, Shown};
use everstate_kernel::money::Micros;
use everstate_kernel::offer::Offer;
use everstate_kernel::plan::{Ask, NoOffer, Observations, Plan};
use everstate_kernel::state::{Rejection, Session};
use everstate_placement::place::place;

use crate::keep::panic_text;
use crate::ledger::Allowance;
use crate::market::Market;
use crate::ports::{Model, Prepared};

/// A bound for placings that lead to placings.
const PLACINGS_MAX: usize = 32;

/// What a thought is about and what it may look at.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: Millis,
    /// Where the append would land.
    pub(crate) seq: Seq,
    pub(crate) market: &'a Market,
    pub(crate) seen: &'a Observations,
    /// What was shown so far of the attempts under way.
    pub(crate) shown: &'a [Shown],
    /// Are new attempts placed?
    pub(crate) placing: bool,
    /// What the project may spend, where that is scarce.
    pub(crate) allowance: Option<Allowance>,
}

#[derive(Debug)]
pub(crate) struct Thought {
    pub(crate) state: Session,
    pub(crate) append: Append,
    /// What the placed attempts will send.
    pub(crate) prepared: BTreeMap<AttemptId, Letter>,
    /// By the plans of this thought.
    reserved: Micros,
}

/// A request ready to be sent, or what spoke against it.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) offer: Offer,
    pub(crate) model: Arc<dyn Model>,
    pub(crate) prepared: Result<Prepared, Failure>,
}

#[derive(Debug)]
pub(crate) enum Stop {
    Rejected(Rejection),
    /// The machine broke on it.
    Panicked(String),
}

pub(crate) fn think(
    state: &Session,
    inputs: Vec<Input>,
    around: &Around<'_>,
) -> Result<Thought, Stop> {
    catch_unwind(AssertUnwindSafe(|| decide_all(state, inputs, around)))
        .unwrap_or_else(|panic| Err(Stop::Panicked(panic_text(&*panic))))
}

fn decide_all(state: &Session, inputs: Vec<Input>, around: &Around<'_>) -> Result<Thought, Stop> {
    let append = Append { seq: around.seq, at: around.now, events: Vec::new() };
    let mut thought =
        Thought { state: state.clone(), append, prepared: BTreeMap::new(), reserved: 0 };
    for input in inputs {
        thought.take(input, around)?;
    }
    for _ in 0..PLACINGS_MAX {
        let Some(attempt) = thought.to_place().filter(|_| around.placing) else { break };
        let input = thought.place(attempt, around);
        if !thought.take(input, around)? {
            break;
        }
    }
    Ok(thought)
}

impl Thought {
    /// Decides one input on top of the others; `false` if nothing followed.
    fn take(&mut self, input: Input, around: &Around<'_>) -> Result<bool, Stop> {
        let events = self.state.decide(input, around.shown, around.now).map_err(Stop::Rejected)?;
        if events.is_empty() {
            return Ok(false);
        }
        let part = Append { seq: self.append.seq, at: self.append.at, events };
        self.state.apply(&part);
        self.append.events.extend(part.events);
        Ok(true)
    }

    /// Was something not placed for want of the project's money?
    pub(crate) fn lacks_money(&self) -> bool {
        self.append.events.iter().any(|it| match it {
            Event::NotPlaced { no_offer, .. } => no_offer.project_budget.is_some(),
            _ => false,
        })
    }

    fn to_place(&self) -> Option<AttemptId> {
        self.state.effects().into_iter().find_map(|it| match it {
            Effect::Place(attempt) => Some(attempt),
            Effect::Model(_) | Effect::Tool(_) | Effect::Wake(_) => None,
        })
    }

    fn place(&mut self, attempt: AttemptId, around: &Around<'_>) -> Input {
        let mut ask = self.state.ask(attempt).expect("an attempt to be placed can be asked about");
        ask.constraints = ask.constraints.and(&around.market.constraints);
        let mut plan = match self.choose(ask, around) {
            Ok(plan) => plan,
            Err(no_offer) => return Input::NotPlaced { attempt, no_offer },
        };
        self.reserved = self.reserved.saturating_add(plan.reserved);
        // What is sent depends on the plan (its output limit), so it is built as if the plan held already.
        let letter = self.letter(attempt, &plan.offer, plan.max_output_tokens, around.market);
        if let Ok(prepared) = &letter.prepared {
            plan.prefix = prepared.prefix.clone();
            plan.left_behind = prepared.left_behind.clone();
        }
        self.prepared.insert(attempt, letter);
        Input::Placed { attempt, plan }
    }

    /// Where the project's money makes a difference, the answer says how much there was.
    fn choose(&self, ask: Ask, around: &Around<'_>) -> Result<Plan, NoOffer> {
        let choose = |ask: &Ask| place(ask, &around.market.offers, around.seen, around.now);
        let wished = choose(&ask);
        let Some(allowance) = around.allowance else { return wished };
        let left = allowance.left.saturating_sub(self.reserved);
        if ask.budget.is_some_and(|it| it <= left) {
            return wished;
        }
        match choose(&Ask { budget: Some(left), ..ask }) {
            had if had == wished => wished,
            Ok(plan) => Ok(Plan { project_budget: Some(left), ..plan }),
            Err(no_offer) => Err(NoOffer {
                project_budget: Some(left),
                again_at: no_offer.again_at.or(allowance.again_at),
                ..no_offer
            }),
        }
    }

    fn letter(
        &self,
        attempt: AttemptId,
        offer: &str,
        max_output_tokens: Option<u64>,
        market: &Market,
    ) -> Letter {
        write(&self.state, attempt, offer, max_output_tokens, market)
            .expect("placement chose an offer it was given, of a provider that is there")
    }
}

/// The request of an attempt for the offer of its plan; `None` if the offer is not there any more.
pub(crate) fn write(
    state: &Session,
    attempt: AttemptId,
    offer: &str,
    max_output_tokens: Option<u64>,
    market: &Market,
) -> Option<Letter> {
    let offer = market.offers.get(offer)?;
    let model = market.models.get(&offer.provider)?;
    let prepared = match state.request(attempt) {
        Some(mut request) => {
            request.max_output_tokens = max_output_tokens;
            model.prepare(offer, &request)
        }
        None => Err(Failure {
            class: FailureClass::Invalid,
            message: "there is nothing to ask".to_owned(),
            status: None,
            code: None,
            retry_after_ms: None,
        }),
    };
    Some(Letter { offer: offer.clone(), model: Arc::clone(model), prepared })
}
