//! What is counted and measured, in Prometheus' terms. Whoever counts holds a handle: counting is an atomic addition.
//!
//! No label holds an account, a name, an address or a token (I6), and every label has few values. What is only looked at
//! when somebody asks is in `service::metrics`; `docs/monitoring.md` explains each metric.

mod cache;
mod redis;

use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector, process_collector::ProcessCollector,
};

pub use self::{
    cache::CacheMetrics,
    redis::{RedisMetrics, Timed},
};

/// Where the buckets of durations end, in seconds: from an answer out of memory to one that has timed out.
const SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The rate limits, as `429` names them: what has never been counted is told as zero.
const POLICIES: [&str; 14] = [
    "login-address",
    "login-account",
    "login-service",
    "registration-address",
    "registration-account",
    "registration-service",
    "password-change-address",
    "password-change-account",
    "password-change-service",
    "refresh-address",
    "refresh-account",
    "refresh-service",
    "introspection-client",
    "introspection-service",
];

/// What a node counts by itself, beside what its stores count.
pub struct Metrics {
    registry: Registry,
    /// Requests by route, method and status, and how long until the answer began.
    requests: HistogramVec,
    /// Sign-ins by outcome.
    pub logins: IntCounterVec,
    /// Refreshes by outcome.
    pub rotations: IntCounterVec,
    /// Requests refused by a rate limit, by limit.
    pub limited: IntCounterVec,
}

impl Metrics {
    /// With what the stores count in the same registry.
    pub fn new(stores: &RedisMetrics) -> Self {
        let metrics = Self {
            registry: Registry::new(),
            requests: durations(
                "latchkey_http_request_duration_seconds",
                "Requests, and the time until their answers began.",
                &["route", "method", "status"],
            ),
            logins: counters("latchkey_logins_total", "Sign-ins by outcome.", &["outcome"]),
            rotations: counters("latchkey_rotations_total", "Refresh tokens presented, by outcome.", &["outcome"]),
            limited: counters("latchkey_rate_limited_total", "Requests refused by a rate limit.", &["policy"]),
        };
        for outcome in ["success", "invalid_credentials", "limited", "unavailable", "failed"] {
            metrics.logins.with_label_values(&[outcome]);
        }
        for outcome in ["rotated", "repeated", "reused", "expired", "invalid", "limited", "unavailable", "failed"] {
            metrics.rotations.with_label_values(&[outcome]);
        }
        for policy in POLICIES {
            metrics.limited.with_label_values(&[policy]);
        }
        metrics.register(metrics.requests.clone());
        metrics.register(metrics.logins.clone());
        metrics.register(metrics.rotations.clone());
        metrics.register(metrics.limited.clone());
        for collector in stores.collectors() {
            metrics.register_boxed(collector);
        }
        metrics.register(ProcessCollector::for_self());
        metrics
    }

    /// Adds something that is told with the rest.
    pub fn register(&self, collector: impl Collector + 'static) {
        self.register_boxed(Box::new(collector));
    }

    /// The same for one that is boxed already.
    pub fn register_boxed(&self, collector: Box<dyn Collector>) {
        // two of one name: a mistake of ours, which a test finds
        if let Err(error) = self.registry.register(collector) {
            tracing::error!(%error, "a metric can't be told");
        }
    }

    /// A request was answered.
    pub fn request(&self, route: &str, method: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[route, method, status]).observe(took.as_secs_f64());
    }

    /// All of it, in Prometheus' text format (version 0.0.4).
    ///
    /// # Errors
    /// If it can't be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Durations by labels.
pub(crate) fn durations(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    valid(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels))
}

/// Durations.
pub(crate) fn duration(name: &str, help: &str) -> Histogram {
    valid(Histogram::with_opts(HistogramOpts::new(name, help).buckets(SECONDS.to_vec())))
}

/// Counters by labels.
pub(crate) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    valid(IntCounterVec::new(Opts::new(name, help), labels))
}

/// A counter.
pub(crate) fn counter(name: &str, help: &str) -> IntCounter {
    valid(IntCounter::new(name, help))
}

/// Something that rises and falls.
pub(crate) fn gauge(name: &str, help: &str) -> IntGauge {
    valid(IntGauge::new(name, help))
}

/// The same with a fraction.
pub(crate) fn float_gauge(name: &str, help: &str) -> Gauge {
    valid(Gauge::new(name, help))
}

#[expect(clippy::panic, reason = "names and labels are constants of ours; a test makes them all")]
pub(crate) fn valid<T>(made: prometheus::Result<T>) -> T {
    made.unwrap_or_else(|error| panic!("a metric's name or label: {error}"))
}
