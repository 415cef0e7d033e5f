//! Prints how long a choice among 200 offers takes, all of them of the model asked for.
#![allow(clippy::print_stdout, reason = "a program that reports")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use everstate_kernel::ids::AttemptId;
use everstate_kernel::money::Price;
use everstate_kernel::offer::{Capabilities, Offer, Scope};
use everstate_kernel::plan::{Ask, Needs, Observations, Warm};
use everstate_kernel::policy::{Constraints, Require};
use everstate_placement::offers::Offers;
use everstate_placement::place::place;

fn main() {
    let offers = Offers::new((0..200).map(offer).collect());
    let ask = Ask {
        attempt: AttemptId { turn: 1, step: 1, attempt: 1 },
        model: "gpt-5.4".to_owned(),
        constraints: Constraints {
            require: vec![Require::Within(vec!["eu".to_owned()])],
            revision: 1,
        },
        needs: Needs { tools: true, input_tokens: 20_000, ..Needs::default() },
        warm: Some(Warm { offer: offers.list[7].id.clone(), at: 0, tokens: 18_000 }),
        avoid: BTreeMap::new(),
        budget: Some(1_000_000),
        in_tool_loop: false,
    };
    let mut seen = Observations::default();
    for offer in offers.list.iter().step_by(5) {
        seen.cooling_until.insert(offer.id.clone(), 2000);
    }
    let n_rounds = 2000;
    let start = Instant::now();
    for _ in 0..n_rounds {
        black_box(place(black_box(&ask), &offers, &seen, 1000)).expect("some may serve");
    }
    let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(n_rounds);
    println!("{micros:.1} us for one choice among {} offers", offers.list.len());
}

fn offer(n: u64) -> Offer {
    Offer {
        id: format!("cloud-{n}/eu-central-1/gpt-5.4"),
        model: "gpt-5.4".to_owned(),
        upstream_model: "gpt-5.4".to_owned(),
        provider: format!("cloud-{n}"),
        dialect: "responses".to_owned(),
        scope: if n.is_multiple_of(3) {
            Scope::Global
        } else {
            Scope::Region("eu-central-1".to_owned())
        },
        tier: None,
        price: Price { input: 2_500_000 + n, cached: 250_000, cache_write: 0, output: 10_000_000 },
        context_tokens: 400_000,
        output_tokens_max: 128_000,
        can: Capabilities { tools: true, images: true, schema: true, reasoning: true },
        facts: BTreeMap::new(),
        crypto_domain: format!("cloud-{n}"),
        cache_ttl_ms: 300_000,
    }
}
