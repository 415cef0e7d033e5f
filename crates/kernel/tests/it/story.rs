//! Tells a log in one line an event: what scenarios expect, and what a broken promise shows.

use everstate_kernel::event::{Append, Cost, End, Event};
use everstate_kernel::ids::{ASIDE, ItemId};
use everstate_kernel::item::{Body, Item, Part};

pub(crate) fn tell(log: &[Append]) -> String {
    log.iter()
        .flat_map(|append| append.events.iter().map(move |it| (append, it)))
        .map(line)
        .collect()
}

fn line((append, event): (&Append, &Event)) -> String {
    let told = match event {
        Event::Created { inheritance, .. } => match inheritance {
            Some(it) => format!(
                "created as a fork with {} items, {} open calls",
                it.items.len(),
                it.open.len()
            ),
            None => "created".into(),
        },
        Event::Imported { origin } => {
            let left: Vec<String> =
                origin.left_behind.iter().map(|it| format!("; left behind: {it}")).collect();
            let names: Vec<String> = origin
                .renamed
                .iter()
                .map(|it| format!("{} to turn {}", it.session.0, it.through))
                .collect();
            format!("imported, with the names of {}{}", names.join(", "), left.concat())
        }
        Event::Configured(told) => {
            format!("configured: {}", serde_json::to_string(told).unwrap())
        }
        Event::Owned { epoch } => format!("owned, epoch {epoch}"),
        Event::TurnStarted { turn, items, .. } => format!("turn {turn}: {}", said(items)),
        Event::Steered { items, .. } => format!("steered: {}", said(items)),
        Event::TurnEnded { turn, end } => format!("turn {turn} {}", ended(end)),
        Event::Paused { turn, why } => format!("turn {turn} paused: {}", word(why)),
        Event::Resumed { turn } => format!("turn {turn} resumed"),
        Event::Reminded { item } => format!("reminded: {}", said(std::slice::from_ref(item))),
        Event::StepStarted { step, .. } => format!("step {step}"),
        Event::AttemptOpened { attempt, why } => format!("attempt {attempt} {}", word(why)),
        Event::Placed { attempt, plan } => format!("{attempt} placed: {}", plan.offer),
        Event::NotPlaced { attempt, .. } => format!("{attempt} not placed"),
        Event::AttemptChosen { attempt } => format!("{attempt} chosen"),
        Event::Replied { attempt, items, .. } => format!("{attempt} replied: {}", said(items)),
        Event::SummedUp { attempt, cost, .. } => format!("{attempt} summed up{}", paid(cost)),
        Event::AttemptFailed { attempt, failure, cost } => {
            format!("{attempt} failed: {}{}", word(&failure.class), paid(cost))
        }
        Event::AttemptLost { attempt, frames, cost } => {
            format!("{attempt} lost after {frames} frames{}", paid(cost))
        }
        Event::AttemptDropped { attempt, cost } => format!("{attempt} dropped{}", paid(cost)),
        Event::Sealed { items, .. } => format!("sealed: {}", said(items)),
        Event::RetryScheduled { at, .. } => format!("retry at {at}"),
        Event::ApprovalRequested { call, .. } => format!("{call} wants a yes"),
        Event::ApprovalAnswered(it) => {
            format!("{} {}", it.call, if it.approve { "approved" } else { "denied" })
        }
        Event::ApprovalExpired { call } => format!("{call} expired"),
        Event::ToolStarted { call } => format!("{call} started"),
        Event::ToolFinished { call, outcome, output, .. } => {
            format!("{call} {}: {}", word(outcome), text(output))
        }
        Event::OutcomeLearned { call, outcome, note, .. } => {
            format!("{call} learned: {}, {}", word(outcome), said(std::slice::from_ref(note)))
        }
        Event::Compacted { item } => format!("compacted: {}", said(std::slice::from_ref(item))),
        Event::ItemErased { items } => {
            let ids: Vec<String> = items.iter().map(|it| place(*it)).collect();
            format!("erased {}", ids.join(" "))
        }
        Event::Parked { reason } => format!("parked: {reason}"),
        Event::Unparked => "unparked".into(),
        Event::Foreign(it) => format!("foreign {}", it.kind),
    };
    format!("{:>3} {told}\n", append.seq)
}

pub(crate) fn said(items: &[Item]) -> String {
    items.iter().map(item).collect::<Vec<_>>().join(" | ")
}

fn item(item: &Item) -> String {
    let what = match &item.body {
        Body::Message { role, parts } => format!("{} {:?}", word(role), text(parts)),
        Body::Reasoning(_) => "reasoning".into(),
        Body::Call { call, name, arguments } => format!("call {name}{arguments} as {call}"),
        Body::Result { call, outcome, output } => {
            format!("result of {call} {} {:?}", word(outcome), text(output))
        }
        Body::Compaction { through, .. } => {
            format!("summary through {}", place(*through))
        }
        Body::Note { text } => format!("note {text:?}"),
        Body::Opaque { dialect, .. } => format!("opaque {dialect}"),
        Body::Erased => "erased".into(),
    };
    if item.status == everstate_kernel::item::Status::Incomplete {
        format!("{what} (incomplete)")
    } else {
        what
    }
}

fn ended(end: &End) -> String {
    match end {
        End::Completed => "completed".into(),
        End::Incomplete(cut) => format!("incomplete: {}", word(cut)),
        End::Failed { code, .. } => format!("failed: {code}"),
        End::Cancelled(why) => format!("cancelled: {}", word(why)),
        End::Steered => "steered".into(),
    }
}

pub(crate) fn text(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|it| match it {
        Part::Text { text, .. } | Part::Refusal { text } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// A plain enum's word in the log.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).unwrap().as_str().unwrap_or("?").to_owned()
}

/// What it cost, if it cost something.
fn paid(cost: &Cost) -> String {
    match (cost.micros, cost.usage.estimated) {
        (0, false) => String::new(),
        (micros, false) => format!(", {micros} micros"),
        (micros, true) => format!(", about {micros} micros"),
    }
}

fn place(id: ItemId) -> String {
    match id.idx.checked_sub(ASIDE) {
        Some(n) => format!("{}:+{n}", id.turn),
        None => format!("{}:{}", id.turn, id.idx),
    }
}
