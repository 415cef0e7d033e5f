//! Lists of sessions, items and turns.

use serde_json::{Value, json};

use super::{PATH, STAGE, message, session, with_tools};
use crate::server::Server;

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn sessions_are_listed_and_filtered() {
    let server = Server::start("").await;
    let mut made = Vec::new();
    for n in 0..7 {
        let mut body = session("hello");
        let parity = if n % 2 == 0 { "even" } else { "odd" };
        body["metadata"] = json!({ "n": n.to_string(), "parity": parity });
        made.push(server.idle(body).await);
    }
    // What was made through another door is not listed here.
    server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
    assert_eq!(server.rows(PATH).await, made);
    let even = server.rows(&format!("{PATH}?metadata[parity]=even")).await;
    assert_eq!(even, [&made[0], &made[2], &made[4], &made[6]].map(Value::clone));
    let one = server.rows(&format!("{PATH}?metadata[parity]=even&metadata[n]=4")).await;
    assert_eq!(ids(&one), [made[4]["id"].as_str().unwrap()]);
    assert!(server.rows(&format!("{PATH}?metadata[parity]=odd&metadata[n]=4")).await.is_empty());
    assert!(server.rows(&format!("{PATH}?metadata[x]=y")).await.is_empty());
    let agent = made[3]["agent"]["id"].as_str().unwrap();
    assert_eq!(server.rows(&format!("{PATH}?agent_id={agent}")).await, made[3..4]);
    assert!(server.rows(&format!("{PATH}?agent_id=agent_none")).await.is_empty());

    // It moves from list to list with its metadata, and keeps its place in them.
    let path = format!("{PATH}/{}", made[4]["id"].as_str().unwrap());
    server.post(&path, json!({ "metadata": { "parity": "odd" } })).await;
    let odd = server.rows(&format!("{PATH}?metadata[parity]=odd")).await;
    let expected = [1, 3, 4, 5].map(|n| made[n]["id"].as_str().unwrap());
    assert_eq!(ids(&odd), expected);
    assert_eq!(server.rows(&format!("{PATH}?metadata[parity]=even")).await.len(), 3);
    assert!(server.rows(&format!("{PATH}?metadata[n]=4")).await.is_empty());

    server.delete(&path).await;
    assert_eq!(server.rows(PATH).await.len(), 6);
    let after = made[4]["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("{PATH}?after={after}")).await.status, 404);
}

#[tokio::test]
async fn items_and_turns_are_listed_page_by_page() {
    let server = Server::start(STAGE).await;
    let made = server.idle(session("one")).await;
    for text in ["two", "three", "four"] {
        server.tell(&made, json!([message(text)])).await;
        server.until(&made, "idle").await;
    }
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let items = server.rows(&format!("{path}/items")).await;
    let said: Vec<&Value> = items.iter().filter(|it| it["role"] == "user").collect();
    let said: Vec<&str> =
        said.iter().map(|it| it["content"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["one", "two", "three", "four"]);
    assert_eq!(items.len(), 8);
    let turns = server.rows(&format!("{path}/turns")).await;
    assert_eq!(turns.len(), 4);
    for turn in &turns {
        let of = server.rows(&format!("{path}/turns/{}/items", turn["id"].as_str().unwrap())).await;
        assert_eq!(of.len(), 2);
        assert!(of.iter().all(|it| it["turn_id"] == turn["id"]));
    }
}

#[tokio::test]
async fn a_list_says_what_is_wrong_with_its_parameters() {
    let server = Server::start("").await;
    let made = server.idle(with_tools("hello", &["pay"])).await;
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let lists = [
        PATH.to_owned(),
        format!("{path}/items"),
        format!("{path}/turns"),
        format!("{path}/subagents"),
    ];
    for list in &lists {
        for (bad, status) in [
            ("limit=0", 400),
            ("limit=101", 400),
            ("limit=x", 400),
            ("order=up", 400),
            ("after=nothing", 404),
        ] {
            let answer = server.get(&format!("{list}?{bad}")).await;
            assert_eq!(answer.status, status, "{list}?{bad}: {}", answer.json);
            assert!(answer.json["error"]["param"].is_string());
        }
        assert_eq!(server.get(&format!("{list}?limit=100&later=1")).await.status, 200);
    }
    for missing in [
        "turns/turn_x",
        "turns/turn_x/items",
        "subagents/s",
        "subagents/s/turns",
        "subagents/s/turns/t/items",
    ] {
        let answer = server.get(&format!("{path}/{missing}")).await;
        assert_eq!(
            (answer.status, &answer.json["error"]["code"]),
            (404, &json!("not_found")),
            "{missing}"
        );
    }
    let long = "k".repeat(65);
    assert_eq!(server.get(&format!("{PATH}?metadata[{long}]=v")).await.status, 400);
}
