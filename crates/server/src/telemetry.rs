//! Traces, for who has named an endpoint: requests at the doors, and turns with their steps, attempts and tools.
//!
//! A turn is told from its facts (`turns`), under names that every node computes alike (`context`); so it is one trace,
//! whichever nodes and processes it went through. Sending is left to `export`. The same can be read anew (`replay`), and
//! be written as JSON (`otlp`).

mod context;
mod export;
mod otlp;
pub(crate) mod replay;
mod teller;
mod turns;

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue, Method};
use everstate_runtime::host::Host;
use everstate_runtime::ports::Log;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, SpanKind};
use tokio::sync::{mpsc, oneshot};

use crate::config::telemetry::{Sampler, Traces};
use crate::error::Result;
use crate::wiring::{Env, Source};
use context::{HEADER, Place, span_at_random};
use export::Export;
use teller::{Ear, News, Teller, UNTOLD_MAX};
use turns::Providers;

#[derive(Debug)]
pub(crate) struct Telemetry {
    export: Arc<Export>,
    sampler: Sampler,
    news: mpsc::Sender<News>,
}

impl Telemetry {
    /// `instance` tells this process from others of the same service.
    pub(crate) fn start(
        traces: &Traces,
        env: Env<'_>,
        instance: &str,
        sources: &[Source],
    ) -> Result<Telemetry> {
        let export = Arc::new(Export::new(traces, env, instance)?);
        let sampler = traces.sampler.value;
        let (news, heard) = mpsc::channel(UNTOLD_MAX);
        let teller = Teller { export: export.clone(), sampler, providers: providers(sources) };
        tokio::spawn(teller.run(heard));
        Ok(Telemetry { export, sampler, news })
    }

    /// From here on this host's turns are told.
    pub(crate) fn watch(&self, host: &Host, log: &Arc<dyn Log>) {
        host.watch(Arc::new(Ear { log: log.clone(), news: self.news.clone() }));
    }

    /// A request has come. Its headers name its own span from here on, for what it leads to.
    pub(crate) fn request(
        &self,
        method: &Method,
        route: Option<&str>,
        headers: &mut HeaderMap,
    ) -> Asking {
        let caller = headers.get(HEADER).and_then(|it| it.to_str().ok()).and_then(Place::read);
        let place = Place::of_request(caller, &self.sampler);
        let (parent, span) = (place.span, span_at_random());
        let place = place.below(span);
        let header = HeaderValue::from_str(&place.header()).expect("plain letters");
        headers.insert(HEADER, header);
        Asking {
            export: self.export.clone(),
            place,
            parent,
            method: method.clone(),
            route: route.map(str::to_owned),
            started: SystemTime::now(),
            status: None,
        }
    }

    /// Sends what is left.
    pub(crate) async fn close(&self) {
        let (done, all) = oneshot::channel();
        if self.news.send(News::Flush(done)).await.is_ok() {
            all.await.ok();
        }
        let export = self.export.clone();
        tokio::task::spawn_blocking(move || export.close()).await.ok();
    }
}

/// A request under way. Dropping it ends its span.
#[derive(Debug)]
pub(crate) struct Asking {
    export: Arc<Export>,
    place: Place,
    parent: SpanId,
    method: Method,
    /// With placeholders, so that it names no session.
    route: Option<String>,
    started: SystemTime,
    status: Option<u16>,
}

impl Asking {
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let method = self.method.as_str().to_owned();
        let mut attributes = vec![KeyValue::new("http.request.method", method.clone())];
        let mut name = method;
        if let Some(route) = self.route.take() {
            name = format!("{name} {route}");
            attributes.push(KeyValue::new("http.route", route));
        }
        let error = match self.status {
            Some(status) => {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(status)));
                (status >= 500).then(|| status.to_string())
            }
            None => Some("caller_lost".to_owned()),
        };
        let times = (self.started, SystemTime::now());
        let mut span = turns::bare(name.into(), self.place, self.parent, times, Vec::new());
        span.parent_span_is_remote = self.parent != SpanId::INVALID;
        self.export.send(turns::finish(span, SpanKind::Server, attributes, error.as_deref()));
    }
}

/// The trace context of a request, for the turn it begins.
pub(crate) fn of_request(telemetry: Option<&Telemetry>, headers: &HeaderMap) -> Option<String> {
    telemetry?;
    headers.get(HEADER)?.to_str().ok().map(str::to_owned)
}

fn providers(sources: &[Source]) -> Providers {
    sources.iter().map(|it| (it.provider.clone(), known_as(&it.kind))).collect()
}

/// What the conventions call a kind of provider, where they have a word for it.
fn known_as(kind: &str) -> String {
    match kind {
        "mistral" => "mistral_ai",
        "xai" => "x_ai",
        "bedrock" => "aws.bedrock",
        "azure" => "azure.ai.openai",
        "vertex" => "gcp.vertex_ai",
        "gemini" => "gcp.gemini",
        other => other,
    }
    .to_owned()
}
