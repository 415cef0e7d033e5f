//! Traces of a session as the Agents API gives them: a collector's own request, read from the log.

use serde_json::{Value, json};

use crate::agents::{PATH, message, session};
use crate::collector::Collector;
use crate::running::Bank;
use crate::server::{KEY, Server};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn path_of(session: &Value) -> String {
    format!("{PATH}/{}/traces", session["id"].as_str().unwrap())
}

fn spans(trace: &Value) -> Vec<&Value> {
    let scopes = trace["otlp"]["resourceSpans"][0]["scopeSpans"].as_array().unwrap();
    scopes.iter().flat_map(|it| it["spans"].as_array().unwrap()).collect()
}

fn said<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    all.iter().find(|it| it["key"] == key).map_or(&Value::Null, |it| &it["value"])
}

#[tokio::test]
async fn a_turn_is_a_trace_that_a_collector_would_have_got() {
    let bank = Bank::open(true).await;
    let collector = Collector::open().await;
    let env =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("OTEL_SERVICE_NAME", "agents")];
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir, &bank.tool("pay", "idempotent", false), &env).await;
    let mut body = session("call pay {\"order\": \"secret-order\"}");
    body["agent"]["tools"] = json!([{ "type": "mcp", "server_label": "everstate",
        "transport": { "type": "http", "server_url": "everstate:tools" } }]);
    let made = server.post_with(PATH, body, &[("traceparent", PARENT)]).await.json;
    server.until(&made, "idle").await;
    let next = server.tell(&made, json!([message("more")])).await;
    assert_eq!(next.status, 202, "{}", next.json);
    server.until(&made, "idle").await;
    let path = path_of(&made);
    let page = server.get(&format!("{path}?order=asc")).await.json;
    let traces = page["data"].as_array().unwrap();
    assert_eq!((traces.len(), &page["has_more"]), (2, &json!(false)));
    let first = &traces[0];
    assert_eq!(first["object"], "agent.session.trace");
    assert!(first["id"].as_str().unwrap().starts_with("turn_"), "{first}");
    assert!(first["created_at"].as_u64().unwrap() > 1_700_000_000);
    let resource = &first["otlp"]["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(resource[0], json!({ "key": "service.name", "value": { "stringValue": "agents" } }));

    let spans = spans(first);
    let names: Vec<&str> = spans.iter().map(|it| it["name"].as_str().unwrap()).collect();
    let expected = [
        "chat rehearsal",
        "execute_tool pay",
        "step 1",
        "chat rehearsal",
        "step 2",
        "invoke_agent",
    ];
    assert_eq!(names, expected);
    let turn = spans[5];
    assert_eq!(turn["traceId"], "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(
        (&spans[2]["parentSpanId"], &spans[4]["parentSpanId"]),
        (&turn["spanId"], &turn["spanId"])
    );
    assert_eq!((&spans[0]["parentSpanId"], &spans[0]["kind"]), (&spans[2]["spanId"], &json!(3)));
    assert_eq!(said(turn, "everstate.end"), &json!({ "stringValue": "completed" }));
    let tokens = &said(spans[0], "gen_ai.usage.input_tokens")["intValue"];
    assert!(tokens.as_str().unwrap().parse::<u64>().unwrap() > 0, "{tokens}");
    for it in &spans {
        let times = ["startTimeUnixNano", "endTimeUnixNano"];
        let [from, to] = times.map(|name| it[name].as_str().unwrap().parse::<u128>().unwrap());
        assert!(from <= to && from > 1_700_000_000_000_000_000, "{it}");
    }
    assert!(!page.to_string().contains("secret-order"), "{page}");

    // It is what the collector got, span by span.
    server.get("/readyz").await;
    server.stop().await;
    let got = collector.got();
    for it in spans {
        let told = got.spans.iter().find(|span| it["spanId"] == span.id.as_str());
        let told = told.unwrap_or_else(|| panic!("the collector never heard of {it}"));
        assert_eq!(
            (&told.name, told.kind),
            (&it["name"].as_str().unwrap().to_owned(), it["kind"].as_u64().unwrap())
        );
        for attribute in it["attributes"].as_array().unwrap() {
            assert!(
                told.attributes.contains_key(attribute["key"].as_str().unwrap()),
                "{attribute}"
            );
        }
    }
}

#[tokio::test]
async fn traces_are_paged_by_turns() {
    let mut server = Server::start("").await;
    let made = server.idle(session("1")).await;
    for n in 2..=3 {
        server.tell(&made, json!([message(&n.to_string())])).await;
        server.until(&made, "idle").await;
    }
    let path = path_of(&made);
    let page = server.get(&format!("{path}?limit=2")).await.json;
    assert_eq!((page["data"].as_array().unwrap().len(), &page["has_more"]), (2, &json!(true)));
    let after = page["last_id"].as_str().unwrap();
    let rest = server.get(&format!("{path}?limit=2&after={after}")).await.json;
    assert_eq!((rest["data"].as_array().unwrap().len(), &rest["has_more"]), (1, &json!(false)));
    // Without a collector too: they are read from the log.
    assert_eq!(spans(&rest["data"][0]).len(), 3);
    assert_eq!(server.get(&format!("{path}?after=turn_1")).await.status, 404);
    assert_eq!(server.get("/v1/agents/sessions/ses_1/traces").await.status, 404);
    server.post("/everstate/v1/projects", json!({ "name": "other" })).await;
    let key = server.post("/everstate/v1/keys", json!({ "project": "other", "name": "k" })).await;
    server.with_key(key.json["key"].as_str().unwrap());
    assert_eq!(server.get(&path).await.status, 404);
    server.with_key(KEY);
    assert_eq!(server.get(&path).await.status, 200);
}
