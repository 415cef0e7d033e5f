//! The choice. Constraint before availability before staying before price; every offer passed over has its reason.

use std::collections::BTreeMap;

use everstate_kernel::ids::Millis;
use everstate_kernel::offer::Offer;
use everstate_kernel::plan::{Ask, Avoid, NoOffer, Observations, OfferSet, Plan, Reason, Why};
use everstate_kernel::policy::Require;

use crate::explain;
use crate::offers::Offers;
use crate::price::{self, OUTPUT_TOKENS_MIN, Quote};

/// Chooses where an attempt goes. The same question has the same answer.
pub fn place(
    ask: &Ask,
    offers: &Offers,
    seen: &Observations,
    now: Millis,
) -> Result<Plan, NoOffer> {
    let mut passed = Passed::default();
    let mut able = Vec::new();
    for (place, offer) in offers.list.iter().enumerate() {
        match eligible(ask, offer, seen, now) {
            Ok(quote) => able.push(Candidate::new(ask, seen, now, place, offer, quote)),
            Err(Bar::Reason(reason)) => passed.add(reason, place),
            Err(Bar::Constraint(require)) => passed.forbid(require, place),
        }
    }

    let Some(chosen) = choose(ask, &able) else {
        for it in &able {
            passed.add(it.trouble().unwrap_or(Reason::Dearer), it.place);
        }
        return Err(NoOffer {
            against: passed.close(),
            offers_revision: offers.revision,
            again_at: able.iter().filter(|it| !it.barred()).filter_map(|it| it.cooling).min(),
            unknown_model: offers.list.iter().all(|it| it.model != ask.model),
            project_budget: None,
        });
    };

    let mut others = 0;
    for it in able.iter().filter(|it| it.place != chosen.place) {
        let reason = it.trouble().unwrap_or_else(|| {
            others += 1;
            // It lost to what the session has warm elsewhere, or to its price.
            let cheaper_cold = it.quote.session_cold < chosen.quote.session_cold;
            if cheaper_cold { Reason::ColdCache } else { Reason::Dearer }
        });
        passed.add(reason, it.place);
    }

    let (offer, quote) = (chosen.offer, &chosen.quote);
    Ok(Plan {
        offer: offer.id.clone(),
        provider: offer.provider.clone(),
        model: offer.upstream_model.clone(),
        why: why(ask, &able, chosen),
        against: passed.close(),
        offers_revision: offers.revision,
        policy_revision: ask.constraints.revision,
        others,
        price: offer.price,
        expected: price::micros(quote.step),
        reserved: price::micros(quote.most),
        max_output_tokens: quote.max_output_tokens,
        crypto_domain: offer.crypto_domain.clone(),
        prefix: String::new(),
        left_behind: Vec::new(),
        moved_from: ask.warm.as_ref().map(|it| &it.offer).filter(|it| **it != offer.id).cloned(),
        project_budget: None,
    })
}

/// What keeps an offer from serving at all.
enum Bar<'a> {
    Reason(Reason),
    Constraint(&'a Require),
}

fn eligible<'a>(
    ask: &'a Ask,
    offer: &Offer,
    seen: &Observations,
    now: Millis,
) -> Result<Quote, Bar<'a>> {
    let needs = &ask.needs;
    let bar = |reason| Err(Bar::Reason(reason));
    if offer.model != ask.model {
        return bar(Reason::OtherModel);
    }
    if let Some(require) = ask.constraints.forbid(offer) {
        return Err(Bar::Constraint(require));
    }
    if seen.no_credentials.contains(&offer.id) {
        return bar(Reason::NoCredentials);
    }
    if needs.tools && !offer.can.tools {
        return bar(Reason::NoTools);
    }
    if needs.images && !offer.can.images {
        return bar(Reason::NoImages);
    }
    if needs.schema && !offer.can.schema {
        return bar(Reason::NoSchema);
    }
    let wanted = needs.max_output_tokens.unwrap_or(OUTPUT_TOKENS_MIN).min(OUTPUT_TOKENS_MIN);
    if price::output_room(ask, offer) < wanted {
        return bar(Reason::ContextTooSmall);
    }
    price::quote(ask, offer, now).map_err(|price::TooDear| Bar::Reason(Reason::Budget))
}

/// An offer that may serve.
struct Candidate<'a> {
    place: usize,
    offer: &'a Offer,
    quote: Quote,
    avoid: Option<Avoid>,
    /// No use asking before this time.
    cooling: Option<Millis>,
    rate_limited: bool,
    first_token_ms: u64,
    /// The session's last answer came from here.
    here: bool,
}

