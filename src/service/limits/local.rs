//! The limits that a node counts for itself, in memory and within bounds.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::{
    bounded_map::BoundedMap,
    clock::Timestamp,
    limit::{Quota, take},
};

/// Into how many parts the subjects are dealt, each with a lock of its own.
const PARTS: usize = 16;

/// How many subjects are remembered at most; one that was forgotten begins anew.
const SUBJECTS: usize = 65_536;

/// A limit and whom it is about; subjects longer than this are cut, which no account, address or client is.
type Key = (&'static str, [u8; 64]);

/// The limits. Remembers so many subjects, and forgets those that weren't heard of lately.
#[derive(Debug)]
pub struct LocalLimits {
    parts: Vec<Mutex<BoundedMap<Key, i64>>>,
    hasher: RandomState,
}

impl Default for LocalLimits {
    fn default() -> Self {
        let part = || Mutex::new(BoundedMap::new(SUBJECTS / PARTS));
        Self { parts: std::iter::repeat_with(part).take(PARTS).collect(), hasher: RandomState::new() }
    }
}

impl LocalLimits {
    /// Takes a place; if there was none, says how long until there is one.
    pub(super) fn take(&self, policy: &'static str, subject: &[u8], quota: Quota, now: Timestamp) -> Option<Duration> {
        let mut name = [0; 64];
        let end = subject.len().min(name.len());
        name[..end].copy_from_slice(&subject[..end]);
        let key = (policy, name);
        let part = usize::try_from(self.hasher.hash_one(key) % 16).unwrap_or_default();
        let mut part = self.parts[part].lock().unwrap_or_else(PoisonError::into_inner);
        let taken = take(quota, part.get(&key).copied(), now);
        if taken.refused_for.is_none() {
            part.insert(key, taken.full_at);
        }
        taken.refused_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_and_limits_are_counted_apart_and_within_bounds() {
        let limits = LocalLimits::default();
        let (quota, now) =
            (Quota { count: 2, window: Duration::from_secs(10) }, Timestamp::from_millis(1_800_000_000_000));
        let take = |policy, subject: &[u8], now| limits.take(policy, subject, quota, now);
        for _ in 0..2 {
            assert_eq!(take("a", b"x", now), None);
        }
        assert_eq!(take("a", b"x", now), Some(Duration::from_secs(5)));
        assert_eq!((take("a", b"y", now), take("b", b"x", now)), (None, None));
        assert_eq!(take("a", b"x", now + Duration::from_secs(5)), None);
        for subject in 0..200_000_u32 {
            take("c", &subject.to_be_bytes(), now);
        }
        let held: usize = limits.parts.iter().map(|part| part.lock().unwrap().len()).sum();
        assert!(held <= SUBJECTS, "{held}");
    }
}
