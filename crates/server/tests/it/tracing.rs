//! Traces: what a collector gets of requests and turns, and that it gets nothing it should not.

use serde_json::json;

use crate::collector::{Collector, Got, Span};
use crate::running::{Bank, ours};
use crate::server::Server;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

impl Got {
    fn named(&self, name: &str) -> &Span {
        let found: Vec<&Span> = self.spans.iter().filter(|it| it.name == name).collect();
        let names: Vec<&str> = self.spans.iter().map(|it| it.name.as_str()).collect();
        match found[..] {
            [only] => only,
            _ => panic!("{} spans are called {name}: {names:?}", found.len()),
        }
    }
}

fn said<'a>(span: &'a Span, name: &str) -> &'a str {
    span.attributes.get(name).map_or("", String::as_str)
}

#[tokio::test]
async fn a_turn_is_told_in_its_callers_trace_and_without_contents() {
    let bank = Bank::open(true).await;
    let collector = Collector::open().await;
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_SERVICE_NAME", "agents"),
        ("COLLECTOR_KEY", "let-me-in"),
    ];
    let config = format!(
        "{}\n[telemetry.headers]\nx-collector-key = \"env:COLLECTOR_KEY\"\n",
        bank.tool("pay", "idempotent", false)
    );
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir, &config, &env).await;
    let body = json!({
        "model": "rehearsal",
        "input": "call pay {\"order\": \"secret-order\"}",
        "tools": ours(json!({ "require_approval": "never" })),
    });
    let answer = server.post_with("/v1/responses", body, &[("traceparent", PARENT)]).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    server.get("/readyz").await;
    server.stop().await;

    let got = collector.got();
    assert!(got.heads[0].starts_with("post /v1/traces "), "{:?}", got.heads);
    assert!(got.heads[0].contains("x-collector-key: let-me-in"), "{:?}", got.heads);
    assert_eq!(got.resource["service.name"], "agents");
    assert!(!got.resource["service.instance.id"].is_empty());

    let asked = got.named("POST /v1/responses");
    assert_eq!((asked.parent.as_str(), asked.kind), ("b7ad6b7169203331", 2));
    assert_eq!(said(asked, "http.response.status_code"), "200");
    let turn = got.named("invoke_agent");
    assert_eq!((&turn.parent, turn.kind), (&asked.id, 1));
    assert_eq!(said(turn, "gen_ai.operation.name"), "invoke_agent");
    assert_eq!(said(turn, "everstate.end"), "completed");
    let first = got.named("step 1");
    let second = got.named("step 2");
    assert_eq!((&first.parent, &second.parent), (&turn.id, &turn.id));
    let chats: Vec<&Span> = got.spans.iter().filter(|it| it.name == "chat rehearsal").collect();
    assert_eq!(chats.len(), 2);
    let reasons: Vec<&str> =
        chats.iter().map(|it| said(it, "gen_ai.response.finish_reasons")).collect();
    assert_eq!(reasons, ["tool_calls", "stop"]);
    for (chat, step) in chats.iter().zip([first, second]) {
        assert_eq!((&chat.parent, chat.kind), (&step.id, 3));
        assert_eq!(said(chat, "gen_ai.operation.name"), "chat");
        assert_eq!(said(chat, "gen_ai.provider.name"), "rehearsal");
        assert_eq!(said(chat, "everstate.attempt.why"), "first");
        let tokens = |it, name| said(it, name).parse::<u64>().unwrap();
        assert!(tokens(chat, "gen_ai.usage.input_tokens") > 0);
        assert!(tokens(chat, "gen_ai.usage.output_tokens") > 0);
    }
    let tool = got.named("execute_tool pay");
    assert_eq!((&tool.parent, tool.kind), (&first.id, 1));
    assert_eq!(said(tool, "gen_ai.tool.name"), "pay");
    assert!(said(tool, "gen_ai.tool.call.id").ends_with("/1/c1"));
    for span in &got.spans {
        assert_eq!(span.trace, TRACE, "{span:?}");
        assert!(span.start <= span.end && span.start > 0, "{span:?}");
        assert!(!span.failed, "{span:?}");
    }
    assert!(!got.spans.iter().any(|it| it.name.contains("readyz")), "probes are not traced");
    // Nothing of what was said, and nothing of ours went to the tool.
    let text = String::from_utf8_lossy(&got.bytes).into_owned();
    for secret in ["secret-order", "re_77", "let-me-in", crate::server::KEY] {
        assert!(!text.contains(secret), "{secret}");
    }
    let heads = bank.heads.lock().unwrap().clone();
    assert!(!heads.iter().any(|it| it.to_lowercase().contains("traceparent")), "{heads:?}");
}

#[tokio::test]
async fn what_failed_is_told_as_failed_and_what_streams_until_its_end() {
    let collector = Collector::open().await;
    let config = "[[providers.rehearsal.script.rules]]\nwhen = { says_exactly = \"no\" }\nerror = { status = 400 }\n\
                  [providers.rehearsal]\nkind = \"rehearsal\"\n[telemetry]\n";
    let config = format!("{config}endpoint = \"{}\"\n", collector.url);
    let server = Server::start(&config).await;
    let failed = server.post("/v1/responses", json!({ "model": "rehearsal", "input": "no" })).await;
    assert!(failed.status >= 400, "{}", failed.json);
    let body = json!({ "model": "rehearsal", "input": "hello", "stream": true });
    server.send("/v1/responses", body, &[]).await.text().await.unwrap();
    let shown = server.get("/everstate/v1/config").await.json;
    let shown = shown["items"].as_array().unwrap().clone();
    let endpoint = shown.iter().find(|it| it["key"] == "telemetry.endpoint").unwrap();
    assert_eq!(endpoint["value"], format!("{}/v1/traces", collector.url));
    server.stop().await;

    let got = collector.got();
    assert_eq!(got.resource["service.name"], "everstate");
    let turns: Vec<&Span> = got.spans.iter().filter(|it| it.name == "invoke_agent").collect();
    assert_eq!(turns.iter().map(|it| it.failed).collect::<Vec<_>>(), [true, false]);
    assert_ne!(turns[0].trace, turns[1].trace, "without a caller's trace each request has its own");
    let chat = got.spans.iter().find(|it| it.id != turns[0].id && it.failed).unwrap();
    assert!(!said(chat, "error.type").is_empty());
    let asked = got.spans.iter().find(|it| it.id == turns[1].parent).unwrap();
    assert_eq!((asked.name.as_str(), asked.parent.as_str()), ("POST /v1/responses", ""));
    assert!(asked.end >= turns[1].end, "a stream is answered when it has ended");
}

#[tokio::test]
async fn what_is_not_asked_for_is_not_traced() {
    let collector = Collector::open().await;
    for env in [
        vec![("OTEL_SERVICE_NAME", "agents")],
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
            ("OTEL_SDK_DISABLED", "true"),
        ],
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
            ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ],
    ] {
        let server = Server::start_in(tempfile::tempdir().unwrap(), "", &env).await;
        server.create(json!({ "model": "rehearsal", "input": "hello" })).await;
        server.stop().await;
        assert_eq!(collector.got().spans, [], "{env:?}");
    }
}
