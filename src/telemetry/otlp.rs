//! Exports traces with OTLP over HTTP (protobuf).

use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::config::TelemetrySettings;

pub use opentelemetry_sdk::trace::Tracer;

/// The layer that records spans with `tracer`.
pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(tracer: Tracer) -> impl Layer<S> {
    // spans without source line and thread are smaller
    tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false)
}

/// The exporter of spans, and the queue of spans that are not exported yet.
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// If `telemetry.otlp_endpoint` is set, starts a thread that exports spans to it. Otherwise returns `None`.
    ///
    /// # Errors
    /// If the HTTP client of the exporter can't be created. If the collector can't be reached, a failed export is logged later.
    pub fn start(settings: &TelemetrySettings) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(settings.timeout)
            .build()?;
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        // a child span follows its parent's sampling decision; `sample_ratio` applies to root spans
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .with_sampler(sampler)
            .build();
        Ok(Some(Self { provider }))
    }

    /// The tracer that records spans for export.
    pub fn tracer(&self) -> Tracer {
        self.provider.tracer("latchkey")
    }

    /// Exports the queued spans and stops the thread.
    pub fn close(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(
                %error,
                "telemetry: flushing spans at shutdown failed, the last traces may be incomplete; requests are \
                 unaffected"
            );
        }
    }
}

/// Renames a span that has begun: the span of a request is named after its route, which is known only once the request is handled.
pub fn rename_span(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Makes a request's span part of its caller's trace, if the headers identify that trace (W3C Trace Context). Call this for trusted
/// callers only: the headers also decide whether the trace is sampled.
pub fn continue_trace(span: &Span, headers: &poem::http::HeaderMap) {
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // fails only if no layer records the span, and then the span is not exported
        let _ = span.set_parent(parent);
    }
}
