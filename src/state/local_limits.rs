//! Rate limits that a node counts by itself, in bounded memory.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::{
    bounded_map::BoundedMap,
    clock::Timestamp,
    limit::{LimitPolicy, Quota, count_request},
};

/// Number of shards, each with a lock of its own.
const SHARDS: usize = 16;

/// The maximum number of subjects that are kept. An evicted subject starts again with a full quota.
const MAX_SUBJECTS: usize = 65_536;

/// The length to which subjects are padded or cut; no account, network or client id is longer.
const SUBJECT_BYTES: usize = 64;

/// A limit and its subject.
type Key = (LimitPolicy, [u8; SUBJECT_BYTES]);

/// Quotas that are partly used, by limit and subject. The value is the time at which the quota is full again
/// ([`full_at`](crate::domain::limit::QuotaDecision::full_at)). Evicts subjects that were not used recently.
#[derive(Debug)]
pub(crate) struct LocalLimits {
    shards: Vec<Mutex<BoundedMap<Key, i64>>>,
    hasher: RandomState,
}

impl Default for LocalLimits {
    fn default() -> Self {
        let shard = || Mutex::new(BoundedMap::new(MAX_SUBJECTS / SHARDS));
        Self { shards: std::iter::repeat_with(shard).take(SHARDS).collect(), hasher: RandomState::new() }
    }
}

impl LocalLimits {
    /// Counts one request against the quota of `subject`. Returns how long to wait if the quota is exhausted.
    pub(crate) fn count_request(
        &self,
        policy: LimitPolicy,
        subject: &[u8],
        quota: Quota,
        now: Timestamp,
    ) -> Option<Duration> {
        let mut padded = [0; SUBJECT_BYTES];
        let end = subject.len().min(SUBJECT_BYTES);
        padded[..end].copy_from_slice(&subject[..end]);
        let key = (policy, padded);
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default();
        let mut shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        let decision = count_request(quota, shard.get(&key).copied(), now);
        // a refused request does not change the quota
        if decision.refused_for.is_none() {
            shard.insert(key, decision.full_at);
        }
        decision.refused_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_limits_count_each_subject_and_limit_separately_within_bounds() {
        let limits = LocalLimits::default();
        let quota = Quota { count: 2, window: Duration::from_secs(10) };
        let now = Timestamp::from_millis(1_800_000_000_000);
        let count = |policy: LimitPolicy, subject: &[u8], now| limits.count_request(policy, subject, quota, now);
        for _ in 0..2 {
            assert_eq!(count(LimitPolicy::RefreshAddress, b"x", now), None);
        }
        // the quota regains a request every 5 s
        assert_eq!(count(LimitPolicy::RefreshAddress, b"x", now), Some(Duration::from_secs(5)));
        assert_eq!(count(LimitPolicy::RefreshAddress, b"y", now), None, "another subject");
        assert_eq!(count(LimitPolicy::RefreshNetwork, b"x", now), None, "another limit");
        assert_eq!(count(LimitPolicy::RefreshAddress, b"x", now + Duration::from_secs(5)), None);
        // more subjects than fit
        for subject in 0..3 * u32::try_from(MAX_SUBJECTS).unwrap() {
            count(LimitPolicy::RefreshAccount, &subject.to_be_bytes(), now);
        }
        let held: usize = limits.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= MAX_SUBJECTS, "{held}");
    }
}
