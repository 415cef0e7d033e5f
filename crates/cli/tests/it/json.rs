//! `--json` on every command: whatever stands on stdout is JSON, one value a line, also when the command fails.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::house::{CONFIG, House, Said};

/// How each command is called, well and wrong. A command that is not here fails the test by name.
fn calls(session: &str, store: &str) -> BTreeMap<&'static str, Vec<Vec<String>>> {
    let words = |text: &str| -> Vec<String> {
        text.split(' ').filter(|it| !it.is_empty()).map(str::to_owned).collect()
    };
    let nobody = "ses_00000000000000000000000000";
    BTreeMap::from([
        ("demo", vec![words("--fast"), words("--live"), words("--limit x")]),
        (
            "run",
            vec![
                words("hello"),
                words("refund --model slow --tools refund"),
                words("hello --model none"),
                words("hello --detach"),
                words(""),
            ],
        ),
        (
            "session list",
            vec![words(""), words("--limit 1"), words("--limit 0"), words("--running")],
        ),
        ("session show", vec![words(session), words("@"), words(nobody), words("nonsense")]),
        ("session watch", vec![words(&format!("{session} --until-idle")), words(nobody)]),
        (
            "session fork",
            vec![
                words(session),
                words(&format!("{session} --at 1")),
                words(&format!("{session} --at 9999")),
            ],
        ),
        (
            "session send",
            vec![
                words(&format!("{session} hello")),
                words(&format!("{nobody} hello")),
                words(session),
            ],
        ),
        ("session cancel", vec![words(session), words(nobody)]),
        ("session stop", vec![words(session), words(nobody), words("")]),
        (
            "stop",
            vec![
                words("--agent agent_nobody --yes"),
                words("--project default --yes"),
                words("--all --hold --yes"),
                words("--all"),
                words(""),
            ],
        ),
        ("start", vec![words("--project default"), words("--all"), words("")]),
        ("session recipient", vec![words("")]),
        ("session keygen", vec![words("-o json.identity"), words("-o no/where")]),
        (
            "session export",
            vec![
                words(&format!("{session} --plain -o json.everstate")),
                words("@ --to evr_x"),
                words(session),
                words("@ --plain -o -"),
                words(&format!("{nobody} --plain")),
            ],
        ),
        (
            "session import",
            vec![words("json.everstate"), words("nowhere"), words("everstate.toml")],
        ),
        ("budget list", vec![words("")]),
        ("retention show", vec![words(""), words("--days 30"), words("--days never")]),
        ("budget show", vec![words(""), words("default"), words("nobody")]),
        ("approval list", vec![words("")]),
        ("approval approve", vec![words(nobody), words("")]),
        ("approval deny", vec![words("mcpr_0 --reason no")]),
        ("effect list", vec![words("")]),
        (
            "effect resolve",
            vec![
                words(&format!("{nobody}/1/c1 --ok")),
                words("nonsense --failed --note gone"),
                words(&format!("{nobody}/1/c1")),
                words(&format!("{nobody}/1/c1 --ok --failed")),
            ],
        ),
        ("project create", vec![words("acme"), words("No"), words("")]),
        ("project list", vec![words("")]),
        (
            "key create",
            vec![
                words("ci --role reader --expires 30d --requests-per-min 60"),
                words("ci --project acme --scopes sessions:read,agents:*"),
                words("ci --role king"),
                words("ci --role owner --scopes keys:read"),
            ],
        ),
        ("key list", vec![words("")]),
        ("key rotate", vec![words("key_nobody"), words("../x --grace soon")]),
        ("key revoke", vec![words("key_nobody"), words("key_nobody --yes")]),
        ("node list", vec![words("")]),
        ("node show", vec![words("n1"), words("../x"), words("")]),
        (
            "explain",
            vec![
                words(session),
                words(&format!("{session}/1.1")),
                words(&format!("{session}/9.9")),
                words("no_offer"),
                words("usage"),
                words("what"),
                words(&format!("@ --store {store}")),
                words("@ --store sqlite:nowhere.db"),
            ],
        ),
        ("doctor", vec![words(""), words("--strict")]),
        ("config show", vec![words(""), words("--config nowhere.toml")]),
        (
            "audit verify",
            vec![words(""), words(&format!("--store {store}")), words("--store sqlite:nowhere.db")],
        ),
        (
            "store copy",
            vec![
                words(&format!("{store} sqlite:carried/state.db")),
                words("sqlite:nowhere.db sqlite:carried/other.db"),
                words("sqlite:state.db"),
                words("memory: sqlite:carried/third.db"),
            ],
        ),
        ("version", vec![words(""), words("--nonsense")]),
        // These stay when all is well; they are looked at below.
        (
            "serve",
            vec![
                words("--store nonsense:"),
                words("--config nowhere.toml --listen 127.0.0.1:0"),
                words("--listen nowhere"),
            ],
        ),
        ("dev", vec![words("--port x"), words("--config nowhere.toml")]),
    ])
}

