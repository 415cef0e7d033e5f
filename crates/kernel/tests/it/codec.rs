//! What is written can be read by whoever finds it: this release, an older one, a later one.

use everstate_kernel::agent::{Agent, Sampling};
use everstate_kernel::event::{Append, Event};
use everstate_kernel::ids::{base32, from_base32};
use everstate_kernel::input::Configure;
use everstate_kernel::money::Usage;
use everstate_kernel::plan::{OfferSet, Reason};
use everstate_kernel::state::Session;
use everstate_kernel::tool::{Runs, Safety, ServerTool, Tool};
use serde_json::{Value, json};

use crate::world::World;

#[test]
fn an_unknown_kind_is_kept_and_stops_the_session() {
    let body =
        br#"{"at":7,"events":[{"owned":{"epoch":3}},{"teleported":{"to":"mars","x":[1, 2]}}]}"#;
    let append = Append::decode(4, body).unwrap();
    assert!(matches!(&append.events[1], Event::Foreign(it) if it.kind == "teleported"));
    assert_eq!(append.encode(), body, "it is given back byte for byte");

    let session = Session::replay([&append]);
    assert!(
        session.live.parked.is_some_and(|it| it.contains("teleported")),
        "an older reader refuses"
    );
}

#[test]
fn an_unknown_kind_may_be_a_bare_word() {
    let body = br#"{"at":7,"events":["slept"]}"#;
    let append = Append::decode(4, body).unwrap();
    assert!(matches!(&append.events[0], Event::Foreign(it) if it.kind == "slept"));
    assert_eq!(append.encode(), body);
}

#[test]
fn a_body_that_is_no_row_is_an_error() {
    for body in [
        "",
        "{}",
        "[]",
        r#"{"at":1,"events":[1]}"#,
        r#"{"at":-1,"events":[]}"#,
        r#"{"at":1,"events":[{"owned":{"epoch":3},"teleported":{}}]}"#,
    ] {
        assert!(Append::decode(1, body.as_bytes()).is_err(), "{body}");
    }
}

/// A life with many kinds of facts, at each of its moments.
fn in_a_life(check: impl Fn(&World)) {
    for seed in 1..60 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.tick();
            check(&world);
        }
    }
}

#[test]
fn a_snapshot_is_the_session() {
    in_a_life(|world| {
        let kept = serde_json::to_vec(world.session()).unwrap();
        let read: Session = serde_json::from_slice(&kept).unwrap();
        assert_eq!(&read, world.session());
    });
}

/// Snapshots that an earlier release took are read: what it did not know is nothing.
#[test]
fn a_snapshot_without_what_came_later_is_read() {
    let later = [
        "settings",
        "spend_max",
        "reminded_at",
        "asking",
        "paused",
        "tools_next",
        "remind_every_ms",
        "compact",
        "context_tokens",
        "summing",
        "summed_through",
        "sums_made",
        "sums_failed",
    ];
    in_a_life(|world| {
        let mut kept = serde_json::to_value(world.session()).unwrap();
        forget(&mut kept, &later);
        let read: Session = serde_json::from_value(kept).unwrap();
        let (old, new) = (&read.live, &world.session().live);
        assert_eq!((old.turn_no, old.spent, &old.calls), (new.turn_no, new.spent, &new.calls));
        assert_eq!((old.spend_max, old.reminded_at), (None, None));
    });
}

fn forget(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(map) => {
            map.retain(|name, _| !fields.contains(&name.as_str()));
            map.values_mut().for_each(|it| forget(it, fields));
        }
        Value::Array(list) => list.iter_mut().for_each(|it| forget(it, fields)),
        _ => (),
    }
}

