//! The proof, line by line: each says what was to be shown, from where it was read, and ok or FAILED.

use std::path::Path;

use everstate_kernel::event::Event as Fact;
use everstate_server::config::{Flags, load};
use everstate_server::offline::{self, Verified};
use serde_json::{Value, json};

use super::play::{Played, number};
use super::show::Show;
use super::stage::Cast;
use crate::desk::Desk;
use crate::fault::Fault;
use crate::session::SESSIONS;
use crate::table::table;
use crate::timeline::{Tone, words};

struct Line {
    holds: bool,
    what: &'static str,
    how: String,
}

/// Does all of it hold?
pub(crate) async fn tell(
    desk: &Desk,
    cast: &Cast,
    dir: &Path,
    played: Played,
) -> Result<bool, Fault> {
    let client = &played.server.client;
    let session = &played.session;
    let explained = client.items(&format!("{SESSIONS}/{session}/explain")).await?;
    let path = format!("/v1/responses/{}?stream=true", played.response);
    let again = client.bytes(&path).await?;

    let mut lines = vec![once(&played), adopted(&played), stream(&played, &again)];
    if !cast.is_live() {
        lines.push(moved(&explained));
        lines.push(within(&explained));
    }
    lines.push(before_prompts(&played));
    let Played { server, session, show, ledger, .. } = played;
    // Gone for good, and without a good-bye: what is verified is the file alone.
    server.kill().await?;
    lines.push(chain(dir, &session, &show).await?);
    let holds = lines.iter().all(|it| it.holds);

    let out = &desk.out;
    if out.is_json {
        let proof: Vec<Value> = lines
            .iter()
            .map(|it| json!({ "ok": it.holds, "what": it.what, "how": it.how }))
            .collect();
        out.json(&json!({
            "proof": proof,
            "ok": holds,
            "session": session,
            "refunds": ledger.refunds.len(),
            "steps": explained,
            "simulation": !cast.is_live(),
        }));
        return Ok(holds);
    }
    out.line("");
    out.line(&show.header());
    out.line("");
    for line in steps(&explained) {
        out.line(&line);
    }
    out.line("");
    out.line("proof");
    for line in &lines {
        let (word, tone) = if line.holds { ("ok    ", Tone::Good) } else { ("FAILED", Tone::Bad) };
        out.line(&format!("  {}  {:<38} {}", out.look.tint(tone, word), line.what, line.how));
    }
    Ok(holds)
}

fn once(played: &Played) -> Line {
    let ledger = &played.ledger;
    let one_key = ledger.asked.windows(2).all(|it| it[0] == it[1]);
    let ids: Vec<&str> = ledger.refunds.iter().map(|it| it.id.as_str()).collect();
    let charges: Vec<&str> = ledger.refunds.iter().map(|it| it.charge.as_str()).collect();
    Line {
        holds: ledger.refunds.len() == 1 && ledger.asked.len() == 2 && one_key,
        what: "refunds in the bank: exactly one",
        how: format!(
            "its own ledger has {} ({} for {}); asked {} with {}",
            ledger.refunds.len(),
            ids.join(", "),
            charges.join(", "),
            times(ledger.asked.len()),
            if one_key { "the same key" } else { "DIFFERENT keys" },
        ),
    }
}

fn adopted(played: &Played) -> Line {
    let facts = played.show.appends();
    let epochs = facts.iter().flat_map(|it| &it.events).filter_map(|it| match it {
        Fact::Owned { epoch } => Some(*epoch),
        _ => None,
    });
    let epochs: Vec<u64> = epochs.collect();
    let (old, new) = (played.killed_pid, played.server.pid);
    Line {
        holds: epochs.len() == 2 && epochs[0] < epochs[1] && old != new,
        what: "a new process took over",
        how: format!("process {old} was killed, {new} went on from its log"),
    }
}

/// Numbered without a gap over the kill, and told again it is the same to the byte.
fn stream(played: &Played, again: &[u8]) -> Line {
    let (before, after) = (&played.before, &played.after);
    let said = before.iter().chain(after).filter(|it| it.data != DONE);
    let numbers: Vec<Option<u64>> = said.map(number).collect();
    let gapless = numbers.iter().enumerate().all(|(n, it)| *it == Some(n as u64));
    let seen: Vec<u8> = before.iter().chain(after).flat_map(|it| it.raw.clone()).collect();
    let same = without_comments(again) == seen;
    let last = numbers.len().saturating_sub(1);
    Line {
        holds: gapless && same && !before.is_empty() && !after.is_empty(),
        what: "the client's stream has no gap",
        how: format!(
            "{} events before the kill, {} after, numbered 0 to {last}; told again {}",
            before.len(),
            numbers.len() - before.len(),
            if same { "byte for byte" } else { "DIFFERENTLY" },
        ),
    }
}

/// Stands behind the last event of a stream.
const DONE: &str = "[DONE]";

/// Pings depend on the clock.
fn without_comments(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let events = text.split_inclusive("\n\n").filter(|it| !it.starts_with(':'));
    events.collect::<String>().into_bytes()
}

fn moved(explained: &[Value]) -> Line {
    let failed = explained.iter().find(|it| it["outcome"]["failure"]["status"] == 503);
    let took_over = failed.and_then(|failed| {
        explained.iter().find(|it| {
            it["address"] == failed["address"]
                && it["provider"] != failed["provider"]
                && it["outcome"]["kind"] == "replied"
        })
    });
    let name = |it: Option<&Value>, field: &str| {
        it.and_then(|it| it[field].as_str()).unwrap_or("?").to_owned()
    };
    Line {
        holds: took_over.is_some(),
        what: "it moved when a cloud failed",
        how: format!(
            "{} answered 503, {} went on with the same session",
            name(failed, "provider"),
            name(took_over, "provider"),
        ),
    }
}

