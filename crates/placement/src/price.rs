//! What a step would cost at an offer, and what staying there would cost.
//!
//! In pico-USD (`u128`, so that nothing overflows); a plan is told micro-USD, rounded up.

use everstate_kernel::ids::Millis;
use everstate_kernel::money::Micros;
use everstate_kernel::offer::Offer;
use everstate_kernel::plan::{Ask, Warm};

/// What an answer is expected to be long, where nothing is known about it.
pub const OUTPUT_TOKENS_EXPECTED: u64 = 500;

/// A cap below this leaves no room for an answer, and some providers refuse it.
pub const OUTPUT_TOKENS_MIN: u64 = 16;

/// A choice is paid for again in the steps that follow it: so many are counted, as long as this one, with the prefix
/// cached where the offer caches. With none, an offer without a cache looks cheap at every first step.
pub const STEPS_AHEAD: u128 = 4;

/// What a step costs at one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Tokens of the prompt that are expected to be read from the provider's cache.
    pub warm_tokens: u64,
    /// This step.
    pub step: u128,
    /// This step and [`STEPS_AHEAD`] more: what offers are compared by.
    pub session: u128,
    /// The same as `session`, if nothing were warm.
    pub session_cold: u128,
    /// The most this step can cost, with the output cap.
    pub most: u128,
    /// Sent as the request's output limit: what was asked for, what the offer allows, or what the budget affords.
    pub max_output_tokens: Option<u64>,
}

/// The budget does not pay for one step here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDear;

/// How many output tokens fit at most beside the input, before any budget.
pub fn output_room(ask: &Ask, offer: &Offer) -> u64 {
    let fits = offer.context_tokens.saturating_sub(ask.needs.input_tokens);
    let allowed = offer.output_tokens_max.min(fits);
    ask.needs.max_output_tokens.map_or(allowed, |asked| asked.min(allowed))
}

pub fn quote(ask: &Ask, offer: &Offer, now: Millis) -> Result<Quote, TooDear> {
    let input = ask.needs.input_tokens;
    let room = output_room(ask, offer);
    let price = offer.price;

    // Nothing warm may be counted on, when money is set aside.
    let most_input = tokens(input, cold_price(offer).max(price.cached));
    let affordable = match ask.budget {
        None => None,
        Some(budget) => {
            let left = u128::from(budget)
                .saturating_mul(PICO_PER_MICRO)
                .checked_sub(most_input)
                .ok_or(TooDear)?;
            left.checked_div(u128::from(price.output))
                .map(|it| u64::try_from(it).unwrap_or(u64::MAX))
        }
    };
    if affordable.is_some_and(|it| it < room.min(OUTPUT_TOKENS_MIN)) {
        return Err(TooDear);
    }
    let cap = affordable.map_or(room, |it| it.min(room));
    let max_output_tokens =
        if cap < room || ask.needs.max_output_tokens.is_some() { Some(cap) } else { None };

    let warm_tokens = warm_tokens(ask.warm.as_ref(), offer, now).min(input);
    let output = |room: u64| tokens(room.min(OUTPUT_TOKENS_EXPECTED), price.output);
    let prompt = tokens(warm_tokens, price.cached)
        .saturating_add(tokens(input - warm_tokens, cold_price(offer)));
    let step = prompt.saturating_add(output(cap));
    // Compared by what they would say if money were no matter: a dear offer is not cheap because less can be had of it.
    let output = output(room);
    let cold = tokens(input, cold_price(offer)).saturating_add(output);
    let later_price = if caches(offer) { price.cached } else { price.input };
    let later = tokens(input, later_price).saturating_add(output).saturating_mul(STEPS_AHEAD);

    Ok(Quote {
        warm_tokens,
        step,
        session: prompt.saturating_add(output).saturating_add(later),
        session_cold: cold.saturating_add(later),
        most: most_input.saturating_add(tokens(cap, price.output)),
        max_output_tokens,
    })
}

/// Rounded up, so that what was set aside always suffices.
pub fn micros(pico: u128) -> Micros {
    u64::try_from(pico.div_ceil(PICO_PER_MICRO)).unwrap_or(u64::MAX)
}

const PICO_PER_MICRO: u128 = 1_000_000;

fn tokens(n: u64, price: u64) -> u128 {
    u128::from(n) * u128::from(price)
}

fn caches(offer: &Offer) -> bool {
    offer.cache_ttl_ms > 0
}

/// What is not cached is written to the cache, where an offer has one and charges for it.
fn cold_price(offer: &Offer) -> u64 {
    if caches(offer) { offer.price.input.max(offer.price.cache_write) } else { offer.price.input }
}

fn warm_tokens(warm: Option<&Warm>, offer: &Offer, now: Millis) -> u64 {
    match warm {
        Some(warm)
            if warm.offer == offer.id && now.saturating_sub(warm.at) < offer.cache_ttl_ms =>
        {
            warm.tokens
        }
        Some(_) | None => 0,
    }
}
