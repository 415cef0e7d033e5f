//! Every operation and every field of every door: what is told of it in docs/reference/api.md is what the server does,
//! and nothing that the official SDK can say is left out.
//!
//! The lists of `table/` are held against the SDK's types (`sdk-types.json`) and against a running server; the page is
//! written from them: `UPDATE_EXPECT=1 cargo nextest run -p everstate-server reference`.

pub(crate) mod sdk;
mod fates;
mod random;
mod stage;
mod responses;
mod agents;
mod own;
mod page;

use std::time::Duration;

use expect_test::expect_file;
use serde_json::{Value, json};

use fates::{Fate, Op};
use random::Random;
use sdk::{Field, Operation, Sdk};
use stage::Stage;

/// The doors in the order of the page.
const DOORS: &[(&str, &[Op])] =
    &[("Responses and models", responses::OPERATIONS), ("Agents", agents::OPERATIONS)];

fn all() -> impl Iterator<Item = &'static Op> {
    DOORS.iter().flat_map(|(_, operations)| *operations).chain(responses::ELSEWHERE)
}

#[test]
fn reference_of_every_operation_and_field() {
    expect_file!["../../../../docs/reference/api.md"].assert_eq(&page::page());
}

#[test]
fn whatever_the_sdk_can_say_is_told() {
    let sdk = Sdk::load();
    let mut gaps = Vec::new();
    for operation in &sdk.operations {
        if !all().any(|it| it.covers(&operation.name)) {
            gaps.push(format!("nothing is told of {}", operation.name));
        }
    }
    for op in all() {
        if !sdk.operations.iter().any(|it| op.covers(&it.name)) {
            gaps.push(format!("the SDK has no {}", op.name));
        }
        if !matches!(op.fate, Fate::Later | Fate::Nothing | Fate::Unknown | Fate::Refused) {
            gaps.extend(op.gaps(&sdk));
        }
    }
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
}

#[test]
fn every_route_of_our_own_door_is_told() {
    let told: Vec<String> = own::OPERATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let routes = own::routes();
    assert!(routes.len() > 30, "the source is read wrongly: {routes:?}");
    assert_eq!(told.into_iter().collect::<std::collections::BTreeSet<_>>(), routes);
}