#[test]
fn no_limit_is_not_the_same_as_no_word_about_it() {
    for (row, spend_max) in [
        (r#"{"configured":{}}"#, None),
        (r#"{"configured":{"spend_max":null}}"#, Some(None)),
        (r#"{"configured":{"spend_max":7}}"#, Some(Some(7))),
    ] {
        let event = Event::Configured(Configure { spend_max, ..Configure::default() });
        assert_eq!(serde_json::to_string(&event).unwrap(), row);
        assert_eq!(serde_json::from_str::<Event>(row).unwrap(), event);
    }
}

#[test]
fn an_event_is_called_what_its_row_calls_it() {
    in_a_life(|world| {
        let Some(append) = world.log.last() else { return };
        let row: Value = serde_json::from_slice(&append.encode()).unwrap();
        for (event, written) in append.events.iter().zip(row["events"].as_array().unwrap()) {
            let word = match written {
                Value::String(word) => word,
                other => other.as_object().unwrap().keys().next().unwrap(),
            };
            assert_eq!(event.kind(), word);
        }
    });
}

#[test]
fn what_is_reserved_is_the_sum_of_what_is_held() {
    let mut most = 0;
    for seed in 1..40 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.tick();
            let live = &world.session().live;
            assert_eq!(live.reserved_total(), live.reserved.values().sum::<u64>());
            most = most.max(live.reserved_total());
        }
    }
    assert!(most > 0, "in no life was money held");
}

#[test]
fn a_set_of_offers_takes_the_shorter_form() {
    let written = |places: &[usize]| {
        let mut set = OfferSet::default();
        places.iter().for_each(|it| set.insert(*it));
        assert_eq!(set.is_empty(), places.is_empty());
        let text = serde_json::to_value(&set).unwrap();
        let read: OfferSet = serde_json::from_value(text.clone()).unwrap();
        let held: Vec<usize> = (0..400).filter(|it| read.contains(*it)).collect();
        let mut sorted = places.to_vec();
        sorted.sort();
        assert_eq!(held, sorted);
        text.as_str().unwrap().to_owned()
    };
    assert_eq!(written(&[]), "");
    assert_eq!(written(&[0]), "0");
    assert_eq!(written(&[7, 8, 9]), "7-9");
    assert_eq!(written(&(0..90).chain([94]).collect::<Vec<_>>()), "0-89,94");
    assert_eq!(written(&(0..200).collect::<Vec<_>>()), "0-199");
    // As long as the other form: the one that a person can read.
    assert_eq!(written(&[0, 2]), "0,2");
    assert_eq!(written(&[8, 10, 16]), "8,10,16");
    assert_eq!(written(&[0, 2, 4]), "x15");
    assert_eq!(written(&[12, 9, 3, 1]), "x0a12");
    // In whatever order they come.
    assert_eq!(written(&[20, 3]), "3,20");
    assert_eq!(written(&[399, 0]), "0,399");
}

#[test]
fn a_set_of_offers_from_outside_is_bounded() {
    let read = |text: &str| serde_json::from_value::<OfferSet>(json!(text)).ok();
    let long = format!("x{}", "ff".repeat(10_000));
    assert_eq!(read(&long).map(|it| it.len()), Some(1 << 16));
    assert_eq!(read("65535").map(|it| it.len()), Some(1));
    assert_eq!(read("65536"), None);
    assert_eq!(read("x1").map(|it| it.contains(4)), Some(true), "a half byte is its upper half");
    for wrong in ["a", "1-", "1,b", "xzz", "-1"] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn a_reason_is_its_word() {
    let words = [
        (Reason::OtherModel, "other_model"),
        (Reason::NoCredentials, "no_credentials"),
        (Reason::NoTools, "no_tools"),
        (Reason::NoImages, "no_images"),
        (Reason::NoSchema, "no_schema"),
        (Reason::ContextTooSmall, "context_too_small"),
        (Reason::Budget, "budget"),
        (Reason::FailedInThisStep, "failed_in_this_step"),
        (Reason::InUseInThisStep, "in_use_in_this_step"),
        (Reason::CoolingDown, "cooling_down"),
        (Reason::RateLimited, "rate_limited"),
        (Reason::Dearer, "dearer"),
        (Reason::ColdCache, "cold_cache"),
        (Reason::Constraint("within eu".into()), "constraint:within eu"),
    ];
    for (reason, word) in words {
        assert_eq!(String::from(reason.clone()), word);
        assert_eq!(Reason::try_from(word.to_owned()), Ok(reason));
    }
    assert!(Reason::try_from("bad_mood".to_owned()).is_err());
}

#[test]
fn what_nobody_set_is_not_written() {
    let agent = Agent { model: "m".into(), ..Agent::default() };
    assert_eq!(serde_json::to_value(&agent).unwrap(), json!({"model": "m"}));
    assert_eq!(serde_json::to_value(Sampling::default()).unwrap(), json!({}));
    let usage = Usage { input: 3, output: 4, ..Usage::default() };
    assert_eq!(serde_json::to_value(usage).unwrap(), json!({"input": 3, "output": 4}));
}

#[test]
fn a_model_means_the_tool_it_names() {
    let client = |name: &str| Tool {
        name: name.into(),
        description: None,
        parameters: None,
        strict: None,
        runs: Runs::Client,
        extra: None,
    };
    let server = ServerTool {
        label: "everstate".into(),
        safety: Safety::Neither,
        approval: false,
        timeout_ms: 1_000,
    };
    let ours = |name: &str| Tool { runs: Runs::Server(server.clone()), ..client(name) };
    let agent = Agent {
        tools: vec![ours("refund"), client("look"), client("refund"), ours("pay")],
        ..Agent::default()
    };
    let found = |name: &str| agent.tool(name).map(|it| (it.name.as_str(), it.runs == Runs::Client));
    assert_eq!(found("refund"), Some(("refund", true)), "the client's own goes first");
    assert_eq!(found("look"), Some(("look", true)));
    assert_eq!(found("pay"), Some(("pay", false)));
    assert_eq!(found("fly"), None);
}

#[test]
fn digits_that_carry_nothing_are_no_name() {
    assert_eq!(base32(&[0]), "00");
    assert_eq!(from_base32("00"), Some(vec![0]));
    // One digit holds less than a byte; the next to last of these could hold none of it.
    assert_eq!(from_base32("0"), None);
    assert_eq!(from_base32("000"), None);
    assert_eq!(from_base32(""), Some(vec![]));
    assert_eq!(from_base32("01"), None, "bits that base 32 never writes");
}
