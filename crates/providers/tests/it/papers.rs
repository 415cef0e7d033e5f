//! What `docs/providers.md`, `docs/rehearsal.md` and `examples/rehearsal` say is true.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use everstate_providers::compatible::COMPATIBLE;
use everstate_providers::config::ProviderConfig;
use everstate_providers::kind::{Around, all, open};
use everstate_providers::rehearsal::load;
use expect_test::expect;

use crate::ask::{after_call, ask, config, offer, opened, request};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// The names that a table may have, as the error about an unknown one lists them.
fn fields(text: &str) -> Vec<String> {
    let error = toml::from_str::<ProviderConfig>(text).unwrap_err();
    let message = error.message();
    let (_, known) = message.split_once("expected one of ").unwrap_or_else(|| panic!("{message}"));
    known.split(", ").map(|it| it.trim_matches('`').to_owned()).collect()
}

#[test]
fn every_kind_is_listed_with_what_it_is() {
    let page = page("providers.md");
    for row in COMPATIBLE {
        let place = match row.base_url {
            "" => "`base_url` has to be said".to_owned(),
            url => format!("`{url}`"),
        };
        let key = row.key_env.map(|it| format!(" `{it}`")).unwrap_or_default();
        let line = format!("| `{}` | {place} | {} |{key} |", row.name, row.dialect);
        assert!(page.contains(&line), "{line}");
    }
    assert!(all().all(|it| page.contains(&format!("| `{}` | ", it.name()))));
}

#[test]
fn every_setting_is_explained() {
    let page = page("providers.md");
    for table in ["unknown = 1", "timeouts = { unknown = 1 }", "quirks = { unknown = 1 }"] {
        for field in fields(&format!("kind = 'openai'\n{table}")) {
            assert!(page.contains(&format!("`{field}`")), "{field}");
        }
    }
    for snippet in page.split("```toml\n").skip(1) {
        providers(snippet.split("```").next().unwrap());
    }
}

#[test]
fn every_field_of_a_script_is_explained() {
    let page = page("rehearsal.md");
    let rule = "[[script.rules]]\ntext = 'a'";
    for table in [
        "unknown = 1".to_owned(),
        "script = { unknown = 1 }".to_owned(),
        "fail = { unknown = 1 }".to_owned(),
        "timeouts = { unknown = 1 }".to_owned(),
        format!("{rule}\nunknown = 1"),
        format!("{rule}\nwhen = {{ unknown = 1 }}"),
        format!("{rule}\nerror = {{ status = 500, unknown = 1 }}"),
        format!("{rule}\nusage = {{ unknown = 1 }}"),
    ] {
        for field in fields(&format!("kind = 'rehearsal'\n{table}")) {
            assert!(
                page.contains(&format!("`{field}`")) || page.contains(&format!("{field} =")),
                "{field}"
            );
        }
    }
}

#[test]
fn the_snippets_are_read_as_they_stand() {
    let page = page("rehearsal.md");
    let snippets: Vec<_> =
        page.split("```toml\n").skip(1).map(|it| it.split("```").next().unwrap()).collect();
    assert!(snippets.len() >= 5);
    let dir = tempfile::tempdir().unwrap();
    for snippet in snippets {
        if snippet.starts_with("[[rules]]") {
            std::fs::write(dir.path().join("it.toml"), snippet).unwrap();
            load(&dir.path().join("it.toml")).unwrap();
        } else {
            providers(snippet);
        }
    }
}

fn providers(text: &str) -> BTreeMap<String, ProviderConfig> {
    let mut table: toml::Table = toml::from_str(text).unwrap();
    table.remove("providers").expect("some providers").try_into().unwrap()
}

#[tokio::test]
async fn the_refund_example_runs_to_its_end() {
    let dir = root().join("examples/rehearsal");
    let config = config("kind = 'rehearsal'\nscript = 'refund.toml'");
    let opened = open("stage", &config, &Around { env: &|_| None, dir: &dir }).unwrap();
    let offer = offer("stage", &opened);
    let mut now = request("Order 1182 was charged twice. Put it right.");
    let mut shown = String::new();
    for output in [r#"[{"id":"ch_1"},{"id":"ch_2"}]"#, "re_77 done"] {
        let heard = ask(&opened, &offer, &now).await;
        let [(name, arguments)] = heard.calls()[..] else { panic!("one call: {heard:?}") };
        shown += &format!("{} -> {name}({arguments})\n", heard.text());
        now = after_call(&now, name, arguments, output);
    }
    shown += &ask(&opened, &offer, &now).await.text();
    expect![[r#"
        I will look at the charges. -> charges_list({"order":"1182"})
        The second charge is a mistake. -> refund({"amount":"49.00","charge":"ch_2"})
        I refunded the second charge. The bank says: re_77 done"#]]
    .assert_eq(&shown);
}

#[test]
fn the_other_examples_are_read_as_they_stand() {
    let dir = root().join("examples/rehearsal");
    load(&dir.join("broken.toml")).unwrap();
    let clouds = std::fs::read_to_string(dir.join("two-clouds.toml")).unwrap();
    for (name, config) in providers(&clouds) {
        open(&name, &config, &Around { env: &|_| None, dir: &dir }).unwrap();
    }
}

#[tokio::test]
async fn the_answers_to_bad_days_differ_from_attempt_to_attempt() {
    let dir = root().join("examples/rehearsal");
    let script = std::fs::read_to_string(dir.join("broken.toml")).unwrap();
    let script = script.replace("[[rules]]", "[[script.rules]]");
    let opened = opened("stage", &config(&format!("kind = 'rehearsal'\n{script}")));
    let offer = offer("stage", &opened);
    let mut now = request("please get lost");
    assert_eq!(ask(&opened, &offer, &now).await.text(), "This answer gets lost ");
    now.attempt.attempt = 2;
    assert_eq!(ask(&opened, &offer, &now).await.text(), "Attempt 2 of step 1 went well.");
}
