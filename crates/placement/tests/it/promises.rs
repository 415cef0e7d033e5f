//! What holds of every plan, over generated questions.

use everstate_kernel::json::Json;
use everstate_kernel::money::Price;
use everstate_kernel::offer::{Offer, Scope};
use everstate_kernel::plan::{Ask, Avoid, Observations, Plan, Warm, Why};
use everstate_kernel::policy::{Constraints, Require};
use everstate_placement::offers::Offers;
use everstate_placement::place::place;
use proptest::prelude::*;
use proptest::sample::select;

use crate::read::{self, NOW};

fn any_offer() -> impl Strategy<Value = Offer> {
    (
        (0..40_u32, select(vec!["m", "m", "m", "other"]), select(vec!["one", "two", "three"])),
        prop_oneof![
            Just(Scope::Global),
            Just(Scope::Geo("eu".to_owned())),
            Just(Scope::Region("eu-central-1".to_owned())),
            Just(Scope::Region("us-east-1".to_owned())),
        ],
        (0..5_000_000_u64, 0..500_000_u64, 0..20_000_000_u64),
        (500..200_000_u64, 1..8_000_u64, any::<bool>(), prop_oneof![Just(0), Just(300_000)]),
        prop::option::of(any::<bool>()),
    )
        .prop_map(|((n, model, provider), scope, price, room, fact)| {
            let mut offer = read::offer(&format!("{provider}/{n}/{model}"));
            offer.model = model.to_owned();
            offer.provider = provider.to_owned();
            offer.scope = scope;
            offer.price =
                Price { input: price.0, cached: price.1, cache_write: 0, output: price.2 };
            (offer.context_tokens, offer.output_tokens_max) = (room.0, room.1);
            (offer.can.tools, offer.cache_ttl_ms) = (room.2, room.3);
            offer.facts.extend(fact.map(|it| ("training".to_owned(), it)));
            offer
        })
}

fn any_require() -> impl Strategy<Value = Require> {
    prop_oneof![
        Just(Require::Providers(vec!["one".to_owned(), "two".to_owned()])),
        Just(Require::NotProvider("two".to_owned())),
        Just(Require::Within(vec!["eu".to_owned()])),
        Just(Require::NoFact("training".to_owned())),
        Just(Require::Fact("training".to_owned())),
    ]
}

