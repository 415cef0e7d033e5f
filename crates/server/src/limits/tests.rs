//! Buckets, and what is said of them.

use super::bucket::{Bucket, Left};
use super::*;

#[test]
fn a_bucket_gives_a_minutes_worth_and_fills_evenly() {
    let mut bucket = Bucket::new(1_000);
    for _ in 0..60 {
        assert_eq!(bucket.take(60, 1, 1_000), Ok(()));
    }
    assert_eq!(bucket.take(60, 1, 1_000), Err(1_000), "one is there after a second");
    assert_eq!(bucket.take(60, 1, 1_999), Err(1));
    assert_eq!(bucket.take(60, 1, 2_000), Ok(()));
    assert_eq!(bucket.left(60, 2_000), Left { amount: 0, again_ms: 1_000, full_ms: 60_000 });
    assert_eq!(bucket.left(60, 32_000), Left { amount: 30, again_ms: 0, full_ms: 30_000 });
    assert_eq!(bucket.left(60, 900_000), Left { amount: 60, again_ms: 0, full_ms: 0 });
    // A clock that is behind gives nothing.
    assert_eq!(bucket.take(60, 60, 900_000), Ok(()));
    assert_eq!(bucket.take(60, 1, 800_000), Err(1_000));
}

#[test]
fn what_is_used_beyond_what_was_there_is_missing_later() {
    let mut bucket = Bucket::new(0);
    bucket.owe(1_000, 3_000, 0);
    assert_eq!(bucket.left(1_000, 0), Left { amount: 0, again_ms: 120_060, full_ms: 180_000 });
    assert_eq!(bucket.left(1_000, 120_060).amount, 1);
    // But nobody is shut out for a day.
    bucket.owe(1_000, u64::MAX, 0);
    assert_eq!(bucket.left(1_000, 120_060).full_ms, 3_600_000);
    // A limit that was changed holds at once.
    assert!(bucket.left(u64::MAX, 120_061).amount > 0);
}

#[test]
fn times_are_told_as_the_api_tells_them() {
    let told = [0, 250, 999, 1_000, 1_001, 59_000, 60_000, 61_500].map(clock_words);
    assert_eq!(told, ["0ms", "250ms", "999ms", "1s", "2s", "59s", "1m0s", "1m2s"]);
}

#[test]
fn a_key_says_it_first_then_its_project() {
    let key = Rates { requests_per_min: Some(5), ..Rates::default() };
    let project = Rates { requests_per_min: Some(9), turns_max: Some(2), tokens_per_min: None };
    let both = Rates { requests_per_min: Some(5), turns_max: Some(2), tokens_per_min: None };
    assert_eq!(key.or(project), both);
    assert_eq!(key.mistake(), None);
    assert_eq!(Rates { turns_max: Some(0), ..key }.mistake(), Some("turns_max"));
    assert_eq!(
        Rates { tokens_per_min: Some(RATE_MAX + 1), ..key }.mistake(),
        Some("tokens_per_min")
    );
}
