use std::io;

use expect_test::{Expect, expect};

use super::*;

fn check(err: &Failed, expected: Expect) {
    expected.assert_eq(&told(err));
}

fn generic(text: &str) -> Failed {
    Failed::Generic { store: "S3", source: io::Error::other(text.to_owned()).into() }
}

#[test]
fn an_answer_is_told_without_what_it_repeats_of_the_request() {
    let answer = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error>\
        <Code>SignatureDoesNotMatch</Code><Message>The signature does not match.</Message>\
        <AWSAccessKeyId>AKIAHUSH</AWSAccessKeyId><StringToSign>hush</StringToSign></Error>";
    let source = io::Error::other(answer).into();
    check(
        &Failed::PermissionDenied { path: "0001/a".to_owned(), source },
        expect![[
            "SignatureDoesNotMatch: The signature does not match.; look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or at the role"
        ]],
    );
    check(
        &generic("status code: 503 Service Unavailable: <html><body>go away</body></html>"),
        expect!["status code: 503 Service Unavailable"],
    );
    check(&generic("connection refused"), expect!["connection refused"]);
}

#[test]
fn a_missing_bucket_is_no_missing_object() {
    let missing = |body: &str| Failed::NotFound {
        path: "owner".to_owned(),
        source: io::Error::other(body.to_owned()).into(),
    };
    assert!(is_absent(&missing("404 Not Found: <Error><Code>NoSuchKey</Code></Error>")));
    assert!(is_absent(&missing("404 Not Found")));
    let bucket = missing("404 Not Found: <Error><Code>NoSuchBucket</Code></Error>");
    assert!(!is_absent(&bucket));
    check(&bucket, expect!["NoSuchBucket; make the bucket first, or correct its name"]);
}
