//! Reads the little language of the scenarios.
//!
//! ```text
//! ask: 1000 tokens, tools, output 400, warm a 900 10s ago, budget 5000, loop, avoid a failed, within eu
//! a: 2.50 0.25 10.00, ttl 300s, eu-central-1, ours, no tools, context 8000
//! seen a: cooling 30s, rate limited, no key, first token 200
//! ```
//!
//! Prices are dollars per million tokens: input, cached, output.

use std::collections::BTreeMap;

use everstate_kernel::ids::{AttemptId, Millis};
use everstate_kernel::money::Price;
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_kernel::plan::{Ask, Avoid, Needs, Observations, Warm};
use everstate_kernel::policy::{Constraints, Require};
use everstate_placement::offers::Offers;

pub(crate) const NOW: Millis = 1_000_000;

pub(crate) struct Scene {
    pub(crate) ask: Ask,
    pub(crate) offers: Offers,
    pub(crate) seen: Observations,
}

pub(crate) fn scene(text: &str) -> Scene {
    let mut ask = ask();
    let mut list = Vec::new();
    let mut seen = Observations::default();
    for line in text.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let (head, rest) = line.split_once(": ").unwrap_or((line, ""));
        let words = rest.split(", ").map(|it| it.split(' ').collect::<Vec<_>>());
        match head.strip_prefix("seen ") {
            Some(id) => words.for_each(|it| note(&mut seen, id, &it)),
            None if head == "ask" => words.for_each(|it| want(&mut ask, &it)),
            None => {
                let mut offer = offer(head);
                words.for_each(|it| describe(&mut offer, &it));
                list.push(offer);
            }
        }
    }
    Scene { ask, offers: Offers::new(list), seen }
}

pub(crate) fn ask() -> Ask {
    Ask {
        attempt: AttemptId { turn: 1, step: 1, attempt: 1 },
        model: "m".to_owned(),
        constraints: Constraints { require: Vec::new(), revision: 3 },
        needs: Needs { input_tokens: 1000, ..Needs::default() },
        warm: None,
        avoid: BTreeMap::new(),
        budget: None,
        in_tool_loop: false,
    }
}

pub(crate) fn offer(id: &str) -> Offer {
    Offer {
        id: id.to_owned(),
        model: "m".to_owned(),
        upstream_model: format!("{id}-m"),
        provider: format!("cloud-{id}"),
        dialect: "responses".to_owned(),
        scope: Scope::Global,
        tier: None,
        price: Price::default(),
        context_tokens: 100_000,
        output_tokens_max: 4_000,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: BTreeMap::new(),
        crypto_domain: format!("cloud-{id}"),
        cache_ttl_ms: 0,
    }
}

fn want(ask: &mut Ask, words: &[&str]) {
    match *words {
        [n, "tokens"] => ask.needs.input_tokens = number(n),
        ["tools"] => ask.needs.tools = true,
        ["images"] => ask.needs.images = true,
        ["schema"] => ask.needs.schema = true,
        ["output", n] => ask.needs.max_output_tokens = Some(number(n)),
        ["warm", id, tokens, ago, "ago"] => {
            let warm = Warm { offer: id.to_owned(), at: NOW - ms(ago), tokens: number(tokens) };
            ask.warm = Some(warm);
        }
        ["budget", n] => ask.budget = Some(number(n)),
        ["loop"] => ask.in_tool_loop = true,
        ["avoid", id, "failed"] => drop(ask.avoid.insert(id.to_owned(), Avoid::Failed)),
        ["avoid", id, "hopeless"] => drop(ask.avoid.insert(id.to_owned(), Avoid::Hopeless)),
        ["avoid", id, "in-use"] => drop(ask.avoid.insert(id.to_owned(), Avoid::InUse)),
        ["within", place] => ask.constraints.require.push(Require::Within(vec![place.to_owned()])),
        ["fact", fact] => ask.constraints.require.push(Require::Fact(fact.to_owned())),
        ["never", name] => ask.constraints.require.push(Require::NotProvider(name.to_owned())),
        _ => panic!("an ask cannot say {words:?}"),
    }
}

fn describe(offer: &mut Offer, words: &[&str]) {
    match *words {
        [input, cached, output] if input.contains('.') => {
            let price = |text: &str| text.replace('.', "").parse::<u64>().expect("x.yz") * 10_000;
            offer.price = Price {
                input: price(input),
                cached: price(cached),
                cache_write: 0,
                output: price(output),
            };
        }
        ["ttl", time] => offer.cache_ttl_ms = ms(time),
        ["in", "geo", geo] => offer.scope = Scope::Geo(geo.to_owned()),
        ["in", region] => offer.scope = Scope::Region(region.to_owned()),
        ["fact", fact] => drop(offer.facts.insert(fact.to_owned(), true)),
        ["no", "tools"] => offer.can.tools = false,
        ["no", "images"] => offer.can.images = false,
        ["no", "schema"] => offer.can.schema = false,
        ["context", n] => offer.context_tokens = number(n),
        ["model", name] => offer.model = name.to_owned(),
        _ => panic!("an offer cannot say {words:?}"),
    }
}

fn note(seen: &mut Observations, id: &str, words: &[&str]) {
    match *words {
        ["cooling", time] => drop(seen.cooling_until.insert(id.to_owned(), NOW + ms(time))),
        ["rate", "limited"] => drop(seen.rate_limited.insert(id.to_owned())),
        ["no", "key"] => drop(seen.no_credentials.insert(id.to_owned())),
        ["first", "token", n] => drop(seen.first_token_ms.insert(id.to_owned(), number(n))),
        _ => panic!("nobody has seen {words:?}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn ms(text: &str) -> u64 {
    number(text.strip_suffix('s').expect("seconds")) * 1000
}
