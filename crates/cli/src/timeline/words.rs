//! Small things in words: durations, amounts, counts, calls. Plain ASCII.

use everstate_kernel::event::{Cut, End, Why};
use everstate_kernel::ids::Millis;
use everstate_kernel::input::{Configure, Failure, FailureClass};
use everstate_kernel::item::Part;
use everstate_kernel::money::Micros;
use everstate_kernel::plan;
use serde_json::Value;

/// `12 ms`, `0.2 s`, `12 s`, `4 min 12 s`, `3 h 5 min`, `2 days`.
pub(crate) fn span(ms: Millis) -> String {
    let s = ms / 1_000;
    match s {
        0 if ms < 100 => format!("{ms} ms"),
        0..10 => format!("{}.{} s", s, ms % 1_000 / 100),
        10..60 => format!("{s} s"),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => count(s / 86_400, "day"),
    }
}

/// `$0.0081`; more places where there would be only zeroes.
pub(crate) fn money(micros: Micros) -> String {
    let (dollars, part) = (micros / 1_000_000, micros % 1_000_000);
    if micros > 0 && micros < 100 {
        return format!("${dollars}.{part:06}");
    }
    // Rounded up, as costs are.
    let rounded = micros.div_ceil(100);
    format!("${}.{:04}", rounded / 10_000, rounded % 10_000)
}

/// What changed of a session, without what is in it: settings and metadata are the client's.
pub(crate) fn configured(told: &Configure) -> String {
    let spend = told.spend_max.map(|it| match it {
        Some(max) => format!("it may spend {}", money(max)),
        None => "it may spend without limit".to_owned(),
    });
    let tools = told.tools.as_ref().map(|it| count(it.len() as u64, "tool"));
    let said = [
        told.settings.as_ref().map(|_| "settings".to_owned()),
        told.metadata.as_ref().map(|_| "metadata".to_owned()),
        tools,
        spend,
    ];
    said.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `3,104`.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `12 KB`, `41 MB`: thousands, as disks are sold.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} bytes"),
        1_000..1_000_000 => format!("{} KB", n / 1_000),
        _ => format!("{} MB", number(n / 1_000_000)),
    }
}

/// `1 step`, `2 steps`.
pub(crate) fn count(n: u64, what: &str) -> String {
    // `day`, but not `entry`.
    let stem = what.strip_suffix('y').filter(|it| !it.ends_with(['a', 'e', 'o', 'u']));
    match (n, stem) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{} {stem}ies", number(n)),
        (_, None) => format!("{} {what}s", number(n)),
    }
}

/// One line of plain ASCII, at most `max` characters.
pub(crate) fn short(text: &str, max: usize) -> String {
    let mut out = String::new();
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            gap = !out.is_empty();
            continue;
        }
        if gap {
            out.push(' ');
            gap = false;
        }
        out.push_str(plain(c).unwrap_or(c.encode_utf8(&mut [0; 4])));
    }
    cut(&out, max)
}

/// Typographic signs that have a plain one.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        '\u{2018}' | '\u{2019}' => "'",
        '\u{201c}' | '\u{201d}' => "\"",
        '\u{2013}' | '\u{2014}' => "-",
        '\u{2026}' => "...",
        '\u{2192}' => "->",
        _ => return None,
    })
}

/// Cuts to `max` characters, saying so.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(max.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

/// `refund(charge=ch_2, amount=49.00)`.
pub(crate) fn call(name: &str, arguments: &str) -> String {
    let inside = match serde_json::from_str::<Value>(arguments) {
        Ok(Value::Object(map)) => {
            let pairs = map.iter().map(|(name, value)| match value {
                Value::String(text) => format!("{name}={}", short(text, 40)),
                other => format!("{name}={}", short(&other.to_string(), 40)),
            });
            pairs.collect::<Vec<_>>().join(", ")
        }
        Ok(_) | Err(_) => short(arguments, 60),
    };
    format!("{name}({})", cut(&inside, 72))
}

/// The text in some parts; what is not text is only named.
pub(crate) fn parts(parts: &[Part]) -> String {
    let said = parts.iter().map(|it| match it {
        Part::Text { text, .. } | Part::Refusal { text } => text.clone(),
        Part::Image { .. } => "[image]".to_owned(),
        Part::Opaque { .. } => "[other]".to_owned(),
    });
    said.collect::<Vec<_>>().join(" ")
}

/// `answered 503`, `timed out`: what an offer did, in two words.
pub(crate) fn failure(failure: &Failure) -> String {
    if let Some(status) = failure.status.filter(|it| *it >= 400) {
        return format!("answered {status}");
    }
    let words = match failure.class {
        FailureClass::RateLimited => "said too many requests",
        FailureClass::Overloaded => "was overloaded",
        FailureClass::QuotaExhausted => "has used up its quota",
        FailureClass::Auth => "refused our credentials",
        FailureClass::NotFoundHere => "does not have the model",
        FailureClass::Timeout => "did not answer in time",
        FailureClass::Broken => "broke off its answer",
        FailureClass::Refused => "refused this prompt",
        FailureClass::TooLong => "found it too long",
        FailureClass::Invalid => "found the request wrong",
    };
    words.to_owned()
}

/// Why it was placed there.
pub(crate) fn why(plan: &plan::Plan) -> String {
    let refused: usize = plan
        .against
        .iter()
        .filter(|(reason, _)| {
            use plan::Reason::{ColdCache, Dearer, OtherModel};
            !matches!(reason, ColdCache | Dearer | OtherModel)
        })
        .map(|(_, offers)| offers.len())
        .sum();
    let why = match plan.why {
        plan::Why::OnlyOne => "the only one that may serve".to_owned(),
        plan::Why::Cheapest => format!("cheapest of {} allowed", plan.others + 1),
        plan::Why::Warm => "cache warm".to_owned(),
        plan::Why::InToolLoop => "in a tool loop".to_owned(),
        plan::Why::Fallback => "the better one failed".to_owned(),
        plan::Why::Hedge => "beside a slow first".to_owned(),
    };
    if refused == 0 { why } else { format!("{why}, {refused} refused") }
}

/// How a turn ended, where it did not simply end.
pub(crate) fn end(end: &End) -> String {
    match end {
        End::Completed => "done".to_owned(),
        End::Incomplete(cut) => match cut {
            Cut::OutputTokens => "the output limit cut the answer short",
            Cut::ContentFilter => "a content filter cut the answer short",
            Cut::Steps => "as many steps as a turn may have",
            Cut::Tokens => "as many tokens as a turn may use",
            Cut::Bytes => "as many bytes as a turn may bring forth",
            Cut::Cost => "as much money as a turn may cost",
            Cut::WorkTime => "as long as a turn may work",
        }
        .to_owned(),
        End::Failed { code, message } => format!("{code}: {}", short(message, 200)),
        End::Cancelled(Why::Asked) => "as asked".to_owned(),
        End::Cancelled(Why::CallerLost) => "its caller is gone".to_owned(),
        End::Steered => "a newer input took its place".to_owned(),
    }
}