/// Each prompt went only where the policy lets it.
fn within(explained: &[Value]) -> Line {
    let placed: Vec<&str> = explained.iter().filter_map(|it| it["offer"].as_str()).collect();
    let inside = placed.iter().filter(|it| it.contains("/eu/")).count();
    let refused = explained.iter().flat_map(|it| it["offers"].as_array()).flatten();
    let refused = refused.filter(|it| it["verdict"] == "refused").count();
    Line {
        holds: !placed.is_empty() && inside == placed.len() && refused > 0,
        what: "no prompt left the EU",
        how: format!(
            "{inside} of {} were placed there; cheaper ones were refused {refused} times",
            placed.len()
        ),
    }
}

/// In the log, what a prompt led to comes after the fact that says where it went.
fn before_prompts(played: &Played) -> Line {
    let facts = played.show.appends();
    let place = |wanted: fn(&Fact) -> Option<everstate_kernel::ids::AttemptId>| {
        let all = facts.iter().flat_map(|it| it.events.iter().map(move |event| (it.seq, event)));
        all.filter_map(|(seq, event)| Some((wanted(event)?, seq))).collect::<Vec<_>>()
    };
    let placed = place(|it| match it {
        Fact::Placed { attempt, .. } => Some(*attempt),
        _ => None,
    });
    let ended = place(|it| match it {
        Fact::Replied { attempt, .. } | Fact::AttemptFailed { attempt, .. } => Some(*attempt),
        _ => None,
    });
    let explained =
        ended.iter().all(|(attempt, seq)| placed.iter().any(|(it, at)| it == attempt && at < seq));
    Line {
        holds: explained && !ended.is_empty(),
        what: "each placement was written down first",
        how: format!(
            "{}, each with its reasons, in an earlier row than what came of it",
            words::count(placed.len() as u64, "placement")
        ),
    }
}

/// The log as it lies on the disk, read without a server.
async fn chain(dir: &Path, session: &str, show: &Show) -> Result<Line, Fault> {
    let store = format!("sqlite:{}", dir.join("state.db").display());
    let config = Some(dir.join("everstate.toml"));
    let flags = Flags { config, store: Some(store), ..Flags::default() };
    let env = |_: &str| None;
    let settings = load(&flags, &env, dir)?;
    let verified = offline::verify(&settings, &env).await?;
    let ours = verified.iter().find(|it| it.session.to_string() == session);
    let n_events: usize = show.appends().iter().map(|it| it.events.len()).sum();
    let how = match ours {
        None => "the session is not in the store".to_owned(),
        Some(Verified { broken: Some(broken), .. }) => broken.clone(),
        Some(it) => format!(
            "{} in {}, read from the file; chained up to {}...",
            words::count(n_events as u64, "event"),
            words::count(it.rows, "row"),
            it.hash.get(..12).unwrap_or(&it.hash),
        ),
    };
    let last = show.appends().last().map(|it| it.seq);
    // What was told last is there: nothing that was shown is missing.
    let holds = ours.is_some_and(|it| it.broken.is_none() && Some(it.head) >= last);
    Ok(Line { holds, what: "the log verifies", how })
}

/// What each step cost, why it was placed where it was, and why not elsewhere.
fn steps(explained: &[Value]) -> Vec<String> {
    let text = |it: &Value| it.as_str().unwrap_or("").to_owned();
    let money = |it: &Value| it.as_u64().map(words::money).unwrap_or_default();
    let row = |attempt: &Value| {
        let address = text(&attempt["address"]);
        let became = match attempt["outcome"]["failure"]["status"].as_u64() {
            Some(status) => format!("; it answered {status}"),
            None => String::new(),
        };
        vec![
            address.split('/').nth(1).unwrap_or_default().to_owned(),
            text(&attempt["offer"]),
            money(&attempt["expected_micros"]),
            money(&attempt["outcome"]["cost_micros"]),
            format!("{}{became}", text(&attempt["because"])),
        ]
    };
    let rows: Vec<Vec<String>> = explained.iter().map(row).collect();
    let mut lines = table(&["STEP", "OFFER", "EXPECTED", "COST", "WHY"], &rows).into_iter();
    let mut told: Vec<String> = lines.next().into_iter().collect();
    for (line, attempt) in lines.zip(explained) {
        told.push(line);
        let elsewhere = elsewhere(attempt);
        if !elsewhere.is_empty() {
            told.push(format!("      not: {elsewhere}"));
        }
    }
    told
}

/// The other offers of the model, those with one reason together.
fn elsewhere(attempt: &Value) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    let offers = attempt["offers"].as_array().into_iter().flatten();
    for offer in offers.filter(|it| it["verdict"] != "chosen" && it["why"] != "another model") {
        let name = offer["offer"].as_str().unwrap_or_default();
        let (name, why) = (place(name), offer["why"].as_str().unwrap_or_default());
        match reasons.iter_mut().find(|it| it.0 == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let told = reasons.iter().map(|(why, names)| format!("{} ({why})", names.join(", ")));
    told.collect::<Vec<_>>().join("; ")
}

/// An offer's provider and scope, without the model.
fn place(offer: &str) -> &str {
    offer.match_indices('/').nth(1).map_or(offer, |(at, _)| &offer[..at])
}

fn times(n: usize) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}
