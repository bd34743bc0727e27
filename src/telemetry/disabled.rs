//! The telemetry module without the feature `otel`: nothing is exported. The types have no values, so functions that take one never run.

use tracing::Span;
use tracing_subscriber::layer::Identity;

use crate::config::TelemetrySettings;

/// A tracer, which this build doesn't have.
#[derive(Clone, Copy, Debug)]
pub enum Tracer {}

/// The layer that records spans with `tracer`.
pub fn layer(tracer: Tracer) -> Identity {
    match tracer {}
}

/// The exporter, which this build doesn't have.
#[derive(Clone, Copy, Debug)]
pub enum Telemetry {}

impl Telemetry {
    /// Returns `None` if `telemetry.otlp_endpoint` is empty.
    ///
    /// # Errors
    /// If `telemetry.otlp_endpoint` is set: this build cannot export.
    pub fn start(settings: &TelemetrySettings) -> anyhow::Result<Option<Self>> {
        anyhow::ensure!(
            settings.otlp_endpoint.is_none(),
            "this binary was built without the feature `otel`: remove the setting, or use a build with the feature"
        );
        Ok(None)
    }

    /// The tracer that records spans for export.
    pub fn tracer(&self) -> Tracer {
        match *self {}
    }

    /// Exports the queued spans.
    pub fn close(self) {
        match self {}
    }
}

/// Would rename a span for its export; does nothing in this build.
pub fn rename_span(_: &Span, _: String) {}

/// Would make a request's span part of its caller's trace; does nothing in this build.
pub fn continue_trace(_: &Span, _: &poem::http::HeaderMap) {}
