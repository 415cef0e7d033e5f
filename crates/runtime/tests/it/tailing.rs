//! What listeners hear.

use std::sync::Arc;

use everstate_kernel::delta::{Delta, Opening, Piece};
use everstate_kernel::input::{Caller, Compact, Input, TurnTerms};
use everstate_runtime::host::{Feed, Host};
use everstate_runtime::ports::Down;
use everstate_runtime::settings::HostSettings;
use everstate_runtime::tail::Told;
use expect_test::{Expect, expect};
use futures_util::StreamExt;

use crate::world::{Line, SESSION, World, calls, close, end, open, say, terms, text};

fn attached() -> TurnTerms {
    TurnTerms { caller: Caller::Attached, resumable: false, ..terms() }
}

fn line(told: &Result<Told, Down>) -> String {
    match told {
        Ok(Told::Append(append)) => {
            let kinds: Vec<_> = append.events.iter().map(|it| it.kind()).collect();
            format!("{} {}", append.seq, kinds.join(" "))
        }
        Ok(Told::Frame { seq, frame }) => format!("{seq} kept: {}", words(&frame.deltas)),
        Ok(Told::Shown(piece)) => format!("- shown: {}", words(&piece.frame.deltas)),
        Err(down) => format!("! {down}"),
    }
}

fn words(deltas: &[Delta]) -> String {
    let word = |delta: &Delta| match delta {
        Delta::Open { .. } => "(".to_owned(),
        Delta::Text { text, .. } => text.clone(),
        Delta::Close { .. } => ")".to_owned(),
        other => format!("{other:?}"),
    };
    deltas.iter().map(word).collect()
}

/// Listens from before the session is there, and hears one turn.
fn check(terms: TurnTerms, answer: Line, heard: Expect) {
    check_all(terms, vec![answer], heard);
}

fn check_all(terms: TurnTerms, answers: Vec<Line>, heard: Expect) {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        answers.into_iter().for_each(|it| world.outside.says(it));
        let mut tail = host.tail(SESSION, 0);
        say(&host, terms).await.unwrap();
        let mut lines = Vec::new();
        while let Some(told) = tail.next().await {
            lines.push(line(&told));
            if lines.last().is_some_and(|it| it.contains("turn_ended")) {
                break;
            }
        }
        heard.assert_eq(&lines.join("\n"));
        // Whoever comes later reads the same, but for what was not kept.
        let again = host.rows(SESSION, 0, u64::MAX).await.unwrap();
        let again: Vec<String> = again.into_iter().map(|it| line(&Ok(it))).collect();
        lines.retain(|it| !it.starts_with('-'));
        assert_eq!(again, lines);
    });
}

#[test]
fn a_turn_is_heard_as_it_goes() {
    check(
        terms(),
        text(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]),
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 kept: (
        3 kept: abcdefg
        4 kept: hi)
        5 replied turn_ended"#]],
    );
    check(
        attached(),
        text(&["a", "b", "c"]),
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        - shown: (
        - shown: a
        - shown: b
        - shown: c
        - shown: )
        2 replied turn_ended"#]],
    );
}

