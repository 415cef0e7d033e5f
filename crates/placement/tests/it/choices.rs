//! Who is chosen, and what is said of the others: one small market per test.

use std::fmt::Write;

use everstate_placement::explain::{self, Cache, Verdict};
use everstate_placement::place::place;
use expect_test::{Expect, expect};

use crate::read::{NOW, scene};

fn check(text: &str, expected: Expect) {
    let scene = scene(text);
    let answer = place(&scene.ask, &scene.offers, &scene.seen, NOW);
    let mut out = String::new();
    let asked = Some((&scene.ask, NOW));
    for row in explain::rows(answer.as_ref(), &scene.offers, asked) {
        let mark = match row.verdict {
            Verdict::Chosen => '>',
            Verdict::Passed => '-',
            Verdict::Out => 'x',
        };
        let cost = row.expected.map_or(String::new(), |it| format!(" {it}µ"));
        let cache = if row.cache == Some(Cache::Warm) { " warm" } else { "" };
        writeln!(out, "{mark} {}{cost}{cache}: {}", row.offer, row.why).expect("memory");
    }
    match &answer {
        Ok(plan) => {
            write!(out, "reserved {}µ", plan.reserved).expect("memory");
            if let Some(cap) = plan.max_output_tokens {
                write!(out, ", output at most {cap}").expect("memory");
            }
            if let Some(from) = &plan.moved_from {
                write!(out, ", moved from {from}").expect("memory");
            }
            writeln!(out).expect("memory");
        }
        Err(none) => {
            let again = none.again_at.map_or("never".to_owned(), |it| format!("+{}ms", it - NOW));
            writeln!(out, "again {again}, unknown model {}", none.unknown_model).expect("memory");
        }
    }
    expected.assert_eq(&out);
}

