//! Prometheus metrics. To count in a metric without labels, or in a series whose handle the code holds, is one atomic addition.
//! All other series are looked up by their labels at each count.
//!
//! No label holds an account, name, address or token (I6: no secrets in metrics), and every label has few values. Gauges that
//! are computed when Prometheus reads them are in `state::gauges`; `docs/monitoring.md` documents every metric.

mod cache;
mod database;
pub mod forwarded;
mod mail;
mod outcome;
mod redis;

use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector, process_collector::ProcessCollector,
};

use crate::domain::limit::LimitPolicy;

pub use self::{
    cache::CacheMetrics,
    database::DatabaseMetrics,
    forwarded::{FORWARDED_REQUESTS, ForwardedMetrics},
    mail::MailMetrics,
    outcome::{LoginOutcome, RotationOutcome, SecondFactorMethod, SecondFactorOutcome},
    redis::{RedisMetrics, Timed},
};

/// Upper bounds of the duration buckets, in seconds: from a cached response to a timeout.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The registry of a node, and the metrics of requests, sign-ins and refreshes.
pub struct Metrics {
    registry: Registry,
    /// Requests by route, method and status, and the time until the response began.
    requests: HistogramVec,
    /// Logins by outcome.
    logins: IntCounterVec,
    /// Second factors of sign-ins by method and outcome.
    second_factors: IntCounterVec,
    /// Refreshes by outcome.
    rotations: IntCounterVec,
    /// Requests refused by a rate limit, by the limit's policy.
    pub rate_limited: IntCounterVec,
    /// Requests through proxies, by how the proxy reported the client's address.
    pub forwarded: ForwardedMetrics,
}

impl Metrics {
    /// Creates the registry and registers the node's own metrics and those of Redis.
    pub fn new(redis: &RedisMetrics) -> Self {
        let (forwarded, forwarded_collector) = ForwardedMetrics::new();
        let metrics = Self {
            registry: Registry::new(),
            requests: durations(
                "latchkey_http_request_duration_seconds",
                "Requests, and the time until the response began.",
                &["route", "method", "status"],
            ),
            logins: counters("latchkey_logins_total", "Logins by outcome.", &["outcome"]),
            second_factors: counters(
                "latchkey_second_factors_total",
                "Second factors of sign-ins, by method and outcome.",
                &["method", "outcome"],
            ),
            rotations: counters("latchkey_rotations_total", "Refresh tokens presented, by outcome.", &["outcome"]),
            rate_limited: counters("latchkey_rate_limited_total", "Requests refused by a rate limit.", &["policy"]),
            forwarded,
        };
        // `with_label_values` creates a series with the value 0: a rate in Prometheus needs a value from before the first count.
        for outcome in LoginOutcome::ALL {
            metrics.logins.with_label_values(&[outcome.as_str()]);
        }
        for outcome in RotationOutcome::ALL {
            metrics.rotations.with_label_values(&[outcome.as_str()]);
        }
        for (method, outcome) in SecondFactorMethod::with_outcomes() {
            metrics.second_factors.with_label_values(&[method.as_str(), outcome.as_str()]);
        }
        for policy in LimitPolicy::ALL {
            metrics.rate_limited.with_label_values(&[policy.as_str()]);
        }
        metrics.register(metrics.requests.clone());
        metrics.register(metrics.logins.clone());
        metrics.register(metrics.second_factors.clone());
        metrics.register(metrics.rotations.clone());
        metrics.register(metrics.rate_limited.clone());
        metrics.register(forwarded_collector);
        for collector in redis.collectors() {
            metrics.register_boxed(collector);
        }
        metrics.register(ProcessCollector::for_self());
        metrics
    }

    /// Adds a collector to the registry.
    pub fn register(&self, collector: impl Collector + 'static) {
        self.register_boxed(Box::new(collector));
    }

    /// Adds a boxed collector to the registry.
    pub fn register_boxed(&self, collector: Box<dyn Collector>) {
        // the name for the log, read before the registry takes the collector
        let metric = collector.desc().first().map(|description| description.fq_name.clone());
        // fails only for a duplicate name, which a test would find
        if let Err(error) = self.registry.register(collector) {
            tracing::error!(
                metric = metric.as_deref(),
                %error,
                "registering a metric failed (a bug): /metrics does not have it; requests are unaffected. Report \
                 this line"
            );
        }
    }

    /// Counts a login.
    pub fn count_login(&self, outcome: LoginOutcome) {
        self.logins.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a second factor of a sign-in.
    pub fn count_second_factor(&self, method: SecondFactorMethod, outcome: SecondFactorOutcome) {
        self.second_factors.with_label_values(&[method.as_str(), outcome.as_str()]).inc();
    }

    /// Counts a refresh.
    pub fn count_rotation(&self, outcome: RotationOutcome) {
        self.rotations.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts a request and the time until its response began.
    pub fn count_request(&self, route: &str, method: &str, status: &str, until_response: Duration) {
        self.requests.with_label_values(&[route, method, status]).observe(until_response.as_secs_f64());
    }

    /// Renders all metrics in Prometheus' text format (version 0.0.4).
    ///
    /// # Errors
    /// If a metric can't be encoded.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// A histogram of durations with labels.
pub(crate) fn durations(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    expect_valid(HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels))
}

/// A histogram of durations.
pub(crate) fn duration(name: &str, help: &str) -> Histogram {
    expect_valid(Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec())))
}

/// A counter with labels.
pub(crate) fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    expect_valid(IntCounterVec::new(Opts::new(name, help), labels))
}

/// A counter.
pub(crate) fn counter(name: &str, help: &str) -> IntCounter {
    expect_valid(IntCounter::new(name, help))
}

/// A gauge of whole numbers.
pub(crate) fn gauge(name: &str, help: &str) -> IntGauge {
    expect_valid(IntGauge::new(name, help))
}

/// A gauge of fractions.
pub(crate) fn float_gauge(name: &str, help: &str) -> Gauge {
    expect_valid(Gauge::new(name, help))
}

/// Unwraps a metric whose name and labels are constants.
#[expect(clippy::panic, reason = "names and labels are constants; a test creates every metric")]
pub(crate) fn expect_valid<T>(metric: prometheus::Result<T>) -> T {
    metric.unwrap_or_else(|error| panic!("a metric's name or label is invalid: {error}"))
}
