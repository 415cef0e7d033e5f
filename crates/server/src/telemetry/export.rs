//! Sends finished spans, in batches and from a thread of its own: OTLP, protobuf over HTTP. An endpoint that does not
//! answer is told to the log once, and costs nothing but its spans.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor};
use secrecy::ExposeSecret;

use crate::config::telemetry::Traces;
use crate::error::{ApiError, Result, codes};
use crate::meters;
use crate::wiring::Env;

/// How long the last spans may take at the end of the process.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Export(BatchSpanProcessor);

impl Export {
    /// `instance` tells this process from others of the same service.
    pub(crate) fn new(traces: &Traces, env: Env<'_>, instance: &str) -> Result<Export> {
        let mut headers = HashMap::new();
        for (name, secret) in &traces.headers {
            let text = secret.resolve_with(env).map_err(|err| {
                let text = format!("[telemetry.headers] {name}: {err}");
                ApiError::new(&codes::CONFIG_INVALID, text)
            })?;
            headers.insert(name.clone(), text.expose_secret().to_owned());
        }
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(traces.endpoint.value.as_str())
            .with_headers(headers)
            .build()
            .map_err(|err| {
                ApiError::new(&codes::CONFIG_INVALID, format!("traces cannot be sent: {err}"))
            })?;
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()));
        if let Some(name) = &traces.service_name {
            resource = resource.with_service_name(name.value.clone());
        }
        let watched = Watched { otlp, failing: AtomicBool::new(false) };
        let mut processor = BatchSpanProcessor::builder(watched).build();
        processor.set_resource(&resource.build());
        Ok(Export(processor))
    }

    /// Returns at once. Beyond what waits already, spans are dropped.
    pub(crate) fn send(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            self.0.on_end(span);
        }
    }

    /// Sends what is left. Waits for it.
    pub(crate) fn close(&self) {
        if let Err(err) = self.0.shutdown_with_timeout(LAST_WORDS) {
            tracing::warn!(%err, "the last spans were not sent");
        }
    }
}

#[derive(Debug)]
struct Watched {
    otlp: opentelemetry_otlp::SpanExporter,
    failing: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n_spans = batch.len();
        let sent = self.otlp.export(batch).await;
        meters::spans(n_spans, sent.is_ok());
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(err) if !failed_before => {
                tracing::warn!(%err, n_spans, "spans cannot be sent; said once, until it works again");
            }
            Ok(()) if failed_before => tracing::info!("spans are sent again"),
            Err(_) | Ok(()) => {}
        }
        sent
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}
