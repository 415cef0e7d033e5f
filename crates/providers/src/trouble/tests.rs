//! Headers and messages of providers in trouble.

#![allow(clippy::unwrap_used)] // Headers written here are valid.

use std::time::{Duration, SystemTime};

use everstate_kernel::input::FailureClass;
use reqwest::header::{HeaderMap, HeaderName};

use super::{failure, retry_after_ms, scrub};

fn check(headers: &[(&str, &str)], expected: Option<u64>) {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    // 2026-11-22 00:00:00 UTC
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600);
    assert_eq!(retry_after_ms(&map, now), expected, "{headers:?}");
}

#[test]
fn how_long_to_wait_is_read_from_every_form_in_use() {
    check(&[], None);
    check(&[("retry-after", "2")], Some(2000));
    check(&[("retry-after", "0.25")], Some(250));
    check(&[("retry-after-ms", "350.2"), ("retry-after", "9")], Some(351));
    check(&[("retry-after", "Sun, 22 Nov 2026 00:00:30 GMT")], Some(30_000));
    check(&[("retry-after", "Sun, 22 Nov 2026 00:00:00 GMT")], Some(0));
    check(&[("retry-after", "Sat, 21 Nov 2026 00:00:00 GMT")], Some(0));
    check(&[("retry-after", "soon")], None);
    check(&[("retry-after", "-1")], None);
    check(&[("retry-after", "NaN")], None);
    check(&[("retry-after", "1e300")], Some(86_400_000));
}

#[test]
fn a_drained_bucket_says_when_it_is_refilled() {
    let drained = ("x-ratelimit-remaining-requests", "0");
    check(&[drained, ("x-ratelimit-reset-requests", "120ms")], Some(120));
    check(&[drained, ("x-ratelimit-reset-requests", "6m0s")], Some(360_000));
    check(&[drained, ("x-ratelimit-reset-requests", "1.5s")], Some(1500));
    check(&[drained, ("x-ratelimit-reset-requests", "7")], Some(7000));
    check(&[drained, ("x-ratelimit-reset-requests", "5 parsecs")], None);
    check(&[("x-ratelimit-remaining-tokens", "12"), ("x-ratelimit-reset-tokens", "1s")], None);
    let both = [
        drained,
        ("x-ratelimit-reset-requests", "1s"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "2s"),
    ];
    check(&both, Some(2000));
}

#[test]
fn a_key_that_is_repeated_to_us_goes_no_further() {
    let mut it = failure(FailureClass::Auth, "wrong key: Bearer sk-12345678.".to_owned());
    it.code = Some("sk-12345678".to_owned());
    let it = scrub(it, Some("sk-12345678"));
    assert_eq!(it.message, "wrong key: Bearer [key].");
    assert_eq!(it.code.as_deref(), Some("[key]"));
    let it = scrub(failure(FailureClass::Auth, "no such thing".to_owned()), Some("no"));
    assert_eq!(it.message, "no such thing");
}
