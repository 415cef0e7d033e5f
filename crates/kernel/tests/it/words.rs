//! The small words: names, money, places, and the folding of pieces.

use std::collections::BTreeSet;
use std::sync::Arc;

use everstate_kernel::agent::Agent;
use everstate_kernel::calendar::told;
use everstate_kernel::delta::{Delta, Finish, Fold, Opening, ReplyEnd};
use everstate_kernel::event::{Append, End};
use everstate_kernel::fork::Lineage;
use everstate_kernel::ids::{
    ASIDE, Address, AttemptId, BUCKETS, CallId, ItemId, SessionId, base32, from_base32,
};
use everstate_kernel::input::{Begin, Create, Input, NewItem, WhenBusy};
use everstate_kernel::item::{
    Body, Item, Outcome, Output, OutputBody, Part, Reasoning, Role, Sealed, Status,
};
use everstate_kernel::json::Json;
use everstate_kernel::money::{Price, Usage};
use everstate_kernel::offer::{Offer, Scope};
use everstate_kernel::plan::{NoOffer, OfferSet, Reason};
use everstate_kernel::policy::{Constraints, Require};
use everstate_kernel::request::illegal;
use everstate_kernel::state::{About, Session};
use proptest::prelude::*;

proptest! {
    #[test]
    fn base32_goes_there_and_back(bytes: Vec<u8>) {
        let text = base32(&bytes);
        prop_assert!(text.bytes().all(|it| it.is_ascii_alphanumeric() && !b"ilou".contains(&it)));
        prop_assert_eq!(from_base32(&text), Some(bytes));
    }

    #[test]
    fn a_session_id_goes_there_and_back(id: u128) {
        let id = SessionId(id);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 30);
        prop_assert_eq!(text.parse(), Ok(id));
        prop_assert!(id.bucket() < BUCKETS);
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<SessionId>(&json).unwrap(), id);
    }

    #[test]
    fn an_offer_set_holds_what_was_put_in(places: BTreeSet<u8>) {
        let mut set = OfferSet::default();
        places.iter().for_each(|it| set.insert(usize::from(*it)));
        prop_assert_eq!(set.len(), places.len());
        prop_assert_eq!(set.is_empty(), places.is_empty());
        let json = serde_json::to_string(&set).unwrap();
        let read: OfferSet = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&read, &set);
        for place in 0..=255u8 {
            prop_assert_eq!(read.contains(usize::from(place)), places.contains(&place));
        }
    }
}

#[test]
fn what_is_no_id_is_refused() {
    for text in [
        "",
        "ses_",
        "ses_0",
        "resp_00000000000000000000000007",
        "ses_0000000000000000000000000l",
        "ses_zzzzzzzzzzzzzzzzzzzzzzzzzz",
    ] {
        assert!(text.parse::<SessionId>().is_err(), "{text}");
    }
    assert!("x".parse::<SessionId>().unwrap_err().to_string().contains("ses_"));
}

#[test]
fn the_time_is_told_as_a_calendar_does() {
    for (now, expected) in [
        (0, "1970-01-01 00:00 UTC, Thursday"),
        (59_999, "1970-01-01 00:00 UTC, Thursday"),
        (60_000, "1970-01-01 00:01 UTC, Thursday"),
        (68_214_600_000, "1972-02-29 12:30 UTC, Tuesday"),
        (946_684_799_999, "1999-12-31 23:59 UTC, Friday"),
        (951_782_400_000, "2000-02-29 00:00 UTC, Tuesday"),
        (951_901_500_000, "2000-03-01 09:05 UTC, Wednesday"),
        (1_677_628_800_000, "2023-03-01 00:00 UTC, Wednesday"),
        (1_795_417_800_000, "2026-11-23 07:10 UTC, Monday"),
        // No leap year.
        (4_107_542_340_000, "2100-02-28 23:59 UTC, Sunday"),
        (4_107_542_400_000, "2100-03-01 00:00 UTC, Monday"),
        (12_622_780_740_000, "2369-12-31 23:59 UTC, Wednesday"),
        (12_622_780_800_000, "2370-01-01 00:00 UTC, Thursday"),
        (13_574_566_800_000, "2400-02-29 01:00 UTC, Tuesday"),
        (25_245_598_800_000, "2770-01-01 10:20 UTC, Thursday"),
    ] {
        assert_eq!(told(now), format!("It is {expected}."));
    }
    assert!(told(u64::MAX).contains(" UTC, "), "any time is told");
}

