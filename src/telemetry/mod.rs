//! Traces, exported to an OpenTelemetry collector over OTLP (HTTP, protobuf) if one is configured.
//!
//! Each request has a span, with child spans for its waits: password hashing, Redis scripts, database transactions.
//! The spans are `tracing` spans with the target [`TARGET`]. Only [`layer`] records them, so without a collector they cost almost no
//! time. Like the log, spans contain no secrets (I6).
//!
//! The Cargo feature `otel`, on by default, compiles the exporter. Without it, nothing is exported.

#[cfg(not(feature = "otel"))]
mod disabled;
#[cfg(feature = "otel")]
mod otlp;

#[cfg(not(feature = "otel"))]
pub use disabled::{Telemetry, Tracer, continue_trace, layer, rename_span};
#[cfg(feature = "otel")]
pub use otlp::{Telemetry, Tracer, continue_trace, layer, rename_span};

/// The target of all spans.
pub const TARGET: &str = "latchkey::span";
