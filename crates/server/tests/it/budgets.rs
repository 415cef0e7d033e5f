//! Money of a project: stopped in the middle of a task, told in every place, and counted through restarts.

use serde_json::{Value, json};

use crate::running::{Bank, ours};
use crate::server::{Server, read_events};

/// A model that pays again and again, for 50 millionths of a dollar each time it is asked.
fn config(bank: &Bank, usd: &str) -> String {
    let tool = bank.tool("pay", "idempotent", false);
    format!(
        r#"
{tool}
[projects.default]
money = {{ usd = "{usd}", per = "total" }}
[[offers]]
model = "paid"
provider = "stage"
price = {{ input = "1.00", output = "4.00" }}
output_tokens_max = 1000
[providers.stage]
kind = "rehearsal"
[[providers.stage.script.rules]]
when = {{ says = "for ever" }}
calls = [{{ name = "pay", arguments = {{ order = "1" }} }}]
usage = {{ input = 10, output = 10 }}
[[providers.stage.script.rules]]
text = "ok"
usage = {{ input = 10, output = 10 }}
"#
    )
}

fn asks(input: &str, more: Value) -> Value {
    let mut body = json!({ "model": "paid", "input": input });
    let more = more.as_object().cloned().unwrap_or_default();
    body.as_object_mut().unwrap().extend(more);
    body
}

/// What all attempts of all sessions cost, as their explanations say it.
async fn told(server: &Server) -> u64 {
    let sessions = server.get("/everstate/v1/sessions?limit=100").await.json;
    let mut sum = 0;
    for session in sessions["items"].as_array().unwrap() {
        sum += session["cost_micros"].as_u64().unwrap();
    }
    sum
}

async fn budget(server: &Server) -> Value {
    let answer = server.get("/everstate/v1/budgets/default").await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer.json
}

#[tokio::test]
async fn a_project_is_stopped_in_the_middle_of_its_task() {
    let bank = Bank::open(true).await;
    let server = Server::start(&config(&bank, "0.001")).await;
    let body = asks("pay for ever", json!({ "tools": ours(json!({})) }));
    let refused = server.post("/v1/responses", body).await;
    assert_eq!((refused.status, refused.retry.as_deref()), (429, Some("false")), "{refused:?}");
    let error = &refused.json["error"];
    assert_eq!(error["code"], "insufficient_quota");
    assert!(
        error["message"].as_str().unwrap().contains("the budget of project `default`"),
        "{error}"
    );
    let n_paid = bank.paid() as u64;
    assert!(n_paid > 2, "it was in the middle of a task");

    let stands = budget(&server).await;
    assert_eq!(stands["limit_micros"], 1_000);
    assert_eq!(stands["spent_micros"], 50 * n_paid);
    assert_eq!(told(&server).await, 50 * n_paid);
    assert_eq!(stands["here"]["reserved_micros"], 0);

    // Why, at the step where it ended.
    let at = error["address"].as_str().unwrap();
    let (session, step) = at.split_once('/').unwrap();
    let path = format!("/everstate/v1/sessions/{session}/explain?step={step}");
    let why = &server.get(&path).await.json["items"][0];
    assert_eq!(why["placed"], false);
    assert!(why["project_budget_micros"].as_u64().unwrap() < 1_000, "{why}");
    assert!(why["offers"][0]["why"].as_str().unwrap().contains("budget"), "{why}");
    // The step before was capped by what was left.
    let path = format!("/everstate/v1/sessions/{session}/explain");
    let all = server.get(&path).await.json;
    let first = &all["items"][0];
    assert!(first["max_output_tokens"].as_u64().unwrap() < 1_000, "{first}");
    assert!(first["project_budget_micros"].as_u64().unwrap() <= 1_000, "{first}");

    // A stream says the same at its end, and so does what is not stored.
    let stream = server.send(
        "/v1/responses",
        asks("pay for ever", json!({ "stream": true, "tools": ours(json!({})) })),
        &[],
    );
    let events = read_events(&stream.await.text().await.unwrap());
    let failed = events.iter().find(|it| it["type"] == "response.failed").unwrap();
    assert!(
        failed["response"]["error"]["message"].as_str().unwrap().contains("budget"),
        "{failed}"
    );
    let long = "hello ".repeat(1_000);
    let unstored = server.post("/v1/responses", asks(&long, json!({ "store": false }))).await;
    assert_eq!(
        (unstored.status, &unstored.json["error"]["code"]),
        (429, &json!("insufficient_quota"))
    );

    // What costs nothing goes on.
    server.create(json!({ "model": "rehearsal", "input": "hello" })).await;

    let spent = told(&server).await;
    // More money, and the same task goes on as if nothing had been.
    let server = Server::start_in(server.stop().await, &config(&bank, "0.01"), &[]).await;
    let stands = budget(&server).await;
    assert_eq!((&stands["spent_micros"], &stands["leased_micros"]), (&json!(spent), &json!(0)));
    server.create(asks("hello", json!({ "store": false }))).await;
    let dir = server.stop().await;
    let server = Server::start_in(dir, &config(&bank, "0.01"), &[]).await;
    assert_eq!(budget(&server).await["spent_micros"], spent + 50);
    let metrics = server.get("/metrics").await.json;
    let metrics = metrics.as_str().unwrap();
    assert!(
        metrics.contains(r#"everstate_budget_micros{project="default",what="limit"} 10000"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn one_project_does_not_see_anothers_budget() {
    let bank = Bank::open(true).await;
    let more = "[projects.\"*\"]\nmoney = { usd = \"2\", per = \"day\" }\n";
    let mut server = Server::start(&format!("{}{more}", config(&bank, "1"))).await;
    server.post("/everstate/v1/projects", json!({ "name": "acme" })).await;
    let key = server.post("/everstate/v1/keys", json!({ "project": "acme", "name": "k" })).await;
    let all = server.get("/everstate/v1/budgets").await.json;
    let names: Vec<&str> =
        all["items"].as_array().unwrap().iter().filter_map(|it| it["project"].as_str()).collect();
    assert_eq!(names, ["acme", "default"]);
    server.with_key(key.json["key"].as_str().unwrap());
    let own = server.get("/everstate/v1/budgets").await.json;
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    let acme = server.get("/everstate/v1/budgets/acme").await.json;
    assert_eq!((&acme["limit_micros"], &acme["per"]), (&json!(2_000_000), &json!("day")));
    assert!(acme["until"].as_u64().unwrap() > acme["since"].as_u64().unwrap());
    let others = server.get("/everstate/v1/budgets/default").await;
    assert_eq!((others.status, &others.json["error"]["code"]), (404, &json!("not_found")));
}
