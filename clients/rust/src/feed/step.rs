//! Whether what is known of revocations is all there is to know: whether the verifier is in step with the issuer.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use crate::clock::{Clock, millis};

const NEVER: i64 = i64::MIN;

/// When the feed was last heard while it was complete, by both clocks: that of the machine may be set back, the other may
/// stand still while the machine sleeps.
#[derive(Debug)]
pub(crate) struct Step {
    elapsed: AtomicI64,
    unix: AtomicI64,
}

impl Step {
    pub(crate) fn new() -> Self {
        Self { elapsed: AtomicI64::new(NEVER), unix: AtomicI64::new(NEVER) }
    }

    /// The feed was heard, and nothing is missing.
    pub(crate) fn heard(&self, clock: &dyn Clock) {
        self.unix.store(clock.unix_millis(), Ordering::Release);
        self.elapsed.store(millis(clock.elapsed()), Ordering::Release);
    }

    /// Something is missing.
    pub(crate) fn lost(&self) {
        self.elapsed.store(NEVER, Ordering::Release);
    }

    /// How long the feed has been silent; `None` if something is missing. A machine's clock that was set back counts for
    /// nothing.
    pub(crate) fn silent_for(&self, elapsed: Duration, unix: i64) -> Option<Duration> {
        let heard = self.elapsed.load(Ordering::Acquire);
        if heard == NEVER {
            return None;
        }
        let silent = millis(elapsed).saturating_sub(heard).max(unix.saturating_sub(self.unix.load(Ordering::Acquire)));
        Some(Duration::from_millis(silent.max(0).unsigned_abs()))
    }
}
