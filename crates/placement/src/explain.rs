//! A choice in words: one row per offer, for people and for `everstate explain`. How it is laid out is left to them.

use everstate_kernel::ids::Millis;
use everstate_kernel::money::Micros;
use everstate_kernel::offer::{Offer, OfferId};
use everstate_kernel::plan::{Ask, NoOffer, OfferSet, Plan, Reason, Why};
use everstate_kernel::policy::Require;

use crate::offers::Offers;
use crate::price;

/// One offer, and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub offer: OfferId,
    pub verdict: Verdict,
    /// Of the step, if the question is known and the offer could be asked it.
    pub expected: Option<Micros>,
    pub cache: Option<Cache>,
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Chosen,
    /// It could have served.
    Passed,
    /// It could not serve, or not at that moment.
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    Warm,
    Cold,
}

/// One row per offer: the chosen one first, then those that could have served, then the rest.
///
/// A plan names the others by their places in its list of offers: over another list only the chosen one has a row,
/// and a refusal has none. `asked` is the question and its time; without it only the chosen offer has a cost.
pub fn rows(
    answer: Result<&Plan, &NoOffer>,
    offers: &Offers,
    asked: Option<(&Ask, Millis)>,
) -> Vec<Row> {
    let (against, revision) = match answer {
        Ok(plan) => (&plan.against, plan.offers_revision),
        Err(none) => (&none.against, none.offers_revision),
    };
    let mut rows = Vec::new();
    if let Ok(plan) = answer {
        rows.push(Row {
            offer: plan.offer.clone(),
            verdict: Verdict::Chosen,
            expected: Some(plan.expected),
            cache: offers.get(&plan.offer).and_then(|offer| costs(asked, offer).1),
            why: why(plan.why).to_owned(),
        });
    }
    if revision != offers.revision {
        return rows;
    }
    for (place, offer) in offers.list.iter().enumerate() {
        let held = |(_, set): &(&Reason, &OfferSet)| set.contains(place);
        let Some((reason, _)) = against.iter().find(held) else { continue };
        let (expected, cache) =
            if *reason == Reason::OtherModel { (None, None) } else { costs(asked, offer) };
        rows.push(Row {
            offer: offer.id.clone(),
            verdict: match reason {
                Reason::Dearer | Reason::ColdCache => Verdict::Passed,
                Reason::OtherModel
                | Reason::NoCredentials
                | Reason::NoTools
                | Reason::NoImages
                | Reason::NoSchema
                | Reason::ContextTooSmall
                | Reason::Constraint(_)
                | Reason::Budget
                | Reason::FailedInThisStep
                | Reason::InUseInThisStep
                | Reason::CoolingDown
                | Reason::RateLimited => Verdict::Out,
            },
            expected,
            cache,
            why: why_not(reason),
        });
    }
    rows.sort_by_key(|it| match it.verdict {
        Verdict::Chosen => 0,
        Verdict::Passed => 1,
        Verdict::Out => 2,
    });
    rows
}

fn costs(asked: Option<(&Ask, Millis)>, offer: &Offer) -> (Option<Micros>, Option<Cache>) {
    let Some(Ok(quote)) = asked.map(|(ask, now)| price::quote(ask, offer, now)) else {
        return (None, None);
    };
    let cache = if quote.warm_tokens > 0 { Cache::Warm } else { Cache::Cold };
    (Some(price::micros(quote.step)), Some(cache))
}

pub fn why(why: Why) -> &'static str {
    match why {
        Why::OnlyOne => "the only one that could serve",
        Why::Cheapest => "the cheapest for this session",
        Why::Warm => "its cache is warm: leaving would cost more",
        Why::InToolLoop => "the session stays in the middle of a tool loop",
        Why::Fallback => "a better one failed in this step or is cooling down",
        Why::Hedge => "a second try beside a slow first",
    }
}

pub fn why_not(reason: &Reason) -> String {
    let words = match reason {
        Reason::OtherModel => "another model",
        Reason::NoCredentials => "no credentials",
        Reason::NoTools => "takes no tools",
        Reason::NoImages => "takes no images",
        Reason::NoSchema => "holds no answer to a schema",
        Reason::ContextTooSmall => "too small for this context",
        Reason::Constraint(text) => return format!("forbidden, the policy says: {text}"),
        Reason::Budget => "the budget does not pay for one step there",
        Reason::FailedInThisStep => "failed in this step",
        Reason::InUseInThisStep => "another attempt of this step is on it",
        Reason::CoolingDown => "cooling down after failures",
        Reason::RateLimited => "rate limited",
        Reason::Dearer => "not cheaper for this session",
        Reason::ColdCache => "its cache is cold for this session",
    };
    words.to_owned()
}

/// A requirement as a plan keeps it: short, because it is kept with every step.
pub fn constraint(require: &Require) -> String {
    let text = match require {
        Require::Providers(names) => format!("one of {}", names.join(", ")),
        Require::NotProvider(name) => format!("not {name}"),
        Require::Within(places) => format!("within {}", places.join(", ")),
        Require::Fact(fact) => fact.clone(),
        Require::NoFact(fact) => format!("not {fact}"),
    };
    if text.chars().count() <= CONSTRAINT_CHARS_MAX {
        return text;
    }
    text.chars().take(CONSTRAINT_CHARS_MAX - 1).chain(['…']).collect()
}

const CONSTRAINT_CHARS_MAX: usize = 80;
