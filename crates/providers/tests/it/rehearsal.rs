//! What can be scripted, as people who test their agents would write it.

use everstate_kernel::delta::Finish;
use everstate_kernel::input::FailureClass;
use everstate_kernel::request::Request;
use expect_test::{Expect, expect};

use crate::ask::{Heard, after_call, ask, config, offer, opened, request};

/// One line for an answer.
fn shown(heard: &Heard) -> String {
    let mut lines = Vec::new();
    if !heard.text().is_empty() {
        lines.push(format!("says: {}", heard.text()));
    }
    lines
        .extend(heard.calls().iter().map(|(name, arguments)| format!("calls: {name} {arguments}")));
    lines.push(match &heard.end {
        Ok(end) => format!(
            "ends: {:?}, {} tokens out, {}",
            end.finish,
            end.usage.output,
            end.model.as_deref().unwrap_or("?")
        ),
        Err(it) => format!("fails: {:?} {}", it.class, it.message),
    });
    lines.join("\n") + "\n"
}

async fn check(script: &str, request: &Request, expected: Expect) {
    let opened = opened("cloud-a", &config(&format!("kind = 'rehearsal'\n{script}")));
    expected.assert_eq(&shown(&ask(&opened, &offer("cloud-a", &opened), request).await));
}

#[tokio::test]
async fn without_a_script_it_repeats_what_it_is_told_and_says_what_it_is() {
    let fixed = "[script]\n";
    check(
        fixed,
        &request("Is {user} there?"),
        expect![[r#"
        says: rehearsal (a simulation, not a model): you said: Is {user} there?
        ends: Stop, 17 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        fixed,
        &request("please\ncall pay {\"n\": 42}"),
        expect![[r#"
        calls: pay {"n": 42}
        ends: Stop, 3 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        fixed,
        &request("call pay\ncall pay {\"n\":2}"),
        expect![[r#"
        calls: pay {}
        calls: pay {"n":2}
        ends: Stop, 4 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        fixed,
        &request("call steal {}"),
        expect![[r#"
        says: rehearsal (a simulation, not a model): there is no tool steal; offered to me: pay
        ends: Stop, 21 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        fixed,
        &request("call me maybe"),
        expect![[r#"
        says: rehearsal (a simulation, not a model): you said: call me maybe
        ends: Stop, 16 tokens out, rehearsal
    "#]],
    )
    .await;
    let asked = request("call pay {}");
    check(
        fixed,
        &after_call(&asked, "pay", "{}", "paid 42"),
        expect![[r#"
        says: rehearsal (a simulation, not a model): pay answered paid 42
        ends: Stop, 15 tokens out, rehearsal
    "#]],
    )
    .await;
}

const AGENT: &str = r#"
[[script.rules]]
when = { says = "invoice", results = false }
reasoning = "An invoice wants to be paid."
text = "I will pay it."
calls = [{ name = "pay", arguments = { n = 42, by = "{provider}" } }]

[[script.rules]]
when = { result_of = "pay", result = "declined" }
text = "It was declined: {result}"

[[script.rules]]
when = { result_of = "pay" }
text = "Paid in step {step}."
usage = { input = 100, output = 5 }

[[script.rules]]
when = { says_exactly = "think" }
reasoning = "Hm."

[[script.rules]]
when = { says = "too long" }
text = "and so on"
finish = "length"

[[script.rules]]
when = { says = "broken arguments" }
calls = [{ name = "pay", arguments = "{\"n\": 4" }]
"#;

#[tokio::test]
async fn rules_answer_in_order() {
    let invoice = request("Pay the invoice.");
    check(
        AGENT,
        &invoice,
        expect![[r#"
        says: I will pay it.
        calls: pay {"by":"cloud-a","n":42}
        ends: Stop, 17 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        AGENT,
        &after_call(&invoice, "pay", "{}", "ok"),
        expect![[r#"
        says: Paid in step 2.
        ends: Stop, 5 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        AGENT,
        &after_call(&invoice, "pay", "{}", "card declined"),
        expect![[r#"
        says: It was declined: card declined
        ends: Stop, 8 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        AGENT,
        &request("broken arguments, please"),
        expect![[r#"
        calls: pay {"n": 4
        ends: Stop, 3 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        AGENT,
        &request("nothing that fits"),
        expect![[r#"
        says: rehearsal (a simulation, not a model): you said: nothing that fits
        ends: Stop, 17 tokens out, rehearsal
    "#]],
    )
    .await;
    check(
        &AGENT.replacen("[[", "[script]\nstrict = true\n[[", 1),
        &request("nothing that fits"),
        expect![[r#"
            fails: Invalid cloud-a (a rehearsal, not a model) answered 400: no rule of the script fits: turn 1, step 1, attempt 1, request 1, offer cloud-a/global/model-1, results of [], user said: nothing that fits
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_answer_may_be_cut_short_by_its_limit() {
    let opened = opened("cloud-a", &config(&format!("kind = 'rehearsal'\n{AGENT}")));
    let heard = ask(&opened, &offer("cloud-a", &opened), &request("too long")).await;
    assert_eq!(heard.end.unwrap().finish, Finish::Length);
}

#[tokio::test]
async fn the_same_step_gets_the_same_answer_from_a_new_process() {
    let request = request("Pay the invoice.");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let opened = opened("cloud-a", &config(&format!("kind = 'rehearsal'\n{AGENT}")));
        // Whatever else was asked before.
        for _ in 0..answers.len() {
            ask(&opened, &offer("cloud-a", &opened), &crate::ask::request("hello")).await;
        }
        answers.push(ask(&opened, &offer("cloud-a", &opened), &request).await);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn tokens_are_estimated_from_bytes_where_the_script_counts_none() {
    let opened = opened("cloud-a", &config(&format!("kind = 'rehearsal'\n{AGENT}")));
    let offer = offer("cloud-a", &opened);
    let first = request("think");
    let bytes = opened.model.prepare(&offer, &first).unwrap().bytes.len() as u64;
    let usage = ask(&opened, &offer, &first).await.end.unwrap().usage;
    assert_eq!((usage.input, usage.output, usage.reasoning), (bytes.div_ceil(4), 1, 1));
    let invoice = after_call(&request("Pay the invoice."), "pay", "{}", "ok");
    let usage = ask(&opened, &offer, &invoice).await.end.unwrap().usage;
    assert_eq!((usage.input, usage.output), (100, 5));
}

#[tokio::test]
async fn what_breaks_at_once_has_shown_nothing() {
    for broken in ["cut", "reset", "garbage", "hang"] {
        let text = format!(
            "kind = 'rehearsal'\ntimeouts = {{ first_token_ms = 50 }}\n\
             [[script.rules]]\ntext = 'never heard'\nbroken = '{broken}'"
        );
        let opened = opened("cloud-a", &config(&text));
        let heard = ask(&opened, &offer("cloud-a", &opened), &request("hi")).await;
        assert_eq!(heard.n_deltas, 0, "{broken}");
        assert!(heard.failure().class.later(), "{broken}");
    }
}

#[tokio::test]
async fn a_rule_may_ask_for_attempt_step_provider_and_offer() {
    let script = r#"
[[script.rules]]
when = { step = { from = 2 }, attempt = 1, provider = "cloud-a" }
error = { status = 503, message = "{provider} is down" }
[[script.rules]]
when = { offer = "cloud-a/global/model-1", model = "model-1", turn = 1, instructions = "brief", tool = "pay" }
text = "all is well"
"#;
    let first = request("hi");
    check(
        script,
        &first,
        expect![[r#"
        says: all is well
        ends: Stop, 3 tokens out, rehearsal
    "#]],
    )
    .await;
    let mut second = after_call(&first, "pay", "{}", "ok");
    check(
        script,
        &second,
        expect![[r#"
        fails: Overloaded cloud-a (a rehearsal, not a model) answered 503: cloud-a is down
    "#]],
    )
    .await;
    second.attempt.attempt = 2;
    check(
        script,
        &second,
        expect![[r#"
        says: all is well
        ends: Stop, 3 tokens out, rehearsal
    "#]],
    )
    .await;
}

#[tokio::test]
async fn requests_are_counted() {
    let script = "kind = 'rehearsal'\n[[script.rules]]\nwhen = { request = 2 }\ntext = 'the second'\n\
        [[script.rules]]\ntext = 'another'";
    let opened = opened("cloud-a", &config(script));
    let offer = offer("cloud-a", &opened);
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(ask(&opened, &offer, &request("hi")).await.text());
    }
    assert_eq!(said, ["another", "the second", "another"]);
}

#[tokio::test]
async fn a_whole_provider_may_be_down_for_a_while() {
    let text = "kind = 'rehearsal'\nfail = { status = 503, from = 2, times = 2, retry_after_ms = 70 }\n\
        [[script.rules]]\ntext = 'here'";
    let opened = opened("cloud-a", &config(text));
    let offer = offer("cloud-a", &opened);
    let mut classes = Vec::new();
    for _ in 0..4 {
        let end = ask(&opened, &offer, &request("hi")).await.end;
        classes.push(end.map(drop).map_err(|it| (it.class, it.retry_after_ms)));
    }
    let down = Err((FailureClass::Overloaded, Some(70)));
    assert_eq!(classes, [Ok(()), down, down, Ok(())]);
}

#[tokio::test]
async fn delays_are_kept() {
    let script = "kind = 'rehearsal'\n[script]\ndelay_ms = 5\n[[script.rules]]\n\
        text = 'one two three'\nfirst_delay_ms = 20";
    let opened = opened("cloud-a", &config(script));
    let begun = tokio::time::Instant::now();
    ask(&opened, &offer("cloud-a", &opened), &request("hi")).await;
    assert!(begun.elapsed().as_millis() >= 30, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_error_may_take_its_time_too() {
    let rule = "[[script.rules]]\nerror = { status = 503 }\nfirst_delay_ms = 30";
    let patient = opened("cloud-a", &config(&format!("kind = 'rehearsal'\n{rule}")));
    let begun = tokio::time::Instant::now();
    let heard = ask(&patient, &offer("cloud-a", &patient), &request("hi")).await;
    assert_eq!(heard.failure().class, FailureClass::Overloaded);
    assert!(begun.elapsed().as_millis() >= 30, "{:?}", begun.elapsed());
    let hasty = format!("kind = 'rehearsal'\ntimeouts = {{ first_token_ms = 5 }}\n{rule}");
    let hasty = opened("cloud-a", &config(&hasty));
    let heard = ask(&hasty, &offer("cloud-a", &hasty), &request("hi")).await;
    assert_eq!(heard.failure().class, FailureClass::Timeout);
}

#[tokio::test]
async fn a_script_may_lie_in_a_file_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.toml"), "[[rules]]\ntext = 'from a file'").unwrap();
    std::fs::write(dir.path().join("bad.toml"), "[[rules]]\ntxt = 'from a file'").unwrap();
    let around = everstate_providers::kind::Around { env: &|_| None, dir: dir.path() };
    let open = |path: &str| {
        let config = config(&format!("kind = 'rehearsal'\nscript = '{path}'"));
        everstate_providers::kind::open("cloud-a", &config, &around)
    };
    let opened = open("a.toml").unwrap();
    assert_eq!(
        ask(&opened, &offer("cloud-a", &opened), &request("hi")).await.text(),
        "from a file"
    );
    assert!(open("bad.toml").unwrap_err().to_string().contains("unknown field `txt`"));
    assert!(open("none.toml").unwrap_err().to_string().contains("cannot read the script"));
}

#[test]
fn its_offers_say_that_they_are_a_simulation() {
    let opened = opened("cloud-a", &config("kind = 'rehearsal'"));
    assert_eq!(opened.facts.get("simulation"), Some(&true));
    assert_eq!(
        everstate_providers::rehearsal::offer("cloud-a").facts.get("simulation"),
        Some(&true)
    );
}
