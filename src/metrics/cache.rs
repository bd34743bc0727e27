//! What is counted of a cache.

use prometheus::{IntCounter, IntCounterVec, Opts, core::Collector};

/// How often something was remembered, and how often not.
#[derive(Clone, Debug)]
pub struct CacheMetrics {
    both: IntCounterVec,
    /// It was.
    pub hits: IntCounter,
    /// It wasn't.
    pub misses: IntCounter,
}

impl CacheMetrics {
    /// Of the cache of this name.
    pub fn new(name: &str) -> Self {
        let opts = Opts::new("latchkey_cache_lookups_total", "Lookups in what a node remembers.");
        let both = super::valid(IntCounterVec::new(opts.const_label("cache", name), &["outcome"]));
        Self { hits: both.with_label_values(&["hit"]), misses: both.with_label_values(&["miss"]), both }
    }

    /// What is told.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(self.both.clone())
    }
}
