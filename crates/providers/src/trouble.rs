//! Says what class of thing went wrong on the way to a provider. What the provider itself said is read by its dialect.

use std::error::Error;
use std::time::{Duration, SystemTime};

use everstate_kernel::input::{Failure, FailureClass};
use reqwest::header::HeaderMap;

/// A failure without an answer.
pub(crate) fn failure(class: FailureClass, message: String) -> Failure {
    Failure { class, message, status: None, code: None, retry_after_ms: None }
}

/// What reqwest could not do. `place` is the address that was really tried.
pub(crate) fn unsent(error: &reqwest::Error, place: &str, connect_ms: u64) -> Failure {
    if error.is_connect() && error.is_timeout() {
        let message =
            format!("{place}: no connection within {connect_ms} ms (timeouts.connect_ms)");
        return failure(FailureClass::Timeout, message);
    }
    if error.is_builder() {
        let message = format!("{place}: the request could not be built: {}", root(error));
        return failure(FailureClass::Invalid, message);
    }
    let doing = if error.is_connect() { "cannot connect" } else { "the connection broke" };
    failure(FailureClass::Broken, format!("{place}: {doing}: {}", root(error)))
}

/// The innermost cause: the outer ones only repeat where it happened.
pub(crate) fn root(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// How long the provider asks us to wait, in milliseconds. The most exact header wins; when a bucket is drained and
/// nothing else is said, the time of its refill.
pub(crate) fn retry_after_ms(headers: &HeaderMap, now: SystemTime) -> Option<u64> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let exact = text("retry-after-ms").and_then(|it| it.parse::<f64>().ok());
    let ms = exact
        .or_else(|| {
            let it = text("retry-after")?;
            it.parse::<f64>().ok().map(|s| s * 1000.0).or_else(|| until(it, now))
        })
        .or_else(|| {
            let refill = |of: &str| {
                let drained = text(&format!("x-ratelimit-remaining-{of}"))? == "0";
                let reset = text(&format!("x-ratelimit-reset-{of}"))?;
                drained.then(|| span_ms(reset)).flatten()
            };
            let (requests, tokens) = (refill("requests"), refill("tokens"));
            requests.into_iter().chain(tokens).reduce(f64::max)
        })?;
    (ms.is_finite() && ms >= 0.0).then(|| (ms.ceil() as u64).min(WAIT_MS_MAX))
}

/// Nobody means more than a day, whatever the header says.
const WAIT_MS_MAX: u64 = 86_400_000;

/// `Wed, 21 Oct 2026 07:28:00 GMT`
fn until(date: &str, now: SystemTime) -> Option<f64> {
    let at = SystemTime::from(jiff::fmt::rfc2822::parse(date).ok()?.timestamp());
    Some(at.duration_since(now).unwrap_or(Duration::ZERO).as_secs_f64() * 1000.0)
}

/// A span such as `120ms`, `1.5s` or `6m0s`; a plain number is seconds.
fn span_ms(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds * 1000.0);
    }
    let (mut rest, mut ms) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|it: char| !it.is_ascii_digit() && it != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|it: char| it.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            _ => return None,
        };
        ms += number.parse::<f64>().ok()? * unit_ms;
        rest = tail;
    }
    Some(ms)
}

/// Takes our secret out of a provider's words: some repeat the key they were sent.
pub(crate) fn scrub(mut failure: Failure, secret: Option<&str>) -> Failure {
    // A shorter "secret" is a placeholder for a server that wants none, and would tear holes into every message.
    const LEN_MIN: usize = 6;
    if let Some(secret) = secret.filter(|it| it.len() >= LEN_MIN) {
        failure.message = failure.message.replace(secret, "[key]");
        failure.code = failure.code.map(|it| it.replace(secret, "[key]"));
    }
    failure
}

#[cfg(test)]
mod tests;
