//! What really happened is believed.

use everstate_test_history::search::check;
use proptest::prelude::*;

use crate::story::{Turn, play, with_last_look};

pub(crate) fn turns(n: usize) -> impl Strategy<Value = Vec<Turn>> {
    let turn = (0..5usize, any::<u64>(), 0..12u8);
    let turn =
        turn.prop_map(|(caller, choice, trouble)| Turn { caller, choice, trouble: trouble == 0 });
    proptest::collection::vec(turn, 0..n)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn what_happened(turns in turns(300), callers in 1..5usize) {
        let (story, mut log) = play(&turns, callers);
        prop_assert_eq!(check(&story), Ok(()));
        let story = with_last_look(story, &mut log);
        prop_assert_eq!(check(&story), Ok(()));
    }
}

#[test]
fn a_long_story_is_checked_in_a_moment() {
    let mut n = 0x2545_f491_4f6c_dd1d_u64;
    let turns: Vec<Turn> = (0..60_000)
        .map(|_| {
            n ^= n << 13;
            n ^= n >> 7;
            n ^= n << 17;
            Turn { caller: (n % 16) as usize, choice: n >> 8, trouble: n >> 32 & 15 == 0 }
        })
        .collect();
    let (story, mut log) = play(&turns, 16);
    let story = with_last_look(story, &mut log);
    assert!(story.len() > 15_000 && log.rows.len() > 1_000, "{} {}", story.len(), log.rows.len());
    assert_eq!(check(&story), Ok(()));
}
