//! Whether the local revocations are up to date: [`Freshness`].

use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::{Clock, millis};

/// When the verifier last had every revocation that the feed had sent, by two clocks: the wall clock may be set back, and the
/// monotonic clock may stop while the machine sleeps.
#[derive(Debug)]
pub(crate) struct Freshness {
    /// The time by the monotonic clock, in milliseconds.
    synced_elapsed: AtomicI64,
    /// The time by the wall clock, in milliseconds since the Unix epoch.
    synced_unix: AtomicI64,
    /// Whether the verifier has every revocation up to that time.
    complete: AtomicBool,
}

impl Freshness {
    /// Starts without revocations, so they are not complete. [`Freshness::since_synced`] counts from now.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self {
            synced_elapsed: AtomicI64::new(millis(clock.elapsed())),
            synced_unix: AtomicI64::new(clock.unix_millis()),
            complete: AtomicBool::new(false),
        }
    }

    /// Records that the revocations are complete now.
    pub(crate) fn mark_synced(&self, clock: &dyn Clock) {
        self.synced_unix.store(clock.unix_millis(), Ordering::Release);
        self.synced_elapsed.store(millis(clock.elapsed()), Ordering::Release);
        // last, so that a reader that sees `complete` also sees the times
        self.complete.store(true, Ordering::Release);
    }

    /// Records that revocations are missing.
    pub(crate) fn invalidate(&self) {
        self.complete.store(false, Ordering::Release);
    }

    /// The time since the verifier last had every revocation; `None` if revocations are missing.
    /// `elapsed` and `unix` are the current times of both clocks; `unix` is in milliseconds.
    pub(crate) fn silent_for(&self, elapsed: Duration, unix: i64) -> Option<Duration> {
        self.complete.load(Ordering::Acquire).then(|| self.since_synced(elapsed, unix))
    }

    /// The time since the verifier last had every revocation that the feed had sent, or since the start. The larger of both
    /// clocks counts, so a wall clock that was set back has no effect.
    pub(crate) fn since_synced(&self, elapsed: Duration, unix: i64) -> Duration {
        let by_elapsed = millis(elapsed).saturating_sub(self.synced_elapsed.load(Ordering::Acquire));
        let by_unix = unix.saturating_sub(self.synced_unix.load(Ordering::Acquire));
        // both are negative if a concurrent `mark_synced` is later than the given times
        let longer = by_elapsed.max(by_unix).max(0);
        Duration::from_millis(longer.unsigned_abs())
    }
}
