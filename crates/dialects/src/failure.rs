//! What went wrong at a provider, in the kernel's words. Providers agree on little but the words of their codes, so
//! those are asked first, then the status. Secrets never get into a message.

use everstate_kernel::ids::Millis;
use everstate_kernel::input::{Failure, FailureClass};
use everstate_kernel::json::Json;

use crate::json::{self, Fields};

const MESSAGE_CHARS: usize = 600;
const EXCERPT_CHARS: usize = 160;

/// An answer with an error status.
pub fn of_answer(status: u16, retry_after_ms: Option<Millis>, body: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(body);
    let parsed = json::tidy(text.trim()).ok().and_then(|it| Json::parse(it).ok());
    // Some wrap the object into a list of one.
    let parsed =
        parsed.map(|it| json::list(&it).and_then(|it| it.into_iter().next()).unwrap_or(it));
    let mut failure = match parsed.as_ref().and_then(Fields::of) {
        Some(fields) => of_object(Some(status), &fields),
        None if text.trim().is_empty() => {
            failure(Some(status), None, None, format!("the provider answered {status}"))
        }
        None => failure(
            Some(status),
            None,
            None,
            format!("the provider answered {status}: `{}`", excerpt(&text)),
        ),
    };
    failure.retry_after_ms = retry_after_ms;
    failure
}

/// An error object, alone or as the field `error`, as an answer's body or in the middle of a stream.
pub(crate) fn of_object(status: Option<u16>, fields: &Fields) -> Failure {
    let inner = fields.fields("error");
    let words = inner.as_ref().unwrap_or(fields);
    // `error` may be a plain text, `code` a number that repeats the status.
    let message = words
        .text("message")
        .or_else(|| fields.text("error"))
        .or_else(|| fields.text("message"))
        .or_else(|| fields.text("detail"))
        .unwrap_or_else(|| "the provider answered with an error and no message".to_owned());
    let in_stream = words.number("code").or_else(|| words.number("status"));
    let status = status.or_else(|| {
        in_stream.and_then(|it| u16::try_from(it).ok()).filter(|it| (400..600).contains(it))
    });
    let inner_code = words.fields("innererror").or_else(|| words.fields("inner_error"));
    let code = words.text("code").or_else(|| inner_code.and_then(|it| it.text("code")));
    let kind = words.text("type").filter(|it| it != "error");
    failure(status, code, kind, message)
}

pub(crate) fn failure(
    status: Option<u16>,
    code: Option<String>,
    kind: Option<String>,
    message: String,
) -> Failure {
    Failure {
        class: classify(status, code.as_deref(), kind.as_deref(), &message),
        message: clipped(&without_secrets(&message), MESSAGE_CHARS),
        status,
        code: code.or(kind).map(|it| clipped(&without_secrets(&it), 80)),
        retry_after_ms: None,
    }
}

pub(crate) fn broken(message: String) -> Failure {
    Failure { class: FailureClass::Broken, message, status: None, code: None, retry_after_ms: None }
}

/// Words of codes and types, and what they mean. The first that occurs counts.
const WORDS: &[(&str, FailureClass)] = &[
    ("insufficient_quota", FailureClass::QuotaExhausted),
    ("insufficient_balance", FailureClass::QuotaExhausted),
    ("billing", FailureClass::QuotaExhausted),
    ("payment_required", FailureClass::QuotaExhausted),
    ("credit", FailureClass::QuotaExhausted),
    ("quota_exceeded", FailureClass::QuotaExhausted),
    ("rate_limit", FailureClass::RateLimited),
    ("too_many_requests", FailureClass::RateLimited),
    ("throttl", FailureClass::RateLimited),
    ("context_length_exceeded", FailureClass::TooLong),
    ("context_window", FailureClass::TooLong),
    ("string_above_max_length", FailureClass::TooLong),
    ("request_too_large", FailureClass::TooLong),
    ("model_not_found", FailureClass::NotFoundHere),
    ("deploymentnotfound", FailureClass::NotFoundHere),
    ("model_not_available", FailureClass::NotFoundHere),
    ("content_filter", FailureClass::Refused),
    ("content_policy", FailureClass::Refused),
    ("responsibleaipolicy", FailureClass::Refused),
    ("invalid_prompt", FailureClass::Refused),
    ("bio_policy", FailureClass::Refused),
    ("misalignment_policy", FailureClass::Refused),
    ("moderation", FailureClass::Refused),
    ("invalid_api_key", FailureClass::Auth),
    ("authentication", FailureClass::Auth),
    ("permission", FailureClass::Auth),
    ("unauthorized", FailureClass::Auth),
    ("forbidden", FailureClass::Auth),
    ("unsupported_country", FailureClass::Auth),
    ("overloaded", FailureClass::Overloaded),
    ("slow_down", FailureClass::Overloaded),
    ("server_error", FailureClass::Overloaded),
    ("service_unavailable", FailureClass::Overloaded),
    ("timeout", FailureClass::Timeout),
    // The model wrote a call that its own provider could not read: it may do better.
    ("tool_use_failed", FailureClass::Broken),
];

