use std::collections::BTreeSet;

use super::codes::CODES;
use super::*;

#[test]
fn words_are_unique_and_explained() {
    let words: BTreeSet<&str> = CODES.iter().map(|it| it.word).collect();
    assert_eq!(words.len(), CODES.len());
    for code in CODES {
        assert!(code.explain.ends_with('.') && !code.explain.contains("  "), "{}", code.word);
        assert!(StatusCode::from_u16(code.status).is_ok(), "{}", code.word);
        assert!(code.word.chars().all(|it| it.is_ascii_lowercase() || it == '_'), "{}", code.word);
    }
}

#[test]
fn an_error_has_the_shape_of_the_api_and_says_whether_to_repeat() {
    let error = ApiError::new(&codes::EFFECT_MAY_HAVE_HAPPENED, "lost")
        .why("a tool had started")
        .address("ses_x/1.2");
    assert_eq!(
        error.json(),
        json!({"error": {
            "type": "invalid_request_error",
            "code": "effect_may_have_happened",
            "message": "lost",
            "param": null,
            "why": ["a tool had started"],
            "try": null,
            "address": "ses_x/1.2",
        }})
    );
    let response = error.into_response();
    assert_eq!(response.status(), 409);
    assert_eq!(response.headers()["x-should-retry"], "false");

    let busy = ApiError::new(&codes::SESSION_BUSY, "busy").retry_after_ms(1_200).into_response();
    assert_eq!(busy.headers()["x-should-retry"], "true");
    assert_eq!(busy.headers()["retry-after"], "2");
}
