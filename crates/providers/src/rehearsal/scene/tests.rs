//! Bodies, and what a rehearsal sees of them.

#![allow(clippy::unwrap_used)] // The bodies are written here.

use everstate_kernel::offer::Offer;
use expect_test::{Expect, expect};

use super::read;

fn offer() -> Offer {
    crate::rehearsal::offer("cloud-a")
}

fn check(input: &str, expected: Expect) {
    let body = format!(
        r#"{{"instructions":"be brief","input":{input},"rehearsal":{{"turn":3,"step":2,"attempt":1}}}}"#
    );
    let it = read(body.as_bytes(), "cloud-a", &offer(), 9).unwrap();
    let results: Vec<_> =
        it.results.iter().map(|it| format!("{}={}", it.name, it.output)).collect();
    let shown = format!(
        "{}.{}#{} request {}: {} | {:?} | {}",
        it.turn,
        it.step,
        it.attempt,
        it.request,
        it.instructions,
        it.user,
        results.join(" ")
    );
    expected.assert_eq(&shown);
}

#[test]
fn it_sees_the_last_user_message_and_the_results_after_it() {
    check(r#""hello""#, expect![[r#"3.2#1 request 9: be brief | "hello" | "#]]);
    check(
        r#"[{"role":"user","content":"one"},{"role":"assistant","content":"two"}]"#,
        expect![[r#"3.2#1 request 9: be brief | "one" | "#]],
    );
    let call = r#"{"type":"function_call","call_id":"c1","name":"pay","arguments":"{}"}"#;
    let result = r#"{"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"paid"}]}"#;
    let user = r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"x"},{"type":"input_text","text":"b"}]}"#;
    check(
        &format!("[{user},{call},{result}]"),
        expect![[r#"3.2#1 request 9: be brief | "a\nb" | pay=paid"#]],
    );
    check(
        &format!("[{user},{call},{result},{user}]"),
        expect![[r#"3.2#1 request 9: be brief | "a\nb" | "#]],
    );
    check(&format!("[{result}]"), expect![[r#"3.2#1 request 9: be brief | "" | =paid"#]]);
    check(
        r#"[{"role":"developer","content":"note"},7]"#,
        expect![[r#"3.2#1 request 9: be brief | "" | "#]],
    );
}

#[test]
fn what_is_no_request_is_seen_as_none() {
    assert_eq!(read(b"[]", "cloud-a", &offer(), 1), None);
    assert_eq!(read(b"{", "cloud-a", &offer(), 1), None);
    assert!(read(b"{}", "cloud-a", &offer(), 1).is_some());
}
