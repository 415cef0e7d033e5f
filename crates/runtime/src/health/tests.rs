use super::*;

fn failure(class: FailureClass, retry_after_ms: Option<Millis>) -> Failure {
    Failure { class, message: String::new(), status: None, code: None, retry_after_ms }
}

/// Plays failures at given times and answers until when the offer cools, and whether it is a drained bucket.
fn check(failures: &[(Millis, FailureClass, Option<Millis>)], expect: (Option<Millis>, bool)) {
    let (health, offer) = (Health::default(), "a/global/m".to_owned());
    let mut last = 0;
    for &(at, class, retry_after_ms) in failures {
        health.failed(&offer, &failure(class, retry_after_ms), at);
        last = at;
    }
    let seen = health.seen(last);
    let cooling = seen.cooling_until.get(&offer).copied();
    assert_eq!((cooling, seen.rate_limited.contains(&offer)), expect, "{failures:?}");
    health.seen(u64::MAX);
    assert_eq!(health.seen(u64::MAX).cooling_until.len(), 0, "everything cools down in the end");
}

#[test]
fn failures_cool_and_a_drained_bucket_is_no_failure() {
    use FailureClass::*;
    check(&[(5, Broken, None)], (None, false));
    check(&[(5, Broken, None), (6, Timeout, None)], (Some(2_006), false));
    check(&[(5, Overloaded, Some(700))], (Some(705), false));
    check(&[(5, RateLimited, Some(9_000))], (Some(9_005), true));
    check(&[(5, RateLimited, None), (6, Broken, None)], (Some(1_005), true));
    check(&[(5, Auth, None)], (Some(60_005), false));
    check(&[(5, Invalid, None), (6, Refused, None), (7, TooLong, None)], (None, false));
}

#[test]
fn an_answer_ends_the_series() {
    let (health, offer) = (Health::default(), "a/global/m".to_owned());
    health.failed(&offer, &failure(FailureClass::Broken, None), 1);
    health.answered(&offer);
    health.failed(&offer, &failure(FailureClass::Broken, None), 2);
    assert!(health.seen(2).cooling_until.is_empty());
    health.spoke(&offer, 100);
    health.spoke(&offer, 200);
    assert_eq!(health.seen(2).first_token_ms[&offer], 120);
}
