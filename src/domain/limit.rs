//! Rate limits: what a quota is, and the one rule (GCRA, the generic cell rate algorithm) by which it is used up, whether
//! Redis does the sums (`limit.lua`) or the node itself.

use std::time::Duration;

use super::clock::Timestamp;

/// So many requests in so much time: all of them at once if need be, and after that as many as time gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many; at least 1.
    pub count: u32,
    /// In how much time.
    pub window: Duration,
}

impl Quota {
    /// How long a request's place takes to be free again, in microseconds.
    pub fn interval_micros(self) -> i64 {
        let window = i64::try_from(self.window.as_micros()).unwrap_or(i64::MAX);
        (window / i64::from(self.count.max(1))).max(1)
    }
}

/// What came of asking a quota for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// When all places will be free again, in microseconds since the Unix epoch: what has to be remembered.
    pub full_at: i64,
    /// How long until there is a place, if there was none.
    pub refused_for: Option<Duration>,
}

/// Takes a place of `quota`. `full_at` is what [`Taken::full_at`] was before; nothing where nothing is remembered. A
/// refused request takes no place.
pub fn take(quota: Quota, full_at: Option<i64>, now: Timestamp) -> Taken {
    let now = now.as_millis().saturating_mul(1000);
    let interval = quota.interval_micros();
    let room = interval.saturating_mul(i64::from(quota.count));
    let before = full_at.map_or(now, |full_at| full_at.max(now));
    let after = before.saturating_add(interval);
    let over = after.saturating_sub(now).saturating_sub(room);
    if over > 0 {
        return Taken { full_at: before, refused_for: Some(Duration::from_micros(over.unsigned_abs())) };
    }
    Taken { full_at: after, refused_for: None }
}

/// A request came too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: {policy}")]
pub struct TooMany {
    /// Which limit it was, by its stable name: `login-address`.
    pub policy: &'static str,
    /// The limit.
    pub quota: Quota,
    /// When to try again.
    pub retry_after: Duration,
}

/// How repeated wrong passwords slow those who try them down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// So many failures cost no time.
    pub free: u32,
    /// The wait after the next one; doubled with each that follows.
    pub first: Duration,
    /// No wait is longer.
    pub most: Duration,
    /// How long a device or an address where somebody signed in stays known to the account.
    pub known_for: Duration,
    /// So many of them are known at most; the one seen longest ago goes first.
    pub max_known: u32,
}

impl Backoff {
    /// So many failures cost no time at a device or address that is known: twenty times as many, since sign-ins that are
    /// under way count as failures until they succeed, and a known address may be that of a busy program.
    pub fn free_where_known(self) -> u32 {
        self.free.saturating_mul(20)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + millis)
    }

    #[test]
    fn a_quota_can_be_used_at_once_and_comes_back_evenly() {
        let quota = Quota { count: 3, window: Duration::from_secs(30) };
        let mut full_at = None;
        for _ in 0..3 {
            let taken = take(quota, full_at, at(0));
            assert_eq!(taken.refused_for, None);
            full_at = Some(taken.full_at);
        }
        let taken = take(quota, full_at, at(4000));
        assert_eq!(taken, Taken { full_at: full_at.unwrap(), refused_for: Some(Duration::from_secs(6)) });
        assert_eq!(take(quota, full_at, at(10_000)).refused_for, None);
    }

    proptest! {
        /// In any stretch of time no more get through than the quota, and what time gives back; waiting as told helps.
        #[test]
        fn no_more_get_through_than_the_quota_says(
            count in 1..500_u32,
            window in 1_000..100_000_u64,
            steps in prop::collection::vec(0..2_000_i64, 1..400),
        ) {
            let quota = Quota { count, window: Duration::from_millis(window) };
            let (mut full_at, mut now, mut allowed) = (None, 0, 0_u64);
            for step in steps {
                now += step;
                let taken = take(quota, full_at, at(now));
                match taken.refused_for {
                    None => allowed += 1,
                    Some(wait) => {
                        let later = at(now) + wait + Duration::from_millis(1);
                        prop_assert_eq!(take(quota, Some(taken.full_at), later).refused_for, None);
                    }
                }
                full_at = Some(taken.full_at);
            }
            let given_back = (now * 1000) / quota.interval_micros();
            prop_assert!(allowed <= u64::from(count) + given_back.unsigned_abs() + 1);
        }
    }
}