impl<'a> Candidate<'a> {
    fn new(
        ask: &Ask,
        seen: &Observations,
        now: Millis,
        place: usize,
        offer: &'a Offer,
        quote: Quote,
    ) -> Candidate<'a> {
        Candidate {
            place,
            offer,
            quote,
            avoid: ask.avoid.get(&offer.id).copied(),
            cooling: seen.cooling_until.get(&offer.id).copied().filter(|&until| until > now),
            rate_limited: seen.rate_limited.contains(&offer.id),
            // One that nobody has timed yet is worth a try.
            first_token_ms: seen.first_token_ms.get(&offer.id).copied().unwrap_or(0),
            here: ask.warm.as_ref().is_some_and(|it| it.offer == offer.id),
        }
    }

    /// Not in this step, whatever else there is.
    fn barred(&self) -> bool {
        match self.avoid {
            Some(Avoid::Hopeless | Avoid::InUse) => true,
            Some(Avoid::Failed) | None => false,
        }
    }

    fn healthy(&self) -> bool {
        self.avoid.is_none() && self.cooling.is_none()
    }

    fn trouble(&self) -> Option<Reason> {
        match (self.avoid, self.cooling) {
            (Some(Avoid::InUse), _) => Some(Reason::InUseInThisStep),
            (Some(Avoid::Failed | Avoid::Hopeless), _) => Some(Reason::FailedInThisStep),
            (None, Some(_)) if self.rate_limited => Some(Reason::RateLimited),
            (None, Some(_)) => Some(Reason::CoolingDown),
            (None, None) => None,
        }
    }

    /// Least is best. Among equals the session stays, then the quicker one is taken, then the first by name.
    fn rank(&self) -> (u128, bool, u64, &str) {
        (self.quote.session, !self.here, self.first_token_ms, &self.offer.id)
    }
}

fn choose<'a, 'b>(ask: &Ask, able: &'b [Candidate<'a>]) -> Option<&'b Candidate<'a>> {
    let healthy = || able.iter().filter(|it| it.healthy());
    if ask.in_tool_loop
        && let Some(stay) = healthy().find(|it| it.here)
    {
        return Some(stay);
    }
    if let Some(best) = healthy().min_by_key(|it| it.rank()) {
        return Some(best);
    }
    // A second attempt beside a living one is worth a good offer only.
    if hedging(ask) {
        return None;
    }
    // One that failed here and is not cooling may do better now; and rather one that is cooling than none.
    let rest = || able.iter().filter(|it| !it.barred());
    rest()
        .filter(|it| it.cooling.is_none())
        .min_by_key(|it| it.rank())
        .or_else(|| rest().min_by_key(|it| (it.cooling, it.avoid.is_some(), it.rank())))
}

fn hedging(ask: &Ask) -> bool {
    ask.avoid.values().any(|it| *it == Avoid::InUse)
}

fn why(ask: &Ask, able: &[Candidate<'_>], chosen: &Candidate<'_>) -> Why {
    if hedging(ask) {
        return Why::Hedge;
    }
    if able.len() == 1 {
        return Why::OnlyOne;
    }
    let in_loop = |it: &Candidate<'_>| ask.in_tool_loop && it.here;
    if in_loop(chosen) && chosen.healthy() {
        return Why::InToolLoop;
    }
    // Had everyone been well, would it be this one?
    let wished = able.iter().find(|it| in_loop(it)).or(able.iter().min_by_key(|it| it.rank()));
    if wished.is_some_and(|it| it.place != chosen.place) {
        return Why::Fallback;
    }
    let best_cold = able.iter().filter(|it| it.healthy()).map(|it| it.quote.session_cold).min();
    if best_cold.is_some_and(|it| it < chosen.quote.session_cold) {
        return Why::Warm;
    }
    Why::Cheapest
}

/// The reasons, each with the offers it holds for.
#[derive(Default)]
struct Passed<'a> {
    reasons: BTreeMap<Reason, OfferSet>,
    // Kept apart until the end, so that a constraint is put into words once.
    forbidden: BTreeMap<&'a Require, Vec<usize>>,
}

impl<'a> Passed<'a> {
    fn add(&mut self, reason: Reason, place: usize) {
        self.reasons.entry(reason).or_default().insert(place);
    }

    fn forbid(&mut self, require: &'a Require, place: usize) {
        self.forbidden.entry(require).or_default().push(place);
    }

    fn close(mut self) -> BTreeMap<Reason, OfferSet> {
        for (require, places) in self.forbidden {
            let set = self.reasons.entry(Reason::Constraint(explain::constraint(require)));
            let set = set.or_default();
            places.into_iter().for_each(|it| set.insert(it));
        }
        self.reasons
    }
}
