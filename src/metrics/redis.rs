//! Metrics of the Redis stores.

use std::time::Instant;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, core::Collector};

use super::{cache::CacheMetrics, counter, counters, durations};
use crate::domain::event::EndReason;

/// Metrics of commands, connections, revocations and the session cache.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    commands: HistogramVec,
    errors: IntCounterVec,
    /// Opened connections.
    pub connects: IntCounter,
    revocations: IntCounterVec,
    /// Hits and misses of the session cache.
    pub cache: CacheMetrics,
}

/// Measures the calls of one command or script.
#[derive(Clone, Debug)]
pub struct Timed {
    duration: Histogram,
    errors: IntCounter,
}

impl Default for RedisMetrics {
    fn default() -> Self {
        Self {
            commands: durations(
                "latchkey_redis_command_duration_seconds",
                "Duration of commands and scripts that Redis answered.",
                &["command"],
            ),
            errors: counters(
                "latchkey_redis_errors_total",
                "Commands and scripts that failed or timed out.",
                &["command"],
            ),
            connects: counter(
                "latchkey_redis_connects_total",
                "Opened connections to Redis: a few at start-up, more after failures.",
            ),
            revocations: counters(
                "latchkey_revocations_total",
                "Revocations of a session, or of all sessions of an account, by this node.",
                &["reason"],
            ),
            cache: CacheMetrics::new("sessions"),
        }
    }
}

impl RedisMetrics {
    /// The collectors to register.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.commands.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.connects.clone()),
            Box::new(self.revocations.clone()),
            self.cache.collector(),
        ]
    }

    /// The handle that measures the calls of one command or script.
    pub fn timed(&self, command: &str) -> Timed {
        Timed {
            duration: self.commands.with_label_values(&[command]),
            errors: self.errors.with_label_values(&[command]),
        }
    }

    /// Counts a revocation by this node.
    pub fn count_revocation(&self, reason: EndReason) {
        self.revocations.with_label_values(&[reason.as_str()]).inc();
    }
}

impl Timed {
    /// Waits for the answer of Redis. Records how long a successful answer took, and counts an error.
    ///
    /// # Errors
    /// The error of `answer`.
    pub async fn measure<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = Instant::now();
        let result = answer.await;
        match &result {
            Ok(_) => self.duration.observe(start.elapsed().as_secs_f64()),
            Err(_) => self.errors.inc(),
        }
        result
    }
}
