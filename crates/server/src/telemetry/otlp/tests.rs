//! The form, held against what OTLP's own mapping to JSON says.

use std::time::Duration;

use expect_test::expect;
use opentelemetry::StringValue;
use opentelemetry::trace::TraceId;

use super::*;
use crate::telemetry::context::Place;
use crate::telemetry::turns::{bare, finish};

#[test]
fn a_span_is_written_as_collectors_read_it() {
    let place = Place { trace: TraceId::from(7), span: SpanId::from(9), sampled: true };
    let times = (UNIX_EPOCH + Duration::from_nanos(1_500), UNIX_EPOCH + Duration::from_millis(2));
    let reasons = Array::String(vec![StringValue::from("stop")]);
    let said = vec![
        KeyValue::new("n", i64::MAX),
        KeyValue::new("yes", true),
        KeyValue::new("share", 0.5),
        KeyValue::new("reasons", Said::Array(reasons)),
    ];
    let mut child = bare("chat m".into(), place, SpanId::from(8), times, said);
    child.parent_span_is_remote = true;
    let child = finish(child, SpanKind::Client, vec![], Some("no_offer"));
    let root = bare("invoke_agent".into(), place, SpanId::INVALID, times, vec![]);
    let told = Value::Object(request(Some("agents"), &[child, root]));
    let told = serde_json::to_string_pretty(&told["resourceSpans"][0]["scopeSpans"][0]["spans"]);
    expect![[r#"
        [
          {
            "traceId": "00000000000000000000000000000007",
            "spanId": "0000000000000009",
            "parentSpanId": "0000000000000008",
            "flags": 769,
            "name": "chat m",
            "kind": 3,
            "startTimeUnixNano": "1500",
            "endTimeUnixNano": "2000000",
            "attributes": [
              {
                "key": "n",
                "value": {
                  "intValue": "9223372036854775807"
                }
              },
              {
                "key": "yes",
                "value": {
                  "boolValue": true
                }
              },
              {
                "key": "share",
                "value": {
                  "doubleValue": 0.5
                }
              },
              {
                "key": "reasons",
                "value": {
                  "arrayValue": {
                    "values": [
                      {
                        "stringValue": "stop"
                      }
                    ]
                  }
                }
              },
              {
                "key": "error.type",
                "value": {
                  "stringValue": "no_offer"
                }
              }
            ],
            "status": {
              "code": 2
            }
          },
          {
            "traceId": "00000000000000000000000000000007",
            "spanId": "0000000000000009",
            "flags": 257,
            "name": "invoke_agent",
            "kind": 1,
            "startTimeUnixNano": "1500",
            "endTimeUnixNano": "2000000",
            "attributes": [],
            "status": {}
          }
        ]"#]]
    .assert_eq(&told.expect("spans have a JSON form"));
}

#[test]
fn nothing_that_happened_is_a_request_too() {
    let told = Value::Object(request(None, &[])).to_string();
    let told = told.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    expect![[r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"everstate"}},{"key":"service.version","value":{"stringValue":"VERSION"}}]},"scopeSpans":[]}]}"#]].assert_eq(&told);
}
