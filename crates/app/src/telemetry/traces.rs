//! Spans that go to an OpenTelemetry collector, and the contexts that tie them together across
//! processes (W3C Trace Context, `traceparent`).

use std::collections::HashMap;
use std::time::Duration;

use atelier_application::observation::TraceContext;
use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::collector::{CollectorClient, PATIENCE};
use crate::config::traces::{TraceSampler, TracesConfig};

/// What this service is called if nobody says.
const SERVICE: &str = "atelier";

/// Whose spans are sent: all crates of ours begin with this.
const OURS: &str = "atelier";

const TRACE_PARENT: &str = "traceparent";

/// Why nothing can be traced.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TracesError {
    /// The client for the collector.
    #[error("the client for the OpenTelemetry collector could not be made")]
    Client(#[source] reqwest::Error),
    /// The exporter.
    #[error("the OpenTelemetry exporter does not take its settings")]
    Exporter(#[source] ExporterBuildError),
}

/// Sends spans to a collector, in batches and in the background. A collector that is slow or away
/// costs spans, never a request.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Sends what [`Traces::layer`] sees. The sockets are driven by `io`.
    ///
    /// # Errors
    /// What the libraries have against the settings; nothing is connected yet.
    pub fn open(config: &TracesConfig, io: Handle) -> Result<Self, TracesError> {
        let client = CollectorClient::new(io).map_err(TracesError::Client)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(config.endpoint.as_str())
            .with_timeout(PATIENCE)
            .build()
            .map_err(TracesError::Exporter)?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler(config.sampler))
            .with_resource(resource(config.service_name.clone()));
        Ok(Self(provider.build()))
    }

    /// What sees the spans: it belongs into the subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(OURS, Level::INFO))
    }

    /// Sends what is left, for as long as there is time.
    pub async fn close(self, longest: Duration) {
        // The library waits on its own thread.
        let sending = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(longest));
        match timeout(longest, sending).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the last spans were not sent"),
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not sent"),
            Err(_elapsed) => tracing::warn!("the last spans were not sent in time"),
        }
    }
}

fn sampler(config: TraceSampler) -> Sampler {
    let root = Sampler::TraceIdRatioBased(config.ratio);
    if config.follows_parent {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    }
}

/// What the library reads of `OTEL_RESOURCE_ATTRIBUTES`, under a name of ours where nobody gives one.
fn resource(service_name: Option<String>) -> Resource {
    let found = Resource::builder().build();
    let name = found.get(&opentelemetry::Key::from_static_str("service.name"));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder();
    match service_name {
        Some(name) => builder.with_service_name(name).build(),
        None if is_named => found,
        None => builder.with_service_name(SERVICE).build(),
    }
}

/// Ties spans to traces that began elsewhere, by OpenTelemetry.
#[derive(Clone, Copy, Debug, Default)]
pub struct W3cTraces;

impl TraceContext for W3cTraces {
    fn continue_from(&self, span: &Span, parent: &str) {
        let context = context_of(parent);
        if !context.span().span_context().is_valid() {
            return;
        }
        // It fails where nobody traces, which is fine.
        if span.set_parent(context).is_ok() {
            note_trace_id(span);
        }
    }
}

fn context_of(parent: &str) -> Context {
    let carrier = HashMap::from([(TRACE_PARENT.to_owned(), parent.to_owned())]);
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// Begins the span of a request, which belongs to the trace of whoever sent it, if that is told.
/// Says whether anybody traces.
pub(crate) fn begin_request(span: &Span, parent: Option<&str>) -> bool {
    let context = parent.map_or_else(Context::new, context_of);
    if span.set_parent(context).is_err() {
        return false;
    }
    span.record("otel.kind", "server");
    note_trace_id(span);
    true
}

/// Names the span of a request after what it was.
pub(crate) fn end_request(span: &Span, method: &str, route: Option<&str>, status: u16) {
    let route = route.unwrap_or("unmatched");
    // It has begun, so its field for the name comes too late.
    let context = span.context();
    context.span().update_name(format!("{method} {route}"));
    span.set_attribute("http.request.method", method.to_owned());
    span.set_attribute("http.route", route.to_owned());
    span.set_attribute("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.set_status(opentelemetry::trace::Status::error(""));
    }
}

/// Writes the id into the span, so that every line of the log has it.
fn note_trace_id(span: &Span) {
    if let Some(id) = trace_id(span) {
        span.record("trace_id", id);
    }
}

fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let current = context.span().span_context().clone();
    current.is_valid().then(|| current.trace_id().to_string())
}

/// The trace that is going on here; `None` where nobody traces.
pub(crate) fn current_trace_id() -> Option<String> {
    trace_id(&Span::current())
}

/// The `traceparent` of what is going on here; `None` where nobody traces.
pub(crate) fn current_trace_parent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACE_PARENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_nobody_traces_there_is_nothing_to_tell() {
        let span = tracing::info_span!("request", trace_id = tracing::field::Empty);

        let traced = begin_request(
            &span,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        );

        assert!(!traced);
        let _entered = span.enter();
        assert_eq!((current_trace_id(), current_trace_parent()), (None, None));
    }

    #[test]
    fn what_is_no_trace_parent_names_no_trace() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "a b c d",
        ] {
            assert!(!context_of(text).span().span_context().is_valid(), "{text}");
        }
    }
}
