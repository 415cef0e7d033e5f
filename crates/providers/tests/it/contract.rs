//! What every provider promises, whatever its kind: a kind joins by being in the list.

use everstate_kernel::input::FailureClass;
use everstate_providers::config::ProviderConfig;
use everstate_providers::kind;
use futures_util::future::join_all;

use crate::ask::{Heard, after_call, ask, config, offer, opened, request};
use crate::upstream::{Manner, Then, Upstream, hello, hello_without_end};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// "Hello there" and `pay({"n":42})`.
    Hello,
    RateLimited,
    Overloaded,
    WrongKey,
    NoModel,
    BadRequest,
    Html,
    HtmlError,
    /// The whole answer, but not its end.
    NoEnd,
    Cut,
    Reset,
    Garbage,
    Hang,
    HangMidway,
}

/// Stages a fate for a kind: over HTTP with a server that behaves so, or by a script.
async fn stage(kind: &'static dyn kind::Kind, fate: Fate) -> (ProviderConfig, Option<Upstream>) {
    // Nobody waits long for what hangs on purpose; for all else there is time, however busy the machine is.
    let timeouts = match fate {
        Fate::Hang => "timeouts = { first_token_ms = 100 }",
        Fate::HangMidway => "timeouts = { idle_ms = 100 }",
        _ => "",
    };
    if kind.name() == "rehearsal" {
        let rule = match fate {
            Fate::Hello => HELLO.to_owned(),
            Fate::RateLimited => "error = { status = 429, retry_after_ms = 1500 }".to_owned(),
            Fate::Overloaded => "error = { status = 503 }".to_owned(),
            Fate::WrongKey => "error = { status = 401 }".to_owned(),
            Fate::NoModel => "error = { status = 404 }".to_owned(),
            Fate::BadRequest => "error = { status = 400 }".to_owned(),
            Fate::Html => "broken = 'html'".to_owned(),
            // A script has no HTML errors; the other kinds show what becomes of them.
            Fate::HtmlError => "error = { status = 502 }".to_owned(),
            Fate::NoEnd => format!("{HELLO}\nbroken = 'cut'\nafter_pieces = 99"),
            Fate::Cut => format!("{HELLO}\nbroken = 'cut'\nafter_pieces = 1"),
            Fate::Reset => format!("{HELLO}\nbroken = 'reset'\nafter_pieces = 1"),
            Fate::Garbage => format!("{HELLO}\nbroken = 'garbage'\nafter_pieces = 1"),
            Fate::Hang => "broken = 'hang'".to_owned(),
            Fate::HangMidway => format!("{HELLO}\nbroken = 'hang'\nafter_pieces = 1"),
        };
        return (
            config(&format!("kind = 'rehearsal'\n{timeouts}\n[[script.rules]]\n{rule}")),
            None,
        );
    }
    let probe = config(&format!("kind = '{}'\nbase_url = 'http://127.0.0.1:1/v1'", kind.name()));
    let dialect = opened("probe", &probe).dialect;
    let error = |status: u16, code: &str| Manner::Answer {
        status,
        headers: vec![("content-type", "application/json".to_owned())],
        body: format!(
            r#"{{"error":{{"message":"no: {code}","type":"{code}","code":"{code}","param":null}}}}"#
        )
        .into(),
    };
    let html = |status: u16| Manner::Answer {
        status,
        headers: vec![("content-type", "text/html; charset=utf-8".to_owned())],
        body: "<!doctype html><h1>Bad gateway</h1>".into(),
    };
    let first = |then: Then| Manner::Stream { chunks: hello(dialect)[..4].to_vec(), then };
    let manner = match fate {
        Fate::Hello => Manner::Stream { chunks: hello(dialect), then: Then::Close },
        Fate::RateLimited => {
            let Manner::Answer { status, mut headers, body } = error(429, "rate_limit_exceeded")
            else {
                unreachable!("errors are whole answers")
            };
            headers.push(("retry-after-ms", "1500".to_owned()));
            Manner::Answer { status, headers, body }
        }
        Fate::Overloaded => error(503, "server_error"),
        Fate::WrongKey => error(401, "invalid_api_key"),
        Fate::NoModel => error(404, "model_not_found"),
        Fate::BadRequest => error(400, "invalid_request_error"),
        Fate::Html => html(200),
        Fate::HtmlError => html(502),
        Fate::NoEnd => Manner::Stream { chunks: hello_without_end(dialect), then: Then::Close },
        Fate::Cut => first(Then::Close),
        Fate::Reset => first(Then::Break),
        Fate::Garbage => {
            let mut chunks = hello(dialect)[..4].to_vec();
            chunks.push(b"data: {\"type\": \xff\xfe nonsense\n\n".to_vec());
            Manner::Stream { chunks, then: Then::Hang }
        }
        Fate::Hang => Manner::Silent,
        Fate::HangMidway => first(Then::Hang),
    };
    let upstream = Upstream::start(manner).await;
    let text = format!(
        "kind = '{}'\nbase_url = '{}'\nkey = 'env:TEST_KEY'\n{timeouts}",
        kind.name(),
        upstream.base_url
    );
    (config(&text), Some(upstream))
}