prop_compose! {
    fn any_question()(
        list in prop::collection::vec(any_offer(), 0..24),
        require in prop::collection::vec(any_require(), 0..3),
        (input, output) in (0..100_000_u64, prop::option::of(1..10_000_u64)),
        (tools, in_tool_loop) in any::<(bool, bool)>(),
        budget in prop::option::of(0..2_000_000_u64),
        fates in prop::collection::vec((0..9_u8, 0..600_000_u64), 24),
        warm in prop::option::of((0..24_usize, 0..600_000_u64, 0..100_000_u64)),
    ) -> (Ask, Offers, Observations) {
        let mut list = list;
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list.dedup_by(|a, b| a.id == b.id);
        let offers = Offers::new(list);
        let mut ask = read::ask();
        ask.constraints = Constraints { require, revision: 1 };
        ask.needs.input_tokens = input;
        ask.needs.max_output_tokens = output;
        ask.needs.tools = tools;
        ask.in_tool_loop = in_tool_loop;
        ask.budget = budget;
        ask.warm = warm.and_then(|(n, ago, tokens)| {
            let offer = offers.list.get(n)?.id.clone();
            Some(Warm { offer, at: NOW - ago, tokens })
        });
        let mut seen = Observations::default();
        for (offer, (fate, time)) in offers.list.iter().zip(fates) {
            let id = offer.id.clone();
            match fate {
                0 => drop(ask.avoid.insert(id, Avoid::Failed)),
                1 => drop(ask.avoid.insert(id, Avoid::Hopeless)),
                2 => drop(ask.avoid.insert(id, Avoid::InUse)),
                3 | 4 => drop(seen.cooling_until.insert(id, NOW + time)),
                5 => drop(seen.no_credentials.insert(id)),
                6 => drop(seen.first_token_ms.insert(id, time)),
                _ => {}
            }
        }
        (ask, offers, seen)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_chosen_may_serve((ask, offers, seen) in any_question()) {
        let Ok(plan) = place(&ask, &offers, &seen, NOW) else { return Ok(()) };
        let offer = offers.get(&plan.offer).expect("it is in the list");
        prop_assert_eq!(ask.constraints.forbid(offer), None);
        prop_assert_eq!(&offer.model, &ask.model);
        prop_assert!(offer.can.tools || !ask.needs.tools);
        prop_assert!(!seen.no_credentials.contains(&plan.offer));
        let avoid = ask.avoid.get(&plan.offer);
        prop_assert!(!matches!(avoid, Some(Avoid::Hopeless | Avoid::InUse)));
        prop_assert!(ask.budget.is_none_or(|it| plan.reserved <= it));
        prop_assert!(plan.expected <= plan.reserved);
        let output_most = ask.needs.max_output_tokens.unwrap_or(u64::MAX).min(offer.output_tokens_max);
        prop_assert!(plan.max_output_tokens.is_none_or(|it| it <= output_most));
    }

    #[test]
    fn each_offer_is_chosen_or_has_one_reason((ask, offers, seen) in any_question()) {
        let answer = place(&ask, &offers, &seen, NOW);
        let (chosen, against) = match &answer {
            Ok(plan) => (Some(&plan.offer), &plan.against),
            Err(none) => (None, &none.against),
        };
        for (place, offer) in offers.list.iter().enumerate() {
            let n_reasons = against.values().filter(|it| it.contains(place)).count();
            prop_assert_eq!(n_reasons, usize::from(chosen != Some(&offer.id)), "{}", offer.id);
        }
    }

    #[test]
    fn an_offer_that_may_serve_is_found((ask, offers, seen) in any_question()) {
        // Alone in the list and with nothing against it but its health, it serves.
        let mut ask = ask;
        ask.avoid.retain(|_, it| *it == Avoid::Failed);
        let answer = place(&ask, &offers, &seen, NOW);
        let some = offers.list.iter().any(|offer| {
            let alone = Offers::new(vec![offer.clone()]);
            place(&ask, &alone, &seen, NOW).is_ok_and(|it| it.why == Why::OnlyOne)
        });
        prop_assert_eq!(answer.is_ok(), some);
    }

    #[test]
    fn a_plan_comes_back_from_its_json((ask, offers, seen) in any_question()) {
        if let Ok(plan) = place(&ask, &offers, &seen, NOW) {
            let back = Json::of(&plan);
            prop_assert_eq!(read_plan(&back), plan);
        }
    }
}

fn read_plan(json: &Json) -> Plan {
    serde_json::from_str(json.text()).expect("a plan reads what a plan wrote")
}

#[test]
fn a_plan_among_two_hundred_offers_is_small() {
    let (ask, offers, seen) = two_hundred();
    let plan = place(&ask, &offers, &seen, NOW).expect("some may serve");
    let json = Json::of(&plan);
    assert!(plan.against.len() >= 6, "{json}");
    assert!(json.text().len() <= 512, "{} bytes: {json}", json.text().len());
}

/// Twenty models at ten providers and regions each, most of the reasons among them.
fn two_hundred() -> (Ask, Offers, Observations) {
    let mut list = Vec::new();
    let mut seen = Observations::default();
    for model in 0..20_u64 {
        for n in 0..10_u64 {
            let mut offer = read::offer(&format!("cloud-{n}/eu-central-{n}/gpt-{model}"));
            offer.model = format!("gpt-{model}");
            offer.upstream_model = offer.model.clone();
            offer.provider = format!("cloud-{n}");
            offer.crypto_domain = offer.provider.clone();
            offer.can.tools = n != 1;
            offer.price =
                Price { input: 2_500_000 + n, cached: 250_000, cache_write: 0, output: 10_000_000 };
            offer.scope =
                if n == 2 { Scope::Global } else { Scope::Region(format!("eu-central-{n}")) };
            match n {
                3 => drop(seen.no_credentials.insert(offer.id.clone())),
                4 => drop(seen.cooling_until.insert(offer.id.clone(), NOW + 1000)),
                _ => {}
            }
            list.push(offer);
        }
    }
    let mut ask = read::ask();
    ask.model = "gpt-7".to_owned();
    ask.needs.tools = true;
    ask.constraints.require = vec![Require::Within(vec!["eu".to_owned()])];
    ask.avoid.insert("cloud-0/eu-central-0/gpt-7".to_owned(), Avoid::Failed);
    (ask, Offers::new(list), seen)
}
