//! Whether the local revocations are up to date: [`Freshness`].

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::{Clock, millis};

/// When the revocations were last complete, by two clocks: the wall clock may be set back, and the monotonic clock may stop
/// while the machine sleeps.
#[derive(Debug)]
pub(crate) struct Freshness {
    elapsed: AtomicI64,
    unix: AtomicI64,
    complete: AtomicBool,
}

impl Freshness {
    /// Revocations are missing at first. [`Freshness::since_synced`] counts from now.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self {
            elapsed: AtomicI64::new(millis(clock.elapsed())),
            unix: AtomicI64::new(clock.unix_millis()),
            complete: AtomicBool::new(false),
        }
    }

    /// Records that the revocations are complete now.
    pub(crate) fn mark_synced(&self, clock: &dyn Clock) {
        self.unix.store(clock.unix_millis(), Ordering::Release);
        self.elapsed.store(millis(clock.elapsed()), Ordering::Release);
        self.complete.store(true, Ordering::Release);
    }

    /// Records that revocations are missing.
    pub(crate) fn invalidate(&self) {
        self.complete.store(false, Ordering::Release);
    }

    /// The time since the last event of a complete feed; `None` if revocations are missing.
    pub(crate) fn silent_for(&self, elapsed: Duration, unix: i64) -> Option<Duration> {
        self.complete.load(Ordering::Acquire).then(|| self.since_synced(elapsed, unix))
    }

    /// The time since the revocations were last complete, or since the start. The larger of both clocks counts, so a wall
    /// clock that was set back has no effect.
    pub(crate) fn since_synced(&self, elapsed: Duration, unix: i64) -> Duration {
        let by_elapsed = millis(elapsed).saturating_sub(self.elapsed.load(Ordering::Acquire));
        let by_unix = unix.saturating_sub(self.unix.load(Ordering::Acquire));
        Duration::from_millis(by_elapsed.max(by_unix).max(0).unsigned_abs())
    }
}