#[test]
fn every_command_speaks_json() {
    let house = House::new(CONFIG);
    let begun = house.run(&["--json", "run", "hello", "--model", "slow", "--detach"]);
    let begun: Value = serde_json::from_str(begun.out.trim()).unwrap();
    let session = begun["session"].as_str().unwrap().to_owned();
    // A store of its own, which no server has open.
    let mut closed = House::new(CONFIG);
    assert_eq!(closed.run(&["run", "hello"]).code, 0);
    closed.kill();
    let store = format!("sqlite:{}/state.db", closed.dir.path().display());

    let calls = calls(&session, &store);
    for command in leaves(&house, &[]) {
        let ways = calls.get(command.as_str());
        let ways = ways.unwrap_or_else(|| panic!("say in this test how `{command}` is called"));
        for more in ways {
            let mut words = vec!["--json"];
            words.extend(command.split(' '));
            words.extend(more.iter().map(String::as_str));
            check(&words, &house.run(&words));
            // Where no server is, the form is the same.
            let mut alone = words.clone();
            alone.extend(["--server", "http://127.0.0.1:9"]);
            if command != "demo" {
                check(&alone, &house.run(&alone));
            }
        }
    }
    check(&["--json"], &house.run(&["--json"]));
    check(&["--json", "nonsense"], &house.run(&["--json", "nonsense"]));

    let elsewhere = House::empty();
    let (mut dev, line) = elsewhere.spawn(&["--json", "dev", "--port", "0"]);
    let told: Value = serde_json::from_str(&line).unwrap();
    assert!(told["url"].is_string() && told["providers"].is_array(), "{told}");
    dev.kill().unwrap();
    dev.wait().unwrap();
}

fn check(words: &[&str], said: &Said) {
    let Said { code, out, err } = said;
    let values: Vec<Value> = out
        .lines()
        .map(|line| {
            serde_json::from_str(line)
                .unwrap_or_else(|why| panic!("{words:?} said no JSON ({why}): {line}\n{err}"))
        })
        .collect();
    let last =
        values.last().unwrap_or_else(|| panic!("{words:?} said nothing, exit {code}: {err}"));
    let error = &last["error"];
    if error.is_null() {
        assert_eq!(*code, 0, "{words:?}: {out}{err}");
        return;
    }
    assert_eq!(error["exit"].as_i64(), Some(i64::from(*code)), "{words:?}: {error}");
    assert_ne!(*code, 0, "{words:?}: {error}");
    for part in ["code", "message"] {
        assert!(error[part].as_str().is_some_and(|it| !it.is_empty()), "{words:?}: {error}");
    }
    assert!(error["why"].is_array(), "{words:?}: {error}");
    assert_ne!(error["exit"], 70, "{words:?}: {error}");
}

/// All commands there are, as the help lists them.
fn leaves(house: &House, above: &[String]) -> Vec<String> {
    let mut words: Vec<&str> = above.iter().map(String::as_str).collect();
    words.push("--help");
    let help = house.run(&words);
    assert_eq!((help.code, help.err.as_str()), (0, ""), "help goes to stdout");
    let commands: Vec<&str> = help
        .out
        .lines()
        .skip_while(|it| *it != "Commands:")
        .skip(1)
        .take_while(|it| !it.is_empty())
        .filter_map(|it| it.split_whitespace().next())
        .collect();
    if commands.is_empty() {
        return vec![above.join(" ")];
    }
    let below = commands.iter().map(|it| [above, &[(*it).to_owned()]].concat());
    below.flat_map(|it| leaves(house, &it)).collect()
}
