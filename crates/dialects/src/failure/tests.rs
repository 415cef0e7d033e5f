use everstate_kernel::input::FailureClass;
use expect_test::{Expect, expect};

use super::{of_answer, without_secrets};

fn check(status: u16, body: &str, expect: Expect) {
    let failure = of_answer(status, Some(1500), body.as_bytes());
    let code = failure.code.as_deref().unwrap_or("-");
    expect.assert_eq(&format!("{:?} {code}: {}", failure.class, failure.message));
}

#[test]
fn words_come_before_the_status() {
    check(
        429,
        r#"{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota","param":null}}"#,
        expect![[r#"QuotaExhausted insufficient_quota: You exceeded your current quota"#]],
    );
    check(
        429,
        r#"{"error":{"message":"Rate limit reached for gpt","type":"tokens","code":"rate_limit_exceeded"}}"#,
        expect![[r#"RateLimited rate_limit_exceeded: Rate limit reached for gpt"#]],
    );
    check(
        400,
        r#"{"error":{"message":"Too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
        expect![[r#"TooLong context_length_exceeded: Too long"#]],
    );
    check(
        400,
        r#"{"error":{"message":"The response was filtered","code":"content_filter","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
        expect![[r#"Refused content_filter: The response was filtered"#]],
    );
    check(
        400,
        r#"{"error":{"message":"bad","type":"invalid_request_error","code":null,"param":"x"}}"#,
        expect![[r#"Invalid invalid_request_error: bad"#]],
    );
}

#[test]
fn odd_bodies_are_understood_as_far_as_they_go() {
    check(501, "", expect!["NotFoundHere -: the provider answered 501"]);
    check(
        501,
        r#"{"error":{"type":"server_error","message":"no such thing"}}"#,
        expect!["NotFoundHere server_error: no such thing"],
    );
    check(503, "", expect![[r#"Overloaded -: the provider answered 503"#]]);
    check(
        502,
        "<html>\n<h1>Bad   Gateway</h1></html>",
        expect![[
            r#"Overloaded -: the provider answered 502: `<html> <h1>Bad Gateway</h1></html>`"#
        ]],
    );
    check(404, r#"{"error":"model not found"}"#, expect![[r#"NotFoundHere -: model not found"#]]);
    check(
        400,
        r#"[{"error":{"code":400,"message":"API key not valid. Please pass one.","status":"INVALID_ARGUMENT"}}]"#,
        expect![[r#"Auth -: API key not valid. Please pass one."#]],
    );
    check(422, r#"{"detail":"nope"}"#, expect![[r#"Invalid -: nope"#]]);
    let deep = "[".repeat(100_000);
    assert_eq!(of_answer(500, None, deep.as_bytes()).class, FailureClass::Overloaded);
}

#[test]
fn secrets_stay_out() {
    let text = "Incorrect API key provided: sk-proj-abcdef123. See https://example.com/account/api-keys \
                (AIzaSyD123456), abc123***xyz.";
    let hidden = without_secrets(text);
    expect![[r#"Incorrect API key provided: [hidden] See https://example.com/account/api-keys ([hidden]), [hidden]"#]]
        .assert_eq(&hidden);
}
