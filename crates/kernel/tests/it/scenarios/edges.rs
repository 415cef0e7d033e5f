//! Stories at the edge of a rule: one more, one less, one too late.

use expect_test::expect;

use super::check;

#[test]
fn what_will_not_do_better_elsewhere_is_not_tried_there() {
    check(
        "
        user: hello
        placed: eu-1 others
        fail: too_long
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 failed: too_long
              4 turn 1 failed: context_length_exceeded
            wants: nothing
        "#]],
    );
}

#[test]
fn a_pause_doubles_with_each_try() {
    check(
        "
        user: hello
        placed: eu-1
        fail: overloaded
        wait 100
        placed: eu-1
        fail: overloaded
        wait 199
        wait 1
        placed: eu-1
        fail: overloaded
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 failed: overloaded
              4 retry at 101
              5 attempt 1.1#2 retry
              6 1.1#2 placed: eu-1
              7 1.1#2 failed: overloaded
              7 retry at 301
              - nothing follows
              8 attempt 1.1#3 retry
              9 1.1#3 placed: eu-1
             10 1.1#3 failed: overloaded
             10 retry at 701
            wants: wake at 701
        "#]],
    );
}

#[test]
fn what_one_attempt_showed_is_not_the_others() {
    check(
        "
        terms: hedge
        user: hello
        placed: eu-1 others
        shown: Once upon
        wait 50
        placed: eu-2
        fail: broken
        fail: broken
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 attempt 1.1#2 hedge
              5 1.1#2 placed: eu-2
              6 1.1#2 failed: broken
              7 1.1#1 failed: broken, about 5 micros
              7 sealed: assistant "Once upon" (incomplete)
              7 attempt 1.1#3 restart
            wants: place 1.1#3, wake at 100001
        "#]],
    );
}

#[test]
fn the_last_try_may_be_lost_too() {
    check(
        "
        terms: attempts=1
        user: hello
        placed: eu-1
        crash
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 owned, epoch 2
              4 1.1#1 lost after 0 frames, about 5 micros
              4 turn 1 failed: process_lost
            wants: nothing
        "#]],
    );
    check(
        "
        terms: attempts=2
        user: hello
        placed: eu-1
        crash
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 owned, epoch 2
              4 1.1#1 lost after 0 frames, about 5 micros
              4 attempt 1.1#2 retry
            wants: place 1.1#2, wake at 100001
        "#]],
    );
}

#[test]
fn a_yes_starts_the_call_of_a_turn_that_waits() {
    check(
        "
        terms: hold
        user: pay
        placed: eu-1
        model: call pay
        approve pay
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              5 1/c1 approved
              5 1/c1 started
            wants: tool 1/c1, wake at 100001
        "#]],
    );
}

#[test]
fn a_yes_that_comes_too_late_is_refused_even_before_the_clock_was_looked_at() {
    check(
        "
        user: pay
        placed: eu-1
        model: call pay
        later 9999
        deny pay
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              4 turn 1 completed
              5 1/c1 denied
              5 1/c1 denied: Denied by a person. It was not run.
            wants: nothing
        "#]],
    );
    check(
        "
        user: pay
        placed: eu-1
        model: call pay
        later 10000
        approve pay
        wait 0
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              4 turn 1 completed
              - refused: Expired(CallId { turn: 1, n: 1 })
              5 1/c1 expired
              5 1/c1 denied: Denied: nobody answered in time. It was not run.
            wants: nothing
        "#]],
    );
}

#[test]
fn what_takes_a_turns_place_may_answer_its_calls() {
    check(
        "
        terms: hold
        user: ask, and pay
        placed: eu-1
        model: call ask, call pay
        supersede: something else; answer ask; deny pay
        request
        ",
        expect![[r#"
              2 turn 1: user "ask, and pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call ask{} as 1/c1 | call pay{} as 1/c2
              4 1/c2 wants a yes
              5 1/c1 ok: mine
              5 1/c2 denied
              5 1/c2 denied: Denied by a person. It was not run.
              5 turn 1 steered
              5 turn 2: user "something else"
              5 step 1
              5 attempt 2.1#1 first
                would send: user "ask, and pay" | call ask{} as 1/c1 | call pay{} as 1/c2 | result of 1/c1 ok "mine" | result of 1/c2 denied "Denied by a person. It was not run." | user "something else"
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_summary_covers_all_up_to_its_last_item() {
    check(
        "
        user: one
        placed: eu-1
        model: two
        user: three
        placed: eu-1
        model: four
        compact 2:1
        fork
        request
        erase 2:0
        request
        ",
        expect![[r#"
              2 turn 1: user "one"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "two"
              4 turn 1 completed
              5 turn 2: user "three"
              5 step 1
              5 attempt 2.1#1 first
              6 2.1#1 placed: eu-1
              7 2.1#1 replied: assistant "four"
              7 turn 2 completed
              8 compacted: summary through 2:1
              1 created as a fork with 5 items, 0 open calls
              1 owned, epoch 1
                would send: summary through 2:1
              2 erased 2:0 2:+0
                would send: user "one" | assistant "two" | assistant "four"
            wants: nothing
        "#]],
    );
}

#[test]
fn a_turn_ends_with_its_own_caller_only() {
    check(
        "
        terms attached
        user: hello
        hung up 7
        hung up
        terms hold
        user: again
        hung up
        cancel 1
        cancel
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              - nothing follows
              3 1.1#1 dropped
              3 turn 1 cancelled: caller_lost
              4 turn 2: user "again"
              4 step 1
              4 attempt 2.1#1 first
              - nothing follows
              - refused: NoSuchTurn
              5 2.1#1 dropped
              5 turn 2 cancelled: asked
            wants: nothing
        "#]],
    );
}

#[test]
fn a_client_tells_one_result_of_a_call() {
    check(
        "
        user: hello; told read twice
        user: hello; told read
        ",
        expect![[r#"
              - refused: CallNotOpen(CallId { turn: 0, n: 0 })
              2 turn 1: call read{} as 1/c1 | result of 1/c1 ok "told" | user "hello"
              2 step 1
              2 attempt 1.1#1 first
            wants: place 1.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_continues_one_turn_does_not_continue_another() {
    check(
        "
        expect 1
        user: hello
        expect 2
        placed: eu-1
        model: hello to you
        expect 1
        expect 2
        expect 3
        ",
        expect![[r#"
              - nothing follows
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              - nothing follows
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "hello to you"
              4 turn 1 completed
              - refused: Overtaken { last: 1 }
              - nothing follows
              - refused: Overtaken { last: 1 }
            wants: nothing
        "#]],
    );
}
