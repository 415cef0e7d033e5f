//! Calls against a service of our own: what it gets, and what becomes of its answer, or of none.

use everstate_kernel::item::{Outcome, Part};
use everstate_kernel::tool::{Runs, Safety, ServerTool};
use everstate_runtime::ports::{ToolRun, Tools};
use everstate_tools::{ToolConfig, Toolbox};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::service::{self, Service, answer, broken, redirect};

pub(crate) fn toolbox(sections: &[Value]) -> Toolbox {
    let sections =
        sections.iter().map(|it| ToolConfig(it.as_object().expect("a section").clone())).collect();
    Toolbox::from_config(sections, &|_| Ok(SecretString::from("s3cr3t-token"))).expect("valid")
}

async fn call(tool: Value, arguments: &str) -> (Outcome, String) {
    call_as(tool, arguments, |_| ()).await
}

async fn call_as(
    tool: Value,
    arguments: &str,
    change: impl FnOnce(&mut ServerTool),
) -> (Outcome, String) {
    let toolbox = toolbox(&[tool]);
    let declared = toolbox.declared().remove(0);
    let Runs::Server(mut server) = declared.runs else { panic!("the server runs it") };
    change(&mut server);
    let run = ToolRun {
        project: "p".to_owned(),
        key: "ses_1/2/c3".to_owned(),
        name: declared.name,
        server,
        arguments: arguments.to_owned(),
    };
    let back = toolbox.run(run).await;
    match back.output.as_slice() {
        [Part::Text { text, .. }] => (back.outcome, text.clone()),
        other => panic!("one text, not {other:?}"),
    }
}

fn refund(url: &str, safety: &str) -> Value {
    json!({
        "name": "refund",
        "method": "POST",
        "url": format!("{url}/refunds/{{order}}?lang=en"),
        "headers": {"Authorization": "Bearer env:BANK", "X-Region": "eu"},
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "string"}, "amount": {"type": "integer", "minimum": 1}},
            "required": ["order", "amount"],
        },
        "safety": safety,
        "allow_private": true,
    })
}

const ARGUMENTS: &str = r#"{"order": "A 7", "amount": 5}"#;

