//! Whether the cores ([`crate::cores`]) are busy with others than those who sign in.
//!
//! A thread that hashes lets others have the processor at once, but as long as it runs the system takes its processor for
//! taken: what waits for another one isn't moved there. So fewer of them run while many others are served.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::runtime;

/// The least time over which it is measured.
const WINDOW: Duration = Duration::from_millis(20);

/// What was measured counts for so long.
const COUNTS: Duration = Duration::from_secs(1);

/// From this share of the cores' time on, in thousandths, there is a crowd.
const CROWD: u64 = 500;

/// Measures itself whenever somebody signs in, and costs nothing when nobody does.
#[derive(Debug)]
pub(super) struct LoadMonitor {
    cores: Vec<Core>,
    since: Instant,
    counts: Duration,
}

/// Written by the thread of the core only.
#[derive(Debug, Default)]
struct Core {
    /// When it was looked at, and what processor time its thread had taken by then, in nanoseconds.
    looked_at: AtomicU64,
    taken: AtomicU64,
    /// Which share of the time before that was, in thousandths.
    busy: AtomicU64,
}

impl LoadMonitor {
    pub(super) fn new(cores: usize) -> Self {
        let cores = std::iter::repeat_with(Core::default).take(cores).collect();
        Self { cores, since: Instant::now(), counts: COUNTS }
    }

    /// Looks at the core that this is, if it is one.
    pub(super) fn look(&self) {
        if let Some(core) = runtime::current_core() {
            let taken = clock_gettime(ClockId::ThreadCPUTime);
            let nanos = u64::try_from(taken.tv_nsec).unwrap_or_default();
            self.note(core, self.now(), u64::try_from(taken.tv_sec).unwrap_or_default() * 1_000_000_000 + nanos);
        }
    }

    /// Whether there is one, as far as was seen lately.
    pub(super) fn is_there(&self) -> bool {
        let now = self.now();
        let busy = self.cores.iter().filter(|core| {
            let looked_at = Duration::from_nanos(now.saturating_sub(core.looked_at.load(Ordering::Relaxed)));
            looked_at < self.counts
        });
        busy.map(|core| core.busy.load(Ordering::Relaxed)).sum::<u64>() >= CROWD * self.cores.len().max(1) as u64
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn note(&self, core: usize, now: u64, taken: u64) {
        let Some(core) = self.cores.get(core) else { return };
        let time = now.saturating_sub(core.looked_at.load(Ordering::Relaxed));
        if u128::from(time) < WINDOW.as_nanos() {
            return;
        }
        let taken_since = taken.saturating_sub(core.taken.load(Ordering::Relaxed));
        core.busy.store(taken_since.saturating_mul(1000) / time, Ordering::Relaxed);
        core.taken.store(taken, Ordering::Relaxed);
        core.looked_at.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl LoadMonitor {
    /// One that stays.
    pub(super) fn staying() -> Self {
        let crowd = Self { counts: Duration::MAX, ..Self::new(1) };
        crowd.cores[0].busy.store(1000, Ordering::Relaxed);
        crowd
    }

    pub(super) fn leave(&self) {
        self.cores[0].busy.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: u64 = 1_000_000;

    #[test]
    fn there_is_a_crowd_while_the_cores_take_half_of_their_time() {
        let crowd = LoadMonitor { counts: Duration::MAX, ..LoadMonitor::new(2) };
        assert!(!crowd.is_there());
        crowd.note(0, 100 * MILLIS, 90 * MILLIS);
        assert!(!crowd.is_there(), "450 of 1000");
        crowd.note(1, 100 * MILLIS, 10 * MILLIS);
        assert!(crowd.is_there(), "500 of 1000");
        crowd.note(0, 110 * MILLIS, 90 * MILLIS);
        assert!(crowd.is_there(), "too early to look again");
        crowd.note(0, 200 * MILLIS, 150 * MILLIS);
        assert!(!crowd.is_there(), "since it was looked at before");
        crowd.note(7, 200 * MILLIS, 200 * MILLIS);
    }

    #[test]
    fn what_was_seen_long_ago_does_not_count() {
        let crowd = LoadMonitor { counts: Duration::ZERO, ..LoadMonitor::new(1) };
        crowd.note(0, 100 * MILLIS, 100 * MILLIS);
        assert!(!crowd.is_there());
    }

    #[test]
    fn only_cores_are_looked_at() {
        let crowd = LoadMonitor::new(1);
        crowd.look();
        assert_eq!(crowd.cores[0].looked_at.load(Ordering::Relaxed), 0);
    }
}
