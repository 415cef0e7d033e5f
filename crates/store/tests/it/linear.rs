//! Many callers at once, of whom some are stale and some come again: what they hear could be the story of one log.

use std::sync::Arc;

use everstate_test_history::recorder::History;
use everstate_test_history::storm::Storm;

use crate::stores::on_each;

#[test]
fn what_callers_hear_is_the_story_of_one_log() {
    on_each(async |place| {
        for seed in 1..=4 {
            let history = History::new();
            let log = history.around(Arc::clone(&place.store.log));
            let storm = Storm { operations: 300, ..Storm::new(seed) };
            storm.rage(&[Arc::clone(&log)]).await;
            storm.look(&*log).await.unwrap();
            let checked = history.check().unwrap_or_else(|it| panic!("{it}"));
            // A storm that fences nobody tests nothing; and without faults everybody hears what became of it.
            assert!(checked.landed > 300 && checked.fenced > 10, "{checked:?}");
            assert_eq!((checked.sessions, checked.unknown), (4, 0));
            assert!(checked.operations > 2_400, "{checked:?}");
        }
    });
}
