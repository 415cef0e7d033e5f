use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::*;

fn try_load(text: &str, flags: &Flags, env: &[(&str, &str)]) -> Result<Settings> {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(FILE), text).expect("a file");
    let vars: BTreeMap<&str, &str> = env.iter().copied().collect();
    load(flags, &|name| vars.get(name).map(|it| (*it).to_owned()), dir.path())
}

/// What is said about a mistake.
fn check(text: &str, expect: Expect) {
    let error = try_load(text, &Flags::default(), &[]).expect_err("a mistake");
    let mut told = format!("{}: {error}\n", error.code().word);
    for why in error.reasons() {
        told.push_str(&format!("  why: {why}\n"));
    }
    expect.assert_eq(&told);
}

#[test]
fn a_flag_beats_the_environment_and_that_beats_the_file() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nbody_max_bytes = 5\n";
    let env = [("EVERSTATE_LISTEN", "127.0.0.1:2"), ("EVERSTATE_STORE", "memory:")];
    let flags = Flags { listen: Some("127.0.0.1:3".to_owned()), ..Flags::default() };
    let settings = try_load(file, &flags, &env).expect("no mistake");
    assert_eq!(settings.listen.value, "127.0.0.1:3");
    assert_eq!(settings.listen.origin, Origin::Flag("--listen"));
    assert_eq!(settings.store.origin, Origin::Env("EVERSTATE_STORE"));
    assert!(matches!(settings.body_max_bytes.origin, Origin::File(_)));
    let settings = try_load("", &Flags::default(), &[]).expect("no mistake");
    assert_eq!(settings.listen.value, LISTEN);
    assert_eq!(settings.listen.origin, Origin::Default);
}

#[test]
fn a_slip_of_the_pen_is_shown_with_what_was_meant() {
    check(
        "[policy]\nwithin = [\"eu\"]\nnot_provider = [\"x\"]\n",
        expect![[r#"
            unknown_key: everstate.toml has a key that does not exist: `not_provider` (line 3); nothing was changed
              why: [policy]
               3 | not_provider = ...
                 | ^^^^^^^^^^^^
              why: did you mean `not_providers`?
              why: known here: revision, providers, not_providers, within, facts, no_facts
        "#]],
    );
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_repeated() {
    let text = "[providers.p]\nkind = \"openai\"\nkey = \"sk-very-secret\"\n";
    let error = try_load(text, &Flags::default(), &[]).expect_err("a literal secret");
    assert_eq!(error.code().word, "literal_secret", "{error}");
    let told = format!("{} {:?}", error, error.reasons());
    assert!(!told.contains("very-secret"), "{told}");
}

#[test]
fn offers_need_their_provider_and_their_own_name() {
    check(
        "[[offers]]\nmodel = \"m\"\nprovider = \"nobody\"\n",
        expect![[r#"
            config_invalid: the offer of `m` names the provider `nobody`, and there is no [providers.nobody]
        "#]],
    );
    let twice = "[[offers]]\nmodel = \"m\"\nprovider = \"rehearsal\"\n".repeat(2);
    check(
        &twice,
        expect![[r#"
            config_invalid: two offers are both `rehearsal/global/m`
        "#]],
    );
}

#[test]
fn a_named_file_has_to_be_there() {
    let flags = Flags { config: Some("other.toml".into()), ..Flags::default() };
    let error = try_load("", &flags, &[]).expect_err("no such file");
    assert_eq!(error.code().word, "config_not_found");
}

#[test]
fn prices_are_read_exactly() {
    for (text, pico) in [("2.50", 2_500_000), ("0", 0), ("0.000001", 1), ("15", 15_000_000)] {
        assert_eq!(offers::Dollars::parse(text), Some(offers::Dollars(pico)), "{text}");
    }
    for text in ["", ".", "1.", ".5", "-1", "1e3", "0.0000001", "99999999999999999999", "1,5"] {
        assert_eq!(offers::Dollars::parse(text), None, "{text}");
    }
}

#[test]
fn what_is_shown_has_no_secrets_and_all_origins() {
    let env = [("EVERSTATE_ADMIN_KEY", "0123456789abcdef")];
    let settings =
        try_load("[limits]\nsteps_max = 3\n", &Flags::default(), &env).expect("no mistake");
    let told: String = settings
        .shown()
        .iter()
        .map(|it| format!("{} = {} ({})\n", it.key, it.value, it.origin))
        .collect();
    assert!(!told.contains("0123456789"), "{told}");
    assert!(told.contains("admin_key = \"(set)\" (env EVERSTATE_ADMIN_KEY)"), "{told}");
    assert!(told.contains("limits.attempts_max = 6 (default)"), "{told}");
    let steps =
        settings.shown().into_iter().find(|it| it.key == "limits.steps_max").expect("is shown");
    assert!(matches!(steps.origin, Origin::File(_)));
}
