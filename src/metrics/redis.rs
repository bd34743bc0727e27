//! What the session store counts.

use std::time::Instant;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, core::Collector};

use super::{cache::CacheMetrics, counter, counters, durations};

/// See the module.
#[derive(Clone, Debug)]
pub struct RedisMetrics {
    commands: HistogramVec,
    errors: IntCounterVec,
    /// Connections that were made.
    pub connects: IntCounter,
    /// Revocations that this node made, by reason.
    pub revocations: IntCounterVec,
    /// What was remembered of sessions, and what wasn't.
    pub cache: CacheMetrics,
}

/// One command or script: how long its answers take, and how often there are none.
#[derive(Clone, Debug)]
pub struct Timed {
    took: Histogram,
    errors: IntCounter,
}

impl Default for RedisMetrics {
    fn default() -> Self {
        Self {
            commands: durations(
                "latchkey_redis_command_duration_seconds",
                "Commands and scripts that Redis has answered, and how long it took.",
                &["command"],
            ),
            errors: counters(
                "latchkey_redis_errors_total",
                "Commands and scripts that Redis answered with an error or not in time.",
                &["command"],
            ),
            connects: counter(
                "latchkey_redis_connects_total",
                "Connections to Redis that were made: a few at the start, more whenever they break.",
            ),
            revocations: counters(
                "latchkey_revocations_total",
                "Sessions, or all sessions of an account, that this node ended.",
                &["reason"],
            ),
            cache: CacheMetrics::new("sessions"),
        }
    }
}

impl RedisMetrics {
    /// What is told.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.commands.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.connects.clone()),
            Box::new(self.revocations.clone()),
            self.cache.collector(),
        ]
    }

    /// A handle for a command or script.
    pub fn timed(&self, command: &str) -> Timed {
        Timed { took: self.commands.with_label_values(&[command]), errors: self.errors.with_label_values(&[command]) }
    }
}

impl Timed {
    /// Waits for an answer, and counts it.
    ///
    /// # Errors
    /// Those of `answer`.
    pub async fn watch<T, E>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let asked = Instant::now();
        let answer = answer.await;
        match &answer {
            Ok(_) => self.took.observe(asked.elapsed().as_secs_f64()),
            Err(_) => self.errors.inc(),
        }
        answer
    }
}
