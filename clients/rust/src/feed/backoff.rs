//! How long to wait before trying again: longer each time, and never the same for all.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// All is well again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause: between half and all of a time that doubles up to five seconds. `random` is any number.
    pub(crate) fn pause(&mut self, random: u32) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        longest / 2 + (longest / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

/// Any number; zero if the machine has no randomness to give, which does no harm here.
pub(crate) fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        let millis = |backoff: &mut Backoff, random| backoff.pause(random).as_millis();
        let longest: Vec<_> = (0..8).map(|_| millis(&mut backoff, u32::MAX)).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(millis(&mut backoff, 0), 2500);
        assert!((0..100).all(|_| backoff.pause(0) >= FIRST / 2));
        backoff.reset();
        assert_eq!(millis(&mut backoff, 0), 50);
    }
}
