//! Stories of a session that outgrows what a model takes.

use expect_test::expect;

use super::check;

#[test]
fn what_was_said_is_summed_up_before_the_next_step() {
    check(
        "
        terms: compact=4
        user: read
        placed: eu-1
        model: call read
        returned read: red
        ask
        placed: eu-1
        asked
        steer: and then?
        model: they wanted it read, it is red
        request
        placed: eu-1
        asked
        model: done
        user: again
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 attempt 1.1#+1 sum_up
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 121, max_output_tokens: None }, warm Some("eu-1 with 7 tokens"), avoid {}, budget None, loop true
              6 1.1#+1 placed: eu-1
                asks with 5 tools, None, None, at most None: user "read" | call read{} as 1/c1 | result of 1/c1 ok "red" | user "Stop here for a moment: all of the above will be replaced by a summary, which you write now. Whoever goes on with the task will see that summary and nothing else of it. Say what the task is and what was asked for, in the words that matter; what was decided, and why; what was done and found out, with names, numbers and places exactly as they are; what failed; and what is to be done next. Call no tools and answer no questions. Write only the summary."
              7 steered: user "and then?"
              8 1.1#+1 summed up, 10 micros
              8 compacted: summary through 1:2
              8 step 2
              8 attempt 1.2#1 first
                would send: summary through 1:2 | user "and then?"
              9 1.2#1 placed: eu-1
                asks with 5 tools, Auto, None, at most None: summary through 1:2 | user "and then?"
             10 1.2#1 replied: assistant "done"
             10 turn 1 completed
             11 turn 2: user "again"
             11 attempt 2.0#+1 sum_up
            wants: place 2.0#+1, wake at 100001
        "#]],
    );
}

#[test]
fn somebody_is_heard_in_every_request() {
    check(
        "
        terms: compact=4
        user: read
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        model: in short
        ask
        placed: eu-1
        asked
        model: call read
        returned read: red
        placed: eu-1
        model: in shorter
        placed: eu-1
        asked
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 attempt 1.1#+1 sum_up
              6 1.1#+1 placed: eu-1
              7 1.1#+1 summed up, 10 micros
              7 compacted: summary through 1:2
              7 step 2
              7 attempt 1.2#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 12, max_output_tokens: None }, warm None, avoid {}, budget None, loop true
              8 1.2#1 placed: eu-1
                asks with 5 tools, Auto, None, at most None: summary through 1:2 | user "Go on with the task."
              9 1.2#1 replied: call read{} as 1/c2
              9 1/c2 started
             10 1/c2 ok: red
             10 attempt 1.2#+1 sum_up
             11 1.2#+1 placed: eu-1
             12 1.2#+1 summed up, 10 micros
             12 compacted: summary through 1:4
             12 step 3
             12 attempt 1.3#1 first
             13 1.3#1 placed: eu-1
                asks with 5 tools, Auto, None, at most None: summary through 1:4 | user "Go on with the task."
            wants: model 1.3#1, wake at 100001
        "#]],
    );
}

