//! Metrics of a cache.

use prometheus::{IntCounter, IntCounterVec, Opts, core::Collector};

/// Hits and misses of one cache.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    /// The metric of which `hits` and `misses` are the two series.
    lookups: IntCounterVec,
    /// Lookups that the cache answered.
    pub hits: IntCounter,
    /// Lookups that the cache could not answer.
    pub misses: IntCounter,
}

impl CacheMetrics {
    /// Metrics of the cache called `name` (the label `cache`).
    pub fn new(name: &str) -> Self {
        let opts = Opts::new("latchkey_cache_lookups_total", "Lookups in this node's in-memory caches.");
        let lookups = super::expect_valid(IntCounterVec::new(opts.const_label("cache", name), &["outcome"]));
        Self { hits: lookups.with_label_values(&["hit"]), misses: lookups.with_label_values(&["miss"]), lookups }
    }

    /// The collector of both series, to register.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.lookups.clone())
    }
}
