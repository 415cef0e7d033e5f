//! Spans as OTLP/JSON writes them: a whole `ExportTraceServiceRequest`, as a collector takes it. Ids in hexadecimal,
//! times and whole numbers as text, enums as numbers, defaults left out.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{Array, KeyValue, Value as Said};
use opentelemetry_sdk::trace::SpanData;
use serde_json::{Map, Value, json};

/// The service that does all this, where nobody has named it.
const SERVICE: &str = "everstate";
/// Bits of a span's flags beside the trace's own: it is known whether the parent is another process's, and that it is.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

pub(super) fn request(service: Option<&str>, spans: &[SpanData]) -> Map<String, Value> {
    let mut request = Map::new();
    let resource = [
        KeyValue::new("service.name", service.unwrap_or(SERVICE).to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let all: Vec<Value> = spans.iter().map(span).collect();
    // A turn's spans all come from one place in the code.
    let scopes: Vec<Value> = spans
        .first()
        .map(|it| &it.instrumentation_scope)
        .map(|it| json!({ "scope": { "name": it.name(), "version": it.version() }, "spans": all }))
        .into_iter()
        .collect();
    let whole =
        json!([{ "resource": { "attributes": attributes(&resource) }, "scopeSpans": scopes }]);
    request.insert("resourceSpans".to_owned(), whole);
    request
}

fn span(it: &SpanData) -> Value {
    let mut span = Map::new();
    let context = &it.span_context;
    span.insert("traceId".into(), context.trace_id().to_string().into());
    span.insert("spanId".into(), context.span_id().to_string().into());
    if it.parent_span_id != SpanId::INVALID {
        span.insert("parentSpanId".into(), it.parent_span_id.to_string().into());
    }
    let remote = if it.parent_span_is_remote { PARENT_REMOTE } else { 0 };
    let flags = u32::from(context.trace_flags().to_u8()) | PARENT_KNOWN | remote;
    span.insert("flags".into(), flags.into());
    span.insert("name".into(), it.name.as_ref().into());
    span.insert("kind".into(), kind(&it.span_kind).into());
    span.insert("startTimeUnixNano".into(), nanos(it.start_time).into());
    span.insert("endTimeUnixNano".into(), nanos(it.end_time).into());
    span.insert("attributes".into(), attributes(&it.attributes));
    span.insert("status".into(), status(&it.status));
    Value::Object(span)
}

fn kind(kind: &SpanKind) -> u32 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn status(status: &Status) -> Value {
    match status {
        Status::Unset => json!({}),
        Status::Ok => json!({ "code": 1 }),
        Status::Error { description } if description.is_empty() => json!({ "code": 2 }),
        Status::Error { description } => json!({ "code": 2, "message": description }),
    }
}

fn nanos(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos()).to_string()
}

fn attributes(all: &[KeyValue]) -> Value {
    all.iter().map(|it| json!({ "key": it.key.as_str(), "value": value(&it.value) })).collect()
}

fn value(said: &Said) -> Value {
    fn list<T>(all: &[T], one: impl Fn(&T) -> Value) -> Value {
        json!({ "arrayValue": { "values": all.iter().map(one).collect::<Vec<Value>>() } })
    }
    let text = |it: &str| json!({ "stringValue": it });
    let whole = |it: &i64| json!({ "intValue": it.to_string() });
    match said {
        Said::Bool(it) => json!({ "boolValue": it }),
        Said::I64(it) => whole(it),
        Said::F64(it) => json!({ "doubleValue": it }),
        Said::String(it) => text(it.as_str()),
        Said::Array(Array::Bool(all)) => list(all, |it| json!({ "boolValue": it })),
        Said::Array(Array::I64(all)) => list(all, whole),
        Said::Array(Array::F64(all)) => list(all, |it| json!({ "doubleValue": it })),
        Said::Array(Array::String(all)) => list(all, |it| text(it.as_str())),
        // What a later release of the library can say besides.
        other => text(&other.to_string()),
    }
}

#[cfg(test)]
mod tests;
