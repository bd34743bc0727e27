//! Traces, sent to a collector of OpenTelemetry over OTLP (HTTP, protobuf) where one is configured.
//!
//! A span is made for each request, and within it for what it waits for: the hashing of a password, a script of Redis, a
//! transaction in the database. They are `tracing` spans of the target [`TARGET`]: nothing but the layer made here wants
//! them, so that without a collector they cost next to nothing. None holds more than the log would (I6).

use std::collections::HashMap;

use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider, Tracer},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::config::TelemetrySettings;

/// The target of all spans.
pub const TARGET: &str = "latchkey::span";

/// What sends the spans; those that wait are sent when it is [closed](Telemetry::close).
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Starts a thread that sends spans to the collector of the settings; none if there is none.
    ///
    /// # Errors
    /// If the thread or its connection can't be made. That nobody answers there is logged later.
    pub fn start(settings: &TelemetrySettings) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(settings.timeout)
            .with_headers(HashMap::new())
            .build()?;
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        // callers that sample have decided; others are sampled here
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sample_ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource)
            .with_sampler(sampler)
            .build();
        Ok(Some(Self { provider }))
    }

    /// Where spans go.
    pub fn tracer(&self) -> Tracer {
        self.provider.tracer("latchkey")
    }

    /// Sends what waits, and ends.
    pub fn close(self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "not all traces could be sent");
        }
    }
}

/// Names a span that has begun: what a request is about is known only in the end.
pub fn name(span: &Span, name: String) {
    span.context().span().update_name(name);
}

/// Makes a request's span part of its caller's trace, if its headers name one (W3C Trace Context). Only for callers who are
/// trusted: they also say whether it is sampled.
pub fn follow_caller(span: &Span, headers: &poem::http::HeaderMap) {
    if !span.is_disabled() {
        let caller = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // a span that nobody wants can't be set
        let _ = span.set_parent(caller);
    }
}
