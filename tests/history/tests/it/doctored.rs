//! A story that really happened, and one lie in it.

use everstate_runtime::ports::{Head, RowKind};
use everstate_test_history::operation::{Answer, Ask, Operation};
use everstate_test_history::search::{check, what_landed};
use proptest::prelude::*;

use crate::believes::turns;
use crate::story::{content, hash, play, with_last_look};

/// Changes a story in one place, if it has one for it: `n` chooses among them.
type Lie = fn(&mut Vec<Operation>, usize) -> bool;

/// Each is something that must never happen.
const LIES: &[(&str, Lie)] = &[
    ("an acknowledged append is lost at the end", |story, _| {
        let n = n_rows(story);
        let was_told = story.iter().filter_map(landed).any(|it| it.seq == n);
        was_told && read_last(story).pop().is_some()
    }),
    ("an acknowledged append is missing in the middle", |story, n| {
        let told: Vec<u64> = story.iter().filter_map(landed).map(|it| it.seq).collect();
        let rows = read_last(story);
        // The next one takes its place, and must not look the same.
        let tells = |at: &usize| {
            told.contains(&rows[*at].seq) && rows[*at].content != rows[*at + 1].content
        };
        let telling: Vec<usize> = (0..rows.len().saturating_sub(1)).filter(tells).collect();
        let Some(at) = telling.get(n % telling.len().max(1)).copied() else { return false };
        rows.remove(at);
        rows.iter_mut().skip(at).for_each(|it| it.seq -= 1);
        true
    }),
    ("what landed was said to be fenced", |story, n| {
        // Of two appends of the same, either may have landed.
        nth(
            story,
            n,
            |story, it| is_alone(story, it) && landed(&story[it]).is_some(),
            |it| {
                it.answered.as_mut().unwrap().1 = Answer::Fenced;
            },
        )
    }),
    ("two land at one position", |story, n| {
        nth(
            story,
            n,
            |story, it| {
                let Ask::Append { seq, .. } = &story[it].ask else { return false };
                let taken = story.iter().filter_map(landed).any(|it| it.seq == *seq);
                taken && matches!(story[it].answered, Some((_, Answer::Fenced)))
            },
            |it| {
                let Ask::Append { seq, prev, content, .. } = &it.ask else { return };
                let hash = if content.is_frame { *prev } else { hash(77_777) };
                it.answered.as_mut().unwrap().1 = Answer::Landed(Head { seq: *seq, hash });
            },
        )
    }),
    ("a read that has forgotten what was acknowledged", |story, _| {
        let Some(last) = story.iter().filter_map(landed).map(|it| it.seq).max() else {
            return false;
        };
        let rows = read_last(story);
        rows.truncate(last as usize - 1);
        true
    }),
    ("an end that was passed long ago", |story, _| {
        let n = n_rows(story);
        let Some(row) = read_last(story).first().copied().filter(|_| n > 1) else { return false };
        let at =
            story.iter().map(|it| it.answered.as_ref().map_or(it.asked, |it| it.0)).max().unwrap();
        let head = Head { seq: row.seq, hash: row.hash };
        let answered = Some((at + 2, Answer::Head(Some(head))));
        story.push(Operation { asked: at + 1, ask: Ask::Head, answered });
        true
    }),
    ("a row that nobody appended", |story, _| {
        let seq = n_rows(story) + 1;
        let rows = read_last(story);
        let mut row = rows.last().copied().unwrap_or(everstate_test_history::operation::ReadRow {
            seq,
            content: content(RowKind::Events, 1),
            hash: hash(1),
        });
        row.seq = seq;
        row.content = content(RowKind::Events, 123_456_789);
        rows.push(row);
        true
    }),
    ("two rows changed places", |story, n| {
        let rows = read_last(story);
        if rows.len() < 2 {
            return false;
        }
        let at = n % (rows.len() - 1);
        let (one, other) = (rows[at].content, rows[at + 1].content);
        (rows[at].content, rows[at + 1].content) = (other, one);
        one != other
    }),
    ("a key was said to be seen that nobody used", |story, n| {
        nth(
            story,
            n,
            |story, it| matches!(story[it].answered, Some((_, Answer::Fenced))),
            |it| {
                if let Ask::Append { key, .. } = &mut it.ask {
                    *key = Some("never".to_owned());
                }
                it.answered.as_mut().unwrap().1 = Answer::Seen(1);
            },
        )
    }),
    ("it was read before it was asked for", |story, _| {
        let last = story.last().unwrap().answered.as_ref().unwrap().0;
        let Some(n) =
            (0..story.len()).find(|n| is_alone(story, *n) && landed(&story[*n]).is_some())
        else {
            return false;
        };
        let mut late = story.remove(n);
        late.asked = last + 1;
        late.answered.as_mut().unwrap().0 = last + 2;
        story.push(late);
        true
    }),
];

