use expect_test::{Expect, expect};

use super::Parser;

fn events(chunks: &[&[u8]]) -> String {
    let (mut parser, mut out) = (Parser::default(), Vec::new());
    for chunk in chunks {
        parser.push(chunk, &mut out).expect("short enough");
    }
    parser.finish(&mut out);
    out.iter().map(|it| format!("{}|{}\n", it.kind, it.data.escape_debug())).collect()
}

/// The stream gives these events however it is cut in two, or into single bytes.
fn check(stream: &str, expect: Expect) {
    let bytes = stream.as_bytes();
    let whole = events(&[bytes]);
    expect.assert_eq(&whole);
    for cut in 0..=bytes.len() {
        assert_eq!(events(&[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    assert_eq!(events(&bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
}

#[test]
fn every_line_end_is_one() {
    let expected = "a|1\\n2\n|3\n";
    for end in ["\n", "\r\n", "\r"] {
        let stream = ["event: a", "data: 1", "data:2", "", "data: 3", "", ""].join(end);
        assert_eq!(events(&[stream.as_bytes()]), expected, "{end:?}");
    }
    check(
        "event: a\r\ndata: 1\ndata:2\r\r\ndata: 3\n\n",
        expect![[r#"
        a|1\n2
        |3
    "#]],
    );
}

#[test]
fn marks_comments_and_other_fields_are_passed_over() {
    check(
        "\u{feff}: hello\nid: 7\nretry: 1\ndata: ä€🦀\n\nevent: empty\n\n: bye\n",
        expect![[r#"
        |ä€🦀
    "#]],
    );
}

#[test]
fn the_last_event_needs_no_empty_line() {
    check(
        "data: 1\n\ndata: [DONE]",
        expect![[r#"
        |1
        |[DONE]
    "#]],
    );
}
