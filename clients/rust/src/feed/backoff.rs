//! Delays between retries: exponential, with jitter.

use std::time::Duration;

const FIRST_STEP: Duration = Duration::from_millis(100);
const LONGEST_STEP: Duration = Duration::from_secs(5);

/// Counts consecutive failures: each doubles the delay before the next retry.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns to the first delay after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next delay: between half of a step, if `random` is 0, and all of it, if `random` is [`u32::MAX`]. The step doubles
    /// with each call, up to five seconds.
    pub(crate) fn next_delay(&mut self, random: u32) -> Duration {
        // The step reaches its maximum after 6 doublings. The limit of 10 keeps the shift from overflowing.
        let doublings = self.failures.min(10);
        let step = FIRST_STEP.saturating_mul(1 << doublings).min(LONGEST_STEP);
        self.failures = self.failures.saturating_add(1);
        let jitter = (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX));
        step / 2 + jitter
    }
}

/// A random number; zero if the machine provides none, which only removes the jitter.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_the_maximum_until_reset() {
        let mut backoff = Backoff::default();
        let longest_delays: Vec<_> = (0..8).map(|_| backoff.next_delay(u32::MAX).as_millis()).collect();
        assert_eq!(longest_delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        // the shift does not overflow after many failures
        for _ in 0..100 {
            let shortest_delay = backoff.next_delay(0);
            assert_eq!(shortest_delay.as_millis(), 2500);
        }
        backoff.reset();
        assert_eq!(backoff.next_delay(0).as_millis(), 50);
    }
}
