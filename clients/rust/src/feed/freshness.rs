//! Whether the local revocations are up to date: [`Freshness`].

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::{Clock, millis};

const NEVER: i64 = i64::MIN;

/// When the revocations were last complete, by two clocks: the wall clock may be set back, and the monotonic clock may stop
/// while the machine sleeps.
#[derive(Debug)]
pub(crate) struct Freshness {
    elapsed: AtomicI64,
    unix: AtomicI64,
}

impl Freshness {
    pub(crate) fn new() -> Self {
        Self { elapsed: AtomicI64::new(NEVER), unix: AtomicI64::new(NEVER) }
    }

    /// Records that the revocations are complete now.
    pub(crate) fn mark_synced(&self, clock: &dyn Clock) {
        self.unix.store(clock.unix_millis(), Ordering::Release);
        self.elapsed.store(millis(clock.elapsed()), Ordering::Release);
    }

    /// Records that revocations are missing.
    pub(crate) fn invalidate(&self) {
        self.elapsed.store(NEVER, Ordering::Release);
    }

    /// The time since the last event of a complete feed; `None` if revocations are missing. The larger of both clocks
    /// counts, so a wall clock that was set back has no effect.
    pub(crate) fn silent_for(&self, elapsed: Duration, unix: i64) -> Option<Duration> {
        let synced = self.elapsed.load(Ordering::Acquire);
        if synced == NEVER {
            return None;
        }
        let silent = millis(elapsed).saturating_sub(synced).max(unix.saturating_sub(self.unix.load(Ordering::Acquire)));
        Some(Duration::from_millis(silent.max(0).unsigned_abs()))
    }
}