#[test]
fn buckets_are_spread() {
    let hit: BTreeSet<u16> = (0..20_000u128).map(|it| SessionId(it << 17).bucket()).collect();
    assert_eq!(hit.len(), usize::from(BUCKETS), "ids that differ in a few bits reach every bucket");
    assert_eq!(SessionId(1).bucket(), SessionId(1).bucket());
}

#[test]
fn names_read_as_the_papers_say() {
    let session = SessionId(5);
    assert_eq!(Address { session, turn: 1, step: 3 }.to_string(), format!("{session}/1.3"));
    assert_eq!(CallId { turn: 2, n: 1 }.to_string(), "2/c1");
    assert_eq!(AttemptId { turn: 1, step: 2, attempt: 3 }.to_string(), "1.2#3");
    assert_eq!(AttemptId { turn: 1, step: 2, attempt: ASIDE + 3 }.to_string(), "1.2#+3");
}

#[test]
fn cost_is_exact_and_rounded_up() {
    let price =
        Price { input: 2_500_000, cached: 250_000, cache_write: 3_000_000, output: 10_000_000 };
    let cost = |input, cached, cache_write, output| {
        price.cost(&Usage { input, cached, cache_write, output, ..Usage::default() })
    };
    assert_eq!(cost(1_000_000, 0, 0, 0), 2_500_000, "$2.50 a million tokens");
    assert_eq!(cost(1_000_000, 400_000, 100_000, 0), 1_250_000 + 100_000 + 300_000);
    assert_eq!(cost(0, 0, 0, 3), 30);
    assert_eq!(cost(1, 0, 0, 0), 3, "part of a micro-dollar is one");
    assert_eq!(cost(1, 5, 5, 0), 17, "more cached than sent: nothing is fresh");
    let dear = Price { input: u64::MAX, ..price };
    assert_eq!(dear.cost(&Usage { input: u64::MAX, ..Usage::default() }), u64::MAX);

    let mut sum =
        Usage { input: 1, cached: 2, cache_write: 3, output: 4, reasoning: 5, estimated: false };
    sum.add(&Usage {
        input: 10,
        cached: 20,
        cache_write: 30,
        output: 40,
        reasoning: 50,
        estimated: true,
    });
    assert_eq!(
        sum,
        Usage {
            input: 11,
            cached: 22,
            cache_write: 33,
            output: 44,
            reasoning: 55,
            estimated: true
        }
    );
    assert_eq!(sum.tokens(), 55);
}

#[test]
fn constraints_fail_closed() {
    let offer = |scope: Scope| Offer {
        id: "p/x/m".into(),
        model: "m".into(),
        upstream_model: "m".into(),
        provider: "p".into(),
        dialect: "responses".into(),
        scope,
        tier: None,
        price: Price::default(),
        context_tokens: 1,
        output_tokens_max: 1,
        can: Default::default(),
        facts: [("zero_retention".to_owned(), true), ("training".to_owned(), false)].into(),
        crypto_domain: "p".into(),
        cache_ttl_ms: 0,
    };
    let eu = offer(Scope::Geo("eu".into()));
    let frankfurt = offer(Scope::Region("eu-central-1".into()));
    let europa = offer(Scope::Region("europa".into()));
    let global = offer(Scope::Global);
    let within = Require::Within(vec!["eu".into()]);
    assert!(within.allows(&eu) && within.allows(&frankfurt));
    assert!(!within.allows(&europa) && !within.allows(&global));
    assert!(Require::Within(vec!["eu-central-1".into()]).allows(&frankfurt));
    assert!(
        !Require::Within(vec!["eu-central-1".into()]).allows(&eu),
        "a geography is not a region"
    );
    assert!(
        Require::Providers(vec!["p".into()]).allows(&eu)
            && !Require::Providers(vec!["q".into()]).allows(&eu)
    );
    assert!(
        Require::NotProvider("q".into()).allows(&eu)
            && !Require::NotProvider("p".into()).allows(&eu)
    );
    assert!(
        Require::Fact("zero_retention".into()).allows(&eu)
            && !Require::Fact("training".into()).allows(&eu)
    );
    assert!(
        !Require::Fact("baa".into()).allows(&eu) && !Require::NoFact("baa".into()).allows(&eu),
        "unknown fails"
    );
    assert!(
        Require::NoFact("training".into()).allows(&eu)
            && !Require::NoFact("zero_retention".into()).allows(&eu)
    );

    let then = Constraints { require: vec![within.clone()], revision: 3 };
    let today = Constraints {
        require: vec![Require::NotProvider("p".into()), within.clone()],
        revision: 2,
    };
    let both = then.and(&today);
    assert_eq!((both.require.len(), both.revision), (2, 3));
    assert_eq!(then.forbid(&global), Some(&within));
    assert_eq!(then.forbid(&eu), None);
    assert_eq!(today.forbid(&eu), Some(&Require::NotProvider("p".into())));
}

