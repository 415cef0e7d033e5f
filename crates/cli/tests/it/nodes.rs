//! Many nodes, one state: any node serves any request, and what a lost one had goes on elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use everstate_test_postgres::{Bouncer, Cluster, Proxy};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::house::{CONFIG, House, KEY};
use crate::many::{
    AT_LAST, Bank, Collector, LEASE, Many, Node, TAKE_OVER, free_address, read, until,
};

/// A slow speaker, and one who hangs after two words.
const STAGE: &str = r#"
[providers.slow]
kind = "rehearsal"
[providers.slow.script]
delay_ms = 100
[[offers]]
model = "slow"
provider = "slow"
"#;

fn text_of(response: &Value) -> String {
    let items = response["output"].as_array().into_iter().flatten();
    let parts = items.filter_map(|it| it["content"].as_array()).flatten();
    parts.filter_map(|it| it["text"].as_str()).collect()
}

fn events(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let whole = text.rfind("\n\n").map_or("", |at| &text[..at]);
    let data = |it: &str| it.lines().find_map(|it| it.strip_prefix("data: ")).map(str::to_owned);
    let blocks = whole.split("\n\n").filter_map(data).filter(|it| it != "[DONE]");
    blocks.map(|it| serde_json::from_str(&it).unwrap()).collect()
}

fn number(event: &Value) -> u64 {
    event["sequence_number"].as_u64().unwrap()
}

#[tokio::test]
async fn any_node_serves_any_request() {
    let Some(many) = Many::new(STAGE) else { return };
    let (a, b) = many.two().await;
    let first = a.create(json!({ "model": "rehearsal", "input": "one" })).await;
    let id = first.json["id"].as_str().unwrap().to_owned();
    assert_eq!(b.get(&format!("/v1/responses/{id}")).await.json["output"], first.json["output"]);

    // Continued at the other node, in place: what is said there goes through the owner.
    let next = json!({ "model": "rehearsal", "input": "two", "previous_response_id": id });
    let second = b.create(next.clone()).await;
    assert_eq!(second.session, first.session);
    let streamed = json!({ "model": "rehearsal", "input": "three", "stream": true,
        "previous_response_id": second.json["id"] });
    let answer = b.send(Method::POST, "/v1/responses", Some(&streamed), &[]).await.unwrap();
    let told = events(&answer.bytes().await.unwrap());
    assert_eq!(told.last().unwrap()["type"], "response.completed");
    let deltas = told.iter().filter(|it| it["type"] == "response.output_text.delta");
    assert!(deltas.count() > 0, "it is shown as it comes, through the other node");
    assert_eq!(
        told.iter().map(number).collect::<Vec<_>>(),
        (0..told.len() as u64).collect::<Vec<_>>()
    );
    // Before the head it forks, wherever that is asked.
    let fork = b.create(next).await;
    assert_ne!(fork.session, first.session);

    // A key counts at all nodes.
    let body = json!({ "model": "rehearsal", "input": "once" });
    let key = [("idempotency-key", "k1")];
    let one = a.post_with("/v1/responses", body.clone(), &key).await;
    let two = b.post_with("/v1/responses", body, &key).await;
    assert_eq!((one.status, &one.json["id"]), (200, &two.json["id"]));

    // Projects, keys and sessions are everybody's.
    let session = first.session.unwrap();
    let shown = b.get(&format!("/everstate/v1/sessions/{session}")).await;
    assert_eq!(shown.json["turns"].as_array().unwrap().len(), 3, "{}", shown.json);
    assert_eq!(b.get(&format!("/everstate/v1/sessions/{session}/verify")).await.status, 200);
    let path = format!("/everstate/v1/sessions/{session}");
    let gone = b.send(Method::DELETE, &path, None, &[]).await.unwrap();
    assert_eq!(read(gone).await.status, 200);
    assert_eq!(a.get(&format!("/v1/responses/{id}")).await.status, 404);

    // The inner door is closed to keys.
    for path in ["nudge", "tail", "erase", "delete"] {
        let answer = a.post(&format!("/internal/v1/{path}"), json!({ "session": session })).await;
        assert_eq!((answer.status, &answer.json["error"]["code"]), (404, &json!("unknown_url")));
    }
    assert_eq!(a.get("/internal/v1/hello").await.status, 404);
}

