//! The real process is killed while a model speaks. Its client takes the stream up where it was, and what it saw then
//! comes back byte for byte.

use serde_json::{Value, json};

use crate::house::{CONFIG, House, KEY};

#[tokio::test]
async fn a_stream_outlives_its_server() {
    let mut house = House::new(CONFIG);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({ "model": "slow", "input": "say it", "background": true, "stream": true });
    let mut answer = http
        .post(format!("{}/v1/responses", house.url))
        .bearer_auth(KEY)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let mut seen = Vec::new();
    // In the middle of the text.
    while events(&seen).iter().filter(|it| it["type"] == "response.output_text.delta").count() < 5 {
        seen.extend(answer.chunk().await.unwrap().expect("it is not over yet"));
    }
    house.kill();
    // What was under way when it died arrives, or does not; what arrived whole was shown.
    while let Ok(Some(chunk)) = answer.chunk().await {
        seen.extend(chunk);
    }
    let whole = seen.windows(2).rposition(|it| it == b"\n\n").map_or(0, |it| it + 2);
    seen.truncate(whole);
    let shown = events(&seen);
    let response = shown[0]["response"]["id"].as_str().unwrap().to_owned();
    let last = shown.last().unwrap()["sequence_number"].as_u64().unwrap();

    house.start();
    let get = async |query: &str| {
        let url = format!("{}/v1/responses/{response}?stream=true{query}", house.url);
        let answer = http.get(url).bearer_auth(KEY).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    };
    seen.extend(without_pings(&get(&format!("&starting_after={last}")).await));
    let told = events(&seen);
    for (n, event) in told.iter().enumerate() {
        assert_eq!(event["sequence_number"].as_u64(), Some(n as u64), "no gap, no double");
    }
    let end = told.last().unwrap();
    assert_eq!(end["type"], "response.completed");
    let output = end["response"]["output"].as_array().unwrap();
    assert_eq!(output[0]["status"], "incomplete", "what was cut is never an answer: {output:?}");
    assert!(output.last().unwrap().to_string().contains("nineteen twenty"), "{output:?}");

    let again = without_pings(&get("").await);
    assert_eq!(String::from_utf8(again).unwrap(), String::from_utf8(seen).unwrap());

    let shown = house.run(&["session", "show", "@"]);
    for part in ["the server stopped here", "adopted", "lost"] {
        assert!(shown.out.contains(part), "`{part}` is not in\n{}", shown.out);
    }
    let verified = house.run(&["audit", "verify"]);
    assert!(verified.out.starts_with("ok: 1 session"), "{}{}", verified.out, verified.err);
}

fn events(bytes: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(bytes);
    let whole = text.rfind("\n\n").map_or("", |end| &text[..end]);
    let data = whole.lines().filter_map(|it| it.strip_prefix("data: "));
    data.filter_map(|it| serde_json::from_str(it).ok()).collect()
}

fn without_pings(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes);
    let events = text.split_inclusive("\n\n").filter(|it| !it.starts_with(':'));
    events.collect::<String>().into_bytes()
}
