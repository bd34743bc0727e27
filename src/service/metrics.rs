//! What somebody who reads the metrics is told: what was counted, and what is so at the moment.

use std::time::Duration;

use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts};
use tokio::sync::Mutex;

use crate::{domain::clock::Timestamp, metrics::Metrics, state::AppState};

/// How old the estimate of sessions may be. It takes a hundred small commands.
const CENSUS: Duration = Duration::from_secs(15);

/// What is looked at when somebody asks.
pub struct Gauges {
    sessions: Gauge,
    counted_at: Mutex<Option<Timestamp>>,
    queue: IntGauge,
    subscribers: IntGauge,
    lag: Gauge,
    in_step: IntGauge,
    remembers: IntGauge,
    peers: IntGauge,
}

impl Gauges {
    /// Told together with `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| {
            let gauge = crate::metrics::gauge(name, help);
            metrics.register(gauge.clone());
            gauge
        };
        let float = |name, help| {
            let gauge = crate::metrics::float_gauge(name, help);
            metrics.register(gauge.clone());
            gauge
        };
        let build: IntGaugeVec = crate::metrics::valid(IntGaugeVec::new(
            Opts::new("latchkey_build_info", "1; which release this is."),
            &["version"],
        ));
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.register(build);
        Self {
            sessions: float(
                "latchkey_sessions_estimate",
                "Sessions in Redis, estimated from a hundred of its keys; NaN on a Redis Cluster, or while Redis doesn't answer.",
            ),
            counted_at: Mutex::new(None),
            queue: gauge(
                "latchkey_password_queue_depth",
                "Passwords that wait for a thread that hashes or checks them.",
            ),
            subscribers: gauge("latchkey_feed_subscribers", "Those who follow the revocations at this node."),
            lag: float(
                "latchkey_feed_lag_seconds",
                "How long ago every revocation there was is sure to have been told; NaN before the first time.",
            ),
            in_step: gauge("latchkey_in_step", "1 while this node is sure to hear of every revocation."),
            remembers: gauge(
                "latchkey_remembers",
                "1 while sessions are looked up in this node's memory, else in Redis.",
            ),
            peers: gauge("latchkey_peers", "Other nodes that confirm the ends of sessions to this one."),
        }
    }
}

/// All metrics in Prometheus' text format.
///
/// # Errors
/// If they can't be written as text.
pub async fn text(state: &AppState) -> Result<String, prometheus::Error> {
    let gauges = &state.gauges;
    count_sessions(state).await;
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    gauges.queue.set(number(state.passwords.queue_depth()));
    gauges.subscribers.set(number(state.feed.subscribers()));
    gauges.lag.set(state.redis.lag().map_or(f64::NAN, |lag| lag.as_secs_f64()));
    gauges.in_step.set(state.redis.synced_at().is_some().into());
    gauges.remembers.set(state.redis.cache_is_valid().into());
    gauges.peers.set(number(state.redis.peers()));
    state.metrics.text()
}

async fn count_sessions(state: &AppState) {
    let mut counted_at = state.gauges.counted_at.lock().await;
    let now = state.clock.now();
    if counted_at.is_some_and(|at| now.saturating_since(at) < CENSUS) {
        return;
    }
    *counted_at = Some(now);
    let estimate = state.redis.estimate_sessions().await.unwrap_or_else(|error| {
        tracing::debug!(%error, "the sessions can't be estimated");
        None
    });
    state.gauges.sessions.set(estimate.unwrap_or(f64::NAN));
}