#[tokio::test]
async fn two_who_continue_the_same_response_at_once_never_share_a_place() {
    let Some(many) = Many::new(STAGE) else { return };
    let (a, b) = many.two().await;
    for round in 0..8 {
        let first = a.create(json!({ "model": "rehearsal", "input": "start" })).await;
        let next = |said: &str| json!({ "model": "rehearsal", "input": said, "previous_response_id": first.json["id"] });
        let (one, two) = tokio::join!(a.create(next("left")), b.create(next("right")));
        let in_place = [&one, &two].iter().filter(|it| it.session == first.session).count();
        assert_eq!(in_place, 1, "round {round}: one goes on in place, the other as a fork");
        assert!(text_of(&one.json).contains("left") && text_of(&two.json).contains("right"));
        let session = first.session.unwrap();
        let shown = b.get(&format!("/everstate/v1/sessions/{session}")).await;
        assert_eq!(shown.json["turns"].as_array().unwrap().len(), 2, "{}", shown.json);
    }
}

#[tokio::test]
async fn what_is_continued_while_it_is_deleted_elsewhere_is_there_or_was_refused() {
    let Some(many) = Many::new(STAGE) else { return };
    let (a, b) = many.two().await;
    for _ in 0..12 {
        let first = a.create(json!({ "model": "rehearsal", "input": "start" })).await;
        let path = format!("/v1/responses/{}", first.json["id"].as_str().unwrap());
        let next = json!({ "model": "rehearsal", "input": "go on", "previous_response_id": first.json["id"] });
        let (gone, went_on) = tokio::join!(
            async { read(a.send(Method::DELETE, &path, None, &[]).await.unwrap()).await },
            b.post("/v1/responses", next.clone()),
        );
        assert_eq!(gone.status, 200, "{}", gone.json);
        assert_eq!(a.get(&path).await.status, 404);
        if went_on.status == 200 {
            let path = format!("/v1/responses/{}", went_on.json["id"].as_str().unwrap());
            let kept = a.get(&path).await;
            assert_eq!((kept.status, &kept.json["output"]), (200, &went_on.json["output"]));
            continue;
        }
        // What was on its way to the session went with it: that is not known, and asking again tells.
        let refused = match (went_on.status, went_on.again.as_deref()) {
            (503, Some("true")) => b.post("/v1/responses", next).await,
            _ => went_on,
        };
        assert!((400..500).contains(&refused.status), "{}", refused.json);
    }
}

#[tokio::test]
async fn the_same_request_at_two_nodes_at_once_is_one() {
    let bank = Bank::open();
    bank.answer();
    let Some(many) = Many::new(&bank.tool("neither")) else { return };
    let (a, b) = many.two().await;
    for round in 0..6 {
        let body = json!({ "model": "rehearsal", "input": "call pay {}",
            "tools": [{ "type": "mcp", "server_label": "everstate", "require_approval": "never" }] });
        let key = format!("pay-{round}");
        let ask = async |node: &Node| {
            until(async || {
                let headers = [("idempotency-key", key.as_str())];
                let answer = node.post_with("/v1/responses", body.clone(), &headers).await;
                // As the official clients do it.
                let again = answer.again.as_deref() == Some("true");
                (!again || answer.status == 200).then_some(answer)
            })
            .await
        };
        let (one, two) = tokio::join!(ask(&a), ask(&b));
        assert_eq!((one.status, two.status), (200, 200), "{} {}", one.json, two.json);
        assert_eq!(one.json["id"], two.json["id"]);
        assert_eq!(bank.paid(), round + 1, "paid once");
    }
}

/// Begins a slow answer in the background at a node, and reads until some of it was shown.
async fn begin_slow(node: &Node) -> (String, Vec<u8>, reqwest::Response) {
    let body = json!({ "model": "slow", "background": true, "stream": true,
        "input": "a b c d e f g h i j k l m n o p q r s t" });
    let mut answer = node.send(Method::POST, "/v1/responses", Some(&body), &[]).await.unwrap();
    let mut seen = Vec::new();
    while events(&seen).iter().filter(|it| it["type"] == "response.output_text.delta").count() < 3 {
        seen.extend(answer.chunk().await.unwrap().expect("it is not over yet"));
    }
    let id = events(&seen)[0]["response"]["id"].as_str().unwrap().to_owned();
    (id, seen, answer)
}

