//! What a configuration may say, and what is said to one that is wrong.

use std::path::Path;

use everstate_providers::config::ProviderConfig;
use everstate_providers::kind::{Around, Credentials, all, open};
use expect_test::{Expect, expect};

fn check(text: &str, expected: Expect) {
    let said = match toml::from_str::<ProviderConfig>(text) {
        Ok(config) => format!("fine: {}", config.kind),
        Err(it) => it.message().to_owned(),
    };
    expected.assert_eq(&said);
}

#[test]
fn mistakes_are_told_when_the_file_is_read() {
    check("kind = 'openai'", expect!["fine: openai"]);
    check(
        "",
        expect![
            "`kind` is missing: one of openai, compatible, vllm, ollama, llama.cpp, lm-studio, openrouter, xai, mistral, deepseek, groq, together, fireworks, rehearsal"
        ],
    );
    check(
        "kind = 'opnai'",
        expect![
            "there is no kind of provider `opnai`: known are openai, compatible, vllm, ollama, llama.cpp, lm-studio, openrouter, xai, mistral, deepseek, groq, together, fireworks, rehearsal"
        ],
    );
    check(
        "kind = 'openai'\nbaseurl = 'https://x'",
        expect![
            "unknown field `baseurl`, expected one of `base_url`, `key`, `dialect`, `organization`, `project`, `timeouts`, `reply_max_bytes`, `quirks`"
        ],
    );
    check(
        "kind = 'compatible'",
        expect![[r#"base_url is missing, such as "http://127.0.0.1:8000/v1""#]],
    );
    check(
        "kind = 'openai'\nbase_url = 'api.openai.com/v1'",
        expect!["base_url is no URL: relative URL without a base"],
    );
    check(
        "kind = 'openai'\nbase_url = 'ftp://x/v1'",
        expect!["base_url is `ftp://x/v1`: it has to begin with https:// or http://"],
    );
    check(
        "kind = 'openai'\nbase_url = 'https://me:geheim@x/v1'",
        expect!["base_url contains a user name or password: use `key` for secrets"],
    );
    check(
        "kind = 'openai'\nbase_url = 'https://x/v1?key=geheim'",
        expect!["base_url has a part after `?` or `#`: it ends with the version"],
    );
    check(
        "kind = 'openai'\nkey = 'sk-1234567890'",
        expect![
            "a secret does not belong into a configuration file, where it is copied and shown: put it into an environment variable or a file, and write `env:NAME` or `file:PATH`"
        ],
    );
    check(
        "kind = 'openai'\ndialect = 'klingon'",
        expect!["there is no dialect `klingon`: known are responses, chat"],
    );
    check(
        "kind = 'openai'\ntimeouts = { idle_ms = 0 }",
        expect!["timeouts.idle_ms is 0: it has to be from 1 to 86400000"],
    );
    check(
        "kind = 'openai'\ntimeouts = { idle = 5 }",
        expect![
            "unknown field `idle`, expected one of `connect_ms`, `first_token_ms`, `idle_ms`, `total_ms`"
        ],
    );
    check(
        "kind = 'openai'\nreply_max_bytes = 0",
        expect!["reply_max_bytes is 0: no answer would fit"],
    );
    check(
        "kind = 'openai'\nquirks = { max_tokns = true }",
        expect![
            "quirks: unknown field `max_tokns`, expected one of `max_tokens`, `no_developer_role`, `no_stream_options`, `no_parallel_tool_calls`, `no_strict`, `no_json_schema`, `no_forced_tools`, `no_reasoning_effort`, `no_prompt_cache_key`, `no_store`, `short_call_ids`, `text_results`, `reasoning_field`"
        ],
    );
    check(
        "kind = 'rehearsal'\nkey = 'env:X'",
        expect!["unknown field `key`, expected one of `script`, `fail`, `timeouts`"],
    );
    check(
        "kind = 'rehearsal'\nscript = 3",
        expect!["`script` is neither the path of a file nor a table"],
    );
    check(
        "kind = 'rehearsal'\nfail = { status = 200 }",
        expect!["fail: status 200 is no error: it has to be from 400 to 599"],
    );
    check(
        "kind = 'rehearsal'\nfail = { status = 503, from = 0 }",
        expect!["fail.from is 0: requests are counted from 1"],
    );
    check(
        "kind = 'rehearsal'\n[[script.rules]]\nwhen = { says = 'x' }",
        expect![
            "script: rule 1: it answers nothing: give it `text`, `reasoning`, `calls`, `error` or `broken`"
        ],
    );
    check(
        "kind = 'rehearsal'\n[[script.rules]]\ntext = 'a'\nerror = { status = 500 }",
        expect!["script: rule 1: `error` stands instead of an answer: leave out one"],
    );
    check(
        "kind = 'rehearsal'\n[[script.rules]]\ntext = 'a'\nafter_pieces = 2",
        expect!["script: rule 1: `after_pieces` says when it breaks: `broken` is missing"],
    );
    check(
        "kind = 'rehearsal'\n[[script.rules]]\ntxt = 'a'",
        expect![
            "script: unknown field `txt`, expected one of `when`, `reasoning`, `text`, `calls`, `finish`, `usage`, `error`, `broken`, `after_pieces`, `first_delay_ms`, `delay_ms`"
        ],
    );
    check(
        "kind = 'rehearsal'\n[[script.rules]]\ntext = 'a'\nwhen = { sais = 'x' }",
        expect![
            "script: unknown field `sais`, expected one of `says`, `says_exactly`, `instructions`, `turn`, `step`, `attempt`, `results`, `result`, `result_of`, `tool`, `provider`, `offer`, `model`, `request`"
        ],
    );
}

#[test]
fn a_literal_key_is_not_repeated_however_the_mistake_is_printed() {
    for text in ["kind = 'openai'\nkey = 'sk-1234567890'", "kind='openai'\nkey=['sk-1234567890']"] {
        let it = toml::from_str::<ProviderConfig>(text).unwrap_err();
        assert!(!it.message().contains("1234567890"), "{it}");
    }
}

#[test]
fn every_kind_has_a_name_of_its_own_and_says_what_it_is() {
    let mut names: Vec<_> = all().map(|it| it.name()).collect();
    let n = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), n);
    assert!(all().all(|it| !it.about().is_empty()));
}

