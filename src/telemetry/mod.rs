//! Traces, exported to an OpenTelemetry collector over OTLP (HTTP, protobuf) if one is configured.
//!
//! Each request has a span, with child spans for its waits: password hashing, Redis scripts, database transactions.
//! The spans are `tracing` spans with the target [`TARGET`], which only the layer created here subscribes to, so that they cost
//! almost no time without a collector. Like the log, spans contain no secrets (I6).
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
