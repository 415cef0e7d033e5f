//! The reference pages that follow from the commands and from the tables of words. They are committed, and compared
//! here; `UPDATE_EXPECT=1 cargo nextest run -p everstate-cli reference` writes them anew.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Arg, CommandFactory};
use everstate_server::error::codes as doors;
use expect_test::expect_file;

use super::*;

const RENEW: &str =
    "<!-- Written by a test. UPDATE_EXPECT=1 cargo nextest run -p everstate-cli reference -->\n";

#[test]
fn reference_of_the_command_line() {
    let mut cli = Cli::command();
    cli.build();
    let mut page = format!("# Command line\n\n{RENEW}\n");
    page.push_str(&format!("{}\n\n", cli.get_about().expect("it says what it is for")));
    page.push_str("What was asked for is on stdout, all else on stderr. An address is `ses_4kq7/1.3`: turn 1, step 3 of the session\nwhose id begins so; `@` is the newest session.\n\n## Every command\n\n");
    let globals: Vec<&Arg> = cli.get_arguments().filter(|it| it.is_global_set()).collect();
    page.push_str(&table(&globals));
    tell(&cli, &mut page);
    page.push_str("\n## Exit codes\n\n| code | meaning | errors |\n| --- | --- | --- |\n");
    for (exit, meaning) in EXITS {
        page.push_str(&format!("| {exit} | {meaning} | {} |\n", words_of(*exit)));
    }
    page.push_str(
        "\nThe words are explained in [errors.md](errors.md), and by `everstate explain WORD`.\n",
    );
    page.push_str("\n## Environment\n\nA flag beats a variable, a variable beats `everstate.toml`.\n\n| variable | meaning |\n| --- | --- |\n");
    for (name, meaning) in ENVIRONMENT {
        page.push_str(&format!("| `{name}` | {meaning} |\n"));
    }
    expect_file!["../../../../docs/reference/cli.md"].assert_eq(&page);
}

#[test]
fn reference_of_the_errors() {
    let mut page = format!("# Errors\n\n{RENEW}\n");
    page.push_str(
        "An error has the shape of the API's own, `{\"error\": {\"type\", \"code\", \"message\", \"param\", \"why\", \"try\", \"address\"}}`, and the\n\
         header `x-should-retry`, which the official clients follow. `code` is one of these words; `everstate explain WORD`\n\
         says the same without a network. Words are never renamed and never reused.\n\n## Over HTTP\n\n\
         Repeat: does sending the same request again help?\n\n\
         | code | status | type | repeat | exit | meaning |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let rows = || doors::CODES.iter().copied();
    let start = rows().filter(|it| is_of_start(it.word));
    for it in rows().filter(|it| !is_of_start(it.word)) {
        let again = if it.retry { "yes" } else { "no" };
        let (word, status, kind, exit, explain) =
            (it.word, it.status, it.kind, it.exit, it.explain);
        page.push_str(&format!(
            "| `{word}` | {status} | `{kind}` | {again} | {exit} | {explain} |\n"
        ));
    }
    page.push_str(
        "\n## On the command line alone\n\n| code | exit | meaning |\n| --- | --- | --- |\n",
    );
    let start = start.map(|it| (it.word, it.exit, it.explain));
    for (word, exit, explain) in
        start.chain(codes::WORDS.iter().map(|it| (it.word, it.exit, it.explain)))
    {
        page.push_str(&format!("| `{word}` | {exit} | {explain} |\n"));
    }
    expect_file!["../../../../docs/reference/errors.md"].assert_eq(&page);
}

/// Told by a server that cannot start, and so by no server.
fn is_of_start(word: &str) -> bool {
    let row = doors::find(word).expect("it was found in the table");
    [
        &doors::CONFIG_INVALID,
        &doors::UNKNOWN_KEY,
        &doors::LITERAL_SECRET,
        &doors::CONFIG_NOT_FOUND,
        &doors::PORT_IN_USE,
        &doors::STORE_LOCKED,
        &doors::STORE_NEWER,
        &doors::STORE_FAILED,
        &doors::STORE_UNREACHABLE,
        &doors::NODE_REFUSED,
    ]
    .contains(&row)
}

/// All commands below this one.
fn tell(command: &clap::Command, page: &mut String) {
    for below in command.get_subcommands() {
        if below.has_subcommands() {
            tell(below, page);
            continue;
        }
        let name = below.get_bin_name().expect("the tree was built");
        let usage = below.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage: ");
        let about = below.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("\n## {name}\n\n{about}.\n\n```\n{usage}\n```\n"));
        let own: Vec<&Arg> = below
            .get_arguments()
            .filter(|it| !it.is_global_set() && it.get_id() != "help")
            .collect();
        if !own.is_empty() {
            page.push_str(&format!("\n{}", table(&own)));
        }
    }
}

