//! Small things that happen often: a choice among many offers, the fact it becomes, and reading a session back.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::AttemptId;
use everstate_kernel::input::Input;
use everstate_kernel::offer::{Offer, Scope};
use everstate_kernel::plan::{Ask, Needs, Observations, Warm};
use everstate_kernel::policy::{Constraints, Require};
use everstate_placement::offers::Offers;
use everstate_placement::place::place;

use crate::Around;
use crate::figures::{Took, kib, ms, table};
use crate::world::{self, Hands, Runner, Says};

pub(crate) fn run(around: &Around) -> String {
    format!("{}\n{}", placing(around), opening(around))
}

// ---- placing -----------------------------------------------------------------------------

fn placing(around: &Around) -> String {
    let offers = Offers::new((0..200).map(offer).collect());
    let attempt = AttemptId { turn: 1, step: 1, attempt: 1 };
    let ask = Ask {
        attempt,
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
    let n_rounds = if around.quick { 100 } else { 20_000 };
    let mut took = Took::default();
    for _ in 0..n_rounds {
        let began = Instant::now();
        black_box(place(black_box(&ask), &offers, &seen, 1000)).unwrap();
        took.each.push(began.elapsed());
    }
    let mut plan = place(&ask, &offers, &seen, 1000).unwrap();
    plan.prefix = "0".repeat(64);
    let size = |events| Append { seq: 1, at: 1_795_000_000_000, events }.encode().len();
    let bytes = size(vec![Event::Placed { attempt, plan }]) - size(Vec::new());
    let micros = |it: Duration| format!("{:.1}", it.as_secs_f64() * 1e6);
    format!(
        "Choosing among 200 offers of one model, with a constraint on the region, a warm cache, a budget, and a fifth of \
         the offers cooling down: p50 {} us, p99 {} us. The fact `Placed`, which names every offer that was not chosen \
         and why: {bytes} bytes as JSON, before it is compressed with its row.\n",
        micros(took.at(0.5)),
        micros(took.at(0.99)),
    )
}

/// A third can be anywhere, and none of these may be chosen.
fn offer(n: u64) -> Offer {
    let mut offer = world::offer("gpt-5.4");
    offer.id = format!("cloud-{n}/eu-central-1/gpt-5.4");
    offer.provider = format!("cloud-{n}");
    offer.crypto_domain = offer.provider.clone();
    if !n.is_multiple_of(3) {
        offer.scope = Scope::Region("eu-central-1".to_owned());
    }
    offer.price.input += n;
    offer
}

// ---- opening -----------------------------------------------------------------------------

fn opening(around: &Around) -> String {
    let turns = if around.quick { 5 } else { 500 };
    let mut rows = Vec::new();
    for bytes in [256, 1_024] {
        let folder = around.folder.join(bytes.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let (mut took, size) = crate::runtime().block_on(async {
            let store = world::store(&folder).await;
            let hands = Arc::new(Hands::default());
            let models = [("model", Says::Text(bytes))];
            let host = world::host(&store, &models, hands.clone()).await;
            let id = world::session(1);
            world::feed(&host, id, vec![world::create(id)]).await;
            for turn in 0..turns {
                let said = world::text(1 << 40 | turn, bytes);
                let begin = world::begin("model", said, Runner::Client, false);
                world::feed(&host, id, vec![Input::Begin(begin)]).await;
                world::quiet(&host).await;
            }
            let mut took = Took::default();
            for _ in 0..100 {
                // A host that has never heard of it.
                let host = world::unstarted(&store, &models, hands.clone());
                let began = Instant::now();
                let state = host.look(id).await.unwrap();
                took.each.push(began.elapsed());
                assert_eq!(state.transcript.entries.len() as u64, 2 * turns);
            }
            (took, 2 * turns * bytes as u64)
        });
        rows.push(vec![
            format!("{} items of {bytes} bytes", 2 * turns),
            kib(size),
            ms(took.at(0.5)),
            ms(took.at(0.99)),
        ]);
    }
    let head = ["session", "payload KiB", "p50 ms", "p99 ms"];
    format!(
        "Opening a session that is not in memory, as the host left it: a snapshot and what came after. Its key and its \
         pages are at hand.\n\n{}\n",
        table(&head, &rows)
    )
}
