//! The source of time: [`Clock`].

use std::{
    fmt::Debug,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A source of time: [`SystemClock`], unless a test sets another with [`crate::Builder::clock`].
pub trait Clock: Debug + Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z, compared with the times in tokens.
    fn unix_millis(&self) -> i64;

    /// The time since a fixed moment. Monotonic, so that adjusting the machine's clock does not affect how long the feed
    /// counts as silent.
    fn elapsed(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// The machine's clocks. [`Clock::elapsed`] counts from this call.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the only place that reads the machine's clock")]
    fn unix_millis(&self) -> i64 {
        // a clock before the Unix epoch counts as zero
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(since_epoch)
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The duration in milliseconds, at most [`i64::MAX`].
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
