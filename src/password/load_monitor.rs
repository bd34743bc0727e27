//! Measures the request load of the runtime's cores, so that password hashing can yield.
//!
//! A hashing thread has idle priority and gives up its processor at once. But while the thread runs, the scheduler considers the processor
//! busy and moves no waiting thread there. Therefore fewer hashing threads run under request load.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::runtime;

/// The shortest interval between two samples of a core.
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// How long a sample of a core counts.
const VALIDITY: Duration = Duration::from_secs(1);

/// The average load of the cores at and above which hashing yields, in thousandths.
const HIGH_LOAD: u64 = 500;

/// The loads of the runtime's cores. A core is sampled at each sign-in, so the monitor costs nothing between sign-ins.
#[derive(Debug)]
pub(super) struct LoadMonitor {
    cores: Vec<Core>,
    /// The origin of all times of samples.
    started_at: Instant,
    /// [`VALIDITY`], except in tests.
    validity: Duration,
}

/// The last measurement of a core, on which one thread of the runtime runs. Only this thread writes the measurement.
#[derive(Debug, Default)]
struct Core {
    /// The time of the last sample, in nanoseconds since [`LoadMonitor::started_at`].
    sampled_at: AtomicU64,
    /// The processor time of the thread at the last sample, in nanoseconds.
    cpu_time: AtomicU64,
    /// The load in the interval before the sample, in thousandths.
    load: AtomicU64,
}

impl LoadMonitor {
    pub(super) fn new(cores: usize) -> Self {
        let cores = std::iter::repeat_with(Core::default).take(cores).collect();
        Self { cores, started_at: Instant::now(), validity: VALIDITY }
    }

    /// Samples the calling thread's core. Does nothing on other threads.
    pub(super) fn sample(&self) {
        if let Some(core) = runtime::current_core() {
            let cpu_time = clock_gettime(ClockId::ThreadCPUTime);
            let seconds = u64::try_from(cpu_time.tv_sec).unwrap_or_default();
            let nanos = u64::try_from(cpu_time.tv_nsec).unwrap_or_default();
            self.record(core, self.now(), seconds * 1_000_000_000 + nanos);
        }
    }

    /// Whether the average load of the cores is high. A core without a valid measurement counts as idle.
    pub(super) fn is_high(&self) -> bool {
        let now = self.now();
        let valid = self.cores.iter().filter(|core| {
            let age = Duration::from_nanos(now.saturating_sub(core.sampled_at.load(Ordering::Relaxed)));
            age < self.validity
        });
        let total: u64 = valid.map(|core| core.load.load(Ordering::Relaxed)).sum();
        // without `max`, the load of a monitor without cores would be high
        total >= HIGH_LOAD * self.cores.len().max(1) as u64
    }

    /// Nanoseconds since [`Self::started_at`].
    fn now(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Stores a sample of a core, unless the last one was less than [`MIN_INTERVAL`] ago. `now` is the time since the monitor started,
    /// `cpu_time` the processor time of the core's thread, in nanoseconds.
    fn record(&self, core: usize, now: u64, cpu_time: u64) {
        let Some(core) = self.cores.get(core) else { return };
        let interval = now.saturating_sub(core.sampled_at.load(Ordering::Relaxed));
        if u128::from(interval) < MIN_INTERVAL.as_nanos() {
            return;
        }
        let used = cpu_time.saturating_sub(core.cpu_time.load(Ordering::Relaxed));
        core.load.store(used.saturating_mul(1000) / interval, Ordering::Relaxed);
        core.cpu_time.store(cpu_time, Ordering::Relaxed);
        core.sampled_at.store(now, Ordering::Relaxed);
    }
}

#[cfg(test)]
impl LoadMonitor {
    /// A monitor of one core with a permanent load of 100 %.
    pub(super) fn with_full_load() -> Self {
        let monitor = Self { validity: Duration::MAX, ..Self::new(1) };
        monitor.cores[0].load.store(1000, Ordering::Relaxed);
        monitor
    }

    /// Sets the load to 0.
    pub(super) fn clear(&self) {
        self.cores[0].load.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A millisecond in nanoseconds.
    const MILLIS: u64 = 1_000_000;

    #[test]
    fn load_is_high_from_an_average_of_half() {
        let monitor = LoadMonitor { validity: Duration::MAX, ..LoadMonitor::new(2) };
        assert!(!monitor.is_high());
        monitor.record(0, 100 * MILLIS, 90 * MILLIS);
        assert!(!monitor.is_high(), "(900 + 0) / 2 = 450 of 1000");
        monitor.record(1, 100 * MILLIS, 10 * MILLIS);
        assert!(monitor.is_high(), "(900 + 100) / 2 = 500 of 1000");
        monitor.record(0, 110 * MILLIS, 90 * MILLIS);
        assert!(monitor.is_high(), "the interval is too short for a new sample");
        monitor.record(0, 200 * MILLIS, 150 * MILLIS);
        assert!(!monitor.is_high(), "(600 + 100) / 2 = 350 of 1000: the load of core 0 is that of its last interval");
        // A core that the monitor does not have is ignored: nothing panics.
        monitor.record(7, 200 * MILLIS, 200 * MILLIS);
    }

    #[test]
    fn outdated_measurement_does_not_count() {
        let monitor = LoadMonitor { validity: Duration::ZERO, ..LoadMonitor::new(1) };
        monitor.record(0, 100 * MILLIS, 100 * MILLIS);
        assert!(!monitor.is_high());
    }

    #[test]
    fn sample_outside_the_runtime_does_nothing() {
        let monitor = LoadMonitor::new(1);
        monitor.sample();
        assert_eq!(monitor.cores[0].sampled_at.load(Ordering::Relaxed), 0);
    }
}
