//! The guarded fetch: what it refuses, what it carries along, and how it is bounded.

use std::time::Duration;

use everstate_tools::address::Reach;
use everstate_tools::fetch::{Fetch, Lost, Reply, Request, Why};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};

use crate::service::{self, Service, answer, redirect};

fn get(url: &str) -> Request {
    Request {
        method: Method::GET,
        url: url.parse().expect("a URL"),
        headers: HeaderMap::from_iter([(
            "x-plain".parse().expect("a name"),
            HeaderValue::from_static("plain"),
        )]),
        credentials: HeaderMap::from_iter([(
            "authorization".parse().expect("a name"),
            HeaderValue::from_static("Bearer secret"),
        )]),
        body: None,
        answer_bytes_max: 1000,
        timeout: Duration::from_secs(20),
    }
}

async fn fetch(reach: Reach, request: Request) -> Result<Reply, Lost> {
    Fetch::new(reach).expect("this machine can connect").fetch(request).await
}

async fn lost(reach: Reach, request: Request) -> (Why, bool, String) {
    let lost = fetch(reach, request).await.expect_err("it is lost");
    (lost.why, lost.may_have_arrived, lost.text)
}

#[tokio::test]
async fn inside_is_refused_before_anything_is_sent() {
    let service = Service::start(|_, _| answer(200, "inside")).await;
    let port = service.url.rsplit(':').next().expect("a port");
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
    ];
    for host in hosts {
        let request = get(&format!("http://{host}:{port}/"));
        let (why, arrived, text) = lost(Reach::Outside, request).await;
        assert_eq!((why, arrived), (Why::Refused, false), "{host}: {text}");
        assert!(text.contains("not to be reached from here"), "{host}: {text}");
    }
    for url in ["file:///etc/passwd", "ftp://127.0.0.1/", "http://me:secret@example.com/"] {
        let (why, arrived, text) = lost(Reach::Outside, get(url)).await;
        assert_eq!((why, arrived), (Why::Refused, false), "{url}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!(service.asked().len(), 0);

    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        let reply = fetch(Reach::Inside, get(&format!("http://{host}:{port}/"))).await;
        assert_eq!(reply.expect(host).body, "inside");
    }
    let (why, ..) = lost(Reach::Inside, get("http://169.254.169.254/")).await;
    assert_eq!(why, Why::Refused);
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let other = Service::start(|_, _| answer(200, "there")).await;
    let there = format!("{}/there", other.url);
    let service = Service::start(move |n, _| {
        let to = if n == 0 { "/again?x=1".to_owned() } else { there.clone() };
        redirect(if n == 0 { 302 } else { 307 }, &to)
    })
    .await;
    let reply = fetch(Reach::Inside, get(&service.url)).await.expect("it is there");
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"there"[..]));
    let asked: Vec<_> = service.asked().into_iter().chain(other.asked()).collect();
    let told: Vec<_> = asked
        .iter()
        .map(|it| (it.line.as_str(), it.header("authorization"), it.header("x-plain")))
        .collect();
    assert_eq!(
        told,
        [
            ("GET /", Some("Bearer secret"), Some("plain")),
            ("GET /again?x=1", None, Some("plain")),
            ("GET /there", None, Some("plain")),
        ]
    );
    assert_eq!(asked[0].header("accept-encoding"), Some("identity"));
    assert_eq!(asked[1].header("referer"), None);
}

#[tokio::test]
async fn each_redirect_is_checked() {
    let targets =
        ["http://169.254.169.254/latest", "http://metadata@127.0.0.1/", "file:///etc/passwd"];
    for to in targets {
        let service = Service::start(move |_, _| redirect(302, to)).await;
        let (why, arrived, text) = lost(Reach::Inside, get(&service.url)).await;
        assert_eq!((why, arrived), (Why::Refused, true), "{to}: {text}");
    }
    let service = Service::start(|_, _| redirect(302, "/round")).await;
    let (why, ..) = lost(Reach::Inside, get(&service.url)).await;
    assert_eq!(why, Why::TooManyRedirects);
    assert_eq!(service.asked().len(), 6);
}

#[tokio::test]
async fn only_a_get_is_sent_on() {
    for status in [301, 302, 303, 307, 308] {
        let service = Service::start(move |_, _| redirect(status, "/elsewhere")).await;
        let mut request = get(&service.url);
        request.method = Method::POST;
        let reply = fetch(Reach::Inside, request).await.expect("an answer");
        assert_eq!(reply.status.as_u16(), status);
        assert_eq!(service.asked().len(), 1);
    }
}

#[tokio::test]
async fn answers_are_bounded_in_size() {
    let whole = Service::start(|_, _| answer(200, "x".repeat(1000))).await;
    let reply = fetch(Reach::Inside, get(&whole.url)).await.expect("it just fits");
    assert_eq!(reply.body.len(), 1000);

    let announced = Service::start(|_, _| answer(200, "x".repeat(1001))).await;
    let endless = Service::start(|_, _| {
        let chunks = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(100)));
        answer(200, axum::body::Body::from_stream(chunks))
    })
    .await;
    for service in [announced, endless] {
        let (why, arrived, text) = lost(Reach::Inside, get(&service.url)).await;
        assert_eq!((why, arrived), (Why::TooLarge, true), "{text}");
    }
}

#[tokio::test]
async fn answers_are_bounded_in_time() {
    let silent = Service::silent().await;
    let stalled = Service::start(|_, _| {
        let pending = futures_util::stream::pending::<Result<&str, std::io::Error>>();
        answer(200, axum::body::Body::from_stream(pending))
    })
    .await;
    for service in [silent, stalled] {
        let mut request = get(&service.url);
        request.timeout = Duration::from_millis(50);
        let (why, arrived, text) = lost(Reach::Inside, request).await;
        assert_eq!((why, arrived), (Why::TimedOut, true), "{text}");
    }
}

#[tokio::test]
async fn a_failure_says_whether_the_request_may_have_arrived() {
    let (why, arrived, text) = lost(Reach::Inside, get(&service::nobody().await)).await;
    assert_eq!((why, arrived), (Why::Unreachable, false), "{text}");

    let (why, arrived, text) = lost(Reach::Inside, get(&service::closes().await)).await;
    assert_eq!((why, arrived), (Why::Broken, true), "{text}");

    let service = Service::start(|_, _| service::broken(200)).await;
    let (why, arrived, text) = lost(Reach::Inside, get(&service.url)).await;
    assert_eq!((why, arrived), (Why::Broken, true), "{text}");
}
