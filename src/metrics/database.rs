//! Metrics of the database's connection pool.

use std::time::Instant;

use prometheus::{Histogram, IntCounter, IntGauge, core::Collector};

use super::{counter, duration, gauge};

/// Metrics of a node's database connections. Clones share the values.
#[derive(Clone, Debug)]
pub struct DatabaseMetrics {
    connections: IntGauge,
    in_use: IntGauge,
    max: IntGauge,
    begin_duration: Histogram,
    lookup_duration: Histogram,
    errors: IntCounter,
}

impl Default for DatabaseMetrics {
    fn default() -> Self {
        Self {
            connections: gauge(
                "latchkey_database_connections",
                "Open connections to the database, idle ones included.",
            ),
            in_use: gauge("latchkey_database_connections_in_use", "Database connections that a transaction is using."),
            max: gauge("latchkey_database_connections_max", "Upper limit of connections (database.max_connections)."),
            begin_duration: duration(
                "latchkey_database_wait_seconds",
                "Time until a transaction had its connection and had begun.",
            ),
            lookup_duration: duration(
                "latchkey_database_lookup_duration_seconds",
                "Duration of single-row lookups, such as the account of a login, including the wait for a connection.",
            ),
            errors: counter(
                "latchkey_database_errors_total",
                "Transactions that could not begin and single-row lookups that failed.",
            ),
        }
    }
}

impl DatabaseMetrics {
    /// The collectors to register.
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.connections.clone()),
            Box::new(self.in_use.clone()),
            Box::new(self.max.clone()),
            Box::new(self.begin_duration.clone()),
            Box::new(self.lookup_duration.clone()),
            Box::new(self.errors.clone()),
        ]
    }

    /// Sets the gauges of the pool: its open connections, how many of these are idle, and their maximum. Called when the metrics are read.
    pub fn set_pool(&self, connections: usize, idle: usize, max: u32) {
        let gauge_value = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.connections.set(gauge_value(connections));
        // The pool reports both numbers separately, so `idle` may be larger than `connections` for a moment.
        self.in_use.set(gauge_value(connections.saturating_sub(idle)));
        self.max.set(max.into());
    }

    /// Runs `begin`, which waits for a connection and begins a transaction. Measures its duration, or counts its error.
    ///
    /// # Errors
    /// The error of `begin`.
    pub async fn time_begin<T, E>(&self, begin: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.time(&self.begin_duration, begin).await
    }

    /// Runs `lookup`, which reads one row. Measures its duration, or counts its error.
    ///
    /// # Errors
    /// The error of `lookup`.
    pub async fn time_lookup<T, E>(&self, lookup: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.time(&self.lookup_duration, lookup).await
    }

    /// Runs `call`. Records its duration if it succeeds, and counts an error otherwise.
    async fn time<T, E>(&self, duration: &Histogram, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let started = Instant::now();
        let result = call.await;
        match &result {
            Ok(_) => duration.observe(started.elapsed().as_secs_f64()),
            Err(_) => self.errors.inc(),
        }
        result
    }
}
