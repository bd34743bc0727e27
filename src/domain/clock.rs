//! Points in time, and the clock. Functions read the time of day only from a [`Clock`] that they receive.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Prints as RFC 3339 in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The point in time that is `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down: a `NumericDate` (RFC 7519, section 2).
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time since `earlier`; zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(rhs)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(rhs)))
    }
}

/// The duration in milliseconds, at most `i64::MAX`.
fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => write!(f, "{time:.3}"),
            // outside the years that jiff can represent
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How far another clock is ahead of this machine's clock, in milliseconds. Clones share the value.
#[derive(Clone, Debug, Default)]
pub struct ClockOffset(Arc<AtomicI64>);

impl ClockOffset {
    /// An offset of this many milliseconds: positive if the other clock is ahead.
    pub fn from_millis(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    /// The offset in milliseconds.
    pub fn as_millis(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Corrects the offset by a measurement: the other clock showed `other` at a moment between `before` and `after` of this
    /// machine's clock. An offset that the measurement does not allow moves to the nearest value that it allows. Any
    /// other offset is unchanged, so that the corrected time does not jitter.
    pub fn correct(&self, before: Timestamp, other: Timestamp, after: Timestamp) {
        let min_offset = other.0.saturating_sub(after.0);
        let max_offset = other.0.saturating_sub(before.0);
        // If this machine's clock was set back between the two readings, the measurement proves nothing.
        if min_offset <= max_offset {
            self.0.store(self.as_millis().clamp(min_offset, max_offset), Ordering::Relaxed);
        }
    }
}

/// A clock: the system's, one that tests advance, or one of these with an offset.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system clock.
    System,
    /// A clock that changes only by [`Clock::advance`]; clones share their time.
    Manual(Arc<AtomicI64>),
    /// Another clock with an offset.
    Offset(Box<Clock>, ClockOffset),
}

impl Clock {
    /// A manual clock that starts at `start`.
    pub fn manual(start: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(start.0)))
    }

    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "the only place that reads the system clock")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(millis_of(since_epoch))
            }
            Self::Manual(millis) => Timestamp(millis.load(Ordering::SeqCst)),
            Self::Offset(clock, offset) => Timestamp(clock.now().0.saturating_add(offset.as_millis())),
        }
    }

    /// This clock with an offset.
    #[must_use]
    pub fn with_offset(&self, offset: ClockOffset) -> Self {
        Self::Offset(Box::new(self.clone()), offset)
    }

    /// Whether this is the system clock, without an offset.
    pub const fn is_system(&self) -> bool {
        matches!(self, Self::System)
    }

    /// Advances a manual clock, with or without an offset. Does nothing to the system clock.
    pub fn advance(&self, by: Duration) {
        match self {
            Self::System => {}
            Self::Manual(millis) => {
                millis.fetch_add(millis_of(by), Ordering::SeqCst);
            }
            Self::Offset(clock, _) => clock.advance(by),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_moves_to_the_nearest_value_that_a_measurement_allows() {
        let at = Timestamp::from_millis;
        let offset = ClockOffset::default();
        let offset_after = |before, other, after| {
            offset.correct(at(before), at(other), at(after));
            offset.as_millis()
        };
        assert_eq!(offset_after(1000, 1002, 1005), 0, "the clocks may be equal");
        assert_eq!(offset_after(1000, 21_002, 1005), 19_997, "the other clock is 19,997 to 20,002 ms ahead");
        assert_eq!(offset_after(2000, 22_000, 2001), 19_999, "the other clock is 19,999 to 20,000 ms ahead");
        assert_eq!(
            offset_after(3000, 23_000, 3050),
            19_999,
            "a slow answer allows a wider range, which has the former offset"
        );
        assert_eq!(offset_after(4000, 4000, 4000), 0, "the other clock was set back");
        assert_eq!(offset_after(5000, 9000, 4000), 0, "this clock was set back meanwhile");
    }

    #[test]
    fn clock_with_offset_advances_with_its_base() {
        let base = Clock::manual(Timestamp::from_millis(1000));
        let fast = base.with_offset(ClockOffset::from_millis(20_000));
        base.advance(Duration::from_millis(1));
        fast.advance(Duration::from_millis(2));
        assert_eq!(base.now().as_millis(), 1003);
        assert_eq!(fast.now().as_millis(), 21_003);
    }
}
