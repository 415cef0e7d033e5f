//! What works and what does not, in the order in which things depend on each other. Changes nothing, sends no prompt,
//! and runs with a broken configuration or without a server too.

use clap::Args;
use everstate_server::config::{Flags, Settings, load};
use everstate_server::error::codes as doors;
use everstate_server::offline;
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
        let (config, settings) = config(desk);
        let mut checks = vec![config];
        checks.extend(server(desk, settings.as_ref()).await);
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

fn config(desk: &Desk) -> (Check, Option<Settings>) {
    match load(&Flags::default(), &|name| std::env::var(name).ok(), &desk.here) {
        Ok(settings) => {
            let text = match &settings.path {
                Some(path) => {
                    format!("{}, {} values, all known", path.display(), settings.shown().len())
                }
                None => "no everstate.toml: all defaults".to_owned(),
            };
            (check(Verdict::Ok, "config", text), Some(settings))
        }
        Err(err) => (of_fault(Verdict::Fail, "config", &Fault::from(err)), None),
    }
}

/// The server, and what it tells. Where none runs and none was named, the files tell.
async fn server(desk: &Desk, settings: Option<&Settings>) -> Vec<Check> {
    let client = match desk.client() {
        Ok(client) => client,
        Err(fault) => return vec![of_fault(Verdict::Fail, "server", &fault)],
    };
    let facts = match client.get("/everstate/v1/doctor").await {
        Ok(facts) => facts,
        Err(fault) if fault.word == codes::UNREACHABLE.word => {
            if !desk.names_server() {
                return offline(&client.url, settings).await;
            }
            let skip = |what| check(Verdict::Skip, what, "only the server that was named can tell");
            let named = of_fault(Verdict::Fail, "server", &fault);
            return vec![named, skip("store"), skip("providers")];
        }
        Err(fault) => return vec![of_fault(Verdict::Fail, "server", &fault)],
    };
    let key = client.key.as_ref().map_or("no key", |it| it.origin.as_str());
    let up = format!("{}, version {}, key from {key}", client.url, text(&facts["version"]));
    let mut checks = vec![check(Verdict::Ok, "server", up), store(&facts["store"])];
    checks.extend(database(&facts["store"]));
    checks.extend(blobs(&facts["store"]));
    checks.extend(providers(&facts["providers"]));
    checks
}

async fn offline(url: &str, settings: Option<&Settings>) -> Vec<Check> {
    let text = format!("none runs at {url}: what follows is read from the files");
    let attempt = Some("everstate dev     or, if it is elsewhere,   --server URL".to_owned());
    let mut checks = vec![Check { attempt, ..check(Verdict::Skip, "server", text) }];
    let Some(settings) = settings else {
        let skip = |what| check(Verdict::Skip, what, "the configuration has to be right first");
        checks.extend([skip("store"), skip("providers")]);
        return checks;
    };
    let env = |name: &str| std::env::var(name).ok();
    match offline::store(settings, &env).await {
        Ok(Some(facts)) => {
            checks.push(store(&facts));
            checks.extend(database(&facts));
            checks.extend(blobs(&facts));
        }
        Ok(None) => {
            let text = format!("{}: not there yet, a server makes it", settings.store_shown());
            checks.push(check(Verdict::Skip, "store", text));
            match offline::blobs(settings, &env).await {
                Ok(facts) => checks.extend(facts.as_ref().and_then(blobs)),
                Err(err) => checks.push(of_fault(Verdict::Fail, "blobs", &Fault::from(err))),
            }
        }
        Err(err) => {
            // Somebody has it open, who is not at the usual address.
            let locked = *err.code() == doors::STORE_LOCKED;
            let verdict = if locked { Verdict::Warn } else { Verdict::Fail };
            checks.push(of_fault(verdict, "store", &Fault::from(err)));
        }
    }
    match offline::providers(settings, &env) {
        Ok(told) => checks.extend(providers(&told)),
        Err(err) => checks.push(of_fault(Verdict::Fail, "providers", &Fault::from(err))),
    }
    checks
}

fn store(store: &Value) -> Check {
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
    check(Verdict::Ok, "store", line)
}

/// The database server, and what it does with what was acknowledged.
fn database(store: &Value) -> Vec<Check> {
    let Some(server) = store["server"].as_str() else { return Vec::new() };
    let promise = store["promise"].as_array().into_iter().flatten();
    let lines = promise.map(|it| {
        let text = text(it);
        // What has to be changed says how.
        let bad = text.contains("; set ") || text.contains("takes no writes");
        check(if bad { Verdict::Warn } else { Verdict::Ok }, "promise", text)
    });
    [check(Verdict::Ok, "database", server)].into_iter().chain(lines).collect()
}

/// The place of big bodies; nothing to say where a server is too old to tell.
fn blobs(store: &Value) -> Option<Check> {
    let place = store["blobs"].as_str()?;
    Some(match store["blobs_down"].as_str() {
        Some(why) => check(Verdict::Fail, "blobs", why),
        None => check(Verdict::Ok, "blobs", place),
    })
}

fn providers(told: &Value) -> Vec<Check> {
    let all = || told.as_array().into_iter().flatten();
    let mut checks = Vec::new();
    for provider in all() {
        let verdict = if provider["usable"] == true { Verdict::Ok } else { Verdict::Skip };
        let line = match provider["simulation"] == true {
            true => "a simulation, not a model; needs no key".to_owned(),
            false => text(&provider["credentials"]),
        };
        checks.push(check(verdict, &text(&provider["provider"]), line));
    }
    if !all().any(|it| it["usable"] == true && it["simulation"] == false) {
        let attempt = Some("export OPENAI_API_KEY=...   and start the server again".to_owned());
        checks.push(Check {
            attempt,
            ..check(Verdict::Warn, "models", "only the simulation can answer")
        });
    }
    checks
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