#[test]
fn it_is_due_when_the_last_answer_says_so_and_not_before() {
    check(
        "
        terms: compact=5
        user: read
        placed: eu-1
        model: done
        terms: compact=4
        user: read
        placed: eu-1
        model: in short
        placed: eu-1
        model: done
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "done"
              4 turn 1 completed
              5 turn 2: user "read"
              5 attempt 2.0#+1 sum_up
              6 2.0#+1 placed: eu-1
              7 2.0#+1 summed up, 10 micros
              7 compacted: summary through 1:1
              7 step 1
              7 attempt 2.1#1 first
              8 2.1#1 placed: eu-1
              9 2.1#1 replied: assistant "done"
              9 turn 2 completed
            wants: nothing
        "#]],
    );
    check(
        "
        terms: compact=0
        user: read
        placed: eu-1
        model: done
        compact 1:1
        user: read
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "done"
              4 turn 1 completed
              5 compacted: summary through 1:1
              6 turn 2: user "read"
              6 step 1
              6 attempt 2.1#1 first
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn nothing_comes_of_a_summary() {
    check(
        "
        terms: compact=4 attempts=3
        user: read
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1 others
        fail: overloaded
        ask
        placed: eu-2 others
        fail: too_long
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        model: call book
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        model: done
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 attempt 1.1#+1 sum_up
              6 1.1#+1 placed: eu-1
              7 1.1#+1 failed: overloaded
              7 attempt 1.1#+2 sum_up
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 121, max_output_tokens: None }, warm Some("eu-1 with 7 tokens"), avoid {"eu-1": Failed}, budget None, loop true
              8 1.1#+2 placed: eu-2
              9 1.1#+2 failed: too_long
              9 step 2
              9 attempt 1.2#1 first
             10 1.2#1 placed: eu-1
             11 1.2#1 replied: call read{} as 1/c2
             11 1/c2 started
             12 1/c2 ok: red
             12 attempt 1.2#+3 sum_up
             13 1.2#+3 placed: eu-1
             14 1.2#+3 summed up, 10 micros
             14 step 3
             14 attempt 1.3#1 first
             15 1.3#1 placed: eu-1
             16 1.3#1 replied: call read{} as 1/c3
             16 1/c3 started
             17 1/c3 ok: red
             17 step 4
             17 attempt 1.4#1 first
             18 1.4#1 placed: eu-1
             19 1.4#1 replied: assistant "done"
             19 turn 1 completed
            wants: nothing
        "#]],
    );
    check(
        "
        terms: compact=4
        user: read
        placed: eu-1
        model: done
        user: read
        no offer: again 900
        placed: eu-1
        model: done
        user: read
        placed: eu-1
        model: cut call read
        placed: eu-1
        model: done
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "done"
              4 turn 1 completed
              5 turn 2: user "read"
              5 attempt 2.0#+1 sum_up
              6 2.0#+1 not placed
              6 step 1
              6 attempt 2.1#1 first
              7 2.1#1 placed: eu-1
              8 2.1#1 replied: assistant "done"
              8 turn 2 completed
              9 turn 3: user "read"
              9 attempt 3.0#+1 sum_up
             10 3.0#+1 placed: eu-1
             11 3.0#+1 summed up, 10 micros
             11 step 1
             11 attempt 3.1#1 first
             12 3.1#1 placed: eu-1
             13 3.1#1 replied: assistant "done"
             13 turn 3 completed
            wants: nothing
        "#]],
    );
}

#[test]
fn a_summary_that_was_lost_is_asked_for_again() {
    check(
        "
        terms: compact=4
        user: read
        placed: eu-1
        model: done
        user: read
        crash
        placed: eu-1
        spoke
        crash
        placed: eu-1
        steer: hello?
        cancel
        user: read
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "done"
              4 turn 1 completed
              5 turn 2: user "read"
              5 attempt 2.0#+1 sum_up
              6 owned, epoch 2
              7 2.0#+1 placed: eu-1
              - nothing follows
              8 owned, epoch 3
              8 2.0#+1 lost after 0 frames, about 5 micros
              8 attempt 2.0#+2 sum_up
              9 2.0#+2 placed: eu-1
             10 steered: user "hello?"
             11 2.0#+2 dropped, about 5 micros
             11 turn 2 cancelled: asked
             12 turn 3: user "read"
             12 attempt 3.0#+1 sum_up
            wants: place 3.0#+1, wake at 100001
        "#]],
    );
}

#[test]
fn a_summary_is_paid_for_like_anything_else() {
    check(
        r#"
        terms: compact=4
        configure: {"spend_max":15}
        user: read
        placed: eu-1
        model: done
        user: read
        no budget
        configure: {"spend_max":30}
        placed: eu-1
        model: in short
        about
        "#,
        expect![[r#"
              2 configured: {"spend_max":15}
              3 turn 1: user "read"
              3 step 1
              3 attempt 1.1#1 first
              4 1.1#1 placed: eu-1
              5 1.1#1 replied: assistant "done"
              5 turn 1 completed
              6 turn 2: user "read"
              6 attempt 2.0#+1 sum_up
              7 2.0#+1 not placed
              7 turn 2 paused: spend
              8 configured: {"spend_max":30}
              8 turn 2 resumed
              8 attempt 2.0#+2 sum_up
              9 2.0#+2 placed: eu-1
             10 2.0#+2 summed up, 10 micros
             10 compacted: summary through 1:1
             10 step 1
             10 attempt 2.1#1 first
                settings none, metadata none, spent 20 of Some(30)
            wants: place 2.1#1, wake at 100001
        "#]],
    );
    check(
        r#"
        terms: compact=4 cost=15
        user: read
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        placed: eu-1
        "#,
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 attempt 1.1#+1 sum_up
              6 1.1#+1 dropped
              6 step 2
              6 attempt 1.2#1 first
              7 1.2#1 dropped
              7 turn 1 incomplete: cost
            wants: nothing
        "#]],
    );
    check(
        r#"
        terms: compact=4 cost=20
        user: read
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        model: in short
        "#,
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 attempt 1.1#+1 sum_up
              6 1.1#+1 placed: eu-1
              7 1.1#+1 summed up, 10 micros
              7 compacted: summary through 1:2
              7 turn 1 incomplete: cost
            wants: nothing
        "#]],
    );
    check(
        r#"
        terms: compact=4 cost=20
        user: read
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        model: call read
        "#,
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 attempt 1.1#+1 sum_up
              6 1.1#+1 placed: eu-1
              7 1.1#+1 summed up, 10 micros
              7 turn 1 incomplete: cost
            wants: nothing
        "#]],
    );
}