#[tokio::test]
async fn a_call_is_one_request() {
    let service = Service::start(|_, _| answer(201, r#"{"refund": 1}"#)).await;
    let returned = call(refund(&service.url, "neither"), ARGUMENTS).await;
    assert_eq!(returned, (Outcome::Ok, r#"{"refund": 1}"#.to_owned()));
    let [asked] = service.asked().try_into().expect("one request");
    assert_eq!(asked.line, "POST /refunds/A%207?lang=en");
    assert_eq!(asked.body, r#"{"amount":5}"#);
    assert_eq!(asked.header("idempotency-key"), Some("ses_1/2/c3"));
    assert_eq!(asked.header("authorization"), Some("Bearer s3cr3t-token"));
    assert_eq!(asked.header("x-region"), Some("eu"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn arguments_of_a_get_go_into_the_query() {
    let service = Service::start(|_, _| answer(200, "")).await;
    let tool = json!({
        "name": "search",
        "method": "GET",
        "url": format!("{}/search?kind=all&q={{q}}", service.url),
        "parameters": {
            "type": "object",
            "properties": {
                "q": {"type": "string"},
                "tags": {"type": "array"},
                "n": {"type": ["integer", "null"]},
            },
            "additionalProperties": true,
        },
        "safety": "read_only",
        "allow_private": true,
    });
    let arguments = r#"{"q": "a&b", "tags": ["x y", "z"], "n": null, "more": 1.5}"#;
    let (outcome, text) = call(tool.clone(), arguments).await;
    assert_eq!((outcome, text.as_str()), (Outcome::Ok, "Done: HTTP 200, without content."));
    let line = &service.asked()[0].line;
    assert_eq!(line, "GET /search?kind=all&q=a%26b&tags=x+y&tags=z&more=1.5");
    assert_eq!(service.asked()[0].body, "");

    let (outcome, text) = call(tool, r#"{"q": "a", "kind": "none"}"#).await;
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("`kind` is set by the tool itself"), "{text}");
}

#[tokio::test]
async fn wrong_arguments_are_told_to_the_model_and_nothing_is_sent() {
    let service = Service::start(|_, _| answer(200, "")).await;
    let cases = [
        (r#"{"order": "A"}"#, "amount"),
        (r#"{"order": "A", "amount": 0}"#, "at /amount"),
        (r#"{"order": "A", "amount": "5"}"#, "at /amount"),
        (r#"{"order": "A", "amount": 5, "account": 1}"#, "account"),
        (r#"{"order": "..", "amount": 5}"#, "`.` or `..`"),
        (r#"{"order": "../payouts", "amount": 5}"#, "`/`"),
        ("[]", "not of type"),
        ("{", "no valid JSON"),
    ];
    for (arguments, expected) in cases {
        let (outcome, text) = call(refund(&service.url, "neither"), arguments).await;
        assert_eq!(outcome, Outcome::Failed, "{text}");
        assert!(text.contains(expected), "{arguments}: {text}");
    }
    assert_eq!(service.asked().len(), 0);
}

/// What a tool of each safety makes of an answer, and how often it asks: read_only, idempotent, neither.
async fn check(answer: impl service::Answer + Clone, expected: [(Outcome, usize); 3]) {
    for (safety, expected) in ["read_only", "idempotent", "neither"].into_iter().zip(expected) {
        let service = Service::start(answer.clone()).await;
        let (outcome, text) = call(refund(&service.url, safety), ARGUMENTS).await;
        assert_eq!((outcome, service.asked().len()), expected, "{safety}: {text}");
        let keys = service.asked();
        assert!(keys.iter().all(|it| it.header("idempotency-key") == Some("ses_1/2/c3")));
    }
}

#[tokio::test]
async fn a_no_is_a_no() {
    for status in [307, 308, 400, 401, 404, 408, 409, 422, 425, 429, 501] {
        check(move |_, _| answer(status, "no"), [(Outcome::Failed, 1); 3]).await;
    }
}

#[tokio::test]
async fn doubt_is_said_aloud() {
    let expected = [(Outcome::Failed, 3), (Outcome::Unknown, 3), (Outcome::Unknown, 1)];
    check(|_, _| answer(500, "oops"), expected).await;
    check(|_, _| broken(200), expected).await;
    let once = [(Outcome::Failed, 1), (Outcome::Unknown, 1), (Outcome::Unknown, 1)];
    check(|_, _| redirect(303, "/elsewhere"), once).await;
}

#[tokio::test]
async fn what_is_safe_to_repeat_is_repeated() {
    let expected = [(Outcome::Ok, 2), (Outcome::Ok, 2), (Outcome::Unknown, 1)];
    check(|n, _| answer(if n == 0 { 503 } else { 200 }, "done"), expected).await;
    // The first may have been done: a no to the second does not say it was not.
    let expected = [(Outcome::Failed, 2), (Outcome::Unknown, 2), (Outcome::Unknown, 1)];
    check(|n, _| answer(if n == 0 { 503 } else { 409 }, "?"), expected).await;
}

#[tokio::test]
async fn the_more_careful_safety_counts() {
    let service = Service::start(|_, _| answer(500, "oops")).await;
    let tool = refund(&service.url, "idempotent");
    let careful = |it: &mut ServerTool| it.safety = Safety::Neither;
    let (outcome, _) = call_as(tool, ARGUMENTS, careful).await;
    assert_eq!((outcome, service.asked().len()), (Outcome::Unknown, 1));
}

#[tokio::test]
async fn without_an_answer_it_counts_whether_anything_was_sent() {
    let nobody = service::nobody().await;
    let closes = service::closes().await;
    let silent = Service::silent().await;
    let cases = [
        ("read_only", [Outcome::Failed, Outcome::Failed, Outcome::Failed]),
        ("idempotent", [Outcome::Failed, Outcome::Unknown, Outcome::Unknown]),
        ("neither", [Outcome::Failed, Outcome::Unknown, Outcome::Unknown]),
    ];
    for (safety, expected) in cases {
        for (url, expected) in [&nobody, &closes, &silent.url].into_iter().zip(expected) {
            let mut tool = refund(url, safety);
            tool["timeout_ms"] = json!(50);
            let (outcome, text) = call(tool, ARGUMENTS).await;
            assert_eq!(outcome, expected, "{safety} {url}: {text}");
        }
    }
    let mut tool = refund(&silent.url, "neither");
    tool["allow_private"] = json!(false);
    tool["headers"] = json!({});
    let (outcome, text) = call(tool, ARGUMENTS).await;
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.starts_with("Nothing was sent") && text.contains("loopback"), "{text}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_does_not_undo_what_was_done() {
    let expected = [(Outcome::Failed, 1), (Outcome::Ok, 1), (Outcome::Ok, 1)];
    check(|_, _| answer(200, vec![0xff, 0xfe]), expected).await;
    check(|_, _| answer(200, vec![b'x'; (1 << 20) + 1]), expected).await;

    let service = Service::start(|_, _| answer(200, r#"{"refund": "one"}"#)).await;
    for (safety, expected) in [("read_only", Outcome::Failed), ("neither", Outcome::Ok)] {
        let mut tool = refund(&service.url, safety);
        tool["output"] = json!({"properties": {"refund": {"type": "integer"}}});
        let (outcome, text) = call(tool, ARGUMENTS).await;
        assert_eq!(outcome, expected);
        assert!(text.contains("does not fit its schema"), "{text}");
    }
}

#[tokio::test]
async fn a_secret_that_comes_back_is_not_for_the_model() {
    for status in [200, 400, 500] {
        let service = Service::start(move |_, asked| {
            answer(status, format!("you sent {:?}", asked.header("authorization")))
        })
        .await;
        let (_, text) = call(refund(&service.url, "neither"), ARGUMENTS).await;
        assert!(text.contains("Bearer [secret]") && !text.contains("s3cr3t"), "{text}");
    }
}

#[tokio::test]
async fn a_tool_that_is_not_there_fails() {
    let toolbox = toolbox(&[]);
    let run = ToolRun {
        project: "p".to_owned(),
        key: "k".to_owned(),
        name: "gone".to_owned(),
        server: ServerTool {
            label: "everstate".to_owned(),
            safety: Safety::Neither,
            approval: false,
            timeout_ms: 1,
        },
        arguments: "{}".to_owned(),
    };
    assert_eq!(toolbox.run(run).await.outcome, Outcome::Failed);
}