#[tokio::test]
async fn each_operation_has_the_fate_that_is_told() {
    let (sdk, stage) = (Sdk::load(), Stage::new().await);
    let mut wrong = Vec::new();
    for operation in &sdk.operations {
        // A longer name says more than one that ends in `*`.
        let op = all().filter(|it| it.covers(&operation.name)).max_by_key(|it| it.name.len());
        let Some(op) = op else { continue };
        let path = match op.fate {
            Fate::Later | Fate::Unknown => named(&operation.path, "x"),
            _ => stage.path(&operation.path, "").await,
        };
        let answer = stage.ask(operation, &path, stage.base(operation).await).await;
        let code = answer.json["error"]["code"].as_str();
        let fits = match op.fate {
            Fate::Later => (answer.status, code) == (501, Some("not_available_yet")),
            Fate::Unknown => (answer.status, code) == (404, Some("unknown_url")),
            Fate::Refused => (answer.status, code) == (405, Some("method_not_allowed")),
            Fate::Nothing => (answer.status, code) == (404, Some("not_found")),
            _ => answer.status < 300,
        };
        if !fits {
            wrong.push(format!("{}: {} {}", operation.name, answer.status, short(&answer.json)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn each_field_has_the_fate_that_is_told() {
    let (sdk, stage) = (Sdk::load(), Stage::new().await);
    let mut wrong = Vec::new();
    for (_, operations) in DOORS {
        for op in *operations {
            let Some(operation) = sdk.operations.iter().find(|it| it.name == op.name) else {
                continue;
            };
            for field in sdk.fields(operation) {
                let Some(told) = op.told(&field) else { continue };
                if let Err(why) = check(&sdk, &stage, operation, &field, told.fate).await {
                    wrong.push(format!("{} `{}`: {why}", op.name, field.text));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// How many requests are made up for each operation, besides one for each field.
const MADE_UP: usize = 60;
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Whatever is sent: never our mistake, and never no answer. `EVERSTATE_SEED` makes up others.
#[tokio::test]
async fn no_request_is_too_strange_to_be_answered() {
    let seed = std::env::var("EVERSTATE_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1182);
    let (sdk, stage, mut random) = (Sdk::load(), Stage::new().await, Random::new(seed));
    let mut wrong = Vec::new();
    for op in DOORS.iter().flat_map(|(_, operations)| *operations) {
        let served = sdk.operations.iter().filter(|it| op.covers(&it.name));
        for operation in served.filter(|it| it.body.is_some() || it.query.is_some()) {
            let mut requests = Vec::new();
            let path = match op.fate {
                Fate::Later => named(&operation.path, "x"),
                _ => stage.path(&operation.path, "").await,
            };
            for field in sdk.fields(operation) {
                let mut request = stage.request(&sdk, operation, &field).await;
                sdk.with(&mut request, &field, random.junk());
                requests.push(request);
            }
            for _ in 0..MADE_UP {
                requests.push(sdk.random(operation, &mut random));
            }
            for request in requests {
                let asking = stage.ask(operation, &path, request.clone());
                match tokio::time::timeout(ANSWER_MAX, asking).await {
                    Ok(answer) if answer.status < 500 || answer.status == 501 => {}
                    Ok(answer) => wrong.push(format!(
                        "{} {} {} for {}",
                        operation.name,
                        answer.status,
                        short(&answer.json),
                        short(&request)
                    )),
                    Err(_) => wrong.push(format!("{} hangs: {}", operation.name, short(&request))),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "seed {seed}, {} of them:\n{}", wrong.len(), wrong.join("\n"));
}

/// Names that nobody was given.
const NAMES: &[&str] =
    &["x", "%00", "%2e%2e", "%F0%9F%98%80", "%ff", "-", "resp_%0A", "evt_1", "agent_", "null"];

#[tokio::test]
async fn no_name_is_too_strange_to_be_answered() {
    let (sdk, stage) = (Sdk::load(), Stage::new().await);
    let mut wrong = Vec::new();
    let long = "n".repeat(3_000);
    for operation in sdk.operations.iter().filter(|it| it.path.contains('{')) {
        let in_a_door = DOORS.iter().flat_map(|(_, it)| *it).any(|it| it.covers(&operation.name));
        if !in_a_door {
            continue;
        }
        for name in NAMES.iter().copied().chain([long.as_str()]) {
            let path = named(&operation.path, name);
            let answer = stage.ask(operation, &path, stage.base(operation).await).await;
            let fits = matches!(answer.status, 400 | 404 | 405 | 501);
            if !fits {
                wrong.push(format!(
                    "{} {path:.80} {} {}",
                    operation.method,
                    answer.status,
                    short(&answer.json)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Codes that say that a request was understood, and that what it is about is not there.
const UNDERSTOOD: &[&str] = &["not_found", "call_not_found", "approval_not_found"];

async fn check(
    sdk: &Sdk,
    stage: &Stage,
    operation: &Operation,
    field: &Field,
    fate: Fate,
) -> Result<(), String> {
    let path = stage.path(&operation.path, &field.text).await;
    let request = stage.request(sdk, operation, field).await;
    let answer = stage.ask(operation, &path, request.clone()).await;
    let error = &answer.json["error"];
    let (code, param) = (error["code"].as_str().unwrap_or(""), error["param"].as_str());
    let about_it = param.is_some_and(|it| is_about(&plain(it), &plain(&field.text)));
    let is_accepted = answer.status < 300 || UNDERSTOOD.contains(&code);
    let is_refused = answer.status == 400 && code == "unsupported" && about_it;
    let fits = match fate {
        Fate::Works | Fate::Ignored | Fate::Passed => is_accepted,
        Fate::Provider | Fate::Refused => is_refused,
        Fate::Later | Fate::Nothing | Fate::Unknown => true,
    };
    if !fits {
        let (what, of) = (short(error), short(&request));
        return Err(format!("told as {fate:?}, but {} {what} for {of}", answer.status));
    }
    // What we act on is checked, so that a slip of the pen is not silently ignored.
    if fate == Fate::Works && operation.body.is_some() && !takes_anything(&field.kind) {
        let mut slip = request;
        sdk.with(&mut slip, field, json!([[7]]));
        let answer = stage.ask(operation, &path, slip.clone()).await;
        let param = answer.json["error"]["param"].as_str().map(plain);
        // The field itself, what it is in, or what is in it.
        let top = |it: &str| it.split('.').next().map(str::to_owned);
        let named = param.is_some_and(|it| top(&it) == top(&plain(&field.text)));
        if answer.status != 400 || !named {
            let (what, of) = (short(&answer.json), short(&slip));
            return Err(format!("a slip gets {} {what} for {of}", answer.status));
        }
    }
    Ok(())
}

/// The address with this name in each place.
fn named(path: &str, name: &str) -> String {
    let mut path = path.to_owned();
    while let Some((head, rest)) = path.split_once('{') {
        path = format!("{head}{name}{}", rest.split_once('}').unwrap().1);
    }
    path
}

/// The field, what it is in, or what stands beside it and decides: `environment.type` about `environment.files`.
fn is_about(param: &str, field: &str) -> bool {
    let beside = param.rsplit_once('.').is_some_and(|(object, _)| field.starts_with(object));
    field.starts_with(param) || beside
}

fn short(json: &Value) -> String {
    json.to_string().chars().take(300).collect()
}

fn takes_anything(kind: &Value) -> bool {
    kind == "any"
        || kind["union"].as_array().is_some_and(|it| it.iter().any(takes_anything))
        || kind.get("list").is_some_and(takes_anything)
}

/// Without places and kinds: `tools[0].server_url` and `tools[mcp].server_url` are the same field.
fn plain(text: &str) -> String {
    let mut is_in = false;
    let keep = |it: &char| {
        is_in = (is_in || *it == '[') && *it != ']';
        !is_in && *it != ']'
    };
    text.chars().filter(keep).collect()
}
