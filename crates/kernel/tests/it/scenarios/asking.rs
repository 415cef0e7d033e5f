//! Stories of what is asked of a model and of the placement, and of what may be told, summed up or erased.

use expect_test::expect;

use super::check;

#[test]
fn a_forced_choice_holds_for_the_first_step() {
    check(
        "
        terms: named_read
        user: read
        placed: eu-1
        choice
        model: call read, call book
        returned read: red
        placed: eu-1
        choice
        model: call book
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
                may choose: Named("read"); prefix of 0 in 1
              4 1.1#1 replied: call read{} as 1/c1 | call book{} as 1/c2
              4 1/c1 started
              4 1/c2 denied: Denied: `book` is not among the tools allowed in this step. It was not run.
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
                may choose: Auto; prefix of 3 in 5
              7 1.2#1 replied: call book{} as 1/c3
              7 1/c3 started
            wants: tool 1/c3, wake at 100001
        "#]],
    );
    check(
        "
        terms: allowed_read
        user: read
        placed: eu-1
        choice
        model: call read, call ask
        returned read: red
        placed: eu-1
        choice
        model: call book
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
                may choose: Allowed { names: ["read"], required: true }; prefix of 0 in 1
              4 1.1#1 replied: call read{} as 1/c1 | call ask{} as 1/c2
              4 1/c1 started
              4 1/c2 denied: Denied: `ask` is not among the tools allowed in this step. It was not run.
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
                may choose: Allowed { names: ["read"], required: false }; prefix of 3 in 5
              7 1.2#1 replied: call book{} as 1/c3
              7 1/c3 denied: Denied: `book` is not among the tools allowed in this step. It was not run.
              7 step 3
              7 attempt 1.3#1 first
            wants: place 1.3#1, wake at 100001
        "#]],
    );
    check(
        "
        terms: required
        user: read
        placed: eu-1
        choice
        model: call read
        returned read: red
        placed: eu-1
        choice
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
                may choose: Required; prefix of 0 in 1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
                may choose: Auto; prefix of 2 in 3
            wants: model 1.2#1, wake at 100001
        "#]],
    );
    check(
        "
        terms: no_tools
        user: read
        placed: eu-1
        choice
        model: call read
        placed: eu-1
        choice
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
                may choose: None; prefix of 0 in 1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 denied: Denied: `read` is not among the tools allowed in this step. It was not run.
              4 step 2
              4 attempt 1.2#1 first
              5 1.2#1 placed: eu-1
                may choose: None; prefix of 2 in 3
            wants: model 1.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_is_asked_of_the_placement() {
    check(
        "
        terms: cost=100
        user: hello there
        ask
        placed: eu-1 others
        fail: rate_limited
        ask
        placed: eu-2 others
        fail: auth
        ask
        placed: eu-3
        model: call read
        returned read: red
        ask
        ",
        expect![[r#"
              2 turn 1: user "hello there"
              2 step 1
              2 attempt 1.1#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 8, max_output_tokens: None }, warm None, avoid {}, budget Some(100), loop false
              3 1.1#1 placed: eu-1
              4 1.1#1 failed: rate_limited
              4 attempt 1.1#2 fallback
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 8, max_output_tokens: None }, warm None, avoid {"eu-1": Failed}, budget Some(100), loop false
              5 1.1#2 placed: eu-2
              6 1.1#2 failed: auth
              6 attempt 1.1#3 fallback
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 8, max_output_tokens: None }, warm None, avoid {"eu-1": Failed, "eu-2": Hopeless}, budget Some(100), loop false
              7 1.1#3 placed: eu-3
              8 1.1#3 replied: call read{} as 1/c1
              8 1/c1 started
              9 1/c1 ok: red
              9 step 2
              9 attempt 1.2#1 first
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 10, max_output_tokens: None }, warm Some("eu-3 with 7 tokens"), avoid {}, budget Some(90), loop true
            wants: place 1.2#1, wake at 100001
        "#]],
    );
    check(
        "
        terms: hedge
        user: hello
        placed: eu-1 others
        wait 50
        ask
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 attempt 1.1#2 hedge
                asks: Needs { tools: true, images: false, schema: false, input_tokens: 6, max_output_tokens: None }, warm None, avoid {"eu-1": InUse}, budget None, loop false
            wants: model 1.1#1, place 1.1#2, wake at 100001
        "#]],
    );
    check(
        "
        terms: hedge attempts=1
        user: hello
        placed: eu-1 others
        wait 50
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              - nothing follows
            wants: model 1.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_client_may_tell_of_earlier_calls_if_it_tells_them_whole() {
    check(
        "
        user: go on; told read; told book
        placed: eu-1
        model: call read, call book
        steer: by the way; told post
        returned read: red
        returned book: booked
        placed: eu-1
        model: call read
        ",
        expect![[r#"
              2 turn 1: call read{} as 1/c1 | result of 1/c1 ok "told" | call book{} as 1/c2 | result of 1/c2 ok "told" | user "go on"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c3 | call book{} as 1/c4
              4 1/c3 started
              4 1/c4 started
              5 steered: call post{} as 1/c2147483648 | result of 1/c2147483648 ok "told" | user "by the way"
              6 1/c3 ok: red
              7 1/c4 ok: booked
              7 step 2
              7 attempt 1.2#1 first
              8 1.2#1 placed: eu-1
              9 1.2#1 replied: call read{} as 1/c5
              9 1/c5 started
            wants: tool 1/c5, wake at 100001
        "#]],
    );
    check(
        "
        user: go on; told read alone
        ",
        expect![[r#"
              - refused: CallsOpen([CallId { turn: 0, n: 0 }])
            wants: nothing
        "#]],
    );
}

#[test]
fn a_summary_does_not_tear_a_call_from_its_result() {
    check(
        "
        user: read
        placed: eu-1
        model: call read
        returned read: red
        placed: eu-1
        compact 1:0
        model: done
        compact 1:1
        compact 7:7
        compact 1:2
        request
        user: go on
        request
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
              6 1.2#1 placed: eu-1
              - refused: Busy { turn: 1 }
              7 1.2#1 replied: assistant "done"
              7 turn 1 completed
              - refused: NotABoundary
              - refused: NoSuchItem(ItemId { turn: 7, idx: 7 })
              8 compacted: summary through 1:2
                would send: summary through 1:2 | assistant "done"
              9 turn 2: user "go on"
              9 step 1
              9 attempt 2.1#1 first
                would send: summary through 1:2 | assistant "done" | user "go on"
            wants: place 2.1#1, wake at 100001
        "#]],
    );
}

#[test]
fn a_call_that_is_open_is_not_erased() {
    check(
        "
        user: ask
        placed: eu-1
        model: call ask
        erase 1:1
        erase 1:9
        answer ask
        erase 1:1
        request
        ",
        expect![[r#"
              2 turn 1: user "ask"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call ask{} as 1/c1
              4 turn 1 completed
              - refused: CallsOpen([CallId { turn: 1, n: 1 }])
              - refused: NoSuchItem(ItemId { turn: 1, idx: 9 })
              5 1/c1 ok: mine
              6 erased 1:1 1:2
                would send: user "ask"
            wants: nothing
        "#]],
    );
}

#[test]
fn tokens_and_bytes_have_limits() {
    check(
        "
        terms: tokens=7
        user: read
        placed: eu-1
        model: call read
        returned read: red
        terms: bytes=11
        user: read
        placed: eu-1
        model: call read
        returned read: r
        terms: tokens=8 bytes=12
        user: read
        placed: eu-1
        model: call read
        returned read: r
        ",
        expect![[r#"
              2 turn 1: user "read"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              5 1/c1 ok: red
              5 turn 1 incomplete: tokens
              6 turn 2: user "read"
              6 step 1
              6 attempt 2.1#1 first
              7 2.1#1 placed: eu-1
              8 2.1#1 replied: call read{} as 2/c1
              8 2/c1 started
              9 2/c1 ok: r
              9 turn 2 incomplete: bytes
             10 turn 3: user "read"
             10 step 1
             10 attempt 3.1#1 first
             11 3.1#1 placed: eu-1
             12 3.1#1 replied: call read{} as 3/c1
             12 3/c1 started
             13 3/c1 ok: r
             13 step 2
             13 attempt 3.2#1 first
            wants: place 3.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_a_model_said_stays_in_its_order() {
    check(
        "
        user: read; see data:image/png;base64,AA
        ask
        placed: eu-1
        model: call read, and so on
        returned read: red
        request
        ",
        expect![[r#"
              2 turn 1: user "" | user "read"
              2 step 1
              2 attempt 1.1#1 first
                asks: Needs { tools: true, images: true, schema: false, input_tokens: 12, max_output_tokens: None }, warm None, avoid {}, budget None, loop false
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1 | assistant "and so on"
              4 1/c1 started
              5 1/c1 ok: red
              5 step 2
              5 attempt 1.2#1 first
                would send: user "" | user "read" | call read{} as 1/c1 | assistant "and so on" | result of 1/c1 ok "red"
            wants: place 1.2#1, wake at 100001
        "#]],
    );
}

#[test]
fn what_a_running_turn_leaves_to_a_fork() {
    check(
        "
        terms: at_end
        user: not yet seen
        placed: eu-1
        model: call read
        fork
        request
        ",
        expect![[r#"
              2 turn 1: user "not yet seen"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              1 created as a fork with 0 items, 0 open calls
              1 owned, epoch 1
                would send: 
            wants: nothing
        "#]],
    );
    check(
        "
        user: seen as it goes
        placed: eu-1
        model: call read
        fork
        request
        ",
        expect![[r#"
              2 turn 1: user "seen as it goes"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call read{} as 1/c1
              4 1/c1 started
              1 created as a fork with 3 items, 0 open calls
              1 owned, epoch 1
                would send: user "seen as it goes" | call read{} as 1/c1 | result of 1/c1 unknown "It is not known whether this call took effect: the session was forked while it was running."
            wants: nothing
        "#]],
    );
}

#[test]
fn a_fork_may_learn_what_it_does_not_know() {
    check(
        "
        user: post and pay
        placed: eu-1
        model: call post, call pay
        fork
        returned pay: paid
        returned post: posted
        ",
        expect![[r#"
              2 turn 1: user "post and pay"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 replied: call post{} as 1/c1 | call pay{} as 1/c2
              4 1/c1 started
              4 1/c2 wants a yes
              1 created as a fork with 5 items, 0 open calls
              1 owned, epoch 1
              - nothing follows
              2 1/c1 learned: ok, note "The earlier call of `post`, closed as unknown, is settled: it did take effect. Its answer: posted"
            wants: nothing
        "#]],
    );
}

#[test]
fn what_has_to_go_with_an_item() {
    let story = |erase: &str| {
        format!(
            "user: read
            placed: eu-1
            model: hm, call read
            returned read: red
            placed: eu-1
            model: hm, hm, done
            user: again
            placed: eu-1
            model: hm, done again
            {erase}
            request"
        )
    };
    let rest = |erase: &str| {
        let told = crate::scenarios::play::play(&story(erase));
        told.lines().skip_while(|it| !it.contains(" erased ")).collect::<Vec<_>>().join("\n") + "\n"
    };
    // A result, its call, and the thought that led to the call.
    expect![[r#"
         11 erased 1:1 1:2 1:3
            would send: user "read" | reasoning | reasoning | assistant "done" | user "again" | reasoning | assistant "done again"
        wants: nothing
    "#]].assert_eq(&rest("erase 1:3"));
    expect![[r#"
         11 erased 1:1 1:2 1:3
            would send: user "read" | reasoning | reasoning | assistant "done" | user "again" | reasoning | assistant "done again"
        wants: nothing
    "#]].assert_eq(&rest("erase 1:2"));
    // A thought alone; what was said, with the thoughts before it; what a person said.
    expect![[r#"
         11 erased 1:4
            would send: user "read" | reasoning | call read{} as 1/c1 | result of 1/c1 ok "red" | reasoning | assistant "done" | user "again" | reasoning | assistant "done again"
        wants: nothing
    "#]].assert_eq(&rest("erase 1:4"));
    expect![[r#"
         11 erased 1:4 1:5 1:6
            would send: user "read" | reasoning | call read{} as 1/c1 | result of 1/c1 ok "red" | user "again" | reasoning | assistant "done again"
        wants: nothing
    "#]].assert_eq(&rest("erase 1:6"));
    expect![[r#"
         11 erased 2:0
            would send: user "read" | reasoning | call read{} as 1/c1 | result of 1/c1 ok "red" | reasoning | reasoning | assistant "done" | reasoning | assistant "done again"
        wants: nothing
    "#]].assert_eq(&rest("erase 2:0"));
}

#[test]
fn an_older_owner_is_refused() {
    check(
        "
        adopt 3
        adopt 3
        adopt 2
        adopt 4
        ",
        expect![[r#"
              2 owned, epoch 3
              3 owned, epoch 3
              - refused: OldEpoch { current: 3 }
              4 owned, epoch 4
            wants: nothing
        "#]],
    );
}

#[test]
fn a_limit_may_be_reached_and_not_passed() {
    check(
        "
        terms: cost=9
        user: hello
        placed: eu-1
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
            wants: model 1.1#1, wake at 100001
        "#]],
    );
    check(
        "
        terms: cost=8
        user: hello
        placed: eu-1
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 dropped
              3 turn 1 incomplete: cost
            wants: nothing
        "#]],
    );
    check(
        "
        terms: attempts=1
        user: hello
        no offer: again 900
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 not placed
              3 turn 1 failed: no_offer
            wants: nothing
        "#]],
    );
    check(
        "
        terms: attempts=2
        user: hello
        placed: eu-1 others
        fail: broken
        placed: eu-2 others
        fail: broken
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 1.1#1 failed: broken
              4 attempt 1.1#2 fallback
              5 1.1#2 placed: eu-2
              6 1.1#2 failed: broken
              6 turn 1 failed: upstream_broken
            wants: nothing
        "#]],
    );
}

#[test]
fn who_speaks_first_is_asked_only_where_several_could() {
    check(
        "
        user: hello
        placed: eu-1
        spoke #1
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              - nothing follows
            wants: model 1.1#1, wake at 100001
        "#]],
    );
    check(
        "
        terms: hedge
        user: hello
        spoke #1
        placed: eu-1 others
        spoke #1
        spoke #1
        wait 50
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              - nothing follows
              3 1.1#1 placed: eu-1
              4 1.1#1 chosen
              - nothing follows
              - nothing follows
            wants: model 1.1#1, wake at 100001
        "#]],
    );
    check(
        "
        terms: hedge
        user: hello
        placed: eu-1 others
        wait 50
        spoke #2
        spoke #1
        ",
        expect![[r#"
              2 turn 1: user "hello"
              2 step 1
              2 attempt 1.1#1 first
              3 1.1#1 placed: eu-1
              4 attempt 1.1#2 hedge
              - nothing follows
              5 1.1#1 chosen
              5 1.1#2 dropped
            wants: model 1.1#1, wake at 100001
        "#]],
    );
}
