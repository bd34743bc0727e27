//! Delays between retries: exponential, with jitter.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts consecutive failures.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns to the first delay after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next delay: between half and all of a step that doubles up to five seconds. `random` chooses within that range.
    pub(crate) fn next_delay(&mut self, random: u32) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        step / 2 + (step / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
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
        let millis = |backoff: &mut Backoff, random| backoff.next_delay(random).as_millis();
        let longest: Vec<_> = (0..8).map(|_| millis(&mut backoff, u32::MAX)).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(millis(&mut backoff, 0), 2500);
        // the shift does not overflow after many failures
        assert!((0..100).all(|_| backoff.next_delay(0) == LONGEST / 2));
        backoff.reset();
        assert_eq!(millis(&mut backoff, 0), 50);
    }
}
