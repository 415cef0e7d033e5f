//! What lies in the environment, and what is made of it.

#![allow(clippy::unwrap_used)] // What is looked for was put there.

use expect_test::{Expect, expect};

use super::{found, open_offers};

fn check(env: &[(&str, &str)], expected: Expect) {
    let lookup =
        |name: &str| env.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
    let lines = found(&lookup).into_iter().map(|it| {
        let offers: Vec<_> = open_offers(&it, "gpt-x").into_iter().map(|offer| offer.id).collect();
        let open =
            if it.by_model_name { offers.join(" then ") } else { "only mentioned".to_owned() };
        let settings = toml::to_string(&it.config).unwrap().replace('\n', "; ");
        format!("{}: {}\n  {settings}\n  {open}\n", it.name, it.origin)
    });
    expected.assert_eq(&lines.collect::<String>());
}

#[test]
fn what_lies_in_the_environment_is_found_and_its_origin_named() {
    check(&[], expect![]);
    check(&[("OPENAI_API_KEY", "  ")], expect![]);
    check(
        &[("OPENAI_API_KEY", "sk-1234567890")],
        expect![[r#"
        openai: OPENAI_API_KEY in the environment
          kind = "openai"; key = "env:OPENAI_API_KEY"; 
          openai/global/gpt-x
    "#]],
    );
    check(
        &[
            ("OPENAI_API_KEY", "sk-1234567890"),
            ("OPENAI_BASE_URL", "https://eu.api.openai.com/v1"),
            ("OPENAI_ORG_ID", "org-1"),
            ("OPENAI_PROJECT_ID", "proj_1"),
        ],
        expect![[r#"
            openai: OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID in the environment
              kind = "openai"; base_url = "https://eu.api.openai.com/v1"; key = "env:OPENAI_API_KEY"; organization = "org-1"; project = "proj_1"; 
              openai/global/gpt-x
        "#]],
    );
    check(
        &[("OPENAI_BASE_URL", "http://127.0.0.1:9999/v1")],
        expect![[r#"
        openai: OPENAI_BASE_URL in the environment
          kind = "openai"; base_url = "http://127.0.0.1:9999/v1"; 
          openai/global/gpt-x then openai/global/gpt-x/chat
    "#]],
    );
    check(
        &[("GROQ_API_KEY", "gsk_1234567890"), ("OPENAI_ORG_ID", "org-1")],
        expect![[r#"
        groq: GROQ_API_KEY in the environment
          kind = "groq"; key = "env:GROQ_API_KEY"; 
          only mentioned
    "#]],
    );
}

#[test]
fn what_was_found_can_be_opened() {
    let env = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-1234567890".to_owned());
    let around = crate::kind::Around { env: &env, dir: std::path::Path::new(".") };
    let [it] = &found(&env)[..] else { panic!("one") };
    let opened = crate::kind::open(&it.name, &it.config, &around).unwrap();
    assert_eq!(opened.base_url.as_deref(), Some("https://api.openai.com/v1"));
    assert_eq!(open_offers(it, "gpt-x")[0].facts.get("price_known"), Some(&false));
}