#[test]
fn a_summary_is_heard_by_nobody() {
    let compact = Some(Compact { at_tokens: 10 });
    let answers = || vec![calls(&["look"]), text(&["in", "short"]), text(&["done"])];
    check_all(
        TurnTerms { compact, ..terms() },
        answers(),
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        2 kept: (
        3 kept: Arguments { item: 0, text: "{}" })
        4 replied tool_started
        5 tool_finished attempt_opened placed
        6 summed_up compacted step_started attempt_opened placed
        7 kept: (
        8 kept: done)
        9 replied turn_ended"#]],
    );
    check_all(
        TurnTerms { compact, ..attached() },
        answers(),
        expect![[r#"
        1 created owned turn_started step_started attempt_opened placed
        - shown: (
        - shown: Arguments { item: 0, text: "{}" }
        - shown: )
        2 replied tool_started
        3 tool_finished attempt_opened placed
        4 summed_up compacted step_started attempt_opened placed
        - shown: (
        - shown: done
        - shown: )
        5 replied turn_ended"#]],
    );
}

#[test]
fn many_deltas_are_bundled_by_bytes_too() {
    let long = "x".repeat(3000);
    let mut answer = vec![(0, Ok(open(0, Opening::Message)))];
    let delta = || Ok(Piece::Delta(Delta::Text { item: 0, text: long.clone() }));
    answer.extend((0..4).map(|_| (0, delta())));
    answer.extend([(0, Ok(close(0))), (0, Ok(end()))]);
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        world.disk.stored().faults.before_ms = 3;
        world.outside.says(answer);
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let rows = host.rows(SESSION, 1, u64::MAX).await.unwrap();
        assert!(rows.len() <= 4, "{rows:?}");
    });
}

async fn read_late(host: &Arc<Host>, world: &World, terms: TurnTerms) -> Vec<String> {
    let mut tail = host.tail(SESSION, 0);
    let words: Vec<String> = (0..40).map(|it| format!(" {it}")).collect();
    world.outside.says(text(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    say(host, terms).await.unwrap();
    let mut lines = vec![line(&tail.next().await.unwrap())];
    world.quiet(host).await;
    loop {
        match tail.next().await {
            Some(told) => lines.push(line(&told)),
            None => return lines,
        }
        if lines.last().is_some_and(|it| it.contains("turn_ended")) {
            return lines;
        }
    }
}

#[test]
fn a_slow_reader_is_served_from_the_log() {
    let settings = HostSettings { unread_max: 3, flush_ms: 5, ..HostSettings::default() };
    let world = World::new();
    world.run(async {
        let host = world.host(1, settings.clone());
        host.start().await.unwrap();
        let lines = read_late(&host, &world, terms()).await;
        let rows = host.rows(SESSION, 0, u64::MAX).await.unwrap();
        assert!(rows.len() > 10);
        let rows: Vec<String> = rows.into_iter().map(|it| line(&Ok(it))).collect();
        assert_eq!(lines, rows);
    });
    let world = World::new();
    world.run(async {
        let host = world.host(1, settings);
        host.start().await.unwrap();
        let lines = read_late(&host, &world, attached()).await;
        // Of what was not kept it hears nothing after a gap; what was said is in the last fact.
        assert_eq!(lines.last().unwrap(), "2 replied turn_ended", "{lines:?}");
        assert!(!lines.iter().any(|it| it.starts_with('-')), "{lines:?}");
    });
}

#[test]
fn a_tail_ends_with_its_session() {
    let world = World::new();
    world.run(async {
        let host = world.started(1).await;
        say(&host, terms()).await.unwrap();
        world.quiet(&host).await;
        let tail = host.tail(SESSION, 0);
        host.delete(SESSION).await.unwrap();
        assert_eq!(tail.collect::<Vec<_>>().await, []);
        let gone = host.feed(SESSION, vec![Input::Tick], Feed::default()).await;
        assert!(gone.is_err());
        assert!(world.disk.rows(SESSION).is_empty());
    });
}

#[test]
fn whoever_lost_a_session_says_so() {
    let world = World::new();
    world.run(async {
        let old = world.started(1).await;
        say(&old, terms()).await.unwrap();
        let mut tail = old.tail(SESSION, world.disk.rows(SESSION).len() as u64);
        let new = world.started(2).await;
        world.quiet(&old).await;
        let last = loop {
            match tail.next().await {
                Some(Ok(_)) => (),
                other => break other,
            }
        };
        assert!(line(&last.unwrap()).contains("no longer served here"));
        world.quiet(&new).await;
        assert!(world.disk.story(SESSION).ends_with("replied turn_ended\n"));
    });
}
