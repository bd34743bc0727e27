//! Metrics whose values are read when Prometheus scrapes them.

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts};
use tokio::sync::Mutex;

use crate::{
    domain::clock::Timestamp,
    metrics::{self, Metrics},
};

/// The gauges; [`service::metrics`](../../service/metrics/index.html) sets them.
pub(crate) struct Gauges {
    pub(crate) sessions: Gauge,
    /// When [`Self::sessions`] was last estimated. Locked while a scrape estimates it, so that others wait.
    pub(crate) sessions_estimated_at: Mutex<Option<Timestamp>>,
    pub(crate) password_queue: IntGauge,
    pub(crate) feed_subscribers: IntGauge,
    pub(crate) revocations_lag: Gauge,
    pub(crate) revocations_synced: IntGauge,
    pub(crate) cache_valid: IntGauge,
    pub(crate) peers: IntGauge,
    pub(crate) signing_key_age: Gauge,
}

impl Gauges {
    /// Registers the gauges with `metrics`.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let integer = |name, help| {
            let gauge = metrics::gauge(name, help);
            metrics.register(gauge.clone());
            gauge
        };
        let float = |name, help| {
            let gauge = metrics::float_gauge(name, help);
            metrics.register(gauge.clone());
            gauge
        };
        let build_info: IntGaugeVec = metrics::expect_valid(IntGaugeVec::new(
            Opts::new("latchkey_build_info", "Always 1; the label has the release."),
            &["version"],
        ));
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register(build_info);
        Self {
            sessions: float(
                "latchkey_sessions_estimate",
                "Sessions in Redis, estimated from a sample of a hundred keys; NaN on a Redis Cluster and while Redis does not answer.",
            ),
            sessions_estimated_at: Mutex::new(None),
            password_queue: integer(
                "latchkey_password_queue_depth",
                "Password hashes and verifications that wait for a thread.",
            ),
            feed_subscribers: integer("latchkey_feed_subscribers", "Subscribers of this node's revocation feed."),
            revocations_lag: float(
                "latchkey_feed_lag_seconds",
                "Time since the start of the last successful synchronization: everything revoked before it has been received; NaN before the first.",
            ),
            revocations_synced: integer("latchkey_feed_synced", "1 while this node receives every revocation."),
            cache_valid: integer(
                "latchkey_session_cache_valid",
                "1 while this node answers from its session cache; 0 while it reads every session from Redis.",
            ),
            peers: integer("latchkey_peers", "Other nodes that acknowledge revocations to this one."),
            signing_key_age: float(
                "latchkey_signing_key_age_seconds",
                "How long the current signing key has been signing; NaN while there is none.",
            ),
        }
    }
}