fn open(item: u32, opening: Opening) -> Delta {
    Delta::Open { item, opening, provider_id: None }
}

#[test]
fn pieces_fold_to_items() {
    let text = |item, text: &str| Delta::Text { item, text: text.into() };
    let annotation = Json::parse(r#"{"type":"url_citation"}"#).unwrap();
    let sealed = Sealed { domain: "d".into(), content: "x".into() };
    let pieces = [
        open(0, Opening::Reasoning),
        Delta::Summary { item: 0, text: "h".into() },
        Delta::Summary { item: 0, text: "m".into() },
        Delta::SummaryPart { item: 0 },
        Delta::Summary { item: 0, text: "so".into() },
        Delta::Thought { item: 0, text: "deep".into() },
        Delta::Sealed { item: 0, sealed: sealed.clone() },
        Delta::Close { item: 0, status: Status::Completed },
        open(1, Opening::Message),
        text(1, "a"),
        text(1, "b"),
        Delta::Annotation { item: 1, annotation: annotation.clone() },
        Delta::TextPart { item: 1 },
        text(1, "c"),
        Delta::Refusal { item: 1, text: "n".into() },
        Delta::Refusal { item: 1, text: "o".into() },
        text(1, "d"),
        open(2, Opening::Call { name: "f".into() }),
        Delta::Arguments { item: 2, text: "{".into() },
        Delta::Arguments { item: 2, text: "}".into() },
        Delta::Extra { item: 2, extra: annotation.clone() },
        // Nonsense changes nothing.
        open(7, Opening::Message),
        text(0, "not a message"),
        text(9, "nobody"),
        Delta::Arguments { item: 1, text: "not a call".into() },
    ];
    let mut fold = Fold::default();
    assert!(fold.is_empty());
    pieces.iter().for_each(|it| fold.push(it));
    assert!(!fold.is_empty());

    let cut = fold.clone().cut();
    let closed: Vec<Status> = cut.iter().map(|it| it.status).collect();
    assert_eq!(closed, [Status::Completed, Status::Incomplete, Status::Incomplete]);

    let items = fold.finish();
    assert!(items.iter().all(|it| it.status == Status::Completed));
    let OutputBody::Reasoning(thought) = &items[0].body else { panic!("{items:?}") };
    assert_eq!(thought.summary, ["hm", "so"]);
    assert_eq!(thought.content, ["deep"]);
    assert_eq!(thought.sealed, Some(sealed));
    let parts = vec![
        Part::Text { text: "ab".into(), annotations: vec![annotation.clone()] },
        Part::text("c"),
        Part::Refusal { text: "no".into() },
        Part::text("d"),
    ];
    assert_eq!(items[1].body, OutputBody::Message { parts });
    let call = OutputBody::Call { name: "f".into(), arguments: "{}".into() };
    let expected = Output {
        body: call,
        status: Status::Completed,
        provider_id: None,
        extra: Some(annotation),
    };
    assert_eq!(items[2..], [expected]);
}

#[test]
fn json_stays_the_text_it_was() {
    let deep = "[".repeat(500) + &"]".repeat(500);
    for odd in [deep.as_str(), r#""\ud800""#, "1e999"] {
        let json = Json::parse(odd).unwrap();
        assert_eq!(
            (json.text(), json.value()),
            (odd, odd.into()),
            "what no tree can hold stays text"
        );
    }
    let json = Json::parse(r#"{"b": 1.0,"a":[ 1 ]}"#).unwrap();
    assert_eq!(json.text(), r#"{"b": 1.0,"a":[ 1 ]}"#);
    assert_eq!(serde_json::to_string(&json).unwrap(), json.text());
    assert_eq!(serde_json::from_str::<Json>(json.text()).unwrap(), json);
    assert_eq!(json.value()["b"], 1.0);
    assert!(Json::parse("{").is_err());
    assert_eq!(format!("{json} {json:?}"), format!("{0} {0}", json.text()));
    assert_eq!(Json::of(&7).text(), "7");
    assert_eq!(Json::from(serde_json::json!([1])).text(), "[1]");
}

/// Rows lie on disk under their bucket: where a session lives never changes.
#[test]
fn a_session_keeps_its_bucket() {
    let buckets: Vec<u16> = [0, 1, 1 << 64, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677]
        .map(|it| SessionId(it).bucket())
        .into();
    expect_test::expect!["[0, 485, 485, 0, 801]"].assert_eq(&format!("{buckets:?}"));
}

#[test]
fn what_no_provider_takes_is_seen() {
    let item = |idx, body| Arc::new(item(idx, body));
    let user = || Body::Message { role: Role::User, parts: vec![Part::text("u")] };
    let assistant = || Body::Message { role: Role::Assistant, parts: vec![Part::text("a")] };
    let id = |n| CallId { turn: 1, n };
    let call = |n| Body::Call { call: id(n), name: "f".into(), arguments: "{}".into() };
    let result = |n| Body::Result { call: id(n), outcome: Outcome::Ok, output: Vec::new() };
    let see = |bodies: Vec<Body>| {
        illegal(&(0..).zip(bodies).map(|(idx, body)| item(idx, body)).collect::<Vec<_>>())
    };
    assert_eq!(see(vec![]), None);
    assert_eq!(
        see(vec![user(), call(1), call(2), assistant(), result(2), result(1), user()]),
        None
    );
    for (bodies, why) in [
        (vec![call(1)], "has no result"),
        (vec![result(1)], "without its call"),
        (vec![call(1), result(1), result(1)], "without its call"),
        (vec![call(1), result(1), call(1), result(1)], "stands twice"),
        (vec![call(1), user(), result(1)], "between a call and its result"),
        (
            vec![call(1), Body::Note { text: "n".into() }, result(1)],
            "between a call and its result",
        ),
        (vec![Body::Erased], "was erased"),
    ] {
        assert!(see(bodies.clone()).is_some_and(|it| it.contains(why)), "{bodies:?}: {why}");
    }
    let mut cut = (*item(0, assistant())).clone();
    cut.status = Status::Incomplete;
    assert!(illegal(&[Arc::new(cut)]).is_some_and(|it| it.contains("incomplete")));
}

fn item(idx: u32, body: Body) -> Item {
    Item {
        id: ItemId { turn: 1, idx },
        body,
        status: Status::Completed,
        provider_id: None,
        extra: None,
    }
}

#[test]
fn tokens_are_estimated_from_every_byte_that_is_sent() {
    let session = |change: &dyn Fn(&mut Agent, &mut Vec<NewItem>)| {
        let mut session = Session::default();
        let mut feed = |input| {
            let events = session.decide(input, &[], 1).unwrap();
            session.apply(&Append { seq: session.head + 1, at: 1, events });
        };
        feed(created());
        let mut terms = crate::tools::terms();
        let agent = Arc::make_mut(&mut terms.agent);
        agent.tools.clear();
        let mut items = Vec::new();
        change(agent, &mut items);
        let when_busy = WhenBusy::Refuse;
        feed(Input::Begin(Begin { items, answers: vec![], approvals: vec![], terms, when_busy }));
        session.ask(AttemptId { turn: 1, step: 1, attempt: 1 }).unwrap().needs.input_tokens
    };
    let text = "x".repeat(400);
    let said = |body| NewItem { body, provider_id: None, extra: None };
    let call = CallId { turn: 0, n: 1 };
    let thought = Reasoning {
        summary: vec![text.clone()],
        content: vec![text.clone()],
        sealed: Some(Sealed { domain: "d".into(), content: text.clone() }),
    };
    assert_eq!(session(&|_, _| ()), 0);
    assert_eq!(session(&|agent, _| agent.instructions = Some(text.clone())), 100);
    assert_eq!(session(&|_, items| items.push(said(Body::Reasoning(thought.clone())))), 300);
    let tool = |agent: &mut Agent| {
        let mut tool = crate::tools::all().remove(4);
        tool.name = text.clone();
        tool.description = Some(text.clone());
        tool.parameters = Some(Json::parse(format!("\"{}\"", "x".repeat(398))).unwrap());
        agent.tools.push(tool);
    };
    assert_eq!(session(&|agent, _| tool(agent)), 300);
    assert_eq!(
        session(&|agent, items| {
            tool(agent);
            agent.instructions = Some(text.clone());
            let extra = Json::parse(format!("\"{}\"", "x".repeat(398))).unwrap();
            let body = Body::Message {
                role: Role::User,
                parts: vec![Part::text(&text), Part::Refusal { text: text.clone() }],
            };
            items.push(NewItem { body, provider_id: None, extra: Some(extra) });
            items.push(said(Body::Call { call, name: text.clone(), arguments: text.clone() }));
            items.push(said(Body::Result {
                call,
                outcome: Outcome::Ok,
                output: vec![Part::text(&text)],
            }));
        }),
        1_000
    );
}

#[test]
fn inherited_names_belong_to_who_minted_them() {
    let about = About {
        id: SessionId(3),
        project: "p".into(),
        door: "test".into(),
        named: false,
        metadata: None,
        settings: None,
        created_at: 1,
        origin: None,
        lineage: vec![
            Lineage { session: SessionId(1), through: 2 },
            Lineage { session: SessionId(2), through: 5 },
        ],
    };
    let minted: Vec<u128> = (1..=7).map(|turn| about.minted_by(turn).0).collect();
    assert_eq!(minted, [1, 1, 2, 2, 2, 3, 3]);
}

#[test]
fn why_there_is_no_offer_is_said() {
    let end = |against: &[(Reason, usize)], unknown_model| {
        let mut session = Session::default();
        let mut feed = |input| {
            let events = session.decide(input, &[], 1).unwrap();
            session.apply(&Append { seq: session.head + 1, at: 1, events });
        };
        feed(created());
        feed(begun());
        let set = |n: &usize| {
            let mut set = OfferSet::default();
            (0..*n).for_each(|it| set.insert(it));
            set
        };
        let against = against.iter().map(|(reason, n)| (reason.clone(), set(n))).collect();
        let no_offer = NoOffer {
            against,
            offers_revision: 1,
            again_at: None,
            unknown_model,
            project_budget: None,
        };
        feed(Input::NotPlaced { attempt: AttemptId { turn: 1, step: 1, attempt: 1 }, no_offer });
        match session.transcript.turns[&1].end.clone().unwrap() {
            End::Failed { code, message } => format!("{code}: {message}"),
            other => format!("{other:?}"),
        }
    };
    let none = [
        (Reason::OtherModel, 9),
        (Reason::Constraint("within eu".into()), 2),
        (Reason::NoCredentials, 1),
    ];
    assert_eq!(
        end(&none, false),
        "no_offer: no offer of `m` may or can serve this step (1 no credentials, 2 constraint: within eu); nothing was sent"
    );
    assert_eq!(
        end(&[], false),
        "no_offer: no offer of `m` may or can serve this step; nothing was sent"
    );
    assert!(end(&[(Reason::OtherModel, 9)], true).starts_with("model_not_found"));
    assert_eq!(end(&[(Reason::OtherModel, 9), (Reason::Budget, 1)], false), "Incomplete(Cost)");
    assert!(end(&[(Reason::ContextTooSmall, 1)], false).starts_with("context_length_exceeded"));
    assert!(
        end(&[(Reason::ContextTooSmall, 1), (Reason::Budget, 1)], false).starts_with("no_offer")
    );
}

fn created() -> Input {
    Input::Create(Create {
        id: SessionId(1),
        project: "p".into(),
        door: "test".into(),
        named: false,
        metadata: None,
        inheritance: None,
        epoch: 1,
    })
}

fn begun() -> Input {
    Input::Begin(Begin {
        items: vec![],
        answers: vec![],
        approvals: vec![],
        terms: crate::tools::terms(),
        when_busy: WhenBusy::Refuse,
    })
}

#[test]
fn what_a_provider_said_of_its_items_is_kept_with_them() {
    let mut session = Session::default();
    let mut feed = |input| {
        let events = session.decide(input, &[], 1).unwrap();
        session.apply(&Append { seq: session.head + 1, at: 1, events });
        session.clone()
    };
    feed(created());
    feed(begun());
    let attempt = AttemptId { turn: 1, step: 1, attempt: 1 };
    feed(Input::Placed { attempt, plan: crate::tools::plan("eu-1", 0) });
    let extra = Some(Json::parse(r#"{"phase":"final"}"#).unwrap());
    let body = OutputBody::Message { parts: vec![Part::text("hi")] };
    let provider_id = Some("msg_theirs".to_owned());
    let status = Status::Completed;
    let outputs = vec![Output { body, status, provider_id, extra: extra.clone() }];
    let end = ReplyEnd {
        finish: Finish::Stop,
        usage: Usage::default(),
        tier: None,
        provider_id: None,
        model: None,
    };
    let session = feed(Input::Replied { attempt, outputs, end });
    let item = &session.transcript.entries.last().unwrap().item;
    assert_eq!((item.provider_id.as_deref(), &item.extra), (Some("msg_theirs"), &extra));
}
