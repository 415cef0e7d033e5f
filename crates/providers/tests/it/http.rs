//! What providers over HTTP promise besides: what they send, how long they wait, how much they take.

use everstate_kernel::input::FailureClass;
use futures_util::StreamExt;
use serde_json::Value;

use crate::ask::{KEY, ask, config, offer, opened, request};
use crate::upstream::{Manner, Then, Upstream, event, hello};

fn error(status: u16, headers: &[(&'static str, &str)], body: &str) -> Manner {
    let mut headers: Vec<_> = headers.iter().map(|(name, it)| (*name, (*it).to_owned())).collect();
    headers.push(("content-type", "application/json".to_owned()));
    Manner::Answer { status, headers, body: body.into() }
}

#[tokio::test]
async fn the_request_carries_what_was_prepared_and_what_was_configured() {
    for (dialect, path) in [("responses", "/v1/responses"), ("chat", "/v1/chat/completions")] {
        let upstream =
            Upstream::start(Manner::Stream { chunks: hello(dialect), then: Then::Close }).await;
        let config = config(&format!(
            "kind = 'openai'\nbase_url = '{}/'\nkey = 'env:TEST_KEY'\ndialect = '{dialect}'\n\
             organization = 'org-1'\nproject = 'proj_1'",
            upstream.base_url
        ));
        let opened = opened("cloud", &config);
        let (offer, request) = (offer("cloud", &opened), request("hi"));
        let heard = ask(&opened, &offer, &request).await;
        assert_eq!(heard.text(), "Hello there");

        let [arrived] = &upstream.arrived()[..] else { panic!("one request") };
        assert_eq!((arrived.method.as_str(), arrived.path.as_str()), ("POST", path));
        assert_eq!(arrived.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!(arrived.header("content-type"), Some("application/json"));
        assert_eq!(arrived.header("accept"), Some("text/event-stream"));
        assert_eq!(arrived.header("openai-organization"), Some("org-1"));
        assert_eq!(arrived.header("openai-project"), Some("proj_1"));
        assert_eq!(arrived.header("accept-encoding"), None);
        assert!(arrived.header("user-agent").unwrap().starts_with("everstate/"));
        assert_eq!(arrived.body, opened.model.prepare(&offer, &request).unwrap().bytes);
        let body: Value = serde_json::from_slice(&arrived.body).unwrap();
        assert_eq!(
            (&body["model"], &body["stream"]),
            (&Value::from("model-1"), &Value::from(true))
        );
    }
}

#[tokio::test]
async fn the_offer_says_the_dialect() {
    let upstream =
        Upstream::start(Manner::Stream { chunks: hello("chat"), then: Then::Close }).await;
    let config = config(&format!("kind = 'openai'\nbase_url = '{}'", upstream.base_url));
    let opened = opened("cloud", &config);
    let mut offer = offer("cloud", &opened);
    offer.dialect = "chat".to_owned();
    assert_eq!(ask(&opened, &offer, &request("hi")).await.text(), "Hello there");
    assert_eq!(upstream.arrived()[0].path, "/v1/chat/completions");
    offer.dialect = "klingon".to_owned();
    let failure = opened.model.prepare(&offer, &request("hi")).unwrap_err();
    assert!(failure.message.contains("no dialect `klingon`"), "{}", failure.message);
}

#[tokio::test]
async fn a_plain_json_answer_will_do() {
    let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"model-1","choices":[{"index":0,
        "message":{"role":"assistant","content":"Hello there"},"finish_reason":"stop"}],
        "usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}"#;
    let upstream = Upstream::start(error(200, &[], body)).await;
    let config = config(&format!("kind = 'compatible'\nbase_url = '{}'", upstream.base_url));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert_eq!((heard.text().as_str(), heard.end.unwrap().usage.output), ("Hello there", 7));
}

#[tokio::test]
async fn what_the_provider_does_not_count_is_estimated() {
    let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"model-1","choices":[{"index":0,
        "message":{"role":"assistant","content":"Hello there"},"finish_reason":"stop"}]}"#;
    let upstream = Upstream::start(error(200, &[], body)).await;
    let config = config(&format!("kind = 'compatible'\nbase_url = '{}'", upstream.base_url));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    let sent = upstream.arrived()[0].body.len() as u64;
    let usage = heard.end.unwrap().usage;
    assert_eq!((usage.input, usage.output, usage.estimated), (sent.div_ceil(4), 3, true));
}

#[tokio::test]
async fn an_address_where_nobody_is_is_told_as_it_was_tried() {
    for base_url in [Upstream::nobody().await, Upstream::rude().await] {
        let config =
            config(&format!("kind = 'openai'\nbase_url = '{base_url}'\nkey = 'env:TEST_KEY'"));
        let opened = opened("cloud", &config);
        let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
        let failure = heard.failure();
        assert_eq!(failure.class, FailureClass::Broken, "{}", failure.message);
        assert!(failure.message.contains(&format!("{base_url}/responses")), "{}", failure.message);
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other =
        Upstream::start(Manner::Stream { chunks: hello("responses"), then: Then::Close }).await;
    let to = format!("{}/responses?token=geheim", other.base_url);
    let upstream = Upstream::start(error(307, &[("location", &to)], "{}")).await;
    let config = config(&format!(
        "kind = 'openai'\nbase_url = '{}'\nkey = 'env:TEST_KEY'",
        upstream.base_url
    ));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    let failure = heard.failure();
    assert_eq!((failure.class, failure.status), (FailureClass::NotFoundHere, Some(307)));
    assert!(!failure.message.contains("geheim"), "{}", failure.message);
    assert!(other.arrived().is_empty(), "no prompt and no key went there");
}

#[tokio::test]
async fn our_key_is_in_no_message_even_if_the_provider_repeats_it() {
    let body = format!(r#"{{"error":{{"message":"bad header: Bearer {KEY}","code":"{KEY}"}}}}"#);
    let upstream = Upstream::start(error(401, &[], &body)).await;
    let cfg = config(&format!(
        "kind = 'openai'\nbase_url = '{}'\nkey = 'env:TEST_KEY'",
        upstream.base_url
    ));
    let opened = opened("cloud", &cfg);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert!(!format!("{:?}", heard.failure()).contains(KEY), "{:?}", heard.failure());
    assert!(!format!("{opened:?}").contains(KEY), "nor in what is printed for debugging");

    let stream =
        format!(r#"{{"type":"error","code":"server_error","message":"key {KEY} fell over"}}"#);
    let upstream =
        Upstream::start(Manner::Stream { chunks: vec![event(&stream)], then: Then::Close }).await;
    let cfg = config(&format!(
        "kind = 'openai'\nbase_url = '{}'\nkey = 'env:TEST_KEY'",
        upstream.base_url
    ));
    let opened = crate::ask::opened("cloud", &cfg);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert!(heard.failure().message.contains("fell over"), "{:?}", heard.failure());
    assert!(!format!("{:?}", heard.failure()).contains(KEY), "{:?}", heard.failure());
}

#[tokio::test]
async fn without_its_key_a_provider_is_not_asked() {
    let upstream = Upstream::start(Manner::Silent).await;
    let config = config(&format!(
        "kind = 'openai'\nbase_url = '{}'\nkey = 'env:NO_SUCH_KEY'",
        upstream.base_url
    ));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert_eq!(heard.failure().class, FailureClass::Auth);
    assert!(heard.failure().message.contains("NO_SUCH_KEY"), "{}", heard.failure().message);
    assert!(upstream.arrived().is_empty());
}

#[tokio::test]
async fn time_is_bounded_even_if_something_always_comes() {
    let mut chunks = hello("responses")[..4].to_vec();
    chunks.push(b": still here\n\n".to_vec());
    let upstream = Upstream::start(Manner::Stream { chunks, then: Then::Repeat }).await;
    let config = config(&format!(
        "kind = 'openai'\nbase_url = '{}'\ntimeouts = {{ idle_ms = 100, total_ms = 300 }}",
        upstream.base_url
    ));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert_eq!(heard.failure().class, FailureClass::Timeout);
    assert!(heard.failure().message.contains("total_ms"), "{}", heard.failure().message);
    assert_eq!(heard.text(), "Hello ");
}

#[tokio::test]
async fn comments_are_no_answer() {
    let chunks = vec![b": PROCESSING\n\n".to_vec()];
    let upstream = Upstream::start(Manner::Stream { chunks, then: Then::Repeat }).await;
    let config = config(&format!(
        "kind = 'compatible'\nbase_url = '{}'\ntimeouts = {{ first_token_ms = 100 }}",
        upstream.base_url
    ));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert!(heard.failure().message.contains("first_token_ms"), "{}", heard.failure().message);
}

#[tokio::test]
async fn size_is_bounded() {
    let endless = vec![b"data: ".to_vec(), vec![b'x'; 8192]];
    let upstream = Upstream::start(Manner::Stream { chunks: endless, then: Then::Repeat }).await;
    let config = config(&format!(
        "kind = 'openai'\nbase_url = '{}'\nreply_max_bytes = 100000",
        upstream.base_url
    ));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert_eq!(heard.failure().class, FailureClass::Broken);
    assert!(heard.failure().message.contains("reply_max_bytes"), "{}", heard.failure().message);
}

#[tokio::test]
async fn a_huge_error_is_read_only_in_part() {
    let upstream = Upstream::start(error(500, &[], &"x".repeat(10 << 20))).await;
    let config = config(&format!("kind = 'openai'\nbase_url = '{}'", upstream.base_url));
    let opened = opened("cloud", &config);
    let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
    assert_eq!(heard.failure().class, FailureClass::Overloaded);
    assert!(heard.failure().message.len() < 2000);
}

#[tokio::test]
async fn letting_go_of_the_stream_ends_the_request() {
    let chunks = hello("responses")[..4].to_vec();
    let mut upstream = Upstream::start(Manner::Stream { chunks, then: Then::Repeat }).await;
    let config = config(&format!("kind = 'openai'\nbase_url = '{}'", upstream.base_url));
    let opened = opened("cloud", &config);
    let offer = offer("cloud", &opened);
    let prepared = opened.model.prepare(&offer, &request("hi")).unwrap();
    let mut stream = opened.model.send(&offer, prepared).await.unwrap();
    stream.next().await.unwrap().unwrap();
    assert!(upstream.dropped.try_recv().is_err(), "still being told");
    drop(stream);
    let noticed = tokio::time::timeout(std::time::Duration::from_secs(10), upstream.dropped.recv());
    assert_eq!(noticed.await, Ok(Some(())));
}

#[tokio::test]
async fn what_comes_after_the_end_changes_nothing() {
    let mut chunks = hello("responses");
    chunks.push(b"data: nonsense\n\n".to_vec());
    for then in [Then::Close, Then::Break, Then::Hang, Then::Repeat] {
        let upstream = Upstream::start(Manner::Stream { chunks: chunks.clone(), then }).await;
        let config = config(&format!("kind = 'openai'\nbase_url = '{}'", upstream.base_url));
        let opened = opened("cloud", &config);
        let heard = ask(&opened, &offer("cloud", &opened), &request("hi")).await;
        assert_eq!(heard.text(), "Hello there", "{then:?}");
        assert!(heard.end.is_ok(), "{then:?}");
    }
}
