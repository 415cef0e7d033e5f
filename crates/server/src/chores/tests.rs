use super::*;

#[test]
fn what_is_fleeting_stays_as_long_as_it_may_be_repeated() {
    let fleeting = Fleeting::default();
    fleeting.keep(SessionId(1), 1_000, false);
    fleeting.keep(SessionId(2), 1_000, true);
    assert_eq!(fleeting.due(1_000 + REPEAT_MS - 1), []);
    assert_eq!(fleeting.due(1_000 + REPEAT_MS), [SessionId(1)]);
    assert_eq!(fleeting.due(1_000 + KEPT_MS), [SessionId(2)]);
    // However long they were promised, only so many are kept: those that would go first, go.
    for n in 0..KEPT_MAX + 3 {
        fleeting.keep(SessionId(n as u128), n as Millis, true);
    }
    assert_eq!(fleeting.due(0), [SessionId(0), SessionId(1), SessionId(2)]);
}
