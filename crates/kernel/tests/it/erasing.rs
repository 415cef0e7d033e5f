//! What is left of a row when something in it was erased.

use std::collections::BTreeSet;
use std::sync::Arc;

use everstate_kernel::delta::{Delta, Frame, Opening};
use everstate_kernel::erase::redact;
use everstate_kernel::event::{Append, Cost, End, Event};
use everstate_kernel::fork::Inheritance;
use everstate_kernel::ids::{AttemptId, CallId, ItemId, SessionId};
use everstate_kernel::input::{Approval, Failure, FailureClass};
use everstate_kernel::item::{Body, Item, Outcome, Part, Role, Status};
use everstate_kernel::json::Json;
use everstate_kernel::state::{Call, CallState};
use everstate_kernel::tool::Runs;

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
fn a_frame_of_a_turn_that_loses_an_item_loses_its_content() {
    let attempt = AttemptId { turn: 2, step: 1, attempt: 1 };
    let frame = Frame {
        attempt,
        deltas: vec![Delta::Open { item: 0, opening: Opening::Message, provider_id: None }],
    };
    let body = serde_json::to_vec(&frame).unwrap();
    let gone = |turn| BTreeSet::from([ItemId { turn, idx: 0 }]);
    assert_eq!(redact(true, 1, &body, &gone(1)), None);
    let left = redact(true, 1, &body, &gone(2)).unwrap();
    let left_frame: Frame = serde_json::from_slice(&left).unwrap();
    assert_eq!(left_frame, Frame { attempt, deltas: Vec::new() });
    assert_eq!(redact(true, 1, &left, &gone(2)), None, "there is nothing left to take");
}

#[test]
fn the_reason_of_a_denial_goes_with_the_result_that_tells_it() {
    let (call, item) = (CallId { turn: 1, n: 1 }, ItemId { turn: 2, idx: 1 });
    let reason = Some("swordfish".to_owned());
    let answer = Approval { call, approve: false, by: "dana".into(), reason };
    let output = vec![Part::text("Denied by a person: swordfish. It was not run.")];
    let events = vec![
        Event::ApprovalAnswered(answer),
        Event::ToolFinished { call, item, outcome: Outcome::Denied, output },
    ];
    let body = Append { seq: 1, at: 1, events }.encode();
    let left = redact(false, 1, &body, &BTreeSet::from([item])).unwrap();
    assert!(!String::from_utf8_lossy(&left).contains("swordfish"));
    assert_eq!(redact(false, 1, &body, &BTreeSet::from([ItemId { turn: 2, idx: 2 }])), None);
}

