//! The real process is killed while a model speaks. Its client takes the stream up where it was, and what it saw then
//! comes back byte for byte.

use everstate_test_remains::Remains;
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

#[test]
fn money_is_neither_lost_nor_doubled() {
    let limited = "\n[projects.default]\nmoney = { usd = \"1\", per = \"total\" }\n";
    let mut house = House::new(&format!("{CONFIG}{limited}"));
    let told = |house: &House| -> (u64, u64, Value) {
        let read = |words: &[&str]| -> Value {
            let said = house.run(words);
            serde_json::from_str(said.out.trim()).unwrap_or_else(|_| panic!("{}", said.err))
        };
        let sessions = read(&["--json", "session", "list", "--limit", "100"]);
        let costs = sessions["items"].as_array().unwrap().iter();
        let sum = costs.map(|it| it["cost_micros"].as_u64().unwrap()).sum();
        let budget = read(&["--json", "budget", "show"]);
        (sum, budget["spent_micros"].as_u64().unwrap(), budget)
    };
    for _ in 0..3 {
        // Killed with one answer just given, and one in the middle.
        assert_eq!(house.run(&["run", "say it", "--model", "slow"]).code, 0);
        assert_eq!(house.run(&["run", "say more", "--model", "slow", "--detach"]).code, 0);
        house.kill();
        house.start();
        house.run(&["session", "watch", "@", "--until-idle"]);
        // What the predecessor held is taken back in the background.
        let (spent, budget) = (0..200)
            .map(|_| told(&house))
            .find(|(sum, spent, it)| sum == spent && it["slices"].as_array().unwrap().len() < 2)
            .map(|(sum, _, budget)| (sum, budget))
            .unwrap_or_else(|| panic!("it is never told what was spent: {:?}", told(&house)));
        let sum = ["spent_micros", "leased_micros", "free_micros"]
            .map(|it| budget[it].as_u64().unwrap())
            .iter()
            .sum::<u64>();
        assert!(spent > 0);
        assert_eq!(sum, 1_000_000, "{budget}");
    }
    let shown = house.run(&["budget", "list"]);
    assert!(shown.out.contains("default  $1.0000  total"), "{}{}", shown.out, shown.err);
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

/// Of a project that keeps nothing the facts are left, and none of the words.
#[tokio::test]
async fn what_was_kept_in_memory_only_dies_with_the_server() {
    let mut house =
        House::new(&format!("{CONFIG}\n[projects.default.retention]\nitems = \"zero\"\n"));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({ "model": "slow", "input": "say it: swordfish", "stream": true });
    let request = http.post(format!("{}/v1/responses", house.url)).bearer_auth(KEY);
    let mut answer = request.body(body.to_string()).send().await.unwrap();
    let mut seen = Vec::new();
    while events(&seen).iter().filter(|it| it["type"] == "response.output_text.delta").count() < 5 {
        seen.extend(answer.chunk().await.unwrap().expect("it is not over yet"));
    }
    let remains = |house: &House| {
        let text = std::fs::read_to_string(house.dir.path().join("master.key")).unwrap();
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        Remains::below(
            &[&house.dir.path().join("state.blobs"), house.dir.path()],
            &std::array::from_fn(byte),
        )
    };
    let during = remains(&house);
    house.kill();
    let after = remains(&house);
    for found in [during, after] {
        assert!(found.n_keys() > 0 && found.n_texts() > 0, "{found:?}");
        // The answer's words are in the configuration; the question's are nowhere.
        assert_eq!(found.find("swordfish"), Vec::<String>::new());
    }
    house.start();
    let shown = house.run(&["session", "show", "@"]);
    assert!(shown.out.contains("process_lost"), "{}{}", shown.out, shown.err);
    assert_eq!(remains(&house).find("swordfish"), Vec::<String>::new());
}