#[tokio::test]
async fn what_a_killed_node_had_goes_on_elsewhere_at_the_next_number() {
    let Some(many) = Many::new(STAGE) else { return };
    let (mut a, b) = many.two().await;
    let (id, mut seen, mut answer) = begin_slow(&a).await;
    let session = answer.headers()["x-everstate-session"].to_str().unwrap().to_owned();
    a.kill();
    let killed = Instant::now();
    while let Ok(Some(chunk)) = answer.chunk().await {
        seen.extend(chunk);
    }
    let shown = events(&seen);
    assert_ne!(shown.last().unwrap()["type"], "response.completed", "it was killed in time");
    let last = number(shown.last().unwrap());
    let path = format!("/v1/responses/{id}?stream=true&starting_after={last}");
    let resumed = b.send(Method::GET, &path, None, &[]).await.unwrap();
    assert_eq!(resumed.status(), 200);
    // Taken over when its log says so.
    let log = format!("/everstate/v1/sessions/{session}/events");
    until(async || {
        let items = b.get(&log).await.json["items"].as_array().cloned().unwrap_or_default();
        (items.iter().filter(|it| it["kind"] == "owned").count() >= 2).then_some(())
    })
    .await;
    let took = killed.elapsed();
    assert!(took < LEASE + TAKE_OVER, "taken over after {took:?}");
    let rest = events(&resumed.bytes().await.unwrap());
    assert_eq!(number(&rest[0]), last + 1);
    assert_eq!(rest.last().unwrap()["type"], "response.completed");
    let all: Vec<u64> = shown.iter().chain(&rest).map(number).collect();
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    b.sees(1).await;
    // Told once more, it is the same.
    let again = b.send(Method::GET, &format!("/v1/responses/{id}?stream=true"), None, &[]).await;
    let again = events(&again.unwrap().bytes().await.unwrap());
    assert_eq!(again[..shown.len()], shown[..]);
}