/// Words of messages, for those who send no code.
const PHRASES: &[(&str, FailureClass)] = &[
    ("maximum context length", FailureClass::TooLong),
    ("context length", FailureClass::TooLong),
    ("prompt is too long", FailureClass::TooLong),
    ("exceeded your current quota", FailureClass::QuotaExhausted),
    ("insufficient balance", FailureClass::QuotaExhausted),
    ("api key not valid", FailureClass::Auth),
];

fn classify(
    status: Option<u16>,
    code: Option<&str>,
    kind: Option<&str>,
    message: &str,
) -> FailureClass {
    // It will never do this, whatever words it has for that: asking again is no use, asking elsewhere may be.
    if status == Some(501) {
        return FailureClass::NotFoundHere;
    }
    for word in [code, kind].into_iter().flatten() {
        let word = word.to_ascii_lowercase();
        if let Some((_, class)) = WORDS.iter().find(|(it, _)| word.contains(it)) {
            return *class;
        }
    }
    let message = message.to_ascii_lowercase();
    if let Some((_, class)) = PHRASES.iter().find(|(it, _)| message.contains(it)) {
        return *class;
    }
    match status {
        Some(402) => FailureClass::QuotaExhausted,
        Some(401 | 403) => FailureClass::Auth,
        Some(404 | 410) => FailureClass::NotFoundHere,
        Some(408 | 504 | 524) => FailureClass::Timeout,
        Some(413) => FailureClass::TooLong,
        Some(429) => FailureClass::RateLimited,
        Some(409 | 425) => FailureClass::Overloaded,
        Some(400..=499) => FailureClass::Invalid,
        Some(500..=599) => FailureClass::Overloaded,
        // An answer that is none, or an error in the middle of a stream that nobody explains.
        Some(_) | None => FailureClass::Broken,
    }
}

/// A short piece of what was received, in one line.
pub(crate) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    clipped(&without_secrets(&line), EXCERPT_CHARS)
}

fn clipped(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Providers like to repeat the key they did not accept. Whatever looks like one is left out.
pub(crate) fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|it| !in_word(it)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(if looks_secret(word) { "[hidden]" } else { word });
        let end = after.find(in_word).unwrap_or(after.len());
        out.push_str(&after[..end]);
        rest = &after[end..];
    }
    out
}

fn in_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '*' | '.' | '+' | '/' | '=')
}

fn looks_secret(word: &str) -> bool {
    const BEGINNINGS: &[&str] = &[
        "sk-", "pk-", "gsk_", "xai-", "AIza", "AKIA", "ASIA", "ya29.", "eyJ", "hf_", "key-", "ghp_",
    ];
    let starts = BEGINNINGS.iter().any(|it| word.starts_with(it)) && word.len() >= 8;
    let starred = word.contains("***");
    let long = word.len() >= 40
        && !word.contains('/')
        && word.bytes().any(|it| it.is_ascii_digit())
        && word.bytes().any(|it| it.is_ascii_alphabetic());
    starts || starred || long
}

#[cfg(test)]
mod tests;