fn landed(it: &Operation) -> Option<Head> {
    match it.answered {
        Some((_, Answer::Landed(head))) => Some(head),
        _ => None,
    }
}

/// Is there no other append of the same at the same place?
fn is_alone(story: &[Operation], n: usize) -> bool {
    let Ask::Append { seq, content, .. } = &story[n].ask else { return false };
    let same = |it: &&Operation| matches!(&it.ask, Ask::Append { seq: s, content: c, .. } if s == seq && c == content);
    story.iter().filter(same).count() == 1
}

/// The last look's rows.
fn read_last(story: &mut [Operation]) -> &mut Vec<everstate_test_history::operation::ReadRow> {
    let reads =
        story.iter_mut().filter(|it| matches!(it.ask, Ask::Read { after: 0, limit: usize::MAX }));
    match &mut reads.last().unwrap().answered {
        Some((_, Answer::Rows(rows))) => rows,
        _ => panic!("it was the last look"),
    }
}

fn n_rows(story: &mut [Operation]) -> u64 {
    read_last(story).len() as u64
}

/// Changes the `n`th of those that fit.
fn nth(
    story: &mut [Operation],
    n: usize,
    fits: impl Fn(&[Operation], usize) -> bool,
    change: impl Fn(&mut Operation),
) -> bool {
    let fitting: Vec<usize> = (0..story.len()).filter(|it| fits(story, *it)).collect();
    let Some(at) = fitting.get(n % fitting.len().max(1)) else { return false };
    change(&mut story[*at]);
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_lie_is_believed(turns in turns(200), callers in 1..5usize, n in any::<usize>()) {
        let (story, mut log) = play(&turns, callers);
        let story = with_last_look(story, &mut log);
        for (what, lie) in LIES {
            let mut doctored = story.clone();
            if lie(&mut doctored, n) {
                prop_assert!(check(&doctored).is_err(), "believed: {}\n{:#?}", what, doctored);
            }
        }
    }
}

/// Where reads and fences may be from the past, what was acknowledged still has to be there in the end.
const ALWAYS_LIES: &[&str] = &[
    "an acknowledged append is lost at the end",
    "an acknowledged append is missing in the middle",
    "what landed was said to be fenced",
    "a read that has forgotten what was acknowledged",
    "a row that nobody appended",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_landed_is_not_lied_about(turns in turns(200), callers in 1..5usize, n in any::<usize>()) {
        let (story, mut log) = play(&turns, callers);
        let story = with_last_look(story, &mut log);
        let settled = story.last().unwrap().asked - 1;
        prop_assert_eq!(check(&what_landed(&story, settled)), Ok(()));
        for (what, lie) in LIES.iter().filter(|it| ALWAYS_LIES.contains(&it.0)) {
            let mut doctored = story.clone();
            if lie(&mut doctored, n) {
                let left = what_landed(&doctored, settled);
                prop_assert!(check(&left).is_err(), "believed: {}\n{:#?}", what, left);
            }
        }
    }
}

/// Each lie finds its place in some story: a lie that is never told proves nothing.
#[test]
fn every_lie_is_told() {
    let mut n = 88_172_645_463_325_252_u64;
    let mut draw = || {
        n ^= n << 13;
        n ^= n >> 7;
        n ^= n << 17;
        n
    };
    let mut told = vec![0; LIES.len()];
    for _ in 0..50 {
        let turns: Vec<_> = (0..150)
            .map(|_| crate::story::Turn {
                caller: draw() as usize,
                choice: draw(),
                trouble: draw() % 12 == 0,
            })
            .collect();
        let (story, mut log) = play(&turns, 4);
        let story = with_last_look(story, &mut log);
        for (n, (_, lie)) in LIES.iter().enumerate() {
            told[n] += usize::from(lie(&mut story.clone(), draw() as usize));
        }
    }
    for ((what, _), told) in LIES.iter().zip(told) {
        assert!(told > 5, "`{what}` was told in {told} of 50 stories");
    }
}