fn table(arguments: &[&Arg]) -> String {
    let mut text = "| argument | meaning | unless said |\n| --- | --- | --- |\n".to_owned();
    for it in arguments {
        let values = || {
            let names = it.get_value_names().unwrap_or_default();
            names.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(" ")
        };
        let takes = it.get_action().takes_values();
        let name = match it.get_long() {
            Some(long) if takes => format!("--{long} {}", values()),
            Some(long) => format!("--{long}"),
            None => values(),
        };
        let mut meaning = it.get_help().map(ToString::to_string).unwrap_or_default();
        let choices = it.get_possible_values();
        if takes && !choices.is_empty() {
            let choices: Vec<&str> = choices.iter().map(|it| it.get_name()).collect();
            meaning.push_str(&format!(": {}", choices.join(", ")));
        }
        if let Some(env) = it.get_env() {
            meaning.push_str(&format!("; also `{}`", env.to_string_lossy()));
        }
        let defaults = it.get_default_values().iter().filter(|_| takes);
        let default: Vec<String> =
            defaults.map(|it| format!("`{}`", it.to_string_lossy())).collect();
        text.push_str(&format!("| `{name}` | {meaning} | {} |\n", default.join(" ")));
    }
    text
}

/// All words with which a command ends so.
fn words_of(exit: u8) -> String {
    let doors = doors::CODES.iter().filter(|it| it.exit == exit).map(|it| it.word);
    let ours = codes::WORDS.iter().filter(|it| it.exit == exit).map(|it| it.word);
    let words: BTreeSet<&str> = doors.chain(ours).collect();
    words.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")
}

const EXITS: &[(u8, &str)] = &[
    (0, "done"),
    (1, "it failed"),
    (2, "usage or configuration"),
    (3, "not found"),
    (4, "not permitted"),
    (5, "refused by policy, terms or budget"),
    (6, "conflict"),
    (7, "waiting for a person"),
    (8, "unreachable, worth repeating"),
    (70, "our bug"),
    (130, "interrupted"),
];

#[test]
fn no_error_exits_with_a_code_that_is_not_explained() {
    let known = |exit: u8| EXITS.iter().any(|it| it.0 == exit);
    assert!(doors::CODES.iter().all(|it| known(it.exit)));
    assert!(codes::WORDS.iter().all(|it| known(it.exit)));
}

const ENVIRONMENT: &[(&str, &str)] = &[
    ("EVERSTATE_URL", "address of the server that commands talk to"),
    (
        "EVERSTATE_KEY",
        "key that commands send; without it EVERSTATE_ADMIN_KEY, then the nearest `.everstate/key`",
    ),
    ("EVERSTATE_ADMIN_KEY", "the admin key of a server that is started; at least 8 characters"),
    ("EVERSTATE_LISTEN", "as `serve --listen`"),
    ("EVERSTATE_STORE", "as `serve --store`"),
    ("EVERSTATE_BLOBS", "as `serve --blobs`"),
    (
        "AWS_...",
        "where blobs are in a bucket: its credentials, region and endpoint; see [blobs.md](../blobs.md)",
    ),
    ("EVERSTATE_KEYS", "as `serve --keys`"),
    ("EVERSTATE_NODE_NAME", "as `serve --node-name`"),
    ("EVERSTATE_ADVERTISE", "as `serve --advertise`"),
    ("EVERSTATE_LEASE_TTL_MS", "as `server.lease_ttl_ms`"),
    ("EVERSTATE_STORE_WAIT_S", "as `server.store_wait_s`"),
    ("EVERSTATE_CONFIG", "as `serve --config`"),
    ("EVERSTATE_BODY_MAX_BYTES", "as `server.body_max_bytes`"),
    (
        "EVERSTATE_MASTER_KEY",
        "the key that wraps all data keys, where `server.master_key` says nothing",
    ),
    (
        "OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID",
        "make that upstream usable by the names of its models",
    ),
    ("NO_COLOR, TERM=dumb", "no colours"),
    ("COLUMNS", "how wide a timeline may be"),
    ("RUST_LOG", "how much a server says on stderr"),
];

#[test]
fn every_variable_of_ours_is_in_the_reference() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeSet::new();
    for krate in std::fs::read_dir(crates).expect("the folder of the crates is there").flatten() {
        variables(&krate.path().join("src"), &mut found);
    }
    let told: BTreeSet<String> = ENVIRONMENT
        .iter()
        .map(|it| it.0.to_owned())
        .filter(|it| it.starts_with("EVERSTATE_"))
        .collect();
    assert_eq!(found, told);
}

/// Names in quotes, as they are when somebody reads a variable.
fn variables(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            variables(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).expect("a source file is text");
            let names = text.split("\"EVERSTATE_").skip(1);
            found.extend(
                names
                    .filter_map(|it| it.split_once('"'))
                    .filter(|(name, _)| name.chars().all(|it| it.is_ascii_uppercase() || it == '_'))
                    .map(|(name, _)| format!("EVERSTATE_{name}")),
            );
        }
    }
}
