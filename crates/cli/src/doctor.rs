//! What works and what does not, in the order in which things depend on each other. Changes nothing, sends no prompt,
//! and runs with a broken configuration or a dead server too.

use clap::Args;
use everstate_server::config::{Flags, load};
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::fault::{Done, Fault, codes};
use crate::timeline::{Tone, words};

/// What works and what does not
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Warnings count as failures
    #[arg(long)]
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Skip,
    Fail,
}

struct Check {
    verdict: Verdict,
    what: String,
    text: String,
    attempt: Option<String>,
}

impl Doctor {
    pub(crate) async fn run(self, desk: &Desk) -> Done {
        let mut checks = vec![config(desk)];
        let (server, facts) = server(desk).await;
        checks.push(server);
        checks.extend(facts);
        let n = |verdict| checks.iter().filter(|it| it.verdict == verdict).count();
        let (failed, warned, skipped) = (n(Verdict::Fail), n(Verdict::Warn), n(Verdict::Skip));
        if desk.out.is_json {
            let items: Vec<Value> = checks
                .iter()
                .map(|it| {
                    json!({ "verdict": word(it.verdict), "what": it.what, "text": it.text, "try": it.attempt })
                })
                .collect();
            desk.out.json(&json!({ "items": items, "next": null, "ok": failed == 0 }));
        } else {
            for check in &checks {
                tell(desk, check);
            }
            desk.out.line(&format!("{failed} failed, {warned} warned, {skipped} skipped"));
        }
        if failed > 0 || self.strict && warned > 0 {
            return Err(Fault::new(&codes::UNHEALTHY, "not everything works")
                .attempt("see the lines above"));
        }
        Ok(())
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Skip => "skip",
        Verdict::Fail => "FAIL",
    }
}

fn tell(desk: &Desk, check: &Check) {
    let tone = match check.verdict {
        Verdict::Ok => Tone::Good,
        Verdict::Warn => Tone::Loud,
        Verdict::Skip => Tone::Dim,
        Verdict::Fail => Tone::Bad,
    };
    let word = desk.out.look.tint(tone, &format!("{:<5}", word(check.verdict)));
    desk.out.line(&format!("{word} {:<10} {}", check.what, check.text));
    if let Some(attempt) = &check.attempt {
        desk.out.line(&format!("                 try: {attempt}"));
    }
}

fn check(verdict: Verdict, what: &str, text: impl Into<String>) -> Check {
    Check { verdict, what: what.to_owned(), text: text.into(), attempt: None }
}

fn of_fault(verdict: Verdict, what: &str, fault: &Fault) -> Check {
    let why =
        fault.why.first().map(|it| format!(" ({})", it.replace('\n', " "))).unwrap_or_default();
    let text = format!("{}{why}", fault.what);
    Check { attempt: fault.attempt.clone(), ..check(verdict, what, text) }
}

fn config(desk: &Desk) -> Check {
    match load(&Flags::default(), &|name| std::env::var(name).ok(), &desk.here) {
        Ok(settings) => match &settings.path {
            Some(path) => {
                let n = settings.shown().len();
                check(Verdict::Ok, "config", format!("{}, {n} values, all known", path.display()))
            }
            None => check(Verdict::Ok, "config", "no everstate.toml: all defaults"),
        },
        Err(err) => of_fault(Verdict::Fail, "config", &Fault::from(err)),
    }
}

/// Without a server there is nothing more to be known.
async fn server(desk: &Desk) -> (Check, Vec<Check>) {
    let client = match desk.client() {
        Ok(client) => client,
        Err(fault) => return (of_fault(Verdict::Fail, "server", &fault), Vec::new()),
    };
    let facts = match client.get("/everstate/v1/doctor").await {
        Ok(facts) => facts,
        Err(fault) if fault.word == codes::UNREACHABLE.word => {
            let mut checks = Vec::new();
            for what in ["store", "providers"] {
                checks.push(check(Verdict::Skip, what, "only a running server can tell"));
            }
            return (of_fault(Verdict::Fail, "server", &fault), checks);
        }
        Err(fault) => return (of_fault(Verdict::Fail, "server", &fault), Vec::new()),
    };
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let key = client.key.as_ref().map_or("no key", |it| it.origin.as_str());
    let up = format!("{}, version {}, key from {key}", client.url, text(&facts["version"]));
    let mut checks = Vec::new();
    let store = &facts["store"];
    let flush = store["flush_us"]
        .as_u64()
        .map_or(String::new(), |it| format!(", last flush {}.{} ms", it / 1_000, it % 1_000 / 100));
    let line = format!(
        "{}, schema {}, {}{flush}; {}",
        text(&store["url"]),
        store["schema"],
        words::bytes(store["bytes"].as_u64().unwrap_or_default()),
        text(&store["keys"]),
    );
    checks.push(check(Verdict::Ok, "store", line));
    for provider in facts["providers"].as_array().into_iter().flatten() {
        let usable = provider["usable"] == true;
        let verdict = match (usable, provider["simulation"] == true) {
            (true, _) => Verdict::Ok,
            (false, _) => Verdict::Skip,
        };
        let line = match provider["simulation"] == true {
            true => "a simulation, not a model; needs no key".to_owned(),
            false => text(&provider["credentials"]),
        };
        checks.push(check(verdict, &text(&provider["provider"]), line));
    }
    let real = facts["providers"].as_array().into_iter().flatten();
    if !real.into_iter().any(|it| it["usable"] == true && it["simulation"] == false) {
        let attempt = Some("export OPENAI_API_KEY=...   and start the server again".to_owned());
        checks.push(Check {
            attempt,
            ..check(Verdict::Warn, "models", "only the simulation can answer")
        });
    }
    (check(Verdict::Ok, "server", up), checks)
}