#[test]
fn the_usual_key_goes_only_to_the_usual_address() {
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-1234567890".to_owned());
    let around = Around { env: &env, dir: Path::new(".") };
    let credentials =
        |text: &str| open("it", &toml::from_str(text).unwrap(), &around).unwrap().credentials;
    let found = Credentials::From("OPENAI_API_KEY in the environment".to_owned());
    assert_eq!(credentials("kind = 'openai'"), found);
    assert_eq!(credentials("kind = 'openai'\nbase_url = 'https://api.openai.com/v1/'"), found);
    assert_eq!(
        credentials("kind = 'openai'\nbase_url = 'https://example.org/v1'"),
        Credentials::NotNeeded
    );
    let named = "kind = 'openai'\nbase_url = 'https://example.org/v1'\nkey = 'env:OPENAI_API_KEY'";
    assert_eq!(credentials(named), found);
    assert!(matches!(credentials("kind = 'groq'"), Credentials::Missing(_)));
}

#[test]
fn a_key_file_is_looked_for_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "sk-1234567890\n").unwrap();
    let around = Around { env: &|_| None, dir: dir.path() };
    let config: ProviderConfig = toml::from_str("kind = 'openai'\nkey = 'file:key'").unwrap();
    let opened = open("it", &config, &around).unwrap();
    assert!(matches!(&opened.credentials, Credentials::From(it) if it.starts_with("the file ")));
    let config: ProviderConfig = toml::from_str("kind = 'openai'\nkey = 'file:other'").unwrap();
    assert!(matches!(open("it", &config, &around).unwrap().credentials, Credentials::Missing(_)));
}

#[test]
fn a_configuration_is_shown_as_it_was_read() {
    let text = "kind = \"openai\"\nkey = \"env:X\"\n\n[timeouts]\nidle_ms = 5\n";
    let config: ProviderConfig = toml::from_str(text).unwrap();
    assert_eq!(toml::to_string(&config).unwrap(), text);
}