#[tokio::test]
async fn one_that_was_stopped_for_too_long_shows_and_does_nothing_more() {
    let bank = Bank::open();
    let config = format!("{STAGE}{}", bank.tool("neither"));
    let Some(many) = Many::new(&config) else { return };
    let (a, b) = many.two().await;
    let body = json!({ "model": "rehearsal", "input": "call pay {}", "background": true,
        "tools": [{ "type": "mcp", "server_label": "everstate", "require_approval": "never" }] });
    let begun = a.create(body).await;
    until(async || (bank.paid() == 1).then_some(())).await;
    let (_, seen, mut stream) = begin_slow(&a).await;
    a.signal("STOP");
    b.sees(1).await;
    // The tool had started; nobody can tell whether it did its work, and it is not run again.
    let id = begun.json["id"].as_str().unwrap();
    let ended = b.ended(id).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    a.signal("CONT");
    bank.answer();
    // What the stopped one was showing breaks off, and never looks complete.
    let mut more = seen.clone();
    let broke_off = loop {
        match stream.chunk().await {
            Ok(Some(chunk)) => more.extend(chunk),
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    let told = events(&more);
    let completed = told.last().unwrap()["type"] == "response.completed";
    if completed {
        // It found its way to the new owner and went on there; then it is what that one tells.
        let id = told[0]["response"]["id"].as_str().unwrap();
        let path = format!("/v1/responses/{id}?stream=true");
        let there = b.send(Method::GET, &path, None, &[]).await.unwrap();
        assert_eq!(events(&there.bytes().await.unwrap()), told);
    } else {
        assert!(broke_off, "a clean end of what did not end cleanly");
    }
    a.sees(2).await;
    assert_eq!(bank.paid(), 1, "no effect is done twice");
    assert_eq!(a.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn one_that_stops_in_good_order_gives_back_at_once() {
    let Some(many) = Many::new(STAGE) else { return };
    let (mut a, b) = many.two().await;
    let made = a.create(json!({ "model": "rehearsal", "input": "mine" })).await;
    let told = Instant::now();
    a.signal("TERM");
    b.sees(1).await;
    assert!(told.elapsed() < LEASE, "given back after {:?}", told.elapsed());
    assert!(a.process.wait().unwrap().success());
    let next =
        json!({ "model": "rehearsal", "input": "yours", "previous_response_id": made.json["id"] });
    assert_eq!(b.create(next).await.session, made.session);
    // One more takes its share.
    let c = many.start("c");
    c.sees(2).await;
}

#[tokio::test]
async fn a_name_is_one_nodes() {
    let Some(many) = Many::new(STAGE) else { return };
    let mut a = many.start("a");
    let second = many.command("a", &many.store).output().unwrap();
    let said: Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(said["error"]["code"], "node_refused", "{said}");
    assert_eq!(second.status.code(), Some(6));
    // Once the first is gone, the name and all it had are free at once.
    a.kill();
    let killed = Instant::now();
    let again = many.start("a");
    again.sees(1).await;
    assert!(killed.elapsed() < LEASE, "its own lease is retaken at once: {:?}", killed.elapsed());
}

#[tokio::test]
async fn one_that_is_cut_from_the_database_says_so_and_is_replaced() {
    let Some(many) = Many::new(STAGE) else { return };
    let proxy = Proxy::to(many.database.port());
    let through = proxy.before(&many.store);
    let (a, b) = (many.start_on("a", &through), many.start("b"));
    b.sees(2).await;
    let made = a.create(json!({ "model": "rehearsal", "input": "mine" })).await;
    proxy.cut_one_in(1);
    proxy.cut_all();
    until(async || (a.get("/readyz").await.status == 503).then_some(())).await;
    let refused = a.post("/v1/responses", json!({ "model": "rehearsal", "input": "x" })).await;
    assert_eq!((refused.status, refused.again.as_deref()), (503, Some("true")), "{}", refused.json);
    b.sees(1).await;
    let next =
        json!({ "model": "rehearsal", "input": "yours", "previous_response_id": made.json["id"] });
    assert_eq!(b.create(next).await.session, made.session);
    proxy.cut_one_in(0);
    a.sees(2).await;
    assert_eq!(a.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_database_that_is_gone_is_waited_for() {
    if Many::new("").is_none() {
        return;
    }
    let many = Many::on(Arc::new(Cluster::start()), STAGE);
    let mut a = many.start("a");
    a.sees(1).await;
    let (id, seen, mut stream) = begin_slow(&a).await;
    many.database.stop();
    let refused = a.post("/v1/responses", json!({ "model": "rehearsal", "input": "x" })).await;
    assert_eq!((refused.status, refused.again.as_deref()), (503, Some("true")), "{}", refused.json);
    assert_eq!(a.get("/readyz").await.status, 503);
    many.database.go_on();
    a.sees(1).await;
    let ended = a.ended(&id).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    // The stream went on where it paused, or broke off and is resumed.
    let mut more = seen;
    while let Ok(Some(chunk)) = stream.chunk().await {
        more.extend(chunk);
    }
    let numbers: Vec<u64> = events(&more).iter().map(number).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    a.kill();

    many.database.stop();
    let began = Instant::now();
    let store = many.store.replace("everstate@", "everstate:s3cret-password@");
    let mut command = many.command("a", &store);
    command.env("EVERSTATE_STORE_WAIT_S", "4");
    let gone = command.output().unwrap();
    assert!(began.elapsed() < AT_LAST);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&gone.stdout),
        String::from_utf8_lossy(&gone.stderr)
    );
    assert_eq!(gone.status.code(), Some(8), "{said}");
    assert!(said.contains("store_unreachable") && said.contains("trying for"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
}

#[tokio::test]
async fn people_see_who_is_there() {
    let Some(many) = Many::new(STAGE) else { return };
    let (a, _b) = many.two().await;
    let run = |words: &[&str]| {
        let mut command = crate::house::everstate(many.dir.path());
        let out = command.env("EVERSTATE_URL", &a.url).args(words).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let list = run(&["node", "list"]);
    assert!(list.contains("a *") && list.contains("alive"), "{list}");
    assert_eq!(list.lines().filter(|it| it.contains("  512  ")).count(), 2, "{list}");
    let shown = run(&["node", "show", "b"]);
    assert!(shown.contains("512 of 1024"), "{shown}");
    let doctor = run(&["doctor"]);
    assert!(doctor.contains("PostgreSQL 15") && doctor.contains("acknowledged write"), "{doctor}");
    // Where nothing is yet, looking makes nothing.
    let empty = many.database.fresh_name();
    let mut command = crate::house::everstate(many.dir.path());
    command.env("EVERSTATE_STORE", many.database.url(&empty));
    let out = command.arg("doctor").output().unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("not there yet"), "{said}");
    let made = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'everstate%'";
    assert_eq!(many.database.sql(&empty, made), "0");
    let config = run(&["config", "show"]);
    assert!(!config.contains(KEY), "{config}");
    let metrics = a.http_text("/metrics").await;
    for name in [
        "everstate_nodes",
        "everstate_buckets_owned",
        "everstate_sessions_ready",
        "everstate_posts_waiting 0",
        "everstate_takeovers_total 0",
        "everstate_lease_age_seconds 0.",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
}

#[tokio::test]
async fn a_model_that_one_node_was_told_of_is_known_to_the_others() {
    let Some(mut many) = Many::new("") else { return };
    let upstream = House::new(CONFIG);
    many.env("OPENAI_API_KEY", KEY);
    many.env("OPENAI_BASE_URL", &format!("{}/v1", upstream.url));
    let (a, b) = many.two().await;
    let first = a.create(json!({ "model": "rehearsal", "input": "one" })).await;
    // Nobody wrote this model down; the session is the other node's.
    let next = json!({ "model": "slow", "input": "two", "previous_response_id": first.json["id"] });
    let second = b.create(next).await;
    assert_eq!(second.session, first.session);
    assert!(text_of(&second.json).starts_with("one two three"), "{}", second.json);
}

#[tokio::test]
async fn a_trace_goes_on_where_its_turn_does() {
    let Some(mut many) = Many::new(STAGE) else { return };
    let collector = Collector::open();
    many.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    many.env("OTEL_BSP_SCHEDULE_DELAY", "50");
    let (mut a, b) = many.two().await;
    let body =
        json!({ "model": "slow", "background": true, "input": "a b c d e f g h i j k l m n" });
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let begun = a.post_with("/v1/responses", body, &[("traceparent", parent)]).await;
    a.kill();
    b.ended(begun.json["id"].as_str().unwrap()).await;
    let trace = u128::from_str_radix("0af7651916cd43dd8448eb211c80319c", 16).unwrap().to_be_bytes();
    until(async || {
        collector.got(&[b"invoke_agent", b"chat slow", b"process_lost", &trace]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_owner_that_is_silent_is_said_to_be_and_the_repeat_counts_once() {
    let Some(mut many) = Many::new(STAGE) else { return };
    // So long that nobody takes over meanwhile.
    many.env("EVERSTATE_LEASE_TTL_MS", "60000");
    let (a, b) = many.two().await;
    let first = a.create(json!({ "model": "rehearsal", "input": "one" })).await;
    a.signal("STOP");
    let next =
        json!({ "model": "rehearsal", "input": "two", "previous_response_id": first.json["id"] });
    let key = [("idempotency-key", "k")];
    let began = Instant::now();
    let refused = b.post_with("/v1/responses", next.clone(), &key).await;
    assert_eq!((refused.status, refused.again.as_deref()), (503, Some("true")), "{}", refused.json);
    assert!(began.elapsed() < AT_LAST / 2, "{:?}", began.elapsed());
    // What it has itself it serves.
    b.create(json!({ "model": "rehearsal", "input": "mine" })).await;
    a.signal("CONT");
    let done = until(async || {
        let answer = b.post_with("/v1/responses", next.clone(), &key).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(done.session, first.session);
    let path = format!("/everstate/v1/sessions/{}", first.session.unwrap());
    let shown = a.get(&path).await;
    assert_eq!(shown.json["turns"].as_array().unwrap().len(), 2, "{}", shown.json);
}

#[tokio::test]
async fn what_streams_while_a_node_joins_is_told_to_its_end() {
    let Some(many) = Many::new(STAGE) else { return };
    let a = many.start("a");
    a.sees(1).await;
    let body = json!({ "model": "slow", "stream": true, "input": "a b c d e f g h i j k l m n o p q r s t" });
    let mut streams = Vec::new();
    for _ in 0..6 {
        let answer = a.send(Method::POST, "/v1/responses", Some(&body), &[]).await.unwrap();
        streams.push(tokio::spawn(answer.bytes()));
    }
    let b = many.start("b");
    b.sees(2).await;
    for stream in streams {
        let told = events(&stream.await.unwrap().expect("it does not break off"));
        assert_eq!(told.last().unwrap()["type"], "response.completed");
    }
}

/// Asked once, and once only, at any node, while others come and go.
#[tokio::test]
async fn nobody_in_the_foreground_notices_who_comes_and_goes() {
    let bank = Bank::open();
    bank.answer();
    let config = format!("{STAGE}{}", bank.tool("neither"));
    let Some(many) = Many::new(&config) else { return };
    let (a, b) = many.two().await;
    let tools =
        json!([{ "type": "mcp", "server_label": "everstate", "require_approval": "never" }]);
    let over = AtomicBool::new(false);
    let talks = futures_util::future::join_all((0..4).map(async |talk| {
        let mut last: Option<String> = None;
        let mut n = 0;
        while !over.load(Ordering::Relaxed) {
            let node = if (talk + n) % 2 == 0 { &a } else { &b };
            let streams = (talk + n) % 3 == 0;
            let mut body = json!({ "model": "slow", "stream": streams, "tools": tools,
                "input": format!("{talk} {n}\ncall pay {{}}") });
            if let Some(last) = &last {
                body["previous_response_id"] = json!(last);
            }
            let answer = node.send(Method::POST, "/v1/responses", Some(&body), &[]).await.unwrap();
            let told = match streams {
                true => {
                    let told = events(&answer.bytes().await.expect("it does not break off"));
                    let end = told.last().unwrap();
                    assert_eq!(end["type"], "response.completed", "{end}");
                    end["response"].clone()
                }
                false => {
                    let answer = read(answer).await;
                    assert_eq!(answer.status, 200, "{}", answer.json);
                    answer.json
                }
            };
            let id = told["id"].as_str().unwrap().to_owned();
            let other = if (talk + n) % 2 == 0 { &b } else { &a };
            let again = other.get(&format!("/v1/responses/{id}")).await;
            assert_eq!((again.status, &again.json["output"]), (200, &told["output"]));
            last = Some(id);
            n += 1;
        }
        n
    }));
    let coming_and_going = async {
        for _ in 0..2 {
            let mut c = many.start("c");
            a.sees(3).await;
            c.signal("TERM");
            a.sees(2).await;
            assert!(c.process.wait().unwrap().success());
        }
        over.store(true, Ordering::Relaxed);
    };
    let (turns, ()) = tokio::join!(talks, coming_and_going);
    assert_eq!(bank.paid(), turns.iter().sum::<usize>(), "each was paid once");
}

/// Its node is gone, and the client asks another one, as the official ones do.
#[tokio::test]
async fn a_repeat_is_answered_by_the_turn_that_goes_on() {
    let bank = Bank::open();
    let Some(many) = Many::new(&bank.tool("neither")) else { return };
    let (a, b) = many.two().await;
    let c = many.start("c");
    b.sees(3).await;
    // A session of b's.
    let first = b.create(json!({ "model": "rehearsal", "input": "one" })).await;
    let body = json!({ "model": "rehearsal", "input": "call pay {}",
        "previous_response_id": first.json["id"],
        "tools": [{ "type": "mcp", "server_label": "everstate", "require_approval": "never" }] });
    let asking = a.send(Method::POST, "/v1/responses", Some(&body), &[]);
    let mut asking = std::pin::pin!(asking);
    let begun = until(async || (bank.paid() == 1).then_some(()));
    tokio::select! {
        answer = &mut asking => panic!("the bank has not answered: {answer:?}"),
        () = begun => (),
    }
    a.signal("KILL");
    assert!(asking.await.is_err(), "its connection broke");
    let again = [("x-stainless-retry-count", "1")];
    let (answer, ()) = tokio::join!(c.post_with("/v1/responses", body.clone(), &again), async {
        b.sees(2).await;
        bank.answer();
    });
    assert_eq!((answer.status, answer.session), (200, first.session), "{}", answer.json);
    assert_eq!(bank.paid(), 1);
}

#[tokio::test]
async fn many_nodes_serve_behind_a_pooler() {
    let Some(many) = Many::new(STAGE) else { return };
    let bouncer = Bouncer::before(&many.database);
    let store = bouncer.fresh_database();
    let (a, b) = (many.start_on("a", &store), many.start_on("b", &store));
    b.sees(2).await;
    let first = a.create(json!({ "model": "rehearsal", "input": "one" })).await;
    let next =
        json!({ "model": "rehearsal", "input": "two", "previous_response_id": first.json["id"] });
    assert_eq!(b.create(next).await.session, first.session);
}

/// Sends a request to one node after the other until it is answered, as a client behind a load balancer does.
async fn ask_any(urls: &[String], many: &Many, body: &Value, key: &str, n: usize) -> Value {
    let mut n = n;
    until(async || {
        n += 1;
        let sent = many.http.post(format!("{}/v1/responses", urls[n % urls.len()]));
        let sent = sent.bearer_auth(KEY).header("idempotency-key", key).body(body.to_string());
        let answer = read(sent.send().await.ok()?).await;
        match (answer.status, answer.again.as_deref()) {
            (200, _) if answer.json.is_object() => Some(answer.json),
            // The connection broke, or it is not to be had there now.
            (200, _) | (_, Some("true")) => None,
            // A foreground turn ended with the node its caller had spoken to.
            _ => Some(answer.json),
        }
    })
    .await
}

#[tokio::test]
async fn through_any_of_three_nodes_while_they_are_killed() {
    let bank = Bank::open();
    bank.answer();
    let Some(many) = Many::new(&bank.tool("idempotent")) else { return };
    let listen: Vec<String> = (0..3).map(|_| free_address()).collect();
    let urls: Vec<String> = listen.iter().map(|it| format!("http://{it}")).collect();
    let names = ["a", "b", "c"];
    let start = |n: usize| many.start_at(names[n], &listen[n]);
    let mut nodes: Vec<Node> = (0..3).map(start).collect();
    nodes[0].sees(3).await;
    let tools =
        json!([{ "type": "mcp", "server_label": "everstate", "require_approval": "never" }]);
    const TALKS: usize = 6;
    const TURNS: usize = 6;
    let talks = futures_util::future::join_all((0..TALKS).map(async |talk| {
        let mut last: Option<Value> = None;
        let mut said = Vec::new();
        for turn in 0..TURNS {
            let mut body = json!({ "model": "rehearsal", "background": true, "tools": tools,
                "input": format!("{talk}-{turn}\ncall pay {{}}") });
            if let Some(last) = &last {
                body["previous_response_id"] = last["id"].clone();
            }
            let key = format!("{talk}-{turn}");
            let begun = ask_any(&urls, &many, &body, &key, talk + turn).await;
            let id = begun["id"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
            let ended = until(async || {
                for url in &urls {
                    let asked = many.http.get(format!("{url}/v1/responses/{id}")).bearer_auth(KEY);
                    let Ok(answer) = asked.send().await else { continue };
                    let answer = read(answer).await;
                    assert_ne!(
                        answer.status, 404,
                        "what was acknowledged is there: {}",
                        answer.json
                    );
                    let status = answer.json["status"].as_str().unwrap_or_default();
                    if answer.status == 200 && !["queued", "in_progress"].contains(&status) {
                        return Some(answer.json);
                    }
                }
                None
            })
            .await;
            assert_eq!(ended["status"], "completed", "{ended}");
            said.push(id);
            last = Some(ended);
        }
        said
    }));
    let mut talks = std::pin::pin!(talks);
    let mut n = 0;
    // One after the other is killed and started again, as long as they talk.
    let said = loop {
        let victim = n % 3;
        n += 1;
        nodes[victim].kill();
        let other = &nodes[(victim + 1) % 3];
        tokio::select! {
            said = &mut talks => break said,
            () = other.sees(2) => (),
        }
        nodes[victim] = start(victim);
        tokio::select! {
            said = &mut talks => break said,
            () = nodes[victim].sees(3) => (),
        }
    };
    let (asked, payments) = bank.asked();
    assert_eq!(payments, TALKS * TURNS, "each was paid; {asked} requests after {n} kills");
    // Every log is whole, and every talk is one session.
    let alive =
        nodes.iter_mut().find_map(|it| it.process.try_wait().unwrap().is_none().then_some(&*it));
    let alive = alive.expect("two are always there");
    let list = until(async || {
        Some(alive.get("/everstate/v1/sessions?limit=100").await.json["items"].clone())
            .filter(Value::is_array)
    })
    .await;
    for session in list.as_array().unwrap() {
        let path = format!(
            "/everstate/v1/sessions/{}/verify",
            session["session"].as_str().or(session["id"].as_str()).unwrap()
        );
        let verdict =
            until(async || Some(alive.get(&path).await).filter(|it| it.status == 200)).await;
        assert!(verdict.json["broken"].is_null(), "{}", verdict.json);
    }
    assert_eq!(said.len(), TALKS);
}
