//! Renders the metrics for Prometheus. Some gauges are updated at each scrape.

use std::time::Duration;

use crate::state::AppState;

/// How long an estimate of the number of sessions is reused. An estimate costs about a hundred small Redis commands.
const ESTIMATE_TTL: Duration = Duration::from_secs(15);

/// All metrics in Prometheus' text format.
///
/// # Errors
/// [`prometheus::Error`] if a metric can't be encoded.
pub async fn render(state: &AppState) -> Result<String, prometheus::Error> {
    let gauges = &state.gauges;
    estimate_sessions(state).await;
    let saturated = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    gauges.password_queue.set(saturated(state.passwords.queue_depth()));
    gauges.feed_subscribers.set(saturated(state.feed_subscribers.count()));
    gauges.revocations_lag.set(state.redis.revocation_log.lag().map_or(f64::NAN, |lag| lag.as_secs_f64()));
    gauges.revocations_synced.set(state.redis.revocation_log.synced_at().is_some().into());
    gauges.cache_valid.set(state.redis.revocation_log.cache_is_valid().into());
    gauges.peers.set(saturated(state.redis.revocation_log.peers()));
    let signer_age = state.keys.current().signer_age(state.clock.now());
    gauges.signing_key_age.set(signer_age.map_or(f64::NAN, |age| age.as_secs_f64()));
    state.sql.update_pool_metrics();
    state.metrics.render()
}

/// Updates the gauge of sessions, unless the last estimate is recent. A Redis Cluster gives no estimate.
async fn estimate_sessions(state: &AppState) {
    // Concurrent scrapes wait for the lock, and then find a recent estimate.
    let mut estimated_at = state.gauges.sessions_estimated_at.lock().await;
    let now = state.clock.now();
    if estimated_at.is_some_and(|at| now.saturating_since(at) < ESTIMATE_TTL) {
        return;
    }
    // Set even if the estimate then fails: a failing Redis is not asked again at each scrape.
    *estimated_at = Some(now);
    let estimate = state.redis.sessions.estimate_count().await.unwrap_or_else(|error| {
        tracing::debug!(
            %error,
            "estimating the number of sessions failed: latchkey_sessions_estimate is NaN until the next estimate"
        );
        None
    });
    state.gauges.sessions.set(estimate.unwrap_or(f64::NAN));
}
