//! How often and how much a key may ask: what is refused, what every answer says, and that nothing leaks.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::server::{Server, read};

async fn key(server: &Server, body: Value) -> String {
    let made = server.post("/everstate/v1/keys", body).await;
    assert_eq!(made.status, 200, "{}", made.json);
    made.json["key"].as_str().unwrap().to_owned()
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    let value = headers.get(name).unwrap_or_else(|| panic!("no {name} in {headers:?}"));
    value.to_str().unwrap().parse().unwrap()
}

const SLOW: &str = "[providers.slow]\nkind = \"rehearsal\"\n[providers.slow.script]\ndelay_ms = 60000\n\
    [[offers]]\nmodel = \"slow\"\nprovider = \"slow\"\n";

#[tokio::test]
async fn a_key_asks_so_often_a_minute_and_every_answer_says_what_is_left() {
    let config = "[projects.default]\nlimits = { requests_per_min = 3 }\n";
    let mut server = Server::start(config).await;
    let plain = key(&server, json!({ "name": "plain" })).await;
    let more = key(&server, json!({ "name": "more", "limits": { "requests_per_min": 60 } })).await;
    server.with_key(&plain);
    for left in [2, 1, 0] {
        let answer = server.ask(reqwest::Method::GET, "/v1/models").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(number(answer.headers(), "x-ratelimit-limit-requests"), 3);
        assert_eq!(number(answer.headers(), "x-ratelimit-remaining-requests"), left);
        assert!(answer.headers()["x-ratelimit-reset-requests"].to_str().unwrap().ends_with('s'));
        assert!(!answer.headers().contains_key("x-ratelimit-limit-tokens"));
    }
    let answer = server.ask(reqwest::Method::GET, "/v1/models").send().await.unwrap();
    let headers = answer.headers().clone();
    let refused = read(answer).await;
    assert_eq!((refused.status, refused.retry.as_deref()), (429, Some("true")));
    assert_eq!(refused.json["error"]["code"], "key_limit_reached", "{}", refused.json);
    assert_eq!(refused.json["error"]["type"], "rate_limit_error");
    assert!((1..=20).contains(&number(&headers, "retry-after")), "{headers:?}");
    assert_eq!(number(&headers, "x-ratelimit-remaining-requests"), 0);
    // Every key has its own, and may say otherwise.
    server.with_key(&more);
    let answer = server.ask(reqwest::Method::GET, "/v1/models").send().await.unwrap();
    assert_eq!(number(answer.headers(), "x-ratelimit-limit-requests"), 60);
    for bad in [json!({ "requests_per_min": 0 }), json!({ "turns": 1 })] {
        server.with_key(crate::server::KEY);
        let answer = server.post("/everstate/v1/keys", json!({ "name": "x", "limits": bad }));
        let status = answer.await.status;
        assert!(status == 400 || status == 429, "{status}");
    }
}

#[tokio::test]
async fn tokens_that_were_used_are_missing_until_they_are_back() {
    let mut server = Server::start("").await;
    let thrifty =
        key(&server, json!({ "name": "thrifty", "limits": { "tokens_per_min": 50 } })).await;
    server.with_key(&thrifty);
    // A turn that has begun is never cut short: what it uses beyond is missing later.
    let body = json!({ "model": "rehearsal", "input": "word ".repeat(200) });
    let first = server.send("/v1/responses", body.clone(), &[]).await;
    assert_eq!(
        (first.status().as_u16(), number(first.headers(), "x-ratelimit-limit-tokens")),
        (200, 50)
    );
    assert_eq!(number(first.headers(), "x-ratelimit-remaining-tokens"), 0);
    let second = server.send("/v1/responses", body.clone(), &[]).await;
    assert!(number(second.headers(), "retry-after") > 1);
    let second = read(second).await;
    assert_eq!((second.status, &second.json["error"]["code"]), (429, &json!("key_limit_reached")));
    // What begins no turn is not refused.
    assert_eq!(server.get("/v1/models").await.status, 200);
    server.with_key(crate::server::KEY);
    assert_eq!(server.post("/v1/responses", body).await.status, 200);
}

#[tokio::test]
async fn turns_at_work_are_counted_from_what_the_store_says() {
    let server = Server::start(SLOW).await;
    let busy = key(&server, json!({ "name": "busy", "limits": { "turns_max": 2 } })).await;
    let begin = async |server: &Server, store: bool| {
        let mut body = json!({ "model": "slow", "input": "hello" });
        match store {
            true => body["background"] = true.into(),
            false => (body["store"], body["stream"]) = (false.into(), true.into()),
        }
        server.send("/v1/responses", body, &[]).await
    };
    let mut server = server;
    let admin = server.with_key(&busy);
    let first = read(begin(&server, true).await).await;
    assert_eq!(first.status, 200, "{}", first.json);
    // Those that are not stored count too.
    let second = begin(&server, false).await;
    assert_eq!(second.status(), 200);
    let third = read(begin(&server, true).await).await;
    assert_eq!((third.status, third.retry.as_deref()), (429, Some("true")), "{}", third.json);
    assert!(third.json.to_string().contains("2 turns at work"), "{}", third.json);
    drop(second);
    // Its caller is gone, and with it the turn.
    let again = loop {
        let answer = read(begin(&server, true).await).await;
        if answer.status == 200 {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    let many = (0..8).map(|_| begin(&server, true));
    for it in futures_util::future::join_all(many).await {
        assert_eq!(it.status(), 429);
    }
    for it in [&first, &again] {
        let path = format!("/v1/responses/{}/cancel", it.json["id"].as_str().unwrap());
        assert_eq!(server.post(&path, json!({})).await.status, 200);
    }
    assert_eq!(begin(&server, true).await.status(), 200);
    server.with_key(&admin);
    let stopped = server.post("/everstate/v1/stop", json!({ "project": "default" })).await;
    assert_eq!(stopped.json["stopped"], 1, "{}", stopped.json);
    for bad in [
        json!({}),
        json!({ "all": true, "project": "default" }),
        json!({ "agent": "x", "hold": true }),
    ] {
        assert_eq!(server.post("/everstate/v1/stop", bad).await.status, 400);
    }
    let nobody = json!({ "project": "nobody" });
    assert_eq!(server.post("/everstate/v1/stop", nobody).await.status, 404);
}