#[test]
fn with_its_first_item_a_turn_loses_all_that_was_asked_with_it_and_with_any_what_was_told_since() {
    let mut terms = crate::tools::terms();
    Arc::make_mut(&mut terms.agent).instructions = Some("swordfish".into());
    terms.echo = Some(Json::parse(r#"{"metadata":"swordfish"}"#).unwrap());
    let said = Body::Message { role: Role::User, parts: vec![Part::text("swordfish")] };
    let failure = Failure {
        class: FailureClass::Invalid,
        message: "I will not say swordfish".into(),
        status: None,
        code: None,
        retry_after_ms: None,
    };
    let attempt = AttemptId { turn: 1, step: 1, attempt: 1 };
    let end = End::Failed { code: "x".into(), message: "not swordfish".into() };
    let events = vec![
        Event::TurnStarted { turn: 1, terms, items: vec![item(0, said)] },
        Event::AttemptFailed { attempt, failure, cost: Cost::default() },
        Event::TurnEnded { turn: 1, end },
    ];
    let append = Append { seq: 1, at: 1, events };
    let without = |turn, idx| {
        let left = redact(false, 1, &append.encode(), &BTreeSet::from([ItemId { turn, idx }]));
        let again = |it: &Vec<u8>| redact(false, 1, it, &BTreeSet::from([ItemId { turn, idx }]));
        assert!(idx == 0 || left.as_ref().is_none_or(|it| again(it).is_none()));
        left.map(|it| String::from_utf8(it).unwrap().matches("swordfish").count())
    };
    assert_eq!(without(2, 3), None, "what comes later was not told yet");
    assert_eq!(without(1, 3), Some(3), "a failure may have quoted it");
    assert_eq!(without(0, 3), Some(3), "an earlier turn was told too");
    assert_eq!(without(1, 0), Some(0));
}

#[test]
fn the_hash_of_a_prompt_goes_with_what_was_in_it() {
    let attempt = AttemptId { turn: 2, step: 1, attempt: 1 };
    let mut plan = crate::tools::plan("o", 1);
    plan.prefix = "swordfish".into();
    let body = Append { seq: 1, at: 1, events: vec![Event::Placed { attempt, plan }] }.encode();
    let without = |turn| redact(false, 1, &body, &BTreeSet::from([ItemId { turn, idx: 1 }]));
    assert_eq!(without(3), None);
    for turn in [1, 2] {
        let left = without(turn).unwrap();
        assert!(!String::from_utf8_lossy(&left).contains("swordfish"));
    }
}

#[test]
fn what_was_learned_goes_with_its_note_alone() {
    let learned = |idx: u32, word: &str| Event::OutcomeLearned {
        call: CallId { turn: 1, n: idx },
        outcome: Outcome::Ok,
        output: vec![Part::text(word)],
        note: item(idx, Body::Note { text: format!("it answered {word}") }),
    };
    let events = vec![learned(1, "swordfish"), learned(2, "trout")];
    let body = Append { seq: 1, at: 1, events }.encode();
    let gone = BTreeSet::from([ItemId { turn: 1, idx: 1 }]);
    let left = String::from_utf8(redact(false, 1, &body, &gone).unwrap()).unwrap();
    assert_eq!((left.matches("swordfish").count(), left.matches("trout").count()), (0, 2));
}

#[test]
fn a_fork_loses_the_open_call_that_was_erased_and_keeps_the_other() {
    let asked = |n: u32, word: &str| Body::Call {
        call: CallId { turn: 1, n },
        name: "ask".into(),
        arguments: format!("{{\"word\":\"{word}\"}}"),
    };
    let open = |n: u32, word: &str| {
        let call = Call {
            name: "ask".into(),
            arguments: format!("{{\"word\":\"{word}\"}}"),
            runs: Runs::Client,
            state: CallState::WithClient,
            step: 1,
        };
        (CallId { turn: 1, n }, call)
    };
    let inheritance = Inheritance {
        parent: SessionId(1),
        at: 4,
        turn_no: 2,
        lineage: Vec::new(),
        items: vec![item(1, asked(1, "swordfish")), item(2, asked(2, "trout"))],
        open: vec![open(1, "swordfish"), open(2, "trout")],
        doubts: Vec::new(),
        warm: None,
        served: Vec::new(),
        settings: None,
        spend_max: None,
    };
    let created = Event::Created {
        id: SessionId(2),
        project: "p".into(),
        door: "test".into(),
        named: false,
        metadata: None,
        inheritance: Some(inheritance),
    };
    let body = Append { seq: 1, at: 1, events: vec![created] }.encode();
    let gone = BTreeSet::from([ItemId { turn: 1, idx: 1 }]);
    let left = String::from_utf8(redact(false, 1, &body, &gone).unwrap()).unwrap();
    assert_eq!((left.matches("swordfish").count(), left.matches("trout").count()), (0, 2));
}

#[test]
fn a_turn_whose_words_were_never_written_ends_with_the_process_that_had_them() {
    use everstate_kernel::input::{Caller, Input};
    use everstate_kernel::state::Session;
    use everstate_kernel::veil::veiled;

    let mut terms = crate::tools::terms();
    terms.caller = Caller::Detached;
    Arc::make_mut(&mut terms.agent).instructions = Some("swordfish".into());
    let said = Body::Message { role: Role::User, parts: vec![Part::text("swordfish")] };
    let created = Event::Created {
        id: SessionId(1),
        project: "p".into(),
        door: "test".into(),
        named: false,
        metadata: Some(Json::parse(r#"{"note":"swordfish"}"#).unwrap()),
        inheritance: None,
    };
    let started = Event::TurnStarted { turn: 1, terms, items: vec![item(0, said)] };
    let append = Append { seq: 1, at: 1, events: vec![created, started] };
    let facts = veiled(&append);
    assert!(!String::from_utf8(facts.encode()).unwrap().contains("swordfish"));
    assert_eq!(veiled(&facts), facts, "there is nothing left to take");
    let adopted = |log: &Append| {
        let state = Session::replay([log]);
        state.decide(Input::Adopted { epoch: 2 }, &[], 2).unwrap()
    };
    let lost = |it: &Event| matches!(it, Event::TurnEnded { end: End::Failed { code, .. }, .. } if code == "process_lost");
    assert!(adopted(&facts).iter().any(lost), "{:?}", adopted(&facts));
    assert!(!adopted(&append).iter().any(lost), "who has the words goes on");
}
