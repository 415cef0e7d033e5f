//! Stories of what a session is told about itself: settings, tools, what it may spend, and the time.

use expect_test::expect;

use super::check;

#[test]
fn what_is_configured_stays_until_it_is_told_otherwise() {
    check(
        r#"
        configure: {"settings":{"a":1},"metadata":{"who":"ada"},"spend_max":90}
        configure: {"settings":{"b":2}}
        configure: {"metadata":{}}
        configure: {}
        about
        configure: {"spend_max":null}
        about
        "#,
        expect![[r#"
              2 configured: {"settings":{"a":1},"metadata":{"who":"ada"},"spend_max":90}
              3 configured: {"settings":{"b":2}}
              4 configured: {"metadata":{}}
              - nothing follows
                settings {"b":2}, metadata {}, spent 0 of Some(90)
              5 configured: {"spend_max":null}
                settings {"b":2}, metadata {}, spent 0 of None
            wants: nothing
        "#]],
    );
}

#[test]
fn a_session_that_may_spend_no_more_pauses_and_goes_on() {
    check(
        r#"
        configure: {"spend_max":10}
        user: read
        placed: eu-1
        model: call read
        returned read: red
        steer: and be quick
        configure: {"spend_max":10}
        configure: {"spend_max":5}
        configure: {"spend_max":9}
        configure: {"settings":{}}
        crash
        wait 5000
        configure: {"spend_max":30}
        ask
        placed: eu-1
        model: red
        "#,
        expect![[r#"
              2 configured: {"spend_max":10}
              3 turn 1: user "read"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
              5 1.1#1 replied: call read{} as 1/c1
              5 1/c1 started
              6 1/c1 ok: red
              6 turn 1 paused: spend
              7 steered: user "and be quick"
              8 configured: {"spend_max":10}
              9 configured: {"spend_max":5}
             10 configured: {"spend_max":9}
             11 configured: {"settings":{}}
             12 owned, epoch 2
              - nothing follows
             13 configured: {"spend_max":30}
             13 turn 1 resumed
             13 step 2
             13 attempt 1.2#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 11, max_output_tokens: None }, warm Some("eu-1 with 7 tokens"), avoid {}, budget Some(20), loop true
             14 1.2#1 placed: eu-1
             15 1.2#1 replied: assistant "red"
             15 turn 1 completed
            wants: nothing
        "#]],
    );
}

#[test]
fn a_limit_may_be_lifted() {
    check(
        r#"
        configure: {"spend_max":0}
        user: hello
        configure: {"spend_max":null}
        ask
        "#,
        expect![[r#"
              2 configured: {"spend_max":0}
              3 turn 1: user "hello"
              3 turn 1 paused: spend
              4 configured: {"spend_max":null}
              4 turn 1 resumed
              4 step 1
              4 attempt 1.1#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 6, max_output_tokens: None }, warm None, avoid {}, budget None, loop false
            wants: place 1.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_paused_turn_can_be_cancelled_and_superseded() {
    check(
        r#"
        configure: {"spend_max":0}
        user: hello
        supersede: something else
        cancel
        cancel
        configure: {"spend_max":100}
        user: now
        "#,
        expect![[r#"
              2 configured: {"spend_max":0}
              3 turn 1: user "hello"
              3 turn 1 paused: spend
              4 turn 1 steered
              4 turn 2: user "something else"
              4 turn 2 paused: spend
              5 turn 2 cancelled: asked
              - refused: NoSuchTurn
              6 configured: {"spend_max":100}
              7 turn 3: user "now"
              7 step 1
              7 attempt 3.1#1 first
            wants: place 3.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn money_that_is_held_counts_and_is_given_back() {
    check(
        r#"
        terms: hedge
        configure: {"spend_max":9}
        user: hello
        placed: eu-1 others
        wait 50
        fail: broken
        placed: eu-2
        "#,
        expect![[r#"
              2 configured: {"spend_max":9}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
              - nothing follows
              5 1.1#1 failed: broken
              5 attempt 1.1#2 fallback
              6 1.1#2 placed: eu-2
            wants: model 1.1#2, wake at 100001
        "#]],
    );
}

#[test]
fn a_second_offer_is_asked_only_with_money_that_is_left() {
    check(
        r#"
        terms: hedge
        configure: {"spend_max":12}
        user: hello
        placed: eu-1 others
        wait 50
        ask
        placed: eu-2
        wait 50
        "#,
        expect![[r#"
              2 configured: {"spend_max":12}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
              5 attempt 1.1#2 hedge
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 6, max_output_tokens: None }, warm None, avoid {"eu-1": InUse}, budget Some(3), loop false
              6 1.1#2 dropped
              - nothing follows
            wants: model 1.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_is_left_may_not_pay_for_one_step() {
    check(
        r#"
        configure: {"spend_max":8}
        user: hello
        ask
        no budget
        configure: {"spend_max":8}
        steer: hurry
        configure: {"spend_max":9}
        placed: eu-1
        "#,
        expect![[r#"
              2 configured: {"spend_max":8}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 6, max_output_tokens: None }, warm None, avoid {}, budget Some(8), loop false
              4 1.1#1 not placed
              4 turn 1 paused: spend
              5 configured: {"spend_max":8}
              6 steered: user "hurry"
              7 configured: {"spend_max":9}
              7 turn 1 resumed
              7 attempt 1.1#2 retry
              8 1.1#2 placed: eu-1
            wants: model 1.1#2, wake at 100001
        "#]],
    );
    check(
        r#"
        configure: {"spend_max":8}
        user: hello
        placed: eu-1
        crash
        configure: {"spend_max":12}
        placed: eu-1
        fail: broken
        wait 200
        placed: eu-1
        shown: Once
        crash
        "#,
        expect![[r#"
              2 configured: {"spend_max":8}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 dropped
              4 turn 1 paused: spend
              5 owned, epoch 2
              6 configured: {"spend_max":12}
              6 turn 1 resumed
              6 attempt 1.1#2 retry
              7 1.1#2 placed: eu-1
              8 1.1#2 failed: broken
              8 retry at 201
              9 attempt 1.1#3 retry
             10 1.1#3 placed: eu-1
             11 owned, epoch 3
             11 1.1#3 lost after 1 frames, about 5 micros
             11 sealed: assistant "Once" (incomplete)
             11 attempt 1.1#4 restart
            wants: place 1.1#4, wake at 100001
        "#]],
    );
}

#[test]
fn the_last_try_that_was_not_paid_for_is_tried_again() {
    check(
        r#"
        terms: attempts=1
        configure: {"spend_max":8}
        user: hello
        no budget
        configure: {"spend_max":20}
        placed: eu-1
        fail: broken
        "#,
        expect![[r#"
              2 configured: {"spend_max":8}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 not placed
              4 turn 1 paused: spend
              5 configured: {"spend_max":20}
              5 turn 1 resumed
              5 attempt 1.1#2 retry
              6 1.1#2 placed: eu-1
              7 1.1#2 failed: broken
              7 turn 1 failed: upstream_broken
            wants: nothing
        "#]],
    );
}

#[test]
fn what_may_do_later_is_waited_for() {
    check(
        r#"
        configure: {"spend_max":20}
        user: hello
        no budget: again 900
        configure: {"spend_max":0}
        wait 899
        configure: {"spend_max":1}
        "#,
        expect![[r#"
              2 configured: {"spend_max":20}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 not placed
              4 retry at 900
              5 configured: {"spend_max":0}
              6 turn 1 paused: spend
              7 configured: {"spend_max":1}
              7 turn 1 resumed
              7 attempt 1.1#2 retry
            wants: place 1.1#2, wake at 100001
        "#]],
    );
}

#[test]
fn the_tighter_limit_decides_what_becomes_of_the_turn() {
    check(
        r#"
        terms: cost=5
        configure: {"spend_max":20}
        user: hello
        ask
        no budget
        terms: cost=30
        user: hello
        ask
        no budget
        "#,
        expect![[r#"
              2 configured: {"spend_max":20}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 6, max_output_tokens: None }, warm None, avoid {}, budget Some(5), loop false
              4 1.1#1 not placed
              4 turn 1 incomplete: cost
              5 turn 2: user "hello"
              5 step 1
              5 attempt 2.1#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 7, max_output_tokens: None }, warm None, avoid {}, budget Some(20), loop false
              6 2.1#1 not placed
              6 turn 2 paused: spend
            wants: nothing
        "#]],
    );
    check(
        r#"
        terms: cost=20
        configure: {"spend_max":20}
        user: hello
        no budget
        "#,
        expect![[r#"
              2 configured: {"spend_max":20}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 not placed
              4 turn 1 incomplete: cost
            wants: nothing
        "#]],
    );
    check(
        r#"
        configure: {"spend_max":20}
        user: hello
        no money: 3
        "#,
        expect![[r#"
              2 configured: {"spend_max":20}
              3 turn 1: user "hello"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 not placed
              4 turn 1 failed: insufficient_quota
            wants: nothing
        "#]],
    );
}

#[test]
fn who_waits_for_an_answer_is_told_that_there_is_no_money() {
    check(
        r#"
        terms: attached
        configure: {"spend_max":10}
        user: read
        placed: eu-1
        model: call read
        returned read: red
        user: hello
        "#,
        expect![[r#"
              2 configured: {"spend_max":10}
              3 turn 1: user "read"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
              5 1.1#1 replied: call read{} as 1/c1
              5 1/c1 started
              6 1/c1 ok: red
              6 turn 1 incomplete: cost
              7 turn 2: user "hello"
              7 turn 2 incomplete: cost
            wants: nothing
        "#]],
    );
}

#[test]
fn new_tools_are_for_the_next_model_call() {
    check(
        r#"
        user: read
        placed: eu-1 others
        configure: {"tools":[{"name":"read","runs":"client"}]}
        tools
        fail: overloaded
        placed: eu-2
        tools
        configure: {"tools":[]}
        model: call read
        answer read
        "#,
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 configured: {"tools":[{"name":"read","runs":"client"}]}
                may call: read book post pay ask
              5 1.1#1 failed: overloaded
              5 attempt 1.1#2 fallback
              6 1.1#2 placed: eu-2
                may call: read
              7 configured: {"tools":[]}
              8 1.1#2 replied: call read{} as 1/c1
              8 turn 1 completed
              9 1/c1 ok: mine
            wants: nothing
        "#]],
    );
    check(
        r#"
        terms: hedge hold
        user: read
        placed: eu-1 others
        configure: {"tools":[{"name":"read","runs":"client"}]}
        wait 50
        placed: eu-2
        tools
        model: #2: call read
        returned read: red
        placed: eu-1
        tools
        configure: {"tools":[{"name":"ask","runs":"client"}]}
        model: call read, call ask
        answer read
        placed: eu-1
        tools
        "#,
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 configured: {"tools":[{"name":"read","runs":"client"}]}
              5 attempt 1.1#2 hedge
              6 1.1#2 placed: eu-2
                may call: read book post pay ask
              7 1.1#2 replied: call read{} as 1/c1
              7 1.1#1 dropped, about 5 micros
              7 1/c1 started
              8 1/c1 ok: red
              8 step 2
              8 attempt 1.2#1 first
              9 1.2#1 placed: eu-1
                may call: read
             10 configured: {"tools":[{"name":"ask","runs":"client"}]}
             11 1.2#1 replied: call read{} as 1/c2 | call ask{} as 1/c3
             11 1/c3 failed: There is no tool named `ask`. Use one of the tools you were given.
             12 1/c2 ok: mine
             12 step 3
             12 attempt 1.3#1 first
             13 1.3#1 placed: eu-1
                may call: ask
            wants: model 1.3#1, wake at 100001
        "#]],
    );
}

#[test]
fn tools_of_no_turn_are_nobodys() {
    check(
        r#"
        configure: {"tools":[]}
        user: read
        placed: eu-1
        tools
        "#,
        expect![[r#"
              2 configured: {"tools":[]}
              3 turn 1: user "read"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
                may call: read book post pay ask
            wants: model 1.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_fork_knows_what_was_set_and_has_spent_nothing() {
    check(
        r#"
        configure: {"settings":{"a":1},"metadata":{"who":"ada"},"spend_max":10}
        user: read
        placed: eu-1
        model: call read
        returned read: red
        about
        fork
        about
        user: go on
        import
        about
        "#,
        expect![[r#"
              2 configured: {"settings":{"a":1},"metadata":{"who":"ada"},"spend_max":10}
              3 turn 1: user "read"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
              5 1.1#1 replied: call read{} as 1/c1
              5 1/c1 started
              6 1/c1 ok: red
              6 turn 1 paused: spend
                settings {"a":1}, metadata {"who":"ada"}, spent 10 of Some(10)
              1 created as a fork with 3 items, 0 open calls
              1 owned, epoch 1
                settings {"a":1}, metadata none, spent 0 of Some(10)
              2 turn 3: user "go on"
              2 step 1
              2 attempt 3.1#1 first
              1 created as a fork with 4 items, 0 open calls
              1 imported, with the names of 1 to turn 1, 2 to turn 3; left behind: turn 3, which was under way; left behind: what the provider of `eu-1` had cached (7 tokens)
              1 owned, epoch 1
                settings {"a":1}, metadata none, spent 0 of Some(10)
            wants: nothing
        "#]],
    );
}

#[test]
fn the_model_is_told_the_time() {
    check(
        r#"
        terms: remind=1000
        user: read
        placed: eu-1
        model: call read
        later 999
        returned read: red
        placed: eu-1
        model: call read
        later 1
        returned read: red
        request
        placed: eu-1
        model: done
        user: and again
        placed: eu-1
        model: done
        compact 1:0
        user: what time is it?
        placed: eu-1
        model: late
        terms: hold
        later 9000
        user: what time is it?
        "#,
        expect![[r#"
              2 turn 1: user "read"
              2 reminded: note "It is 1970-01-01 00:00 UTC, Thursday."
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
              7 1.2#1 replied: call read{} as 1/c2
              7 1/c2 started
              8 1/c2 ok: red
              8 reminded: note "It is 1970-01-01 00:00 UTC, Thursday."
              8 step 3
              8 attempt 1.3#1 first
                would send: user "read" | note "It is 1970-01-01 00:00 UTC, Thursday." | call read{} as 1/c1 | result of 1/c1 ok "red" | call read{} as 1/c2 | result of 1/c2 ok "red" | note "It is 1970-01-01 00:00 UTC, Thursday."
              9 1.3#1 placed: eu-1
             10 1.3#1 replied: assistant "done"
             10 turn 1 completed
             11 turn 2: user "and again"
             11 step 1
             11 attempt 2.1#1 first
             12 2.1#1 placed: eu-1
             13 2.1#1 replied: assistant "done"
             13 turn 2 completed
             14 compacted: summary through 1:0
             15 turn 3: user "what time is it?"
             15 reminded: note "It is 1970-01-01 00:00 UTC, Thursday."
             15 step 1
             15 attempt 3.1#1 first
             16 3.1#1 placed: eu-1
             17 3.1#1 replied: assistant "late"
             17 turn 3 completed
             18 turn 4: user "what time is it?"
             18 step 1
             18 attempt 4.1#1 first
            wants: place 4.1#1, wake at 110001
        "#]],
    );
}

#[test]
fn a_parked_session_is_not_configured() {
    check(
        r#"
        park
        configure: {"settings":{}}
        "#,
        expect![[r#"
              2 parked: a test
              - refused: Parked("a test")
            wants: nothing
        "#]],
    );
}