#[test]
fn the_cheapest_serves() {
    check(
        "a: 2.50 0.25 10.00
         b: 2.00 0.20 10.00
         c: 2.00 0.20 8.00, model other",
        expect![[r#"
            > b 7000µ: the cheapest for this session
            - a 7500µ: not cheaper for this session
            x c: another model
            reserved 42000µ
        "#]],
    );
}

#[test]
fn what_is_needed_is_there_or_the_offer_is_out() {
    check(
        "ask: 1000 tokens, tools, images, schema
         a: 1.00 1.00 1.00, no tools
         b: 1.00 1.00 1.00, no images
         c: 1.00 1.00 1.00, no schema
         d: 1.00 1.00 1.00, context 1010
         e: 1.00 1.00 1.00
         f: 9.00 1.00 9.00
         seen e: no key",
        expect![[r#"
            > f 13500µ: the only one that could serve
            x a 1500µ: takes no tools
            x b 1500µ: takes no images
            x c 1500µ: holds no answer to a schema
            x d 1010µ: too small for this context
            x e 1500µ: no credentials
            reserved 45000µ
        "#]],
    );
}

#[test]
fn constraints_come_before_everything_and_unknown_fails() {
    check(
        "ask: within eu, fact zero-retention, never cloud-d
         a: 1.00 1.00 1.00
         b: 1.00 1.00 1.00, in eu-central-1
         c: 5.00 5.00 5.00, in geo eu, fact zero-retention
         d: 1.00 1.00 1.00, in geo eu, fact zero-retention
         e: 1.00 1.00 1.00, in euro-1, fact zero-retention
         seen c: cooling 60s",
        expect![[r#"
            > c 7500µ: the only one that could serve
            x a 1500µ: forbidden, the policy says: within eu
            x b 1500µ: forbidden, the policy says: zero-retention
            x d 1500µ: forbidden, the policy says: not cloud-d
            x e 1500µ: forbidden, the policy says: within eu
            reserved 25000µ
        "#]],
    );
}

#[test]
fn nobody_may_serve() {
    check(
        "ask: within eu
           a: 1.00 1.00 1.00",
        expect![[r#"
            x a 1500µ: forbidden, the policy says: within eu
            again never, unknown model false
        "#]],
    );
    check(
        "a: 1.00 1.00 1.00, model other",
        expect![[r#"
        x a: another model
        again never, unknown model true
    "#]],
    );
    check(
        "ask: avoid a hopeless
           a: 1.00 1.00 1.00",
        expect![[r#"
            x a 1500µ: failed in this step
            again never, unknown model false
        "#]],
    );
}

#[test]
fn a_warm_cache_is_left_only_for_a_better_price() {
    check(
        "ask: 20000 tokens, warm a 20000 10s ago
         a: 2.50 0.25 10.00, ttl 300s
         b: 2.40 0.24 9.60, ttl 300s
         c: 2.40 2.40 9.60",
        expect![[r#"
            > a 10000µ warm: its cache is warm: leaving would cost more
            - b 52800µ: its cache is cold for this session
            - c 52800µ: not cheaper for this session
            reserved 90000µ
        "#]],
    );
    check(
        "ask: 20000 tokens, warm a 20000 301s ago
         a: 2.50 0.25 10.00, ttl 300s
         b: 2.40 0.24 9.60, ttl 300s",
        expect![[r#"
            > b 52800µ: the cheapest for this session
            - a 55000µ: not cheaper for this session
            reserved 86400µ, moved from a
        "#]],
    );
    check(
        "ask: 20000 tokens, warm a 20000 10s ago
         a: 2.50 0.25 10.00, ttl 300s
         b: 0.10 0.01 0.40, ttl 300s",
        expect![[r#"
            > b 2200µ: the cheapest for this session
            - a 10000µ warm: not cheaper for this session
            reserved 3600µ, moved from a
        "#]],
    );
}

#[test]
fn an_offer_that_caches_is_cheaper_over_a_session() {
    check(
        "ask: 20000 tokens
         a: 2.50 0.25 10.00, ttl 300s
         b: 1.30 1.30 10.00",
        expect![[r#"
            > a 55000µ: the cheapest for this session
            - b 31000µ: not cheaper for this session
            reserved 90000µ
        "#]],
    );
}

#[test]
fn a_tool_loop_stays_where_it_is_unless_forced() {
    check(
        "ask: loop, warm a 1000 900s ago
         a: 2.50 0.25 10.00, ttl 300s
         b: 0.10 0.01 0.40",
        expect![[r#"
            > a 7500µ: the session stays in the middle of a tool loop
            - b 300µ: its cache is cold for this session
            reserved 42500µ
        "#]],
    );
    check(
        "ask: loop, warm a 1000 10s ago, avoid a failed
         a: 2.50 0.25 10.00, ttl 300s
         b: 9.00 9.00 9.00",
        expect![[r#"
            > b 13500µ: a better one failed in this step or is cooling down
            x a 5250µ warm: failed in this step
            reserved 45000µ, moved from a
        "#]],
    );
}

#[test]
fn what_failed_is_avoided_while_there_is_another() {
    check(
        "ask: avoid a failed
         a: 1.00 1.00 1.00
         b: 9.00 9.00 9.00
         seen a: cooling 5s",
        expect![[r#"
            > b 13500µ: a better one failed in this step or is cooling down
            x a 1500µ: failed in this step
            reserved 45000µ
        "#]],
    );
    check(
        "ask: avoid a failed, avoid b hopeless
         a: 1.00 1.00 1.00
         b: 1.00 1.00 1.00",
        expect![[r#"
            > a 1500µ: the cheapest for this session
            x b 1500µ: failed in this step
            reserved 5000µ
        "#]],
    );
    check(
        "ask: avoid a failed
         a: 1.00 1.00 1.00
         b: 1.00 1.00 1.00
         seen b: cooling 60s, rate limited",
        expect![[r#"
            > a 1500µ: the cheapest for this session
            x b 1500µ: rate limited
            reserved 5000µ
        "#]],
    );
}

#[test]
fn nothing_cools_down_to_nobody() {
    check(
        "a: 1.00 1.00 1.00
         seen a: cooling 30s",
        expect![[r#"
            > a 1500µ: the only one that could serve
            reserved 5000µ
        "#]],
    );
    check(
        "a: 1.00 1.00 1.00
         b: 2.00 2.00 2.00
         seen a: cooling 30s, rate limited
         seen b: cooling 20s",
        expect![[r#"
            > b 3000µ: a better one failed in this step or is cooling down
            x a 1500µ: rate limited
            reserved 10000µ
        "#]],
    );
}

#[test]
fn what_has_cooled_down_serves_again() {
    check(
        "a: 1.00 1.00 1.00
         b: 2.00 2.00 2.00
         seen a: cooling 0s",
        expect![[r#"
            > a 1500µ: the cheapest for this session
            - b 3000µ: not cheaper for this session
            reserved 5000µ
        "#]],
    );
}

#[test]
fn a_hedge_goes_to_a_healthy_offer_or_nowhere() {
    check(
        "ask: avoid a in-use
         a: 1.00 1.00 1.00
         b: 2.00 2.00 2.00",
        expect![[r#"
            > b 3000µ: a second try beside a slow first
            x a 1500µ: another attempt of this step is on it
            reserved 10000µ
        "#]],
    );
    check(
        "ask: avoid a in-use
         a: 1.00 1.00 1.00
         b: 2.00 2.00 2.00
         seen a: cooling 5s
         seen b: cooling 20s",
        expect![[r#"
            x a 1500µ: another attempt of this step is on it
            x b 3000µ: cooling down after failures
            again +20000ms, unknown model false
        "#]],
    );
}

#[test]
fn a_budget_caps_the_answer_and_bars_what_it_cannot_pay() {
    check(
        "ask: 1000 tokens, budget 6000
         a: 1.00 1.00 5.00
         b: 1.00 1.00 500.00",
        expect![[r#"
            > a 3500µ: the only one that could serve
            x b: the budget does not pay for one step there
            reserved 6000µ, output at most 1000
        "#]],
    );
    check(
        "ask: 1000 tokens, budget 60000, output 400
           a: 1.00 1.00 5.00",
        expect![[r#"
            > a 3000µ: the only one that could serve
            reserved 3000µ, output at most 400
        "#]],
    );
    // A dear offer does not become cheap because less can be had of it.
    check(
        "ask: 1000 tokens, budget 1400
           a: 1.00 1.00 20.00
           b: 1.00 1.00 4.00",
        expect![[r#"
            > b 1400µ: the cheapest for this session
            - a 1400µ: not cheaper for this session
            reserved 1400µ, output at most 100
        "#]],
    );
    check(
        "ask: 1000 tokens, budget 0
           a: 1.00 1.00 5.00
           free: 0.00 0.00 0.00",
        expect![[r#"
            > free 0µ: the only one that could serve
            x a: the budget does not pay for one step there
            reserved 0µ
        "#]],
    );
}

#[test]
fn equal_prices_are_decided_by_staying_then_speed_then_name() {
    let offers = "a: 1.00 1.00 1.00
                  b: 1.00 1.00 1.00
                  c: 1.00 1.00 1.00";
    let cases = [
        ("", "a"),
        ("ask: warm c 10 10s ago", "c"),
        ("seen a: first token 300\nseen b: first token 200\nseen c: first token 250", "b"),
        ("seen a: first token 300", "b"),
    ];
    for (rest, expected) in cases {
        let scene = scene(&format!("{offers}\n{rest}"));
        let plan = place(&scene.ask, &scene.offers, &scene.seen, NOW).expect("all may serve");
        assert_eq!(plan.offer, expected, "{rest}");
    }
}

#[test]
fn the_list_is_named_by_what_it_says() {
    let one = scene("a: 1.00 1.00 1.00\nb: 1.00 1.00 1.00").offers;
    let turned = scene("b: 1.00 1.00 1.00\na: 1.00 1.00 1.00").offers;
    let dearer = scene("a: 1.00 1.00 1.00\nb: 1.00 1.00 1.01").offers;
    assert_eq!(one, turned);
    assert_ne!(one.revision, dearer.revision);
    expect!["4023201164982696"].assert_eq(&one.revision.to_string());
}

#[test]
fn a_plan_over_another_list_is_told_without_the_others() {
    let then = scene("a: 1.00 1.00 1.00\nb: 2.00 2.00 2.00");
    let today = scene("c: 1.00 1.00 1.00");
    let plan = place(&then.ask, &then.offers, &then.seen, NOW).expect("both may serve");
    let rows = explain::rows(Ok(&plan), &today.offers, None);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].offer.as_str(), rows[0].verdict), ("a", Verdict::Chosen));
}
