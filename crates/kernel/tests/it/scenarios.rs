//! Stories of a session, told in lines, and the log they leave.

mod asking;
mod configuring;
mod edges;
mod play;
mod summing;

use expect_test::{Expect, expect};

/// Plays a story and compares the log it leaves, without its first append.
fn check(story: &str, expected: Expect) {
    expected.assert_eq(&play::play(story));
}

#[test]
fn a_person_is_asked_and_the_power_fails() {
    check(
        "
        user: pay the invoice
        placed: eu-1
        model: call pay
        crash
        user: yes; approve pay
        crash
        ",
        expect![[r#"
              2 turn 1: user "pay the invoice"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              4 turn 1 completed
              5 owned, epoch 2
              6 turn 2: user "yes"
              6 1/c1 approved
              6 1/c1 started
              7 owned, epoch 3
              7 1/c1 unknown: It is not known whether this call took effect: we stopped while it was running, and it must not be run twice. Find out before you try again.
              7 step 1
              7 attempt 2.1#1 first
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_is_safe_to_repeat_is_repeated() {
    check(
        "
        user: look and book
        placed: eu-1
        model: call read, call book, call post
        crash
        returned book: booked
        returned read: red
        ",
        expect![[r#"
              2 turn 1: user "look and book"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1 | call book{} as 1/c2 | call post{} as 1/c3
              4 1/c1 started
              4 1/c2 started
              4 1/c3 started
              5 owned, epoch 2
              5 1/c3 unknown: It is not known whether this call took effect: we stopped while it was running, and it must not be run twice. Find out before you try again.
              6 1/c2 ok: booked
              7 1/c1 ok: red
              7 step 2
              7 attempt 1.2#1 first
            wants: place 1.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_late_outcome_is_learned() {
    check(
        "
        user: post it
        placed: eu-1
        model: call post
        crash
        returned post: posted after all
        returned post: posted after all
        placed: eu-1
        model: I see
        user: and?
        ",
        expect![[r#"
              2 turn 1: user "post it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call post{} as 1/c1
              4 1/c1 started
              5 owned, epoch 2
              5 1/c1 unknown: It is not known whether this call took effect: we stopped while it was running, and it must not be run twice. Find out before you try again.
              5 step 2
              5 attempt 1.2#1 first
              6 1/c1 learned: ok, note "The earlier call of `post`, closed as unknown, is settled: it did take effect. Its answer: posted after all"
              - nothing follows
              7 1.2#1 placed: eu-1
              8 1.2#1 replied: assistant "I see"
              8 step 3
              8 attempt 1.3#1 first
              - refused: Busy { turn: 1 }
            wants: place 1.3#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_returning_turn_leaves_its_clients_calls_open() {
    check(
        "
        user: ask them
        placed: eu-1
        model: call ask
        user: never mind
        user: here; answer ask
        ",
        expect![[r#"
              2 turn 1: user "ask them"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call ask{} as 1/c1
              4 turn 1 completed
              - refused: CallsOpen([CallId { turn: 1, n: 1 }])
              5 turn 2: user "here"
              5 1/c1 ok: mine
              5 step 1
              5 attempt 2.1#1 first
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_holding_turn_waits_for_its_client() {
    check(
        "
        terms: hold
        user: ask them
        placed: eu-1
        model: call ask, call read
        returned read: red
        crash
        answer ask
        answer ask
        placed: eu-1
        model: done
        ",
        expect![[r#"
              2 turn 1: user "ask them"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call ask{} as 1/c1 | call read{} as 1/c2
              4 1/c2 started
              5 1/c2 ok: red
              6 owned, epoch 2
              7 1/c1 ok: mine
              7 step 2
              7 attempt 1.2#1 first
              - refused: CallNotOpen(CallId { turn: 1, n: 1 })
              8 1.2#1 placed: eu-1
              9 1.2#1 replied: assistant "done"
              9 turn 1 completed
            wants: nothing
        "#]],
    );
}

#[test]
fn steering_waits_for_the_step_boundary() {
    check(
        "
        user: read
        placed: eu-1
        steer: louder
        model: call read
        returned read: red
        placed: eu-1
        steer: and softer
        model: done
        placed: eu-1
        model: really done
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 steered: user "louder"
              5 1.1#1 replied: call read{} as 1/c1
              5 1/c1 started
              6 1/c1 ok: red
              6 step 2
              6 attempt 1.2#1 first
              7 1.2#1 placed: eu-1
              8 steered: user "and softer"
              9 1.2#1 replied: assistant "done"
              9 step 3
              9 attempt 1.3#1 first
             10 1.3#1 placed: eu-1
             11 1.3#1 replied: assistant "really done"
             11 turn 1 completed
            wants: nothing
        "#]],
    );
}

#[test]
fn a_newer_input_may_take_a_turns_place() {
    check(
        "
        user: read
        placed: eu-1
        model: call book
        user: stop
        supersede: something else
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call book{} as 1/c1
              4 1/c1 started
              - refused: Busy { turn: 1 }
              5 1/c1 unknown: The turn ended while this call was running: it may have taken effect.
              5 turn 1 steered
              5 turn 2: user "something else"
              5 step 1
              5 attempt 2.1#1 first
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_shown_answer_that_is_lost_is_sealed_and_begun_anew() {
    check(
        "
        user: tell me
        placed: eu-1
        shown: Once upon
        crash
        placed: eu-2
        shown: There was
        fail: broken
        placed: eu-1
        shown: In a land
        crash
        ",
        expect![[r#"
              2 turn 1: user "tell me"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 owned, epoch 2
              4 1.1#1 lost after 1 frames, about 5 micros
              4 sealed: assistant "Once upon" (incomplete)
              4 attempt 1.1#2 restart
              5 1.1#2 placed: eu-2
              6 1.1#2 failed: broken, about 5 micros
              6 sealed: assistant "There was" (incomplete)
              6 attempt 1.1#3 restart
              7 1.1#3 placed: eu-1
              8 owned, epoch 3
              8 1.1#3 lost after 1 frames, about 5 micros
              8 sealed: assistant "In a land" (incomplete)
              8 turn 1 failed: process_lost
            wants: nothing
        "#]],
    );
}

#[test]
fn a_foreground_answer_that_had_been_shown_is_not_begun_anew() {
    check(
        "
        terms: attached
        user: tell me
        placed: eu-1 others
        shown: Once upon
        fail: broken
        ",
        expect![[r#"
              2 turn 1: user "tell me"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 failed: broken, about 5 micros
              4 sealed: assistant "Once upon" (incomplete)
              4 turn 1 failed: upstream_broken
            wants: nothing
        "#]],
    );
}

#[test]
fn a_turn_whose_caller_is_gone_ends() {
    check(
        "
        terms: attached
        user: post it
        placed: eu-1
        model: call post
        crash
        ",
        expect![[r#"
              2 turn 1: user "post it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call post{} as 1/c1
              4 1/c1 started
              5 owned, epoch 2
              5 1/c1 unknown: It is not known whether this call took effect: we stopped while it was running, and it must not be run twice. Find out before you try again.
              5 turn 1 cancelled: caller_lost
            wants: nothing
        "#]],
    );
}

#[test]
fn retry_fallback_and_giving_up() {
    check(
        "
        user: hello
        placed: eu-1 others
        fail: overloaded
        placed: eu-2
        fail: rate_limited 700
        wait 500
        wait 200
        placed: eu-2
        fail: too_long
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 failed: overloaded
              4 attempt 1.1#2 fallback
              5 1.1#2 placed: eu-2
              6 1.1#2 failed: rate_limited
              6 retry at 701
              - nothing follows
              7 attempt 1.1#3 retry
              8 1.1#3 placed: eu-2
              9 1.1#3 failed: too_long
              9 turn 1 failed: context_length_exceeded
            wants: nothing
        "#]],
    );
}

#[test]
fn no_offer_may_come_back() {
    check(
        "
        user: hello
        no offer: again 900
        wait 899
        wait 1
        no offer
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 not placed
              3 retry at 900
              4 attempt 1.1#2 retry
              - nothing follows
              5 1.1#2 not placed
              5 turn 1 failed: no_offer
            wants: nothing
        "#]],
    );
}

#[test]
fn a_project_without_money_ends_the_turn_in_a_word_that_clients_know() {
    check(
        "
        user: hello
        placed: a, with others
        fail: broken
        no money: 12
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: a,
              4 1.1#1 failed: broken
              4 attempt 1.1#2 fallback
              5 1.1#2 not placed
              5 turn 1 failed: insufficient_quota
            wants: nothing
        "#]],
    );
}

#[test]
fn what_is_too_long_everywhere_is_said_to_be_too_long() {
    check(
        "
        user: hello
        no offer: too long
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 not placed
              3 turn 1 failed: context_length_exceeded
            wants: nothing
        "#]],
    );
}

#[test]
fn a_slow_attempt_is_hedged_and_the_first_to_speak_wins() {
    check(
        "
        terms: hedge
        user: hello
        placed: eu-1 others
        wait 50
        placed: eu-2
        spoke #2
        model #1: too late
        model #2: hello
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 attempt 1.1#2 hedge
              5 1.1#2 placed: eu-2
              6 1.1#2 chosen
              6 1.1#1 dropped, about 5 micros
              - nothing follows
              7 1.1#2 replied: assistant "hello"
              7 turn 1 completed
            wants: nothing
        "#]],
    );
}

#[test]
fn an_approval_waits_and_expires() {
    check(
        "
        terms: hold
        user: pay
        placed: eu-1
        model: call pay
        wait 9999
        crash
        wait 1
        approve pay
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              - nothing follows
              5 owned, epoch 2
              6 1/c1 expired
              6 1/c1 denied: Denied: nobody answered in time. It was not run.
              6 step 2
              6 attempt 1.2#1 first
              - refused: CallNotOpen(CallId { turn: 1, n: 1 })
            wants: place 1.2#1, wake at 110001
        "#]],
    );
}

#[test]
fn what_the_model_got_wrong_is_told_to_it() {
    check(
        "
        user: hello
        placed: eu-1
        model: call nonsense, broken call read
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call nonsense{} as 1/c1 | call read{ as 1/c2
              4 1/c1 failed: There is no tool named `nonsense`. Use one of the tools you were given.
              4 1/c2 failed: Not run: the arguments are not a JSON object (EOF while parsing an object at line 1 column 1). Send them again, corrected.
              4 step 2
              4 attempt 1.2#1 first
            wants: place 1.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn limits_end_a_turn() {
    check(
        "
        terms: steps=1 calls=1
        user: hello
        placed: eu-1
        model: call read, call book
        returned read: red
        terms: cost=15
        user: again
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1 | call book{} as 1/c2
              4 1/c1 started
              4 1/c2 denied: Denied: a turn may run 1 calls, and has. It was not run.
              5 1/c1 ok: red
              5 turn 1 incomplete: steps
              6 turn 2: user "again"
              6 step 1
              6 attempt 2.1#1 first
              7 2.1#1 placed: eu-1
              8 2.1#1 replied: call read{} as 2/c1
              8 2/c1 started
              9 2/c1 ok: red
              9 step 2
              9 attempt 2.2#1 first
             10 2.2#1 dropped
             10 turn 2 incomplete: cost
            wants: nothing
        "#]],
    );
}

#[test]
fn cancelling_closes_what_is_open() {
    check(
        "
        user: all of it
        placed: eu-1
        model: call read, call book, call pay, call ask
        cancel
        returned book: booked
        ",
        expect![[r#"
              2 turn 1: user "all of it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1 | call book{} as 1/c2 | call pay{} as 1/c3 | call ask{} as 1/c4
              4 1/c1 started
              4 1/c2 started
              4 1/c3 wants a yes
              5 1/c1 cancelled: The turn ended while this call was running.
              5 1/c2 unknown: The turn ended while this call was running: it may have taken effect.
              5 1/c3 cancelled: The turn ended before this call was run.
              5 1/c4 cancelled: The turn ended before this call was run.
              5 turn 1 cancelled: asked
              6 1/c2 learned: ok, note "The earlier call of `book`, closed as unknown, is settled: it did take effect. Its answer: booked"
            wants: nothing
        "#]],
    );
}

#[test]
fn a_failed_turn_that_is_visible_at_its_end_leaves_nothing() {
    check(
        "
        terms: at_end
        user: hello
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        fail: refused
        user: again
        request
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
              7 1.2#1 failed: refused
              7 turn 1 failed: content_refused
              8 turn 2: user "again"
              8 step 1
              8 attempt 2.1#1 first
                would send: user "again"
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_fork_starts_nothing() {
    check(
        "
        user: all of it
        placed: eu-1
        model: call post, call pay, call ask
        fork
        user: go on; answer ask
        request
        ",
        expect![[r#"
              2 turn 1: user "all of it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call post{} as 1/c1 | call pay{} as 1/c2 | call ask{} as 1/c3
              4 1/c1 started
              4 1/c2 wants a yes
              1 created as a fork with 6 items, 1 open calls
              1 owned, epoch 1
              2 turn 3: user "go on"
              2 1/c3 ok: mine
              2 step 1
              2 attempt 3.1#1 first
                would send: user "all of it" | call post{} as 1/c1 | call pay{} as 1/c2 | call ask{} as 1/c3 | result of 1/c1 unknown "It is not known whether this call took effect: the session was forked while it was running." | result of 1/c2 cancelled "This call was not run: the session was forked before it started." | result of 1/c3 ok "mine" | user "go on"
            wants: place 3.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn an_import_starts_nothing_and_says_what_it_left_behind() {
    check(
        "
        user: all of it
        placed: eu-1
        model: hm, call post, call pay, call ask
        import
        user: go on; answer ask
        request
        import
        ",
        expect![[r#"
              2 turn 1: user "all of it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: reasoning | call post{} as 1/c1 | call pay{} as 1/c2 | call ask{} as 1/c3
              4 1/c1 started
              4 1/c2 wants a yes
              1 created as a fork with 7 items, 1 open calls
              1 imported, with the names of 1 to turn 1; left behind: turn 1, which was under way; left behind: call 1/c1 of `post`: it was running; here it is unknown; left behind: call 1/c2 of `pay`: it waited for a person; the approval is not inherited, here it is cancelled; left behind: what the provider of `eu-1` had cached (7 tokens)
              1 owned, epoch 1
              2 turn 3: user "go on"
              2 1/c3 ok: mine
              2 step 1
              2 attempt 3.1#1 first
                would send: user "all of it" | reasoning | call post{} as 1/c1 | call pay{} as 1/c2 | call ask{} as 1/c3 | result of 1/c1 unknown "It is not known whether this call took effect: the session was carried to another place while it was running." | result of 1/c2 cancelled "This call was not run: the session was carried to another place before it started." | result of 1/c3 ok "mine" | user "go on"
              1 created as a fork with 9 items, 0 open calls
              1 imported, with the names of 9 to turn 3; left behind: turn 3, which was under way
              1 owned, epoch 1
            wants: nothing
        "#]],
    );
}

#[test]
fn a_summary_stands_for_what_it_covers_until_that_is_erased() {
    check(
        "
        user: one
        placed: eu-1
        model: two
        compact 1:1
        user: three
        request
        placed: eu-1
        model: four
        erase 1:0
        user: five
        request
        ",
        expect![[r#"
              2 turn 1: user "one"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: assistant "two"
              4 turn 1 completed
              5 compacted: summary through 1:1
              6 turn 2: user "three"
              6 step 1
              6 attempt 2.1#1 first
                would send: summary through 1:1 | user "three"
              7 2.1#1 placed: eu-1
              8 2.1#1 replied: assistant "four"
              8 turn 2 completed
              9 erased 1:0 1:+0
             10 turn 3: user "five"
             10 step 1
             10 attempt 3.1#1 first
                would send: assistant "two" | user "three" | assistant "four" | user "five"
            wants: place 3.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_parked_session_hears_nothing_until_it_is_unparked() {
    check(
        "
        user: post
        placed: eu-1
        model: call post
        park
        returned post: posted
        user: hello
        unpark
        ",
        expect![[r#"
              2 turn 1: user "post"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call post{} as 1/c1
              4 1/c1 started
              5 parked: a test
              - refused: Parked("a test")
              - refused: Parked("a test")
              6 unparked
              6 1/c1 unknown: It is not known whether this call took effect: we stopped while it was running, and it must not be run twice. Find out before you try again.
              6 step 2
              6 attempt 1.2#1 first
            wants: place 1.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_yes_may_come_while_the_session_sleeps() {
    check(
        "
        user: pay, and ask
        placed: eu-1
        model: call pay, call ask
        approve pay
        approve pay
        answer ask
        crash
        user: go on
        ",
        expect![[r#"
              2 turn 1: user "pay, and ask"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1 | call ask{} as 1/c2
              4 1/c1 wants a yes
              4 turn 1 completed
              5 1/c1 approved
              - refused: CallNotOpen(CallId { turn: 1, n: 1 })
              6 1/c2 ok: mine
              7 owned, epoch 2
              8 turn 2: user "go on"
              8 1/c1 started
            wants: tool 1/c1, wake at 100001
        "#]],
    );
}

#[test]
fn a_no_may_come_while_the_session_sleeps() {
    check(
        "
        user: pay
        placed: eu-1
        model: call pay
        deny pay
        user: go on
        request
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
              6 turn 2: user "go on"
              6 step 1
              6 attempt 2.1#1 first
                would send: user "pay" | call pay{} as 1/c1 | result of 1/c1 denied "Denied by a person. It was not run." | user "go on"
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_failed_turn_that_was_visible_as_it_went_stays() {
    check(
        "
        user: read, then fail
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        fail: refused
        user: again
        request
        ",
        expect![[r#"
              2 turn 1: user "read, then fail"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
              7 1.2#1 failed: refused
              7 turn 1 failed: content_refused
              8 turn 2: user "again"
              8 step 1
              8 attempt 2.1#1 first
                would send: user "read, then fail" | call read{} as 1/c1 | result of 1/c1 ok "red" | user "again"
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn an_outcome_that_was_known_is_not_learned_again() {
    check(
        "
        user: read and pay
        placed: eu-1
        model: call read, call pay, call book
        returned read: red
        returned read: redder
        cancel
        returned pay: paid
        returned book: booked
        returned book: booked
        ",
        expect![[r#"
              2 turn 1: user "read and pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1 | call pay{} as 1/c2 | call book{} as 1/c3
              4 1/c1 started
              4 1/c2 wants a yes
              4 1/c3 started
              5 1/c1 ok: red
              - nothing follows
              6 1/c2 cancelled: The turn ended before this call was run.
              6 1/c3 unknown: The turn ended while this call was running: it may have taken effect.
              6 turn 1 cancelled: asked
              - nothing follows
              7 1/c3 learned: ok, note "The earlier call of `book`, closed as unknown, is settled: it did take effect. Its answer: booked"
              - nothing follows
            wants: nothing
        "#]],
    );
}

#[test]
fn one_input_cannot_answer_an_approval_twice() {
    check(
        "
        user: pay
        placed: eu-1
        model: call pay
        user: yes and no; deny pay; approve pay
        user: yes and yes; approve pay; approve pay
        user: no; deny pay
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              4 turn 1 completed
              - refused: CallNotOpen(CallId { turn: 1, n: 1 })
              - refused: CallNotOpen(CallId { turn: 1, n: 1 })
              5 turn 2: user "no"
              5 1/c1 denied
              5 1/c1 denied: Denied by a person. It was not run.
              5 step 1
              5 attempt 2.1#1 first
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_hedge_that_finds_no_place_leaves_the_other_tries() {
    check(
        "
        terms hedge
        user: hello
        placed: eu-1 with others
        wait 60
        no offer
        wait 60
        wait 60
        fail overloaded
        placed: eu-2
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 attempt 1.1#2 hedge
              5 1.1#2 not placed
              - nothing follows
              - nothing follows
              6 1.1#1 failed: overloaded
              6 attempt 1.1#3 fallback
              7 1.1#3 placed: eu-2
            wants: model 1.1#3, wake at 100001
        "#]],
    );
}

#[test]
fn time_in_which_nobody_had_the_session_is_not_work() {
    check(
        "
        user: hello
        placed: eu-1
        later 60000
        park
        later 500000
        unpark
        placed: eu-1
        later 500000
        crash
        placed: eu-1
        wait 30000
        wait 10000
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 parked: a test
              5 unparked
              5 1.1#1 lost after 0 frames, about 5 micros
              5 attempt 1.1#2 retry
              6 1.1#2 placed: eu-1
              7 owned, epoch 2
              7 1.1#2 lost after 0 frames, about 5 micros
              7 attempt 1.1#3 retry
              8 1.1#3 placed: eu-1
              - nothing follows
              9 1.1#3 dropped, about 5 micros
              9 turn 1 incomplete: work_time
            wants: nothing
        "#]],
    );
}

#[test]
fn a_call_that_was_cut_short_is_not_run_whatever_the_provider_says() {
    check(
        "
        user: post it
        placed: eu-1
        model: call read, cut call post
        user: well?
        request
        ",
        expect![[r#"
              2 turn 1: user "post it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1 | call post{} as 1/c2 (incomplete)
              4 1/c1 cancelled: The turn ended before this call was run.
              4 1/c2 cancelled: The turn ended before this call was run.
              4 turn 1 incomplete: output_tokens
              5 turn 2: user "well?"
              5 step 1
              5 attempt 2.1#1 first
                would send: user "post it" | call read{} as 1/c1 | result of 1/c1 cancelled "The turn ended before this call was run." | user "well?"
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_was_learned_of_a_call_is_erased_with_it() {
    check(
        "
        user: post it
        placed: eu-1
        model: call post
        crash
        cancel
        returned post: swordfish
        erase 1:1
        request
        ",
        expect![[r#"
              2 turn 1: user "post it"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call post{} as 1/c1
              4 1/c1 started
              5 owned, epoch 2
              5 1/c1 unknown: It is not known whether this call took effect: we stopped while it was running, and it must not be run twice. Find out before you try again.
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 dropped
              6 turn 1 cancelled: asked
              7 1/c1 learned: ok, note "The earlier call of `post`, closed as unknown, is settled: it did take effect. Its answer: swordfish"
              8 erased 1:1 1:2 1:+0
                would send: user "post it"
            wants: nothing
        "#]],
    );
}

#[test]
fn what_comes_with_an_approval_is_said_with_what_came_of_it() {
    check(
        "
        terms hold
        user: pay
        placed: eu-1
        model: call pay
        steer: too much, look again; deny pay
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              5 1/c1 denied
              5 1/c1 denied: Denied by a person. It was not run.
              5 steered: user "too much, look again"
              5 step 2
              5 attempt 1.2#1 first
            wants: place 1.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn an_approval_that_ends_its_turn_starts_nothing() {
    check(
        "
        terms hold
        user: pay
        placed: eu-1
        model: call pay
        supersede: something else; approve pay
        ",
        expect![[r#"
              2 turn 1: user "pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call pay{} as 1/c1
              4 1/c1 wants a yes
              5 1/c1 approved
              5 1/c1 cancelled: The turn ended before this call was run.
              5 turn 1 steered
              5 turn 2: user "something else"
              5 step 1
              5 attempt 2.1#1 first
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_summary_stands_for_the_same_in_a_fork() {
    check(
        "
        user: hello
        placed: eu-1
        shown he
        crash
        placed: eu-1
        model: hello you
        compact 1:1
        request
        fork
        request
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 owned, epoch 2
              4 1.1#1 lost after 1 frames, about 5 micros
              4 sealed: assistant "he" (incomplete)
              4 attempt 1.1#2 restart
              5 1.1#2 placed: eu-1
              6 1.1#2 replied: assistant "hello you"
              6 turn 1 completed
              7 compacted: summary through 1:1
                would send: summary through 1:1 | assistant "hello you"
              1 created as a fork with 3 items, 0 open calls
              1 owned, epoch 1
                would send: summary through 1:0 | assistant "hello you"
            wants: nothing
        "#]],
    );
}
