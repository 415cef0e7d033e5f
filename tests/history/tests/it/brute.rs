//! Small stories with any answers, true or not: the search finds an order exactly when trying all orders does.

use everstate_runtime::ports::{Head, RowKind};
use everstate_test_history::operation::{Answer, Ask, Operation, ReadRow};
use everstate_test_history::search::check;
use proptest::prelude::*;

use crate::story::{Plain, content, hash};

/// Tries every order that time allows. Of what nobody heard of, each part may be left out.
fn possible(left: &[&Operation], log: &Plain) -> bool {
    if left.iter().all(|it| it.answered.is_none()) {
        return true;
    }
    let deadline = left.iter().filter_map(|it| it.answered.as_ref()).map(|(at, _)| *at).min();
    (0..left.len()).any(|n| {
        let it = left[n];
        if deadline.is_some_and(|at| it.asked > at) {
            return false;
        }
        let rest: Vec<&Operation> =
            left.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, it)| *it).collect();
        let mut log = log.clone();
        let answer = log.ask(&it.ask);
        match (&it.answered, answer) {
            // A new row's hash is whatever its caller was told.
            (Some((_, Answer::Landed(told))), Answer::Landed(head)) => {
                let is_frame = matches!(it.ask, Ask::Append { content, .. } if content.is_frame);
                if told.seq != head.seq || is_frame && told.hash != head.hash {
                    return false;
                }
                log.rows.last_mut().unwrap().hash = told.hash;
                possible(&rest, &log)
            }
            // With a key that was seen, either answer would do.
            (Some((_, Answer::Fenced)), Answer::Seen(_)) => possible(&rest, &log),
            (Some((_, told)), answer) => *told == answer && possible(&rest, &log),
            (None, Answer::Landed(_)) => {
                // Nobody was told its hash: any of the few there are, or another one.
                (1..5).any(|n| {
                    let mut log = log.clone();
                    if !matches!(it.ask, Ask::Append { content, .. } if content.is_frame) {
                        log.rows.last_mut().unwrap().hash = hash(n);
                    }
                    possible(&rest, &log)
                })
            }
            (None, _) => false,
        }
    })
}

/// Few numbers, so that they often fit together.
fn operation() -> impl Strategy<Value = (Ask, Option<Answer>)> {
    let head = || {
        (0..4u64, 0..4u64)
            .prop_map(|(seq, n)| Head { seq, hash: if n == 0 { [0; 32] } else { hash(n) } })
    };
    let kind = || prop_oneof![Just(RowKind::Events), Just(RowKind::Events), Just(RowKind::Frame)];
    let key = prop_oneof![Just(None), Just(None), (0..2u8).prop_map(|it| Some(it.to_string()))];
    let append = (head(), kind(), 0..3u64, key).prop_map(|(head, kind, n, key)| Ask::Append {
        seq: head.seq + 1,
        prev: head.hash,
        content: content(kind, n),
        key,
    });
    let told = prop_oneof![
        Just(None),
        head().prop_map(|it| Some(Answer::Landed(it))),
        head().prop_map(|it| Some(Answer::Landed(it))),
        Just(Some(Answer::Fenced)),
        (1..4u64).prop_map(|it| Some(Answer::Seen(it))),
    ];
    let appended = (append, told).prop_map(|(ask, told)| {
        // Mostly at the place where it was to land.
        let told = match (&ask, told) {
            (Ask::Append { seq, prev, content, .. }, Some(Answer::Landed(head))) => {
                let hash = if content.is_frame { *prev } else { head.hash };
                Some(Answer::Landed(Head { seq: *seq, hash }))
            }
            (_, told) => told,
        };
        (ask, told)
    });
    let row = (kind(), 0..3u64, 1..4u64).prop_map(|(kind, n, h)| (content(kind, n), hash(h)));
    let read = proptest::collection::vec(row, 0..3).prop_map(|rows| {
        let rows = (1..).zip(rows);
        let rows = rows.map(|(seq, (content, hash))| ReadRow { seq, content, hash });
        let ask = Ask::Read { after: 0, limit: usize::MAX };
        (ask, Some(Answer::Rows(rows.collect())))
    });
    let ends = proptest::option::of(head()).prop_map(|it| (Ask::Head, Some(Answer::Head(it))));
    prop_oneof![4 => appended, 1 => read, 1 => ends]
}

/// Questions and answers in some order of time.
fn story() -> impl Strategy<Value = Vec<Operation>> {
    let told = proptest::collection::vec((operation(), 0..20u64, 1..8u64), 1..6);
    told.prop_map(|all| {
        // Moments are told apart.
        let mut n = 0;
        let mut moment = |at: u64| {
            n += 1;
            at * 100 + n
        };
        let mut story: Vec<Operation> = all
            .into_iter()
            .map(|((ask, answer), asked, lasts)| {
                let (asked, answered) = (moment(asked), moment(asked + lasts));
                Operation { asked, ask, answered: answer.map(|it| (answered, it)) }
            })
            .collect();
        story.sort_by_key(|it| it.asked);
        story
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn as_by_trying_everything(story in story()) {
        let all: Vec<&Operation> = story.iter().collect();
        let (found, is_possible) = (check(&story).is_ok(), possible(&all, &Plain::default()));
        prop_assert!(found || !is_possible, "not believed: {:#?}", story);
        // What hash a row got of which nobody knows is left open by the search: it may believe too much then.
        let is_exact = story.iter().all(|it| match &it.ask {
            Ask::Append { content, .. } => content.is_frame || it.answered.is_some(),
            Ask::Read { .. } | Ask::Head => true,
        });
        prop_assert!(!found || is_possible || !is_exact, "believed: {:#?}", story);
    }
}
