//! What comes of an input.

use everstate_kernel::input::{FailureClass, Input};
use everstate_kernel::state::Rejection;
use everstate_runtime::host::{Feed, FeedError};
use expect_test::{Expect, expect};

use crate::world::{Line, SESSION, World, begin, calls, create, fails, key, say, terms, text};

/// Begins a turn, lets the models say these lines, waits until it is quiet, and looks at the log.
fn check(lines: Vec<Line>, story: Expect) {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        lines.into_iter().for_each(|it| world.outside.says(it));
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        story.assert_eq(&world.disk.story(SESSION));
        assert_eq!(*host.look(SESSION).await.unwrap(), world.disk.fold(SESSION));
    });
}

#[test]
fn a_turn_runs_to_its_end() {
    check(
        vec![text(&["good", " morning"])],
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 frame of 1.1#1, 1 deltas
        3 frame of 1.1#1, 3 deltas
        4 replied turn_ended
    "#]],
    );
    check(
        vec![calls(&["look", "pay"]), text(&["done"])],
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 frame of 1.1#1, 1 deltas
        3 frame of 1.1#1, 5 deltas
        4 replied tool_started tool_started
        5 tool_finished
        6 tool_finished step_started attempt_opened placed
        7 frame of 1.2#1, 1 deltas
        8 frame of 1.2#1, 2 deltas
        9 replied turn_ended
    "#]],
    );
    check(
        vec![fails(FailureClass::Overloaded), text(&["done"])],
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 attempt_failed attempt_opened placed
        3 frame of 1.1#2, 1 deltas
        4 frame of 1.1#2, 2 deltas
        5 replied turn_ended
    "#]],
    );
}

#[test]
fn a_key_is_taken_once() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        let inputs = vec![create(SESSION), begin(terms())];
        let fed = host.feed(SESSION, inputs.clone(), key("a")).await.unwrap();
        assert_eq!(host.feed(SESSION, inputs, key("a")).await, Err(FeedError::Seen(fed.seq)));
        world.quiet(&host).await;
        let again = host.feed(SESSION, vec![begin(terms())], key("a")).await;
        assert_eq!(again, Err(FeedError::Seen(fed.seq)));
        host.feed(SESSION, vec![begin(terms())], key("b")).await.unwrap();
    });
}

#[test]
fn nothing_is_written_for_a_refusal() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        let missing = host.feed(SESSION, vec![begin(terms())], Feed::default()).await;
        assert_eq!(missing, Err(FeedError::NotFound));
        assert_eq!(host.look(SESSION).await, Err(FeedError::NotFound));
        say(&host, terms()).await.unwrap();
        let n_rows = world.disk.rows(SESSION).len();
        let busy = host.feed(SESSION, vec![begin(terms())], Feed::default()).await;
        assert_eq!(busy, Err(FeedError::Rejected(Rejection::Busy { turn: 1 })));
        let half = vec![Input::Cancel { turn: 1 }, Input::Cancel { turn: 9 }];
        assert!(host.feed(SESSION, half, Feed::default()).await.is_err());
        assert_eq!(world.disk.rows(SESSION).len(), n_rows);
    });
}
