//! Any story of a session is told by the same rules.

use everstate_kernel::delta::{Delta, Finish, Opening};
use everstate_kernel::input::*;
use everstate_kernel::item::{Outcome, Output, OutputBody, Part};
use everstate_kernel::json::Json;
use proptest::prelude::*;
use serde_json::json;

use crate::agents::promises::promises;
use crate::agents::voice::{say, story};
use crate::play::Play;

#[derive(Clone, Debug)]
enum Step {
    /// Whether what was said shall be summed up before each step.
    Say(bool),
    Place,
    Show(Vec<Delta>),
    Reply(Finish),
    Fail(FailureClass),
    Answer(Outcome),
    Approve(bool),
    Return(Outcome),
    Cancel,
    Crash,
    Limit(Option<u64>),
    Park,
}

/// Fragments for the items that are open when they come: `act` gives them their numbers.
fn deltas() -> impl Strategy<Value = Vec<Delta>> {
    let text = prop::sample::select(vec!["", "a", "bé", "😀", "\n\"", "{}"]);
    let name = prop::sample::select(vec!["look", "pay", "balance", "fly"]);
    let opening = prop_oneof![
        3 => Just(Opening::Message),
        2 => Just(Opening::Reasoning),
        2 => name.prop_map(|it| Opening::Call { name: it.to_owned() }),
        1 => Just(Opening::Opaque {
            dialect: "responses".to_owned(),
            json: Json::from(json!({"type": "web_search_call"})),
        }),
    ];
    let delta = (0u32..3, opening, text, 0..11u8).prop_map(|(item, opening, text, what)| {
        let text = text.to_owned();
        match what {
            0..3 => Delta::Open { item, opening, provider_id: None },
            3 | 4 => Delta::Text { item, text },
            5 => Delta::Summary { item, text },
            6 => Delta::Arguments { item, text },
            7 => Delta::TextPart { item },
            8 => Delta::Refusal { item, text },
            9 => Delta::Thought { item, text },
            _ => Delta::SummaryPart { item },
        }
    });
    prop::collection::vec(delta, 1..6)
}

/// Items are opened one after the other, and only an opened one grows.
fn numbered(play: &Play, deltas: Vec<Delta>) -> Vec<Delta> {
    let mut n_opened = play.n_opened();
    let mut numbered = Vec::new();
    for mut delta in deltas {
        if let Delta::Open { item, .. } = &mut delta {
            *item = n_opened;
            n_opened += 1;
        }
        numbered.push(delta);
    }
    numbered
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop::sample::select(vec![Outcome::Ok, Outcome::Failed]);
    let finish = prop::sample::select(vec![
        Finish::Stop,
        Finish::Stop,
        Finish::Stop,
        Finish::Length,
        Finish::Filter,
    ]);
    let class = prop::sample::select(vec![FailureClass::Broken, FailureClass::Refused]);
    let step = prop_oneof![
        2 => any::<bool>().prop_map(Step::Say),
        4 => Just(Step::Place),
        8 => deltas().prop_map(Step::Show),
        4 => finish.prop_map(Step::Reply),
        1 => class.prop_map(Step::Fail),
        3 => outcome.clone().prop_map(Step::Answer),
        2 => any::<bool>().prop_map(Step::Approve),
        3 => outcome.prop_map(Step::Return),
        1 => Just(Step::Cancel),
        1 => Just(Step::Crash),
        1 => prop::option::of(0u64..3).prop_map(Step::Limit),
        1 => Just(Step::Park),
    ];
    prop::collection::vec(step, 0..40)
}

pub(super) fn said(text: &str) -> Output {
    Output {
        body: OutputBody::Message { parts: vec![Part::text(text)] },
        status: Default::default(),
        provider_id: None,
        extra: None,
    }
}

fn act(play: &mut Play, step: Step) {
    let call = |play: &Play| play.session.live.calls.keys().next().copied();
    let has_place = |play: &Play| {
        play.attempt()
            .and_then(|it| play.session.live.attempt(it))
            .is_some_and(|it| it.plan.is_some())
    };
    let sums = |play: &Play| play.attempt().is_some_and(|it| it.is_aside());
    match step {
        Step::Say(sums) => {
            let Input::Begin(mut begin) = say("Hi") else { return };
            begin.terms.compact = sums.then_some(Compact { at_tokens: 10 });
            play.try_all(vec![Input::Begin(begin)]);
        }
        Step::Place if play.attempt().is_some() && !has_place(play) => _ = play.placed(),
        // Nobody is shown a summary.
        Step::Reply(finish) if has_place(play) && sums(play) => {
            let outputs = vec![said("All in short.")];
            play.replied_with(outputs, finish);
        }
        Step::Show(deltas) if has_place(play) && !sums(play) => {
            _ = play.show(&numbered(play, deltas))
        }
        Step::Reply(finish) if has_place(play) => _ = play.replied_as(finish),
        Step::Fail(class) if has_place(play) => _ = play.failed(class),
        Step::Answer(outcome) => {
            if let Some(call) = call(play) {
                let output = vec![Part::text("answered")];
                play.try_all(vec![Input::Answer {
                    answers: vec![Answer { call, outcome, output }],
                }]);
            }
        }
        Step::Approve(approve) => {
            let by = "ann".to_owned();
            if let Some(call) = call(play) {
                play.try_all(vec![Input::Approve(Approval { call, approve, by, reason: None })]);
            }
        }
        Step::Return(outcome) => {
            // Of a call that runs, or of one that was closed in doubt.
            let live = &play.session.live;
            if let Some(call) = live.calls.keys().chain(live.doubts.keys()).next().copied() {
                let output = vec![Part::text("returned")];
                play.try_all(vec![Input::Returned { call, outcome, output }]);
            }
        }
        Step::Cancel => _ = play.try_all(vec![Input::Cancel { turn: play.session.live.turn_no }]),
        Step::Crash => {
            _ = play.try_all(vec![Input::Adopted { epoch: play.session.live.epoch + 1 }])
        }
        Step::Limit(max) => {
            let told = Configure { spend_max: Some(max), ..Configure::default() };
            play.try_all(vec![Input::Configure(told)]);
        }
        Step::Park => {
            play.try_all(vec![Input::Park { reason: "why".to_owned() }]);
            play.try_all(vec![Input::Unpark]);
        }
        Step::Place | Step::Show(_) | Step::Reply(_) | Step::Fail(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a model says and whatever is done meanwhile: the session is told by the same rules.
    #[test]
    fn any_story_is_told_whole(steps in steps()) {
        let mut play = story();
        steps.into_iter().for_each(|it| act(&mut play, it));
        promises(&play.rows);
    }
}