const HELLO: &str = "text = 'Hello there'\ncalls = [{ name = 'pay', arguments = { n = 42 } }]\n\
    usage = { input = 11, cached = 3, output = 7 }";

/// Runs a fate for every kind, all at once, and looks at what was heard.
async fn check(fate: Fate, look: impl Fn(&Heard)) {
    let mut staged = Vec::new();
    for kind in kind::all() {
        let (config, upstream) = stage(kind, fate).await;
        staged.push((kind.name(), opened("cloud", &config), upstream));
    }
    let asked = staged.iter().map(|(name, opened, upstream)| async move {
        (name, ask(opened, &offer("cloud", opened), &request("hi")).await, upstream)
    });
    for (name, heard, upstream) in join_all(asked).await {
        look(&heard);
        if let Err(failure) = &heard.end {
            assert!(failure.message.starts_with("cloud ("), "says who: {}", failure.message);
        }
        if let Some(upstream) = upstream {
            // What is given up early may not have arrived at all.
            let n = upstream.arrived().len();
            assert!(n == 1 || n == 0 && fate == Fate::Hang, "{name} {fate:?}: sent {n} times");
        }
    }
}

/// How it fails, and how what was shown until then begins.
async fn check_failure(fate: Fate, class: FailureClass, status: Option<u16>, said: &str) {
    check(fate, |heard| {
        let failure = heard.failure();
        assert_eq!((failure.class, failure.status), (class, status), "{}", failure.message);
        assert!(heard.text().starts_with(said), "{:?}", heard.outputs);
    })
    .await;
}

#[tokio::test]
async fn a_whole_answer_is_heard_whole() {
    check(Fate::Hello, |heard| {
        let end = heard.end.as_ref().unwrap();
        assert_eq!(heard.text(), "Hello there");
        assert_eq!(heard.calls(), [("pay", r#"{"n":42}"#)]);
        assert_eq!((end.usage.input, end.usage.cached, end.usage.output), (11, 3, 7));
        assert!(heard.n_deltas >= 5, "in pieces, not at once");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_classified() {
    check(Fate::RateLimited, |heard| {
        let failure = heard.failure();
        assert_eq!((failure.class, failure.status), (FailureClass::RateLimited, Some(429)));
        assert_eq!(failure.retry_after_ms, Some(1500));
    })
    .await;
    check_failure(Fate::Overloaded, FailureClass::Overloaded, Some(503), "").await;
    check_failure(Fate::WrongKey, FailureClass::Auth, Some(401), "").await;
    check_failure(Fate::NoModel, FailureClass::NotFoundHere, Some(404), "").await;
    check_failure(Fate::BadRequest, FailureClass::Invalid, Some(400), "").await;
    check_failure(Fate::HtmlError, FailureClass::Overloaded, Some(502), "").await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_broken() {
    check_failure(Fate::Html, FailureClass::Broken, Some(200), "").await;
}

#[tokio::test]
async fn what_stops_without_an_end_is_broken_and_what_was_said_stays_said() {
    for fate in [Fate::NoEnd, Fate::Cut, Fate::Reset, Fate::Garbage] {
        check_failure(fate, FailureClass::Broken, None, "Hello ").await;
    }
}

#[tokio::test]
async fn silence_is_a_timeout() {
    check_failure(Fate::Hang, FailureClass::Timeout, None, "").await;
    check_failure(Fate::HangMidway, FailureClass::Timeout, None, "Hello ").await;
}

#[tokio::test]
async fn preparing_is_pure_and_the_prefix_grows_with_the_session() {
    for kind in kind::all() {
        let (config, _upstream) = stage(kind, Fate::Hello).await;
        let opened = opened("cloud", &config);
        let offer = offer("cloud", &opened);
        let first = request("pay the invoice");
        let second = after_call(&first, "pay", "{}", "paid");
        let prepare = |request| opened.model.prepare(&offer, request).unwrap();
        assert_eq!(prepare(&second), prepare(&second), "{}", kind.name());
        // The same prefix with other items after it is the same cache.
        let mut other = after_call(&first, "pay", "{}", "not paid");
        other.attempt.attempt = 2;
        assert_eq!(prepare(&second).prefix, prepare(&other).prefix, "{}", kind.name());
        assert_ne!(prepare(&second).bytes, prepare(&other).bytes, "{}", kind.name());
        // Another prefix is another.
        let elsewhere = after_call(&request("pay another"), "pay", "{}", "paid");
        assert_ne!(prepare(&second).prefix, prepare(&elsewhere).prefix, "{}", kind.name());
        let hex = prepare(&second).prefix;
        assert!(hex.len() == 64 && hex.bytes().all(|it| it.is_ascii_hexdigit()), "{hex}");
    }
}
